/* Retranslation finds what does not come from the guest bytes, though every digest is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cache/sample.h"
#include "build.h"
#include "cpu/cpu.h"
#include "retranslate.h"
#include "translate/translate.h"
#include "x86/mode.h"

#define PC 0xffffffff81000000

/* push rbx; mov rax,[rdi]; call +0x20; rdpmc; add [rsi],rax; jnz +0x40; pop rbx; ret */
static const u8 kernel_code[] = {0x53, 0x48, 0x8b, 0x07, 0xe8, 0x20, 0,    0,    0,
				 0x0f, 0x33, 0x48, 0x01, 0x06, 0x75, 0x40, 0x5b, 0xc3};
/* jmp +0x10000 */
static const u8 far_jump[] = {0xe9, 0, 0, 1, 0};
/* inc rcx; movd xmm0, ecx; ret */
static const u8 user_code[] = {0x48, 0xff, 0xc1, 0x66, 0x0f, 0x6e, 0xc1, 0xc3};

/* call hole; mov rax,[rip+hole]; rdpmc; jnz -0x10; ret: of a kernel module */
static const u8 module_code[PAGE_SIZE] = {0xe8, 0x5a, 0x5a, 0x5a, 0x5a, 0x48, 0x8b, 0x05, 0x5a,
					  0x5a, 0x5a, 0x5a, 0x0f, 0x33, 0x75, 0xf0, 0xc3};
static const u16 module_holes[] = {1, 8};
#define MODULE_LENGTH 17u

#define UNITS 4u

static char path[] = "/tmp/test_retranslateXXXXXX";

static void plan_code(struct plan *plan, const struct store *store, u64 pc, u32 mode, const u8 *bytes, unsigned length)
{
	static struct scan scan;
	struct scan_options options = translate_scan_options(store, mode);
	struct err err = ERR_INIT;

	/* without host returns a unit ends at a call */
	assert_int_equal(scan_unit(&scan, pc, bytes, length, length, &options), 0);
	assert_int_equal(plan_add(plan, &scan, mode, bytes, NULL, 0, &err), 0);
}

static void plan_module(struct plan *plan, const struct store *store)
{
	static struct scan scan;
	struct scan_options options = translate_scan_options(store, 0);
	const struct module_page *page = plan_module_page(plan, module_code, module_holes, 2);
	struct err err = ERR_INIT;

	assert_non_null(page);
	/* anywhere, as long as it begins a page */
	assert_int_equal(scan_unit(&scan, 0xffffffffc1234000, module_code, MODULE_LENGTH, MODULE_LENGTH, &options), 0);
	assert_int_equal(plan_add_module(plan, &scan, 0, module_code, page, 0, &err), 0);
	assert_int_equal(plan_add_module(plan, &scan, 0, module_code, page, 0, &err), 0);
}

/* Writes a cache of the four units to the path. */
static void make_cache(const struct build_options *options)
{
	struct err err = ERR_INIT;
	struct build *build = build_create(options, &err);
	struct plan *plan;

	assert_non_null(build);
	plan = plan_create(build_store(build), &err);
	assert_non_null(plan);
	plan_code(plan, build_store(build), PC, 0, kernel_code, sizeof(kernel_code));
	plan_code(plan, build_store(build), PC + 0x100, 0, far_jump, sizeof(far_jump));
	plan_code(plan, build_store(build), 0x401000, MODE_USER | MODE_OSFXSR, user_code, sizeof(user_code));
	plan_module(plan, build_store(build));
	assert_int_equal(plan_count(plan), UNITS);
	for (size_t i = 0; i < plan_count(plan); i++)
		assert_int_equal(build_copy(build, plan_at(plan, i)), BUILD_OK);
	assert_int_equal(build_write(build, path, NULL, 0, NULL, NULL, "", &err), 0);
	plan_destroy(plan);
	build_destroy(build);
}

struct found {
	unsigned count;
	u32 number;
	enum retranslated_kind kind;
	char what[80];
};

