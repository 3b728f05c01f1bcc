/* Kernel modules among the programs: whose they are, in which order they are used, and what becomes of the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "programs_internal.h"
#include "synth_module.h"

#define ROOM (64ULL << 20) /* bytes of host code: enough for all here */

static const struct store store = {.returns_host = true};
static struct err err;
static struct image kernel;
static const struct image *const kernels[] = {&kernel};
static const char *const file_systems[] = {"ext4", NULL};

static struct plan *plan;
static struct recorded *recorded;
static struct programs *programs;

/* What was used, and with which rank. */
static char used[256];
static u16 last_rank;
static int result;

static int use(void *opaque, const struct module *module, u16 rank, struct err *error)
{
	assert_ptr_equal(opaque, used);
	assert_true(module->image.code_count);
	strcat(used, module->image.name);
	strcat(used, " ");
	last_rank = rank;
	return result ? err_set(error, "enough") : 0;
}

static struct module_user user = {
	.kernel = kernels, .kernel_count = 1, .file_system = file_systems, .use = use, .opaque = used};

static int start(void **state)
{
	(void)state;
	synth_kernel(&kernel);
	plan = plan_create(&store, &err);
	recorded = recorded_create(plan, &err);
	programs = programs_create(recorded, &err);
	programs_set_modules(programs, &user);
	used[0] = 0;
	result = 0;
	return 0;
}

static int stop(void **state)
{
	(void)state;
	programs_destroy(programs);
	recorded_destroy(recorded);
	plan_destroy(plan);
	image_release(&kernel);
	return 0;
}

static const struct file {
	const char *name;
	const char *info; /* of .modinfo, with '|' for each zero */
	unsigned code;    /* bytes of its .text */
	bool early;
} files[] = {
	{"other", "name=other|vermagic=6.1.0-test SMP|", 0x30, false},
	{"driver", "name=driver|alias=virtio:d00000002v*|depends=middle|vermagic=6.1.0-test SMP|", 0x200, false},
	{"middle", "name=middle|depends=low,missing|vermagic=6.1.0-test SMP|", 0x80, false},
	{"low", "name=low|depends=middle|vermagic=6.1.0-test SMP|", 0x40, true},
	{"early", "name=early|vermagic=6.1.0-test SMP|", 0x20, true},
	{"foreign", "name=foreign|alias=virtio:d00000002v*|vermagic=6.2.0-test SMP|", 0x20, true},
};

static struct synth_module *make(const struct file *file)
{
	static struct synth_module m;
	struct synth_parts parts;
	char info[128];

	module_parts(&m, &parts);
	m.section[parts.text].header.sh_size = file->code;
	strcpy(info, file->info);
	for (char *at = strchr(info, '|'); at; at = strchr(at + 1, '|'))
		*at = 0;
	memcpy(m.section[m.sections - 1].bytes, info, strlen(file->info));
	m.section[m.sections - 1].header.sh_size = strlen(file->info);
	module_finish(&m);
	return &m;
}

static void note_all(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
		const struct synth_module *m = make(&files[i]);

		assert_int_equal(programs_note(programs, files[i].name, m->file, m->size, files[i].early, &err), 0);
	}
}

/* Returns the rank that it had, 0: it was not used. */
static u16 scan(unsigned number)
{
	const struct synth_module *m = make(&files[number]);

	last_rank = 0;
	assert_int_equal(programs_scan(programs, plan, files[number].name, m->file, m->size, &err), 0);
	return last_rank;
}

static void test_order(void **state)
{
	u16 other, driver, middle, low, early;

	(void)state;
	note_all();
	assert_int_equal(programs_choose(programs, ROOM, &err), 0);
	other = scan(0);
	driver = scan(1);
	middle = scan(2);
	low = scan(3);
	early = scan(4);
	assert_int_equal(scan(5), 0);
	assert_int_equal(scan(1), 0); /* once is enough */
	/* what guests load with all that it needs, the smallest first; then what is in the initramfs */
	assert_true(low && low < middle && middle < driver && driver < early && early < other);
	assert_string_equal(used, "other driver middle low early ");
	assert_int_equal(programs_figures(programs).modules_used, 5);
	assert_int_equal(programs_figures(programs).modules, 1);
	assert_int_equal(programs_fates(programs, PROGRAM_MODULE)->count, 1);
	assert_string_equal(programs_fates(programs, PROGRAM_MODULE)->fate[0].name, "foreign");
	assert_non_null(strstr(programs_fates(programs, PROGRAM_MODULE)->fate[0].reason, "another kernel"));
}

