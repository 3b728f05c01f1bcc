/*
 * Code of a kernel module that was made for no place in particular, with bytes unknown, and then fixed for a place and
 * for what is in the bytes, is what is made there from the whole, byte for byte; and it is what live translation makes,
 * but for accesses relative to RIP. The code is this program's own, with fields of its instructions as holes, and what
 * is awkward.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "translate/module_code.h"
#include "translate/translate.h"
#include "util/err.h"

#define RECORDS     0x4000u
#define CODE_SIZE   0x40000u
#define KERNEL_MODE (MODE_OSFXSR | MODE_OSXSAVE | MODE_MP | MODE_SMAP | 7u << MODE_XCR0_SHIFT)

/* Made for no place; made for the place; made for it as the live engine does. */
enum which { LOOSE, FIXED, LIVE, STORES };

static struct store stores[STORES];
static struct translation *translations[STORES];
static struct store numbers;

static void *table(size_t size)
{
	void *at = calloc(RECORDS, size);

	if (!at)
		BUG("out of memory");
	return at;
}

static void make_store(struct store *store, struct insn *insns)
{
	store->code = store->code_rw = malloc(CODE_SIZE);
	if (!store->code)
		BUG("out of memory");
	store->size = CODE_SIZE;
	store->units = table(sizeof(*store->units));
	store->pcs = table(sizeof(*store->pcs));
	store->entries = table(sizeof(*store->entries));
	store->links = table(sizeof(*store->links));
	store->landings = table(sizeof(*store->landings));
	store->fixups = table(sizeof(*store->fixups));
	store->insns = insns;
	store->unit_max = store->bound_first = 2;
	store->pc_max = store->entry_max = store->link_max = store->fixup_max = store->landing_max = RECORDS;
	store->insn_max = 1024;
	store->bmi2 = store->returns_host = true;
	store->origin = ORIGIN_LIVE;
}

static int make_stores(void **state)
{
	struct insn *insns =
		mmap(NULL, 1u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	(void)state;
	if (insns == MAP_FAILED)
		return -1;
	for (unsigned i = 0; i < STORES; i++) {
		make_store(&stores[i], insns);
		stores[i].module = i != LIVE;
		translations[i] = translation_create();
	}
	numbers.targets = calloc(TARGET_SIZE, sizeof(*numbers.targets));
	numbers.target_hash = calloc(1u << TARGET_HASH_BITS, sizeof(*numbers.target_hash));
	numbers.target_count = 1;
	numbers.target_max = TARGET_SIZE;
	return numbers.targets && numbers.target_hash ? 0 : -1;
}

/* Guest code with holes in its page. */
struct guest {
	u64 pc;
	u32 mode;
	const u8 *bytes;      /* to the end of the page */
	u8 filled[PAGE_SIZE]; /* the same with the holes filled in for nobody */
	u16 holes[PAGE_SIZE];
	unsigned hole_count;
};

static bool scan(enum which which, const struct guest *guest)
{
	struct store *store = &stores[which];
	struct scan_options options = translate_scan_options(store, guest->mode);
	const u64 pc = which == LOOSE ? MODULE_BASE + PAGE_OFFSET(guest->pc) : guest->pc;
	const unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(pc));
	const u8 *bytes = which == LOOSE ? guest->filled : guest->bytes;

	return scan_unit(translation_scan(translations[which]), pc, bytes, in_page, in_page, &options) == 0;
}

static const struct unit *translate(enum which which, const struct guest *guest)
{
	struct store *store = &stores[which];

	memset(store->code_rw, 0xcc, CODE_SIZE);
	store->used = 0;
	store->unit_count = 1;
	store->pc_count = store->entry_count = store->link_count = store->fixup_count = 0;
	store->landing_count = 0;
	store->insn_count = which == LIVE ? 0 : 7u * which;
	if (which == LIVE) { /* it takes them when it is made */
		store->targets = numbers.targets;
		store->target_hash = numbers.target_hash;
		store->target_count = numbers.target_count;
		store->target_max = numbers.target_max;
	}
	assert_int_not_equal(translate_unit(translations[which], store, guest->mode), UNIT_NONE);
	return &store->units[1];
}

/* Fixes the code for the place; how often each kind was there is counted. */
static bool fix(enum which which, const struct guest *guest, u64 kinds[MODULE_FIXUPS])
{
	struct store *store = &stores[which];
	const struct module_place place = {.pc = guest->pc,
					   .bytes = guest->bytes,
					   .numbers = &numbers,
					   .first_insn = (u32)(uintptr_t)store->insns};
	bool good = true;

	for (u32 i = 0; i < store->fixup_count; i++) {
		kinds[store->fixups[i].kind]++;
		good &= module_fix(store->code_rw, &store->fixups[i], &place);
	}
	return good;
}