static void note(void *opaque, const struct retranslated *difference)
{
	struct found *found = opaque;

	found->count++;
	found->number = difference->number;
	found->kind = difference->kind;
	snprintf(found->what, sizeof(found->what), "%s", difference->what);
}

static int check(struct found *found, struct retranslation *result, struct err *err)
{
	struct tcache *cache;
	char error[512] = "";
	int status;

	*found = (struct found){0};
	assert_int_equal(tcache_open(path, 0, &cache, error, sizeof(error)), TCACHE_OK);
	tcache_verify_all(cache);
	assert_string_equal(tcache_error(cache), "");
	status = retranslate(cache, note, found, result, err);
	tcache_close(cache);
	return status;
}

static void test_equal(void **state)
{
	static const struct build_options variants[] = {
		{.returns_host = true},
		{.returns_host = false, .place = 1},
		{.returns_host = true, .counted = true},
		{.returns_host = true, .counted = true, .exact_flags = true, .place = 1},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(variants); i++) {
		struct build_options options = variants[i];
		struct retranslation result;
		struct err err = ERR_INIT;
		struct found found;

		options.guest_cpu = cpu_model_name(cpu_model_at(0));
		make_cache(&options);
		assert_int_equal(check(&found, &result, &err), 0);
		assert_string_equal(err.text, "");
		assert_int_equal(found.count, 0);
		assert_int_equal(result.equal, UNITS);
		assert_int_equal(result.different + result.lifted, 0);
	}
}

/* The chunk's place in the file. */
static u8 *chunk_at(const struct bytes *file, u32 type)
{
	for (u32 i = 0; i < bytes_header(file)->chunk_count; i++) {
		if (bytes_toc(file)[i].type == type)
			return file->data + bytes_toc(file)[i].offset;
	}
	fail();
	return NULL;
}

static void write_file(const struct bytes *file)
{
	FILE *out = fopen(path, "wb");

	assert_non_null(out);
	assert_int_equal(fwrite(file->data, 1, file->size, out), file->size);
	assert_int_equal(fclose(out), 0);
}

/* Units are sorted by address: the user's is the first one, the first kernel unit the second. */
static struct tcache_unit *unit_at(const struct bytes *file, u32 number)
{
	return (struct tcache_unit *)chunk_at(file, TCACHE_TYPE_units) + number;
}

static void spoil_code(const struct bytes *file)
{
	chunk_at(file, TCACHE_TYPE_code)[unit_at(file, 1)->code_offset + unit_at(file, 1)->body_offset + 3] ^= 0x10;
}

static void spoil_cold_code(const struct bytes *file)
{
	chunk_at(file, TCACHE_TYPE_code)[unit_at(file, 1)->code_offset + unit_at(file, 1)->code_length - 1] ^= 1;
}

static void spoil_body(const struct bytes *file)
{
	unit_at(file, 1)->body_offset++;
}

static void spoil_pc(const struct bytes *file)
{
	((struct tcache_pc *)chunk_at(file, TCACHE_TYPE_pcs))[unit_at(file, 1)->pc_first].home ^= 1;
}

static void spoil_entry(const struct bytes *file)
{
	((struct tcache_entry *)chunk_at(file, TCACHE_TYPE_entries))[unit_at(file, 1)->entry_first].code++;
}

static void spoil_link(const struct bytes *file)
{
	((struct tcache_link *)chunk_at(file, TCACHE_TYPE_links))[unit_at(file, 1)->link_first].target++;
}

/* rdpmc becomes rdmsr */
static void spoil_insn(const struct bytes *file)
{
	((struct tcache_insn *)chunk_at(file, TCACHE_TYPE_insns))[unit_at(file, 1)->insn_first].bytes[1] = 0x32;
}

static void spoil_mask(const struct bytes *file)
{
	unit_at(file, 1)->mode_mask |= MODE_TS;
}

/* A target that no code of the guest names: the far jump would go there. */
static void spoil_target(const struct bytes *file)
{
	u64 *target = (u64 *)chunk_at(file, TCACHE_TYPE_targets);

	*target += 0x1000;
}

