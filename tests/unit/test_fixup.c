/*
 * Relocatable code that was made for one address and moved is what is made for the other address, byte for byte, and so
 * are its tables. The code is this program's own, and what is awkward.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "translate/fixup.h"
#include "translate/translate.h"
#include "util/err.h"
#include "x86/mode.h"

#define RECORDS    0x4000u
#define CODE_SIZE  0x40000u
#define USER_MODE  (MODE_USER | MODE_OSFXSR | MODE_OSXSAVE | MODE_MP | MODE_SMAP | 7u << MODE_XCR0_SHIFT)
#define LINK_SHIFT 1000u
#define INSN_SHIFT 5u

/* Two stores: in one, links and instruction records have other numbers than in the other. */
static struct store stores[2];
static struct translation *translations[2];

static void make_store(struct store *store, u32 first_link)
{
	store->code = store->code_rw = malloc(CODE_SIZE);
	store->size = CODE_SIZE;
	store->units = calloc(2, sizeof(*store->units));
	store->pcs = calloc(RECORDS, sizeof(*store->pcs));
	store->entries = calloc(RECORDS, sizeof(*store->entries));
	store->links = calloc(RECORDS, sizeof(*store->links));
	store->fixups = calloc(RECORDS, sizeof(*store->fixups));
	store->goals = calloc(RECORDS, sizeof(*store->goals));
	if (!store->code || !store->units || !store->pcs || !store->entries || !store->links || !store->fixups ||
	    !store->goals)
		BUG("out of memory");
	store->unit_max = store->bound_first = 2;
	store->pc_max = store->entry_max = store->link_max = store->fixup_max = store->goal_max = RECORDS;
	store->insn_max = 1024;
	store->first_link = first_link;
	store->bmi2 = store->returns_host = store->relocatable = true;
	store->origin = ORIGIN_LIVE;
}

static int make_stores(void **state)
{
	struct insn *insns =
		mmap(NULL, 1u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	(void)state;
	if (insns == MAP_FAILED)
		return -1;
	for (unsigned i = 0; i < 2; i++) {
		make_store(&stores[i], i * LINK_SHIFT);
		stores[i].insns = insns;
		translations[i] = translation_create();
	}
	return 0;
}

/* The unit that begins at these bytes, as if they were at pc; NULL if none does, or if it reaches over the page. */
static const struct unit *translate_at(unsigned which, u64 pc, const u8 *bytes, u32 mode)
{
	struct store *store = &stores[which];
	struct scan *scan = translation_scan(translations[which]);
	struct scan_options options = translate_scan_options(store, mode);
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(pc));

	if (scan_unit(scan, pc, bytes, in_page, in_page, &options) < 0)
		return NULL;
	memset(store->code_rw, 0xcc, CODE_SIZE);
	store->used = 0;
	store->unit_count = 1;
	store->pc_count = store->entry_count = store->link_count = store->fixup_count = store->goal_count = 0;
	store->insn_count = which * INSN_SHIFT;
	assert_int_not_equal(translate_unit(translations[which], store, mode), UNIT_NONE);
	return &store->units[1];
}

static void compare_tables(const struct unit *a, const struct unit *b)
{
	assert_int_equal(a->code_end, b->code_end);
	assert_int_equal(a->body, b->body);
	assert_int_equal(a->saved, b->saved);
	assert_int_equal(a->pcs_count, b->pcs_count);
	assert_memory_equal(stores[0].pcs, stores[1].pcs, a->pcs_count * sizeof(struct pc_entry));
	assert_int_equal(a->fixups_count, b->fixups_count);
	assert_memory_equal(stores[0].fixups, stores[1].fixups, a->fixups_count * sizeof(struct fixup));
	assert_int_equal(a->goals_count, b->goals_count);
	for (u32 i = 0; i < a->goals_count; i++) {
		assert_int_equal(stores[0].goals[i].number, stores[1].goals[i].number);
		assert_int_equal(stores[0].goals[i].entry, stores[1].goals[i].entry);
		assert_int_equal(stores[0].goals[i].target, stores[1].goals[i].target);
		assert_int_equal(stores[0].goals[i].saved, stores[1].goals[i].saved);
	}
	assert_int_equal(a->links_count, b->links_count);
	for (u32 i = 0; i < a->links_count; i++) {
		assert_int_equal(stores[0].links[i].patch, stores[1].links[i].patch);
		assert_int_equal(PAGE_OFFSET(stores[0].links[i].target), PAGE_OFFSET(stores[1].links[i].target));
	}
	assert_int_equal(a->entries_count, b->entries_count);
	for (u32 i = 0; i < a->entries_count; i++) {
		assert_int_equal(stores[0].entries[i].code, stores[1].entries[i].code);
		assert_int_equal(stores[0].entries[i].pc - a->pc, stores[1].entries[i].pc - b->pc);
	}
}