static void compare_tables(const struct unit *a, const struct unit *b)
{
	assert_int_equal(a->code_end, b->code_end);
	assert_int_equal(a->body, b->body);
	assert_int_equal(a->saved, b->saved);
	assert_int_equal(a->stale, b->stale);
	assert_int_equal(a->stale_saved, b->stale_saved);
	assert_int_equal(a->pcs_count, b->pcs_count);
	assert_memory_equal(stores[LOOSE].pcs, stores[FIXED].pcs, a->pcs_count * sizeof(struct pc_entry));
	assert_int_equal(a->fixups_count, b->fixups_count);
	assert_memory_equal(stores[LOOSE].fixups, stores[FIXED].fixups, a->fixups_count * sizeof(struct fixup));
	assert_int_equal(a->landings_count, b->landings_count);
	assert_memory_equal(stores[LOOSE].landings, stores[FIXED].landings, a->landings_count * sizeof(u32));
	assert_int_equal(a->links_count, b->links_count);
	for (u32 i = 0; i < a->links_count; i++) {
		assert_int_equal(stores[LOOSE].links[i].patch, stores[FIXED].links[i].patch);
		assert_int_equal(PAGE_OFFSET(stores[LOOSE].links[i].target),
				 PAGE_OFFSET(stores[FIXED].links[i].target));
	}
	assert_int_equal(a->entries_count, b->entries_count);
	for (u32 i = 0; i < a->entries_count; i++) {
		assert_int_equal(stores[LOOSE].entries[i].code, stores[FIXED].entries[i].code);
		assert_int_equal(stores[LOOSE].entries[i].pc - a->pc, stores[FIXED].entries[i].pc - b->pc);
	}
}

/* Bytes of all code that was the live engine's as well. */
static u64 live_bytes;

/* False: nothing was compared. */
static bool check(struct guest *guest, u64 kinds[MODULE_FIXUPS])
{
	const struct unit *loose, *fixed, *live;
	u64 none[MODULE_FIXUPS] = {0};
	bool good;

	if (!scan(FIXED, guest))
		return false;
	assert_true(scan(LOOSE, guest));
	if (!scan_note_holes(translation_scan(translations[FIXED]), guest->holes, guest->hole_count))
		return false;
	assert_true(scan_note_holes(translation_scan(translations[LOOSE]), guest->holes, guest->hole_count));
	assert_int_equal(translation_scan(translations[FIXED])->bytes, translation_scan(translations[LOOSE])->bytes);
	if (translation_scan(translations[FIXED])->straddles)
		return false;
	loose = translate(LOOSE, guest);
	fixed = translate(FIXED, guest);
	compare_tables(loose, fixed);
	good = fix(LOOSE, guest, kinds);
	assert_int_equal(fix(FIXED, guest, none), good);
	if (!good)
		return false;
	assert_memory_equal(stores[LOOSE].code_rw, stores[FIXED].code_rw, loose->code_end);
	assert_true(scan(LIVE, guest));
	live = translate(LIVE, guest);
	if (live->code_end == loose->code_end && !memcmp(stores[LOOSE].code_rw, stores[LIVE].code_rw, live->code_end))
		live_bytes += live->code_end;
	return true;
}

/* Makes a hole of this field, unless it leads somewhere in the page. */
static void add_hole(struct guest *guest, unsigned at, unsigned size)
{
	guest->holes[guest->hole_count++] = (u16)(PAGE_OFFSET(guest->pc) + at) | (size == 8 ? SCAN_HOLE_WIDE : 0);
	memset(guest->filled + at, SCAN_HOLE_FILLING, size);
}

/* Of the fields that could be holes, those that the seed says are. */
static void make_holes(struct guest *guest, u32 seed)
{
	const unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(guest->pc));
	const struct scan *found;

	memcpy(guest->filled, guest->bytes, in_page);
	guest->hole_count = 0;
	if (!scan(FIXED, guest))
		return;
	found = translation_scan(translations[FIXED]);
	for (unsigned i = 0; i < found->count && !found->straddles; i++) {
		const struct scan_item *item = &found->item[i];
		const struct insn *insn = &item->insn;
		const unsigned behind = (unsigned)insn->length - insn->imm_at;
		const u64 target = guest->pc + item->offset + insn->length + (u64)insn->imm;
		const bool branch = insn->class == INSN_CALL || insn->class == INSN_JMP || insn->class == INSN_JCC;

		seed = seed * 1664525 + 1013904223;
		if (seed >> 30 == 0)
			continue;
		if (insn->has_mem && insn->modrm_at && insn->addrsize == 8 && insn->imm_at - 4 > insn->modrm_at)
			add_hole(guest, item->offset + insn->imm_at - 4u, 4);
		if ((behind == 4 || (behind == 8 && insn->class == INSN_COPY)) &&
		    (!branch || PAGE_BASE(target) != PAGE_BASE(guest->pc)))
			add_hole(guest, item->offset + insn->imm_at, behind);
	}
}