static void spoil_guest(const struct bytes *file)
{
	unit_at(file, 1)->guest_offset = 0;
}

/* The module's only unit. */
static struct tcache_module_unit *module_at(const struct bytes *file)
{
	return (struct tcache_module_unit *)chunk_at(file, TCACHE_TYPE_module_units);
}

static void spoil_module_code(const struct bytes *file)
{
	chunk_at(file, TCACHE_TYPE_module_code)[module_at(file)->code_length - 1] ^= 1;
}

static void spoil_module_stale(const struct bytes *file)
{
	module_at(file)->stale_offset++;
}

static void spoil_module_fixup(const struct bytes *file)
{
	((struct tcache_module_fixup *)chunk_at(file, TCACHE_TYPE_module_fixups))->value++;
}

static void spoil_module_insn(const struct bytes *file)
{
	((struct tcache_insn *)chunk_at(file, TCACHE_TYPE_module_insns))->bytes[1] = 0x32;
}

static const struct {
	void (*spoil)(const struct bytes *file);
	u32 unit;
	const char *what;
} spoiled[] = {
	{spoil_code, 1, "code differs"},
	{spoil_cold_code, 1, "code differs"},
	{spoil_body, 1, "body differs"},
	{spoil_pc, 1, "pc record differs"},
	{spoil_entry, 1, "entry differs"},
	{spoil_link, 1, "link differs"},
	{spoil_insn, 1, "handed-over instruction differs"},
	{spoil_mask, 1, "mode mask differs"},
	{spoil_target, 2, "differs"},
	{spoil_guest, 1, "guest bytes are missing"},
	{spoil_module_code, 0, "code differs"},
	{spoil_module_stale, 0, "when it is no more differs"},
	{spoil_module_fixup, 0, "fix-up differs"},
	{spoil_module_insn, 0, "handed-over instruction differs"},
};

static void test_different(void **state)
{
	struct build_options options = {.returns_host = true, .guest_cpu = cpu_model_name(cpu_model_at(0))};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(spoiled); i++) {
		struct retranslation result;
		struct err err = ERR_INIT;
		struct found found;
		struct bytes file;

		make_cache(&options);
		file = bytes_read(path);
		spoiled[i].spoil(&file);
		bytes_seal(&file);
		write_file(&file);
		free(file.data);
		assert_int_equal(check(&found, &result, &err), 0);
		assert_int_equal(found.count, 1);
		assert_int_equal(found.number, spoiled[i].unit);
		assert_int_equal(found.kind, spoiled[i].unit ? RETRANSLATED_UNIT : RETRANSLATED_MODULE);
		assert_non_null(strstr(found.what, spoiled[i].what));
		assert_int_equal(result.equal, UNITS - 1);
		assert_int_equal(result.different, 1);
	}
}

static void test_other_maker(void **state)
{
	struct build_options options = {.returns_host = true, .guest_cpu = cpu_model_name(cpu_model_at(0))};
	struct retranslation result;
	struct err err = ERR_INIT;
	struct found found;
	struct bytes file;

	(void)state;
	make_cache(&options);
	file = bytes_read(path);
	bytes_header(&file)->fingerprint.options[0] ^= 1;
	bytes_seal(&file);
	write_file(&file);
	assert_int_equal(check(&found, &result, &err), -1);
	assert_non_null(strstr(err.text, "options that are not known"));
	snprintf(bytes_header(&file)->fingerprint.translator, 10, "somebody");
	memset(bytes_header(&file)->fingerprint.translator + 8, 0,
	       sizeof(bytes_header(&file)->fingerprint.translator) - 8);
	bytes_seal(&file);
	write_file(&file);
	free(file.data);
	assert_int_equal(check(&found, &result, &err), -1);
	assert_non_null(strstr(err.text, "was made by translator 'somebody'"));
}

static int make_path(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_different),
		cmocka_unit_test(test_other_maker),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
