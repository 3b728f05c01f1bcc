/*
 * Code of a kernel module that was made for no place in particular, with bytes unknown, and then fixed for a place and
 * for what is in the bytes, is what is made there from the whole, byte for byte. Constants are there already in what is
 * made there, and must be the same after fixing; displacements, numbers of targets and links, and addresses of records,
 * are only known then: they must be those of what the guest's instructions have and lead to, of the place, and in the
 * order of records. More than a third of the code is what live translation makes. The code is this program's own, with
 * fields of its instructions as holes, and what is awkward; of this, what becomes of the hole is compared with what is
 * written here.
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
#define FIRST_LINK  1000u /* of the place; what was made for none begins with 0 */
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
		stores[i].first_link = i == LOOSE ? 0 : FIRST_LINK;
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
	if (which == LIVE) /* the table is one and the same */
		numbers.target_count = store->target_count;
	return &store->units[1];
}

/* Fixes the code for the place; how often each kind was there is counted. */
static bool fix(enum which which, const struct guest *guest, u64 kinds[MODULE_FIXUPS])
{
	struct store *store = &stores[which];
	const struct module_place place = {.pc = guest->pc,
					   .bytes = guest->bytes,
					   .numbers = &numbers,
					   .first_link = FIRST_LINK,
					   .first_insn = (u32)(uintptr_t)store->insns};
	bool good = true;

	for (u32 i = 0; i < store->fixup_count; i++) {
		kinds[store->fixups[i].kind]++;
		good &= module_fix(store->code_rw, &store->fixups[i], &place);
	}
	return good;
}

static u32 dword_at(enum which which, u32 at)
{
	u32 value;

	memcpy(&value, stores[which].code_rw + at, sizeof(value));
	return value;
}

static bool is_branch(const struct insn *insn)
{
	return insn->class == INSN_CALL || insn->class == INSN_JMP || insn->class == INSN_JCC;
}

/* Does the code that was scanned jump there: by the field of this fix-up, or, if it is of none, anyhow? */
static bool leads_to(const struct scan *scan, const struct fixup *fixup, u64 address)
{
	for (unsigned i = 0; i < scan->count; i++) {
		const struct scan_item *item = &scan->item[i];
		const u64 end = scan->pc + item->offset + item->insn.length;

		if (fixup->from == MODULE_FROM_RELATIVE &&
		    (u32)item->offset + item->insn.imm_at != MODULE_FIELD_AT(fixup->value))
			continue;
		if (is_branch(&item->insn) && end + (u64)item->insn.imm == address)
			return true;
		if (fixup->from == MODULE_FROM_PAGE && end == address)
			return true;
	}
	return false;
}

/* What the decoder has found in this field of an instruction. */
static u32 decoded(const struct scan *scan, u32 field)
{
	for (unsigned i = 0; i < scan->count; i++) {
		const struct scan_item *item = &scan->item[i];

		if (field == (u32)item->offset + item->insn.imm_at)
			return (u32)item->insn.imm;
		if (field + 4 == (u32)item->offset + item->insn.imm_at)
			return (u32)item->insn.disp;
	}
	fail_msg("no instruction has a field at %u", field);
	return 0;
}

static void check_number(const struct scan *scan, const struct fixup *fixup, u32 number, bool saved)
{
	const u64 address = numbers.targets[number].pc ^ (saved ? TARGET_SAVED : 0);

	assert_in_range(number, 1, numbers.target_count - 1);
	assert_int_equal(target_is_saved(numbers.targets[number].pc), saved);
	assert_true(leads_to(scan, fixup, address));
}