/* A quarter of the room is for modules. */
static void test_room(void **state)
{
	(void)state;
	note_all();
	assert_int_equal(programs_choose(programs, 0x2d0 * 13 * 4, &err), 0);
	for (unsigned i = 0; i < 5; i++)
		scan(i);
	assert_string_equal(used, "middle low early ");
	assert_int_equal(programs_fates(programs, PROGRAM_MODULE)->count, 3);
	assert_non_null(strstr(programs_fates(programs, PROGRAM_MODULE)->fate[1].reason, "room"));
}

/* A gzip file of one block that is not compressed; nobody checks its sum. */
static u64 pack(const struct synth_module *m, u8 *out)
{
	static const u8 header[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1};
	u16 length = (u16)m->size, inverse = (u16)~length;
	u64 at = sizeof(header);

	memcpy(out, header, at);
	memcpy(out + at, &length, 2);
	memcpy(out + at + 2, &inverse, 2);
	memcpy(out + at + 4, m->file, m->size);
	memset(out + at + 4 + m->size, 0, 4);
	put32(out + at + 8 + m->size, (u32)m->size);
	return at + 12 + m->size;
}

static void test_packed(void **state)
{
	static u8 packed[MODULE_FILE + 64];
	u64 size = pack(make(&files[0]), packed);

	(void)state;
	assert_int_equal(programs_note(programs, "packed.ko.gz", packed, size, false, &err), 0);
	assert_int_equal(programs_note(programs, "copy.ko.gz", packed, size, false, &err), 0);
	assert_int_equal(programs_figures(programs).copies, 1);
	assert_int_equal(programs_choose(programs, ROOM, &err), 0);
	assert_int_equal(programs_scan(programs, plan, "packed.ko.gz", packed, size, &err), 0);
	assert_string_equal(used, "packed.ko.gz ");
}

/* What is unpacked counts, also where it is of no use; when it is too much, that is said, in both rounds. */
static void test_packed_limit(void **state)
{
	static u8 packed[MODULE_FILE + 64];
	const struct fates *unusable = programs_fates(programs, PROGRAM_UNUSABLE);
	const struct fates *left = programs_fates(programs, PROGRAM_MODULE);
	u64 size = pack(make(&files[0]), packed), file = make(&files[0])->size;
	static const u8 useless[27] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 0, 0xfd, 0xff, 'a', 'b', [21] = 2};

	(void)state;
	assert_int_equal(programs_note(programs, "useless.ko.gz", useless, sizeof(useless), false, &err), 0);
	assert_int_equal(programs->unpacked, 2);
	programs->unpacked = UNPACKED_MOST;
	assert_int_equal(programs_note(programs, "last.ko.gz", packed, size, false, &err), 0);
	assert_int_equal(programs->unpacked, UNPACKED_MOST + file);
	assert_int_equal(unusable->count, 1);
	packed[size - 8] ^= 1; /* another file with the same module */
	assert_int_equal(programs_note(programs, "more.ko.gz", packed, size, false, &err), 0);
	assert_int_equal(programs->unpacked, UNPACKED_MOST + file);
	assert_int_equal(unusable->count, 2);
	assert_non_null(strstr(unusable->fate[1].reason, "'more.ko.gz' is not unpacked"));
	assert_int_equal(programs_choose(programs, ROOM, &err), 0);
	packed[size - 8] ^= 1;
	assert_int_equal(programs_scan(programs, plan, "last.ko.gz", packed, size, &err), 0);
	assert_int_equal(left->count, 1);
	assert_non_null(strstr(left->fate[0].reason, "'last.ko.gz' is not unpacked"));
	assert_string_equal(used, "");
}

static void test_failures(void **state)
{
	const struct synth_module *m = make(&files[0]);
	static const u8 damaged[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8};

	(void)state;
	assert_int_equal(programs_note(programs, "x.ko.gz", damaged, sizeof(damaged), false, &err), 0);
	assert_int_equal(programs_fates(programs, PROGRAM_UNUSABLE)->count, 1);
	assert_int_equal(programs_note(programs, "first", m->file, m->size, false, &err), 0);
	assert_int_equal(programs_note(programs, "second", m->file, m->size, false, &err), 0);
	assert_int_equal(programs_figures(programs).copies, 1);
	assert_int_equal(programs_choose(programs, ROOM, &err), 0);
	result = -1;
	assert_int_equal(programs_scan(programs, plan, "first", m->file, m->size, &err), -1);
	assert_string_equal(err.text, "enough");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, start, stop),
		cmocka_unit_test_setup_teardown(test_room, start, stop),
		cmocka_unit_test_setup_teardown(test_packed, start, stop),
		cmocka_unit_test_setup_teardown(test_packed_limit, start, stop),
		cmocka_unit_test_setup_teardown(test_failures, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