/* The unit at pc, moved by `pages`, is the unit there. Returns how many fix-ups of each kind it had. */
static bool check(u64 pc, u64 pages, const u8 *bytes, u32 mode, u64 kinds[FIXUP_KINDS])
{
	const struct unit *a = translate_at(0, pc, bytes, mode), *b;
	struct fixup_list list;
	u32 at[RECORDS];
	struct fixup_move move = {
		.pages = pages, .first_link = LINK_SHIFT, .insns = INSN_SHIFT * (u32)sizeof(struct insn)};

	if (!a)
		return false;
	b = translate_at(1, pc + pages, bytes, mode);
	assert_non_null(b);
	compare_tables(a, b);
	list.at = at;
	assert_true(fixup_sort(&stores[0], a, at, list.count));
	fixup_apply(stores[0].code_rw, &list, &move);
	assert_memory_equal(stores[0].code_rw, stores[1].code_rw, a->code_end);
	for (u32 i = 0; i < a->goals_count; i++) {
		u64 number = 1 + i, entry = offsetof(struct view, target) + number * sizeof(void *);
		u32 value;

		fixup_goal(stores[0].code_rw, stores[0].goals[i].number, stores[0].goals[i].entry, (u32)number);
		memcpy(&value, stores[0].code_rw + stores[0].goals[i].number, 4);
		assert_int_equal(value, number);
		memcpy(&value, stores[0].code_rw + stores[0].goals[i].entry, 4);
		assert_int_equal(value, entry);
	}
	for (unsigned kind = 0; kind < FIXUP_KINDS; kind++)
		kinds[kind] += list.count[kind];
	return true;
}

static const u64 moves[] = {
	PAGE_SIZE, 0 - PAGE_SIZE, 0x2aaaaaab0000ULL, 0 - 0x155555555000ULL, (u64)TLB_SIZE << PAGE_SHIFT, 0x1fff000,
};

/* This program's own code, from every place that could begin an instruction. */
static void test_own_code(void **state)
{
	const u8 *code = (const u8 *)PAGE_BASE((u64)(uintptr_t)&translate_unit);
	u64 kinds[FIXUP_KINDS] = {0}, units = 0;

	(void)state;
	for (u64 i = 0; i < 3 * PAGE_SIZE; i += 3) {
		u64 pc = 0x555555554000ULL + i;

		for (unsigned careful = 0; careful < 2; careful++)
			units += check(pc, moves[i / 3 % ARRAY_SIZE(moves)], code + i,
				       USER_MODE | (careful ? MODE_CAREFUL : 0), kinds);
	}
	assert_true(units > 6000);
	assert_true(kinds[FIXUP_ADDRESS] > 10000 && kinds[FIXUP_MINUS] > 6000 && kinds[FIXUP_LINK] > 1000);
	assert_true(kinds[FIXUP_READ] && kinds[FIXUP_ADDEND]);
}

/* Addresses whose short forms would be shorter, and TLB entries at both ends. */
static void test_awkward(void **state)
{
	static const struct {
		u64 pc;
		u8 bytes[64];
	} cases[] = {
		/* mov [rip - 0x1000], rax; mov rcx, [rip + 0x7ffff000]; ret */
		{0x100000000,
		 {0x48, 0x89, 0x05, 0x00, 0xf0, 0xff, 0xff, 0x48, 0x8b, 0x0d, 0x00, 0xf0, 0xff, 0x7f, 0xc3}},
		/* mov rax, [rip - 0x80000000]: below 4 GiB; ret */
		{0x140000000, {0x48, 0x8b, 0x05, 0x00, 0x00, 0x00, 0x80, 0xc3}},
		/* mov rax, [0x1000]: does not move; lea rdx, [rip]; push rdx; ret */
		{0x7f0000000ff0, {0x48, 0x8b, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, 0x48, 0x8d, 0x15, 0, 0, 0, 0, 0xc3}},
		/* lea eax, [eip + 8]; rep movsb; cpuid; call +0; jmp +0x2000 */
		{0x7fff12345000,
		 {0x67, 0x8d, 0x05, 8, 0, 0, 0, 0xf3, 0xa4, 0x0f, 0xa2, 0xe8, 0, 0, 0, 0, 0xe9, 0, 0x20, 0, 0}},
		/* call [rip + 0x10]; jmp [rip + 0x1000]; add [rip + 0xff5], eax */
		{0x555555554010,
		 {0xff, 0x15, 0x10, 0, 0, 0, 0x01, 0x05, 0xf5, 0x0f, 0, 0, 0xff, 0x25, 0, 0x10, 0, 0, 0xc3}},
		/* push 0x11223344; jrcxz; loop; syscall */
		{0x7f0000001800, {0x68, 0x44, 0x33, 0x22, 0x11, 0xe3, 0x02, 0xe2, 0xfc, 0x0f, 0x05}},
	};
	u64 kinds[FIXUP_KINDS] = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned m = 0; m < ARRAY_SIZE(moves); m++) {
			u8 page[PAGE_SIZE + 64] = {0};

			memcpy(page, cases[i].bytes, sizeof(cases[i].bytes));
			assert_true(check(cases[i].pc, moves[m], page, USER_MODE, kinds));
		}
	}
	for (unsigned kind = 0; kind < FIXUP_KINDS; kind++)
		assert_true(kinds[kind]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_code),
		cmocka_unit_test(test_awkward),
	};

	return cmocka_run_group_tests(tests, make_stores, NULL);
}