/* This program's own code, from every place that could begin an instruction. */
static void test_own_code(void **state)
{
	static struct guest guest;
	const u8 *code = (const u8 *)PAGE_BASE((u64)(uintptr_t)&translate_unit);
	u64 kinds[MODULE_FIXUPS] = {0}, units = 0, bytes = 0;

	(void)state;
	for (u64 i = 0; i < 3 * PAGE_SIZE; i += 3) {
		guest.pc = (i & 64 ? 0xffffffffc0123000 : 0xffffffffa07fe000) + i;
		guest.bytes = code + i;
		for (unsigned careful = 0; careful < 2; careful++) {
			guest.mode = KERNEL_MODE | (careful ? MODE_CAREFUL : 0);
			make_holes(&guest, (u32)i);
			units += check(&guest, kinds);
			bytes += stores[LOOSE].units[1].code_end;
		}
	}
	assert_true(units > 6000);
	assert_true(live_bytes > bytes / 3);
	assert_true(kinds[MODULE_ADDRESS] > 10000 && kinds[MODULE_MINUS] > 6000 && kinds[MODULE_LINK] > 1000);
	assert_true(kinds[MODULE_READ] && kinds[MODULE_TAG] && kinds[MODULE_ADDEND] && kinds[MODULE_NUMBER]);
	assert_int_equal(kinds[MODULE_NUMBER], kinds[MODULE_ELEMENT]);
}