/* What was made at its place, and fixed: `made` is what it was before that. */
static void check_fixed(const struct unit *unit, u8 *made)
{
	const struct store *store = &stores[FIXED];
	const struct scan *scan = translation_scan(translations[FIXED]);
	u32 number = 0, insns = 0;

	for (u32 i = 0; i < unit->fixups_count; i++) {
		const struct fixup *fixup = &store->fixups[i];
		const u32 value = dword_at(FIXED, fixup->at);

		/* of what was not there, the value is known; then it is as if it had been there */
		switch (fixup->kind) {
		case MODULE_NUMBER:
		case MODULE_NUMBER_SAVED:
			number = value;
			check_number(scan, fixup, number, fixup->kind == MODULE_NUMBER_SAVED);
			break;
		case MODULE_ELEMENT:
		case MODULE_ELEMENT_SAVED:
			assert_int_equal(fixup[-1].kind, fixup->kind - MODULE_ELEMENT + MODULE_NUMBER);
			assert_int_equal(value, offsetof(struct view, target[number]));
			break;
		case MODULE_INSN:
			assert_int_equal(value, (uintptr_t)&store->insns[insns++]);
			break;
		case MODULE_ADDRESS: /* as a displacement it is not there either */
			if (fixup->from != MODULE_FROM_ABSOLUTE)
				continue;
			assert_int_equal(value, decoded(scan, MODULE_FIELD_AT(fixup->value)));
			break;
		default: /* it was there */
			continue;
		}
		memcpy(made + fixup->at, &value, sizeof(value));
	}
	assert_int_equal(insns, unit->insns_count);
	assert_memory_equal(made, store->code_rw, unit->code_end);
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
	static u8 made[CODE_SIZE];
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
	memcpy(made, stores[FIXED].code_rw, fixed->code_end);
	good = fix(LOOSE, guest, kinds);
	assert_int_equal(fix(FIXED, guest, none), good);
	if (!good)
		return false;
	check_fixed(fixed, made);
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

		seed = seed * 1664525 + 1013904223;
		if (seed >> 30 == 0)
			continue;
		if (insn->has_mem && insn->modrm_at && insn->addrsize == 8 && insn->imm_at - 4 > insn->modrm_at)
			add_hole(guest, item->offset + insn->imm_at - 4u, 4);
		if ((behind == 4 || (behind == 8 && insn->class == INSN_COPY)) &&
		    (!is_branch(insn) || PAGE_BASE(target) != PAGE_BASE(guest->pc)))
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

/* What a fix-up of this kind is to make of the address. */
static u64 made_of(unsigned kind, u64 address)
{
	const unsigned entry = (unsigned)(address / PAGE_SIZE % TLB_SIZE);

	switch (kind) {
	case MODULE_ADDRESS:
		return (u32)address;
	case MODULE_WIDE:
		return address;
	case MODULE_TAG:
		return (u32) - (address & ~0xfffULL);
	case MODULE_READ:
		return offsetof(struct view, tlb[entry].ntag_read);
	case MODULE_WRITE:
		return offsetof(struct view, tlb_more[entry].ntag_write);
	case MODULE_ADDEND:
		return offsetof(struct view, tlb[entry].addend);
	case MODULE_NUMBER:
		return store_find_target(&numbers, address);
	case MODULE_NUMBER_SAVED:
		return store_find_target(&numbers, address ^ TARGET_SAVED);
	case MODULE_ELEMENT:
		return offsetof(struct view, target[store_find_target(&numbers, address)]);
	case MODULE_ELEMENT_SAVED:
		return offsetof(struct view, target[store_find_target(&numbers, address ^ TARGET_SAVED)]);
	}
	fail_msg("kind %u is made of a hole", kind);
	return 0;
}

/* All that is made of fields of instructions is made of this address; 0: nothing is. */
static void check_fields(unsigned number, u64 address)
{
	const struct store *store = &stores[LOOSE];
	unsigned count = 0;

	for (u32 i = 0; i < store->fixup_count; i++) {
		const struct fixup *fixup = &store->fixups[i];
		u64 value = 0;

		if (fixup->from == MODULE_FROM_PAGE)
			continue;
		memcpy(&value, store->code_rw + fixup->at, fixup->kind == MODULE_WIDE ? 8 : 4);
		if (value != made_of(fixup->kind, address))
			fail_msg("case %u: a fix-up of kind %u made 0x%llx", number, fixup->kind,
				 (unsigned long long)value);
		count++;
	}
	if (!count != !address)
		fail_msg("case %u: %u fix-ups are of fields", number, count);
}

/* What modules have and this program has not, each with the first field that can be one as a hole. */
static void test_awkward(void **state)
{
	static const struct {
		u64 pc;
		bool fits; /* there is code of this form */
		u8 bytes[32];
		unsigned hole, size; /* offset; 0: none */
		u64 address;         /* that the hole, or [rip + …], stands for; 0: the code does without */
	} cases[] = {
		/* mov rdi, 0xffffffffc0345678; ret */
		{0xffffffffc0000000, true, {0x48, 0xc7, 0xc7, 0x78, 0x56, 0x34, 0xc0, 0xc3}, 3, 4, 0xffffffffc0345678},
		/* movabs rax, 0x1122334455667788; ret */
		{0xffffffffc0001100,
		 true,
		 {0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xc3},
		 2,
		 8,
		 0x1122334455667788},
		/* mov [rip + 0x1000], 0x12345678; ret: the field before an immediate */
		{0xffffffffc0001200,
		 true,
		 {0xc7, 0x05, 0x00, 0x10, 0, 0, 0x78, 0x56, 0x34, 0x12, 0xc3},
		 2,
		 4,
		 0xffffffffc000220a},
		/* mov rax, [rip - 4]: over the end of the page */
		{0xffffffffc0001ff0, false, {0x48, 0x8b, 0x05, 5, 0, 0, 0, 0xc3}, 3, 4, 0},
		/* the same at its end */
		{0xffffffffc0001ff0, true, {0x48, 0x8b, 0x05, 1, 0, 0, 0, 0xc3}, 3, 4, 0xffffffffc0001ff8},
		/* mov rax, gs:[0x12340]; add rax, [rdi*8 - 0x3fabcde0]; ret: per-CPU data, and a table of the kernel's
		 */
		{0xffffffffa0000ff0, true, {0x65, 0x48, 0x8b, 0x04, 0x25, 0x40, 0x23, 0x01, 0, 0xc3}, 5, 4, 0x12340},
		{0xffffffffa0002010,
		 true,
		 {0x48, 0x03, 0x04, 0xfd, 0x20, 0x32, 0x54, 0xc0, 0xc3},
		 4,
		 4,
		 0xffffffffc0543220},
		/* lea rdx, [r10*8 - 0x3fabcde0]; mov r10, [r11 + 0x11223344]; ret */
		{0xffffffffa0003010,
		 true,
		 {0x4a, 0x8d, 0x14, 0xd5, 0x20, 0x32, 0x54, 0xc0, 0xc3},
		 4,
		 4,
		 0xffffffffc0543220},
		{0xffffffffa0003010, true, {0x4d, 0x8b, 0x93, 0x44, 0x33, 0x22, 0x11, 0xc3}, 3, 4, 0x11223344},
		/* a small displacement where a large one may be: mov rax, [rdi + 1], with 4 bytes for it */
		{0xffffffffa0003010, true, {0x48, 0x8b, 0x87, 1, 0, 0, 0, 0xc3}, 3, 4, 1},
		/* push 0x1234; cmp rax, 1; jz +0x3000; call +0x3000; jmp -0x3000, each from a hole */
		{0xffffffffc0004000, true, {0x68, 0x34, 0x12, 0, 0, 0xc3}, 1, 4, 0x1234},
		{0xffffffffc0004000, true, {0x48, 0x3d, 1, 0, 0, 0, 0x74, 1, 0xc3, 0xc3}, 2, 4, 1},
		{0xffffffffc0004000,
		 true,
		 {0x48, 0x39, 0xc8, 0x0f, 0x84, 0, 0x30, 0, 0, 0x48, 0x11, 0xc8, 0xc3},
		 5,
		 4,
		 0xffffffffc0007009},
		{0xffffffffc0004000, true, {0xe8, 0, 0x30, 0, 0, 0xc3}, 1, 4, 0xffffffffc0007005},
		{0xffffffffc0005000, true, {0xe9, 0, 0xd0, 0xff, 0xff}, 1, 4, 0xffffffffc0002005},
		/* cmp rax, rcx; jmp: the flags may be live there */
		{0xffffffffc0005000,
		 true,
		 {0x48, 0x8b, 0x0f, 0x48, 0x39, 0xc8, 0x48, 0x8b, 0x16, 0xe9, 0, 0x30, 0, 0},
		 10,
		 4,
		 0xffffffffc000800e},
		/* call [rip + 0x2000]; jmp [rax*8 - 0x3fabcde0] */
		{0xffffffffc0006000, true, {0xff, 0x15, 0, 0x20, 0, 0, 0xc3}, 2, 4, 0xffffffffc0008006},
		{0xffffffffc0006000, true, {0xff, 0x24, 0xc5, 0x20, 0x32, 0x54, 0xc0}, 3, 4, 0xffffffffc0543220},
		/* lgdt [rip + 0x2000]; bts [rip + 0x2000], rax; cpuid; invlpg [0xffffffffc0123450]: for C, which
		 * reads the bytes again
		 */
		{0xffffffffc0006000, true, {0x0f, 0x01, 0x15, 0, 0x20, 0, 0, 0xc3}, 3, 4, 0},
		{0xffffffffc0006000, true, {0x48, 0x0f, 0xab, 0x05, 0, 0x20, 0, 0, 0x0f, 0xa2, 0xc3}, 4, 4, 0},
		{0xffffffffc0006000, true, {0x0f, 0x01, 0x3c, 0x25, 0x50, 0x34, 0x12, 0xc0, 0x0f, 0xa2, 0xc3}, 4, 4, 0},
		/* lea rdx, [rip - 0x7fffffff]: below what 32 bits reach */
		{0xffffffffa0007000, false, {0x48, 0x8d, 0x15, 1, 0, 0, 0x80, 0xc3}, 3, 4, 0},
		/* mov rax, [rip - 0x7fffffff]: the same; and below the kernel's first page */
		{0xffffffffa0007000, false, {0x48, 0x8b, 0x05, 1, 0, 0, 0x80, 0xc3}, 3, 4, 0},
		{0xffffffffa0007000, false, {0x48, 0x8b, 0x05, 0xf9, 0x8f, 0xff, 0xdf, 0xc3}, 3, 4, 0},
		/* add rsp, 0x1000; mov rax, [rsp]; ret: no window may rely on a hole */
		{0xffffffffa0008000,
		 true,
		 {0x50, 0x48, 0x81, 0xc4, 0, 0x10, 0, 0, 0x48, 0x8b, 0x04, 0x24, 0xc3},
		 4,
		 4,
		 0x1000},
		/* stac; sti; swapgs; mov eax, [rip + 0x10]; jmp +0x20 beyond the page */
		{0xffffffffc0008fe0,
		 true,
		 {0x0f, 0x01, 0xcb, 0xfb, 0x0f, 0x01, 0xf8, 0x8b, 0x05, 0x10, 0, 0, 0, 0xeb, 0x20},
		 0,
		 0,
		 0xffffffffc0008ffd},
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
		if (cases[i].fits)
			check_fields(i, cases[i].address);
	}
	for (unsigned kind = 0; kind < MODULE_FIXUPS; kind++) {
		if (!kinds[kind])
			fail_msg("no fix-up of kind %u", kind);
	}
}

/* Whatever a cache wants: what does not fit is refused, and what just fits is not. */
static void test_limits(void **state)
{
	static const struct {
		u64 pc;
		u32 field;
		u16 kind, from;
		u8 access;
		bool good;
	} cases[] = {
		{0xffffffffc0000000, 0x80000000, MODULE_ADDRESS, MODULE_FROM_ABSOLUTE, 0, true},
		{0xffffffffc0000000, 0x3ffffffc, MODULE_ADDRESS, MODULE_FROM_RELATIVE, 0, true},
		{0xffffffffc0000000, 0xbffffffc, MODULE_ADDRESS, MODULE_FROM_RELATIVE, 0, true},
		{0xffffffffc0000000, 0xbffffffb, MODULE_ADDRESS, MODULE_FROM_RELATIVE, 0, false},
		{0xffffffffc0000000, 0x80000001, MODULE_MINUS, MODULE_FROM_ABSOLUTE, 0, true},
		{0xffffffffc0000000, 0x80000000, MODULE_MINUS, MODULE_FROM_ABSOLUTE, 0, false},
		{0xffffffffc0000000, 0x80001000, MODULE_TAG, MODULE_FROM_ABSOLUTE, 0, true},
		{0xffffffffc0000000, 0x80000fff, MODULE_TAG, MODULE_FROM_ABSOLUTE, 0, false},
		{0xffffffffc0000000, 0xc0000ff0, MODULE_READ, MODULE_FROM_ABSOLUTE, 16, true},
		{0xffffffffc0000000, 0xc0000ff0, MODULE_READ, MODULE_FROM_ABSOLUTE, 17, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct fixup fixup = {0, cases[i].kind, cases[i].from, MODULE_FIELD(0, 0, cases[i].access)};
		const struct module_place place = {.pc = cases[i].pc, .bytes = (const u8 *)&cases[i].field};
		u8 code[8];

		if (module_fix(code, &fixup, &place) != cases[i].good)
			fail_msg("case %u", i);
	}
}

/* No target can be given one any more. */
static void test_no_number(void **state)
{
	const u32 max = numbers.target_max;

	(void)state;
	for (unsigned kind = MODULE_NUMBER; kind <= MODULE_ELEMENT_SAVED; kind++) {
		const struct module_place place = {.pc = 0xffffffffc0432000 + kind * PAGE_SIZE, .numbers = &numbers};
		const struct fixup fixup = {0, (u16)kind, MODULE_FROM_PAGE, 0};
		u8 code[8];

		numbers.target_max = numbers.target_count;
		assert_false(module_fix(code, &fixup, &place));
		numbers.target_max = max;
		assert_true(module_fix(code, &fixup, &place));
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
		cmocka_unit_test(test_own_code),  cmocka_unit_test(test_awkward), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_no_number), cmocka_unit_test(test_holes),
	};

	return cmocka_run_group_tests(tests, make_stores, NULL);
}
