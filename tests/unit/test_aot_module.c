/*
 * How a frame is recognized as a kernel module's page: a unit that another page happens to have as well is used, but
 * only a page that fits better takes the known one's place; and pages are counted, not searches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <tcache.h>

#include "../cache/sample.h"
#include "live/aot_module.h"
#include "vm.h"

#define RECORDS    256u
#define GPA        0x3000u
#define PC         0xffffffffc0123000ULL
#define MODE       0x100u
/* Places in the guest's page: a function and its end, which are of the sample's first page, and another such end. */
#define CALLS      0x40u
#define CPUID      0x70u
#define CPUID_ELSE 0x60u

static struct sample sample;
static struct tcache *cache;
static struct vm *vm;
static struct vcpu *vcpu;
static struct live live;

/* The second page is of a unit whose bytes are those of one of the first page, at another offset. */
static void make_sample(void)
{
	sample_fill(&sample);
	sample.module_units[1].offset = CPUID;
	for (unsigned i = 0; i < 3; i++) {
		const struct tcache_module_unit *u = &sample.module_units[i];
		const struct tcache_module_page *page = &sample.module_pages[u->page];

		sample.module_keys[i] = tcache_module_key_of(u, i, sample.guest + u->guest_offset - 1,
							     sample.module_holes + page->hole_first, page->hole_count);
	}
	qsort(sample.module_keys, 3, sizeof(sample.module_keys[0]), tcache_module_key_compare);
}

static void make_store(struct store *store)
{
	*store = (struct store){.size = 1u << 16,
				.unit_count = 1,
				.target_count = 1,
				.unit_max = RECORDS,
				.bound_first = RECORDS,
				.pc_max = RECORDS,
				.entry_max = RECORDS,
				.link_max = RECORDS,
				.insn_max = RECORDS,
				.landing_max = RECORDS,
				.target_max = RECORDS};
	store->code = store->code_rw = calloc(store->size, 1);
	store->units = calloc(RECORDS, sizeof(*store->units));
	store->pcs = calloc(RECORDS, sizeof(*store->pcs));
	store->entries = calloc(RECORDS, sizeof(*store->entries));
	store->links = calloc(RECORDS, sizeof(*store->links));
	store->insns = calloc(RECORDS, sizeof(*store->insns));
	store->landings = calloc(RECORDS, sizeof(*store->landings));
	store->targets = calloc(RECORDS, sizeof(*store->targets));
	store->target_hash = calloc(1u << TARGET_HASH_BITS, sizeof(*store->target_hash));
}

static void free_store(struct store *store)
{
	free(store->code_rw);
	free(store->units);
	free(store->pcs);
	free(store->entries);
	free(store->links);
	free(store->insns);
	free(store->landings);
	free(store->targets);
	free(store->target_hash);
}

static int make_guest(void **state)
{
	char path[] = "/tmp/test_aot_moduleXXXXXX", error[512] = "";
	const int fd = mkstemp(path);
	enum tcache_status status;

	(void)state;
	make_sample();
	status = sample_write(path, &sample, false, error, sizeof(error));
	if (!status)
		status = tcache_open(path, 0, &cache, error, sizeof(error));
	close(fd);
	unlink(path);
	if (status || tcache_verify_all(cache))
		return -1;
	vm = calloc(1, sizeof(*vm));
	vcpu = calloc(1, sizeof(*vcpu));
	make_store(&live.store);
	live.vm = vm;
	vm->live = &live;
	vm->ram = (struct ram){.host = calloc(4, PAGE_SIZE), .size = 4 * PAGE_SIZE, .low = 4 * PAGE_SIZE};
	vcpu->vm = vm;
	return aot_modules_add(&live, cache);
}

static int free_guest(void **state)
{
	(void)state;
	aot_modules_destroy(live.modules);
	free_store(&live.store);
	free(vm->ram.host);
	free(vcpu);
	free(vm);
	tcache_close(cache);
	return 0;
}

/* Puts the bytes of the sample's unit there; with something else in the holes than what fills them. */
static void load(u32 offset, unsigned unit)
{
	const struct tcache_module_unit *u = &sample.module_units[unit];
	u8 *to = vm->ram.host + GPA + offset;

	for (unsigned i = 0; i < u->guest_length; i++) {
		const u8 byte = sample.guest[u->guest_offset - 1 + i];

		to[i] = byte == TCACHE_HOLE_FILLING ? 0x11 : byte;
	}
}

static bool make(u32 offset)
{
	u32 number;

	vcpu->rip = PC + offset;
	number = aot_modules_make(vcpu, GPA + offset, MODE);
	if (number != UNIT_NONE) {
		const struct unit *unit = &live.store.units[number];

		assert_int_equal(unit->pc, PC + offset);
		assert_int_equal(unit->guest_bytes, sample.module_units[offset == CALLS ? 0 : 1].guest_length);
		assert_int_equal(unit->code_end - unit->code, sample.module_units[offset == CALLS ? 0 : 1].code_length);
	}
	return number != UNIT_NONE;
}

static u32 known_page(void)
{
	const struct module_frame *frame = module_frame(live.modules, GPA);

	assert_int_equal(frame->gpa, GPA);
	assert_true(frame->known);
	return frame->page;
}

static void begin(void)
{
	memset(vm->ram.host + GPA, 0xcc, PAGE_SIZE);
	module_frame(live.modules, GPA)->gpa = NO_FRAME;
}

/* More often than a frame is looked for: the known page's own units are found to the end. */
static void test_tail_of_another(void **state)
{
	(void)state;
	begin();
	load(CALLS, 0);
	load(CPUID, 1);
	load(CPUID_ELSE, 2);
	assert_true(make(CALLS));
	assert_int_equal(known_page(), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(make(CPUID_ELSE));
		assert_int_equal(known_page(), 0);
	}
	assert_false(make(CPUID_ELSE));
	assert_true(make(CALLS));
	assert_true(make(CPUID));
	assert_int_equal(vm->stats.aot_module_pages, 1);
	assert_int_equal(vm->stats.aot_module_bound, 6);
	assert_int_equal(vm->stats.aot_module_missed, 1);
	assert_int_equal(vm->stats.aot_module_unknown, 0);
}

/* No page is better: it stays what it is. */
static void test_as_good(void **state)
{
	(void)state;
	begin();
	load(CALLS, 0);
	load(CPUID_ELSE, 2);
	assert_true(make(CALLS));
	assert_true(make(CPUID_ELSE));
	assert_int_equal(known_page(), 0);
}

/* Recognized by the only unit that was there; then it turns out to be a page with more. */
static void test_better(void **state)
{
	(void)state;
	begin();
	load(CPUID_ELSE, 2);
	assert_true(make(CPUID_ELSE));
	assert_int_equal(known_page(), 1);
	assert_int_equal(vm->stats.aot_module_pages, 2);
	load(CALLS, 0);
	load(CPUID, 1);
	assert_true(make(CALLS));
	assert_int_equal(known_page(), 0);
	assert_int_equal(vm->stats.aot_module_pages, 2);
}

static void test_unknown(void **state)
{
	const u64 unknown = vm->stats.aot_module_unknown;

	(void)state;
	begin();
	assert_false(make(CALLS));
	assert_int_equal(vm->stats.aot_module_unknown, unknown + 1);
	assert_int_equal(vm->stats.aot_module_pages, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tail_of_another),
		cmocka_unit_test(test_as_good),
		cmocka_unit_test(test_better),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, make_guest, free_guest);
}