/* What modules have and this program has not, each with the first field that can be one as a hole. */
static void test_awkward(void **state)
{
	static const struct {
		u64 pc;
		bool fits; /* there is code of this form */
		u8 bytes[32];
		unsigned hole, size; /* offset; 0: none */
	} cases[] = {
		/* mov rdi, 0xffffffffc0345678; ret */
		{0xffffffffc0000000, true, {0x48, 0xc7, 0xc7, 0x78, 0x56, 0x34, 0xc0, 0xc3}, 3, 4},
		/* movabs rax, 0x1122334455667788; ret */
		{0xffffffffc0001100, true, {0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xc3}, 2, 8},
		/* mov [rip + 0x1000], 0x12345678; ret: the field before an immediate */
		{0xffffffffc0001200, true, {0xc7, 0x05, 0x00, 0x10, 0, 0, 0x78, 0x56, 0x34, 0x12, 0xc3}, 2, 4},
		/* mov rax, [rip - 4]: over the end of the page */
		{0xffffffffc0001ff0, false, {0x48, 0x8b, 0x05, 5, 0, 0, 0, 0xc3}, 3, 4},
		/* the same at its end */
		{0xffffffffc0001ff0, true, {0x48, 0x8b, 0x05, 1, 0, 0, 0, 0xc3}, 3, 4},
		/* mov rax, gs:[0x12340]; add rax, [rdi*8 - 0x3fabcde0]; ret: per-CPU data, and a table of the kernel's
		 */
		{0xffffffffa0000ff0, true, {0x65, 0x48, 0x8b, 0x04, 0x25, 0x40, 0x23, 0x01, 0, 0xc3}, 5, 4},
		{0xffffffffa0002010, true, {0x48, 0x03, 0x04, 0xfd, 0x20, 0x32, 0x54, 0xc0, 0xc3}, 4, 4},
		/* lea rdx, [r10*8 - 0x3fabcde0]; mov r10, [r11 + 0x11223344]; ret */
		{0xffffffffa0003010, true, {0x4a, 0x8d, 0x14, 0xd5, 0x20, 0x32, 0x54, 0xc0, 0xc3}, 4, 4},
		{0xffffffffa0003010, true, {0x4d, 0x8b, 0x93, 0x44, 0x33, 0x22, 0x11, 0xc3}, 3, 4},
		/* a small displacement where a large one may be: mov rax, [rdi + 1], with 4 bytes for it */
		{0xffffffffa0003010, true, {0x48, 0x8b, 0x87, 1, 0, 0, 0, 0xc3}, 3, 4},
		/* push 0x1234; cmp rax, 1; jz +0x3000; call +0x3000; jmp -0x3000, each from a hole */
		{0xffffffffc0004000, true, {0x68, 0x34, 0x12, 0, 0, 0xc3}, 1, 4},
		{0xffffffffc0004000, true, {0x48, 0x3d, 1, 0, 0, 0, 0x74, 1, 0xc3, 0xc3}, 2, 4},
		{0xffffffffc0004000, true, {0x48, 0x39, 0xc8, 0x0f, 0x84, 0, 0x30, 0, 0, 0x48, 0x11, 0xc8, 0xc3}, 5, 4},
		{0xffffffffc0004000, true, {0xe8, 0, 0x30, 0, 0, 0xc3}, 1, 4},
		{0xffffffffc0005000, true, {0xe9, 0, 0xd0, 0xff, 0xff}, 1, 4},
		/* cmp rax, rcx; jmp: the flags may be live there */
		{0xffffffffc0005000,
		 true,
		 {0x48, 0x8b, 0x0f, 0x48, 0x39, 0xc8, 0x48, 0x8b, 0x16, 0xe9, 0, 0x30, 0, 0},
		 10,
		 4},
		/* call [rip + 0x2000]; jmp [rax*8 - 0x3fabcde0] */
		{0xffffffffc0006000, true, {0xff, 0x15, 0, 0x20, 0, 0, 0xc3}, 2, 4},
		{0xffffffffc0006000, true, {0xff, 0x24, 0xc5, 0x20, 0x32, 0x54, 0xc0}, 3, 4},
		/* lgdt [rip + 0x2000]; bts [rip + 0x2000], rax; cpuid; invlpg [0xffffffffc0123450]: for C */
		{0xffffffffc0006000, true, {0x0f, 0x01, 0x15, 0, 0x20, 0, 0, 0xc3}, 3, 4},
		{0xffffffffc0006000, true, {0x48, 0x0f, 0xab, 0x05, 0, 0x20, 0, 0, 0x0f, 0xa2, 0xc3}, 4, 4},
		{0xffffffffc0006000, true, {0x0f, 0x01, 0x3c, 0x25, 0x50, 0x34, 0x12, 0xc0, 0x0f, 0xa2, 0xc3}, 4, 4},
		/* mov rax, [rip - 0x7fffffff]: below what 32 bits reach; and below the kernel's first page */
		{0xffffffffa0007000, false, {0x48, 0x8b, 0x05, 1, 0, 0, 0x80, 0xc3}, 3, 4},
		{0xffffffffa0007000, false, {0x48, 0x8b, 0x05, 0xf9, 0x8f, 0xff, 0xdf, 0xc3}, 3, 4},
		/* add rsp, 0x1000; mov rax, [rsp]; ret: no window may rely on a hole */
		{0xffffffffa0008000, true, {0x50, 0x48, 0x81, 0xc4, 0, 0x10, 0, 0, 0x48, 0x8b, 0x04, 0x24, 0xc3}, 4, 4},
		/* stac; sti; swapgs; mov eax, [rip + 0x10]; jmp +0x20 beyond the page */
		{0xffffffffc0008fe0,
		 true,
		 {0x0f, 0x01, 0xcb, 0xfb, 0x0f, 0x01, 0xf8, 0x8b, 0x05, 0x10, 0, 0, 0, 0xeb, 0x20},
		 0,
		 0},
	};
	static struct guest guest;
	u64 kinds[MODULE_FIXUPS] = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		static u8 page[PAGE_SIZE];

		memcpy(page, cases[i].bytes, sizeof(cases[i].bytes));
		guest.pc = cases[i].pc;
		guest.bytes = page;
		guest.mode = KERNEL_MODE;
		guest.hole_count = 0;
		memcpy(guest.filled, page, PAGE_SIZE);
		if (cases[i].size)
			add_hole(&guest, cases[i].hole, cases[i].size);
		if (check(&guest, kinds) != cases[i].fits)
			fail_msg("case %u", i);
	}
	for (unsigned kind = 0; kind < MODULE_FIXUPS; kind++) {
		if (!kinds[kind])
			fail_msg("no fix-up of kind %u", kind);
	}
}

/* Only whole fields may be holes. */
static void test_holes(void **state)
{
	static const u8 page[PAGE_SIZE] = {0x48, 0x8b, 0x05, 5, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xeb, 0xf2};
	static const struct {
		u16 hole;
		bool good;
	} cases[] = {
		{3, true},  {2, false},  {4, false}, {8, true}, {7, false}, {3 | SCAN_HOLE_WIDE, false},
		{14, true}, {12, false},
	};
	static struct guest guest = {.pc = 0xffffffffc0000000, .mode = KERNEL_MODE, .bytes = page};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(scan(FIXED, &guest));
		assert_int_equal(scan_note_holes(translation_scan(translations[FIXED]), &cases[i].hole, 1),
				 cases[i].good);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_code),
		cmocka_unit_test(test_awkward),
		cmocka_unit_test(test_holes),
	};

	return cmocka_run_group_tests(tests, make_stores, NULL);
}
