/* The software TLB: what is filled by what, PCIDs, flushes, protection of code pages, jump tables. */
#include "test_mem_machine.h"

#define USER_PAGE   0x5555aaaa0000ULL
#define KERNEL_PAGE 0xffffffff81234000ULL
#define FRAME       0x800000ULL
#define ALIAS       (PAGE_SIZE * TLB_SIZE) /* pages so far apart share a TLB entry */

#define RD ACCESS_READ
#define WR ACCESS_WRITE
#define EX ACCESS_EXEC

/* The compare that generated code does: would this access hit in the view in force? */
static bool hits(u64 gva, unsigned access)
{
	const struct tlb_entry *e = &cpu->view->tlb[tlb_index(gva)];

	return gva + (access == EX   ? tlb_more(e)->ntag_exec
		      : access == WR ? tlb_more(e)->ntag_write
				     : e->ntag_read) <
	       PAGE_SIZE;
}

#define assert_hits(gva, r, w, x)                                                                                      \
	do {                                                                                                           \
		assert_int_equal(hits(gva, RD), r);                                                                    \
		assert_int_equal(hits(gva, WR), w);                                                                    \
		assert_int_equal(hits(gva, EX), x);                                                                    \
	} while (0)

static u8 *fill(u64 gva, unsigned access)
{
	u8 *hva;

	assert_int_equal(mmu_fill(cpu, gva, 1, access, &hva), EXEC_OK);
	return hva;
}

static u64 fetch(u64 gva)
{
	u64 gpa;

	assert_int_equal(mmu_fetch(cpu, gva, &gpa), EXEC_OK);
	return gpa;
}

/* The code that the view in force has for pc, or 0. */
static u32 jump_of(u64 pc)
{
	unsigned i = jump_index(pc);

	u32 code = cpu->view->jump_pc[i] == pc ? cpu->view->jump[i] : 0;

	/* the pair comes and goes with it */
	assert_int_equal(cpu->view->pair[i].pc == pc, code != 0);
	return code;
}

static void set_jump(u64 pc, u64 last)
{
	fetch(pc);
	if (PAGE_BASE(pc) != PAGE_BASE(last))
		fetch(last);
	view_set_jump(cpu->view, pc, last, (u32)PAGE_OFFSET(pc) + 1, cpu);
	assert_int_equal(jump_of(pc), PAGE_OFFSET(pc) + 1);
}

static void test_fill_by_access(void **state)
{
	const u64 gva = USER_PAGE + 0x10;

	(void)state;
	set_cpl(3, false);
	map(cpu->cr3, gva, FRAME, ALL_ACCESS);
	assert_hits(gva, 0, 0, 0);
	/* clean: the first write must be seen, to set D */
	assert_ptr_equal(fill(gva, RD), vm->ram.host + FRAME + 0x10);
	assert_hits(gva, 1, 0, 0);
	assert_int_equal(vm->ram.frames[FRAME >> PAGE_SHIFT] & FRAME_WRITABLE, 0);
	fill(gva, WR);
	assert_hits(gva, 1, 1, 0);
	assert_int_equal(vm->ram.frames[FRAME >> PAGE_SHIFT] & FRAME_WRITABLE, FRAME_WRITABLE);
	fetch(gva);
	assert_hits(gva, 1, 1, 1);

	/* dirty already: a read may fill both */
	mmu_flush_page(cpu, gva);
	assert_hits(gva, 0, 0, 0);
	fetch(gva);
	assert_hits(gva, 0, 0, 1);
	fill(gva, RD);
	assert_hits(gva, 1, 1, 1);

	/* dirty but read-only */
	map(cpu->cr3, gva, FRAME, P | US | A | D);
	mmu_flush_page(cpu, gva);
	fill(gva, RD);
	assert_hits(gva, 1, 0, 0);

	/* hits reach exactly to the ends of the page */
	assert_true(hits(PAGE_BASE(gva), RD) && hits(PAGE_BASE(gva) + 0xfff, RD));
	assert_false(hits(PAGE_BASE(gva) - 1, RD));
	assert_false(hits(PAGE_BASE(gva) + PAGE_SIZE, RD));
}

static void test_supervisor_writes_without_wp(void **state)
{
	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | A | D);
	fill(KERNEL_PAGE, RD);
	assert_hits(KERNEL_PAGE, 1, 0, 0);
	cpu->cr0 &= ~CR0_WP;
	mmu_flush_all(cpu);
	fill(KERNEL_PAGE, RD);
	assert_hits(KERNEL_PAGE, 1, 1, 0);
}

static void test_fill_declines(void **state)
{
	u8 *hva = (u8 *)1;

	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	map(cpu->cr3, KERNEL_PAGE + PAGE_SIZE, 0xfee00000, P | RW);
	assert_int_equal(mmu_fill(cpu, KERNEL_PAGE + 0xffd, 4, RD, &hva), EXEC_OK); /* crosses */
	assert_null(hva);
	assert_int_equal(mmu_fill(cpu, KERNEL_PAGE + 0xffc, 4, RD, &hva), EXEC_OK);
	assert_non_null(hva);
	assert_null(fill(KERNEL_PAGE + PAGE_SIZE, WR)); /* MMIO */
	assert_hits(KERNEL_PAGE + PAGE_SIZE, 0, 0, 0);
	assert_int_equal(fetch(KERNEL_PAGE + PAGE_SIZE + 8), 0xfee00008);
	assert_hits(KERNEL_PAGE + PAGE_SIZE, 0, 0, 0);
	hva = (u8 *)1;
	assert_int_equal(mmu_fill(cpu, KERNEL_PAGE - 1, 1, WR, &hva), EXEC_FAULT);
	assert_page_fault(KERNEL_PAGE - 1, PFEC_WRITE);
	assert_null(hva);
}

/* Entry 0 is the one that could take an invalid tag for a page: that of address 0. */
static void test_page_zero(void **state)
{
	static const u64 index_zero[] = {0, ALIAS, 5 * ALIAS, 0xffffffff80000000};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(index_zero); i++) {
		assert_int_equal(tlb_index(index_zero[i]), 0);
		assert_hits(index_zero[i], 0, 0, 0);
		assert_hits(index_zero[i] + 0xfff, 0, 0, 0);
	}
	map(cpu->cr3, 0, FRAME, P | RW);
	assert_ptr_equal(fill(8, WR), vm->ram.host + FRAME + 8);
	assert_hits(0, 1, 1, 0);
	assert_hits(ALIAS, 0, 0, 0);
	mmu_flush_page(cpu, 0);
	assert_hits(0, 0, 0, 0);
	fetch(0);
	assert_hits(0, 0, 0, 1);
	mmu_flush_all(cpu);
	assert_hits(0, 0, 0, 0);
	fill(0, RD);
	load_cr3(cpu->cr3, false);
	assert_hits(0, 0, 0, 0);
}

static void test_conflicts(void **state)
{
	(void)state;
	map(cpu->cr3, USER_PAGE, FRAME, P | RW);
	map(cpu->cr3, USER_PAGE + ALIAS, FRAME + PAGE_SIZE, P | RW);
	fill(USER_PAGE, WR);
	fetch(USER_PAGE);
	assert_hits(USER_PAGE, 1, 1, 1);
	assert_ptr_equal(fill(USER_PAGE + ALIAS, RD), vm->ram.host + FRAME + PAGE_SIZE);
	assert_hits(USER_PAGE, 0, 0, 0);
	assert_hits(USER_PAGE + ALIAS, 1, 0, 0);
	assert_ptr_equal(fill(USER_PAGE, RD), vm->ram.host + FRAME);
	assert_hits(USER_PAGE, 1, 1, 0);
}

static void test_views_are_separate(void **state)
{
	(void)state;
	map(cpu->cr3, USER_PAGE, FRAME, ALL_ACCESS);
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	set_cpl(0, true);
	assert_ptr_equal(cpu->view, slot_view(&vm->mmu, cpu->slot, VIEW_KERNEL_AC));
	fill(USER_PAGE, WR);
	fill(KERNEL_PAGE, WR);
	set_jump(KERNEL_PAGE, KERNEL_PAGE + 3);
	set_cpl(0, false);
	assert_ptr_equal(cpu->view, slot_view(&vm->mmu, cpu->slot, VIEW_KERNEL));
	assert_hits(USER_PAGE, 0, 0, 0);
	assert_int_equal(mem_read(cpu, USER_PAGE, &(u64){0}, 8, RD), EXEC_FAULT);
	assert_page_fault(USER_PAGE, PFEC_P);
	fill(KERNEL_PAGE, WR);
	set_cpl(3, true);
	assert_ptr_equal(cpu->view, slot_view(&vm->mmu, cpu->slot, VIEW_USER));
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	assert_int_equal(jump_of(KERNEL_PAGE), 0);
	assert_int_equal(mem_read(cpu, KERNEL_PAGE, &(u64){0}, 8, RD), EXEC_FAULT);
	assert_page_fault(KERNEL_PAGE, PFEC_P | PFEC_USER);
	/* implicit accesses use the kernel's view at any CPL, and leave no trace in the user's */
	assert_int_equal(mem_read(cpu, KERNEL_PAGE, &(u64){0}, 8, RD | ACCESS_SYSTEM), EXEC_OK);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	/* without SMAP there is one kernel view */
	cpu->cr4 &= ~CR4_SMAP;
	cpu->cpl = 0;
	mmu_flush_all(cpu);
	assert_ptr_equal(cpu->view, slot_view(&vm->mmu, cpu->slot, VIEW_KERNEL));
}

/* The views' address is what generated code has as its GS base. */
static void test_view_in_gs(void **state)
{
	u64 base;

	(void)state;
	for (u8 cpl = 0; cpl <= 3; cpl += 3) {
		set_cpl(cpl, false);
		__asm__ volatile("rdgsbase %0" : "=r"(base));
		assert_int_equal(base, (u64)cpu->view);
	}
}

static void test_protect_frame(void **state)
{
	static const u64 distance[] = {PAGE_SIZE, 0x555 * PAGE_SIZE}; /* same group of entries; another */

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(distance); i++) {
		const u64 first = KERNEL_PAGE, second = KERNEL_PAGE + distance[i], other = KERNEL_PAGE + 0x700000;
		const u64 cr3 = cpu->cr3;
		u8 *frame = &vm->ram.frames[FRAME >> PAGE_SHIFT];

		map(cpu->cr3, first, FRAME, P | RW);
		map(cpu->cr3, second, FRAME, P | RW);
		map(cpu->cr3, other, FRAME + PAGE_SIZE, P | RW);
		fill(first, WR);
		fill(other, WR);
		load_cr3(cr3 | 7, false);
		fill(second, WR);
		mmu_protect_frame(cpu, FRAME + 0x800);
		assert_int_equal(*frame, FRAME_CODE);
		assert_hits(second, 1, 0, 0);
		assert_null(fill(second, WR));
		assert_null(fill(second, RD | WR));
		assert_non_null(fill(second, RD));
		assert_hits(second, 1, 0, 0);
		load_cr3(cr3, true);
		assert_hits(first, 1, 0, 0);
		assert_hits(other, 1, 1, 0);
		mmu_check(vm);

		/* protecting again costs nothing and changes nothing */
		mmu_protect_frame(cpu, FRAME);
		assert_int_equal(*frame, FRAME_CODE);

		*frame &= (u8)~FRAME_CODE;
		assert_non_null(fill(first, RD));
		assert_hits(first, 1, 0, 0); /* a hit: nothing new is filled */
		assert_non_null(fill(first, WR));
		assert_hits(first, 1, 1, 0);
		assert_true(*frame & FRAME_WRITABLE);
		mmu_flush_all(cpu);
		*frame = 0;
	}
	mmu_protect_frame(cpu, 0xfee00000); /* no RAM there: nothing to do */
}

/* Pages that a frame was mapped at one after the other are forgotten; with more at once than are noted, all are found.
 */
static void test_protect_many(void **state)
{
	const u8 *frame = &vm->ram.frames[FRAME >> PAGE_SHIFT];
	u64 page = KERNEL_PAGE;

	(void)state;
	for (unsigned i = 0; i < 20 * FRAME_WRITERS; i++) {
		page = KERNEL_PAGE + i * 3 * PAGE_SIZE;
		map(cpu->cr3, page, FRAME, P | RW);
		assert_non_null(fill(page, WR));
		assert_int_equal(*frame & FRAME_MANY, 0);
		mmu_check(vm);
		map(cpu->cr3, page, FRAME + PAGE_SIZE, P | RW);
		mmu_flush_page(cpu, page);
	}
	for (unsigned i = 0; i <= FRAME_WRITERS; i++) {
		map(cpu->cr3, page - i * 3 * PAGE_SIZE, FRAME, P | RW);
		assert_non_null(fill(page - i * 3 * PAGE_SIZE, WR));
		mmu_check(vm);
	}
	assert_int_equal(*frame & FRAME_MANY, FRAME_MANY);
	mmu_protect_frame(cpu, FRAME);
	assert_int_equal(*frame, FRAME_CODE);
	for (unsigned i = 0; i <= FRAME_WRITERS; i++)
		assert_hits(page - i * 3 * PAGE_SIZE, 1, 0, 0);
	mmu_check(vm);
}

static void test_pcid_switch(void **state)
{
	const u64 first = cpu->cr3 | 1, second = new_table() | 2;

	(void)state;
	set_cpl(3, false);
	map(first, USER_PAGE, FRAME, ALL_ACCESS);
	map(second, USER_PAGE, FRAME + PAGE_SIZE, ALL_ACCESS);
	load_cr3(first, false);
	assert_ptr_equal(fill(USER_PAGE, RD), vm->ram.host + FRAME);
	set_jump(USER_PAGE + 0x40, USER_PAGE + 0x50);
	load_cr3(second, true);
	assert_hits(USER_PAGE, 0, 0, 0);
	assert_int_equal(jump_of(USER_PAGE + 0x40), 0);
	assert_ptr_equal(fill(USER_PAGE, RD), vm->ram.host + FRAME + PAGE_SIZE);
	load_cr3(first, true);
	assert_hits(USER_PAGE, 1, 0, 1);
	assert_int_not_equal(jump_of(USER_PAGE + 0x40), 0);
	assert_ptr_equal(fill(USER_PAGE, RD), vm->ram.host + FRAME);
	load_cr3(second, false);
	assert_hits(USER_PAGE, 0, 0, 0);
	load_cr3(first, true);
	assert_hits(USER_PAGE, 1, 0, 1);
	load_cr3(first, false);
	assert_hits(USER_PAGE, 0, 0, 0);
	/* it leads to the same frame as before */
	assert_int_not_equal(jump_of(USER_PAGE + 0x40), 0);
}

static const u64 spaces_page[] = {USER_PAGE, USER_PAGE + PAGE_SIZE, USER_PAGE + 4 * PAGE_SIZE};

/* Jumps for three pages of the space that is loaded, the first one reaching into the second page. */
static void set_space_jumps(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(spaces_page); i++)
		map(cpu->cr3, spaces_page[i], FRAME + i * PAGE_SIZE, ALL_ACCESS);
	set_jump(spaces_page[0] + 0xff8, spaces_page[1] + 2);
	set_jump(spaces_page[1] + 0x10, spaces_page[1] + 0x20);
	set_jump(spaces_page[2] + 0x10, spaces_page[2] + 0x20);
	view_set_target(cpu->view, 7, spaces_page[2] + 0x30, spaces_page[2] + 0x40, cpu);
}

/* Which of these jumps are there: a bit each, and 8 for the target. */
static unsigned space_jumps(void)
{
	return (jump_of(spaces_page[0] + 0xff8) != 0) | (jump_of(spaces_page[1] + 0x10) != 0) << 1 |
	       (jump_of(spaces_page[2] + 0x10) != 0) << 2 | (cpu->view->target[7] == cpu) << 3;
}

/* A space that comes back under its PCID or another one has the jumps whose pages are still where they were. */
static void test_spaces(void **state)
{
	static const struct {
		u64 set, clear;
		u64 frame;
		unsigned page, left;
	} edits[] = {
		{0, 0, 0, 0, 15},      {0, 0, 0x10000, 0, 14}, {0, 0, 0x10000, 1, 12},
		{0, 0, 0x10000, 2, 3}, {0, P, 0, 1, 12},       {NX, 0, 0, 2, 3},
		{0, US, 0, 2, 3},      {0, A, 0, 2, 3},        {0, RW, 0, 2, 15}, /* code need not be writable */
	};
	const u64 other = new_table() | 1;

	(void)state;
	cpu->efer |= EFER_NXE;
	set_cpl(3, false);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(edits); i++) {
		const u64 table = new_table();
		u64 *entry;

		load_cr3(table | 1, false);
		assert_int_equal(space_jumps(), 0);
		set_space_jumps();
		assert_int_equal(space_jumps(), 15);
		load_cr3(other, false);
		assert_int_equal(space_jumps(), 0);
		entry = pte_of(table, spaces_page[edits[i / 2].page], 0);
		*entry = ((*entry + edits[i / 2].frame) | edits[i / 2].set) & ~edits[i / 2].clear;
		load_cr3(table | (i % 2 ? 1 : 2), false);
		for (unsigned n = 0; n < ARRAY_SIZE(spaces_page); n++)
			assert_hits(spaces_page[n], 0, 0, 0);
		assert_int_equal(space_jumps(), edits[i / 2].left);
		mmu_check(vm);
	}
}

/* Two pages in one place of the tables: nobody can tell them apart any more. */
static void test_spaces_alias(void **state)
{
	const u64 table = cpu->cr3;

	(void)state;
	set_cpl(3, false);
	set_space_jumps();
	map(table, spaces_page[2] + ALIAS, FRAME + 9 * PAGE_SIZE, ALL_ACCESS);
	set_jump(spaces_page[2] + ALIAS + 0x100, spaces_page[2] + ALIAS + 0x110);
	load_cr3(table, false);
	assert_int_equal(space_jumps(), 3);
	assert_int_equal(jump_of(spaces_page[2] + ALIAS + 0x100), 0);
	/* anew, all alone */
	set_space_jumps();
	load_cr3(table, false);
	assert_int_equal(space_jumps(), 15);
}

/* While a space is not loaded, its jumps go as those of all others do. */
static void test_spaces_parked(void **state)
{
	const u64 table = cpu->cr3, other = new_table();

	(void)state;
	set_cpl(3, false);
	for (unsigned how = 0; how < 6; how++) {
		static const unsigned left[] = {13, 7, 3, 0, 0, 12};

		set_space_jumps();
		load_cr3(other, false);
		if (how == 0)
			mmu_drop_jump(cpu, spaces_page[1] + 0x10);
		else if (how == 1)
			mmu_drop_target(cpu, 7);
		else if (how == 2)
			mmu_drop_page_jumps(cpu, spaces_page[2]);
		else if (how == 3)
			mmu_clear_jumps(cpu);
		else if (how == 4)
			mmu_flush_all(cpu);
		else /* of the page itself and the one before */
			mmu_drop_page_jumps(cpu, spaces_page[1]);
		load_cr3(table, false);
		assert_int_equal(space_jumps(), left[how]);
	}
	/* INVPCID says nothing of what will be true when the space is loaded */
	load_cr3(table | 1, false);
	cpu->cr4 |= CR4_PCIDE;
	mmu_flush_all(cpu);
	set_space_jumps();
	load_cr3(other | 2, false);
	mmu_flush_pcid(cpu, 1);
	load_cr3(table | 1, true);
	assert_int_equal(space_jumps(), 0);
}

/* More spaces than there is room for: the oldest is forgotten. */
static void test_spaces_eviction(void **state)
{
	u64 table[TLB_SPACES + 4];

	(void)state;
	set_cpl(3, false);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
			if (!round)
				table[i] = new_table();
			load_cr3(table[i], false);
			assert_int_equal(space_jumps(), 0);
			set_space_jumps();
		}
	for (unsigned i = ARRAY_SIZE(table) - 4; i < ARRAY_SIZE(table); i++) {
		load_cr3(table[i], false);
		assert_int_equal(space_jumps(), 15);
	}
}

/* More PCIDs than slots: the oldest loses its slot, and what was in it answers nobody. */
static void test_pcid_eviction(void **state)
{
	u64 cr3[TLB_SLOTS + 2];

	(void)state;
	set_cpl(3, false);
	for (unsigned i = 0; i < ARRAY_SIZE(cr3); i++) {
		cr3[i] = new_table() | (i + 1);
		map(cr3[i], USER_PAGE, FRAME + i * PAGE_SIZE, ALL_ACCESS);
	}
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < ARRAY_SIZE(cr3); i++) {
			load_cr3(cr3[i], true);
			assert_hits(USER_PAGE, 0, 0, 0);
			assert_ptr_equal(fill(USER_PAGE, RD), vm->ram.host + FRAME + i * PAGE_SIZE);
		}
	/* the eight loaded last are all there */
	for (unsigned i = ARRAY_SIZE(cr3) - TLB_SLOTS; i < ARRAY_SIZE(cr3); i++) {
		load_cr3(cr3[i], true);
		assert_hits(USER_PAGE, 1, 0, 0);
	}
}

static void test_global_pages(void **state)
{
	const u64 first = cpu->cr3, second = cpu->cr3 | 2;
	const u64 global = KERNEL_PAGE, local = KERNEL_PAGE + PAGE_SIZE;

	(void)state;
	map(first, global, FRAME, P | RW | G);
	map(first, local, FRAME + PAGE_SIZE, P | RW);
	fill(global, RD);
	fill(local, RD);
	set_jump(global + 8, global + 12);
	load_cr3(first, false);
	assert_hits(global, 1, 0, 1);
	assert_hits(local, 0, 0, 0);
	assert_int_not_equal(jump_of(global + 8), 0);

	/* a jump entry for a local page, or one that reaches into a local page, goes with it */
	set_jump(global + 0xff8, local + 2);
	load_cr3(first, false);
	assert_int_equal(jump_of(global + 0xff8), 0);
	set_jump(global + 8, global + 12);
	set_jump(local, local);
	mmu_flush_pcid(cpu, 0);
	assert_int_equal(jump_of(local), 0);
	assert_hits(local, 0, 0, 0);
	assert_hits(global, 1, 0, 1);

	/* INVLPG reaches global entries of all slots */
	set_jump(global + 8, global + 12);
	load_cr3(second, false);
	fill(global, RD);
	mmu_flush_page(cpu, global);
	assert_hits(global, 0, 0, 0);
	load_cr3(first, true);
	assert_hits(global, 0, 0, 0);
	assert_int_equal(jump_of(global + 8), 0);

	/* CR4.PGE off: the bit means nothing */
	cpu->cr4 &= ~CR4_PGE;
	mmu_flush_all(cpu);
	fill(global, RD);
	load_cr3(first, false);
	assert_hits(global, 0, 0, 0);
}

/* An entry that was local is global after the page became so, and the other way round. */
static void test_global_changes(void **state)
{
	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	fill(KERNEL_PAGE, RD);
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW | G);
	mmu_flush_page(cpu, KERNEL_PAGE);
	fill(KERNEL_PAGE, RD);
	load_cr3(cpu->cr3, false);
	assert_hits(KERNEL_PAGE, 1, 0, 0);
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	mmu_flush_page(cpu, KERNEL_PAGE);
	fill(KERNEL_PAGE, RD);
	load_cr3(cpu->cr3, false);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
}

/* A page that displaces a local one is not taken for local itself. */
static void test_global_displaces_local(void **state)
{
	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	map(cpu->cr3, KERNEL_PAGE + ALIAS, FRAME, P | RW | G);
	fill(KERNEL_PAGE, RD);
	fill(KERNEL_PAGE + ALIAS, RD);
	load_cr3(cpu->cr3, false);
	assert_hits(KERNEL_PAGE + ALIAS, 1, 0, 0);
}

/* A guest that remaps a page without flushing gets the old or the new one, never a mixture. */
static void test_remap_without_flush(void **state)
{
	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	assert_ptr_equal(fill(KERNEL_PAGE, RD), vm->ram.host + FRAME);
	fetch(KERNEL_PAGE);
	map(cpu->cr3, KERNEL_PAGE, FRAME + PAGE_SIZE, P | RW);
	assert_ptr_equal(fill(KERNEL_PAGE, WR), vm->ram.host + FRAME + PAGE_SIZE);
	assert_ptr_equal(fill(KERNEL_PAGE, RD), vm->ram.host + FRAME + PAGE_SIZE);
	assert_hits(KERNEL_PAGE, 1, 1, 0);
	assert_int_equal(KERNEL_PAGE + cpu->view->tlb[tlb_index(KERNEL_PAGE)].addend,
			 (u64)(vm->ram.host + FRAME + PAGE_SIZE));
}

static void test_flush_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		map(cpu->cr3, KERNEL_PAGE + i * PAGE_SIZE, FRAME + i * PAGE_SIZE, P | RW);
		fill(KERNEL_PAGE + i * PAGE_SIZE, WR);
		set_jump(KERNEL_PAGE + i * PAGE_SIZE + 0x20, KERNEL_PAGE + i * PAGE_SIZE + 0x30);
	}
	mmu_flush_page(cpu, KERNEL_PAGE + PAGE_SIZE + 0x777);
	assert_hits(KERNEL_PAGE, 1, 1, 1);
	assert_hits(KERNEL_PAGE + PAGE_SIZE, 0, 0, 0);
	assert_hits(KERNEL_PAGE + 2 * PAGE_SIZE, 1, 1, 1);
	assert_int_equal(jump_of(KERNEL_PAGE + PAGE_SIZE + 0x20), 0);
	assert_int_not_equal(jump_of(KERNEL_PAGE + 2 * PAGE_SIZE + 0x20), 0);

	/* a jump entry outlives the TLB entry of its page; the flush must find it all the same */
	set_jump(KERNEL_PAGE + 0x20, KERNEL_PAGE + 0x30);
	map(cpu->cr3, KERNEL_PAGE - ALIAS, FRAME, P | RW);
	fill(KERNEL_PAGE - ALIAS, RD);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	mmu_flush_page(cpu, KERNEL_PAGE);
	assert_int_equal(jump_of(KERNEL_PAGE + 0x20), 0);
	assert_hits(KERNEL_PAGE - ALIAS, 1, 0, 0);

	/* a unit that reaches into the flushed page */
	fill(KERNEL_PAGE + PAGE_SIZE, RD);
	set_jump(KERNEL_PAGE + 0xffe, KERNEL_PAGE + PAGE_SIZE + 2);
	mmu_flush_page(cpu, KERNEL_PAGE + PAGE_SIZE);
	assert_int_equal(jump_of(KERNEL_PAGE + 0xffe), 0);
	mmu_flush_page(cpu, 0x8000000000000000); /* not canonical: nothing happens */
}

static void test_flush_large_page(void **state)
{
	const u64 large = KERNEL_PAGE & ~0x1fffffULL;

	(void)state;
	*pte_of(cpu->cr3, large, 1) = FRAME | P | RW | PS;
	map(cpu->cr3, large + 0x200000, FRAME, P | RW);
	map(cpu->cr3, large - PAGE_SIZE, FRAME, P | RW);
	for (unsigned i = 0; i < 512; i += 3)
		assert_ptr_equal(fill(large + i * PAGE_SIZE, RD), vm->ram.host + FRAME + i * PAGE_SIZE);
	fill(large + 0x200000, RD);
	fill(large - PAGE_SIZE, RD);
	set_jump(large + 0x5040, large + 0x5050);
	set_jump(large - 1, large + 1);
	mmu_flush_page(cpu, large + 0x1ff123);
	for (unsigned i = 0; i < 512; i++)
		assert_hits(large + i * PAGE_SIZE, 0, 0, 0);
	assert_int_equal(jump_of(large + 0x5040), 0);
	assert_int_equal(jump_of(large - 1), 0);
	assert_hits(large + 0x200000, 1, 0, 0);
	assert_hits(large - PAGE_SIZE, 1, 0, 1);

	/* split into small pages: what was filled before is gone, a flush of one small page takes only that */
	*pte_of(cpu->cr3, large, 1) = 0;
	for (unsigned i = 0; i < 4; i++) {
		map(cpu->cr3, large + i * PAGE_SIZE, FRAME + 0x100000 + i * PAGE_SIZE, P | RW);
		fill(large + i * PAGE_SIZE, RD);
	}
	mmu_flush_page(cpu, large);
	assert_hits(large, 0, 0, 0);
	for (unsigned i = 1; i < 4; i++)
		assert_hits(large + i * PAGE_SIZE, 1, 0, 0);

	/* jump entries of a large page whose TLB entries have been displaced */
	*pte_of(cpu->cr3, large, 1) = FRAME | P | RW | PS | G;
	mmu_flush_all(cpu);
	set_jump(large + 0x5040, large + 0x5050);
	map(cpu->cr3, large + 0x5000 - ALIAS, FRAME, P | RW);
	fill(large + 0x5000 - ALIAS, RD);
	load_cr3(cpu->cr3, false);
	assert_int_not_equal(jump_of(large + 0x5040), 0);
	mmu_flush_page(cpu, large + 0x9000);
	assert_int_equal(jump_of(large + 0x5040), 0);
}

static void test_flush_huge_page(void **state)
{
	const u64 huge = 0x7fc0000000ULL;

	(void)state;
	*pte_of(cpu->cr3, huge, 2) = P | RW | US | PS;
	set_cpl(3, false);
	assert_ptr_equal(fill(huge + FRAME, RD), vm->ram.host + FRAME);
	assert_ptr_equal(fill(huge + 0x1000, RD), vm->ram.host + 0x1000);
	map(cpu->cr3, huge + 0x40000000, FRAME, ALL_ACCESS);
	fill(huge + 0x40000000, RD);
	mmu_flush_page(cpu, huge + 0x3fffffff);
	assert_hits(huge + FRAME, 0, 0, 0);
	assert_hits(huge + 0x1000, 0, 0, 0);
	assert_hits(huge + 0x40000000, 1, 0, 0);
}

static void test_invpcid(void **state)
{
	const u64 first = cpu->cr3 | 1, second = cpu->cr3 | 2;
	const u64 one = KERNEL_PAGE, other = KERNEL_PAGE + PAGE_SIZE, global = KERNEL_PAGE + 2 * PAGE_SIZE;

	(void)state;
	map(first, one, FRAME, P | RW);
	map(first, other, FRAME, P | RW);
	map(first, global, FRAME, P | RW | G);
	for (unsigned type = 0; type < 4; type++) {
		for (unsigned i = 0; i < 2; i++) {
			load_cr3(i ? second : first, false);
			fill(one, RD);
			fill(other, RD);
			fill(global, RD);
		}
		if (type == 0)
			mmu_flush_pcid_page(cpu, 1, one);
		else if (type == 1)
			mmu_flush_pcid(cpu, 1);
		else if (type == 2)
			mmu_flush_all(cpu);
		else
			mmu_flush_non_global(cpu);
		assert_int_equal(hits(one, RD), type < 2);
		assert_int_equal(hits(other, RD), type < 2);
		assert_int_equal(hits(global, RD), type != 2);
		load_cr3(first, true);
		assert_int_equal(hits(one, RD), 0);
		assert_int_equal(hits(other, RD), type == 0);
		assert_int_equal(hits(global, RD), type != 2);
	}
	mmu_flush_pcid_page(cpu, 99, one); /* of nobody */
	mmu_flush_pcid(cpu, 99);
}

/* When CR4.PCIDE is cleared the low bits of CR3 are no PCID any longer. */
static void test_pcide_toggle(void **state)
{
	const u64 table = cpu->cr3;

	(void)state;
	map(table, KERNEL_PAGE, FRAME, P | RW);
	load_cr3(table | 5, false);
	fill(KERNEL_PAGE, RD);
	cpu->cr4 &= ~CR4_PCIDE;
	mmu_flush_all(cpu);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	for (unsigned i = 0; i < TLB_SLOTS; i++)
		assert_int_equal(vm->mmu.slots[i].used, i == cpu->slot);
	fill(KERNEL_PAGE, RD);
	mmu_flush_pcid(cpu, 0);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	fill(KERNEL_PAGE, RD);
	load_cr3(table | 0x18, false); /* PWT, PCD */
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	fill(KERNEL_PAGE, RD);
	load_cr3(table, false);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	cpu->cr4 |= CR4_PCIDE;
	mmu_flush_all(cpu);
	fill(KERNEL_PAGE, RD);
	load_cr3(table | 5, true);
	assert_hits(KERNEL_PAGE, 0, 0, 0);
	load_cr3(table, true);
	assert_hits(KERNEL_PAGE, 1, 0, 0);
}

/* A full TLB is emptied completely, by each kind of flush. */
static void test_flush_when_full(void **state)
{
	const u64 base = 0x40000000;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < TLB_SIZE; i++) {
			*pte_of(cpu->cr3, base + i * PAGE_SIZE, 0) = (FRAME + i % 64 * PAGE_SIZE) | P | RW;
			fill(base + i * PAGE_SIZE, WR);
		}
		for (unsigned i = 0; i < TLB_SIZE; i++)
			assert_true(hits(base + i * PAGE_SIZE, WR));
		if (round)
			load_cr3(cpu->cr3, false);
		else
			mmu_flush_all(cpu);
		for (unsigned i = 0; i < TLB_SIZE; i++)
			assert_false(hits(base + i * PAGE_SIZE, RD) || hits(base + i * PAGE_SIZE, WR));
	}
}

static void test_statistics(void **state)
{
	u64 misses = vm->stats.tlb_misses, flushes = vm->stats.tlb_flushes;

	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW);
	fill(KERNEL_PAGE, WR);
	fill(KERNEL_PAGE, WR);
	assert_int_equal(vm->stats.tlb_misses, misses + 1);
	load_cr3(cpu->cr3, true);
	assert_int_equal(vm->stats.tlb_flushes, flushes);
	load_cr3(cpu->cr3, false);
	mmu_flush_page(cpu, KERNEL_PAGE);
	assert_int_equal(vm->stats.tlb_flushes, flushes + 2);
}

/* Jumps of kernel code are shared by all slots, but for those to pages that another address space may not have. */
static void test_shared_jumps(void **state)
{
	const u64 other = new_table() | 5;

	(void)state;
	cpu->cr4 |= CR4_PCIDE;
	mmu_flush_all(cpu);
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW | G);
	memcpy(ram_at(&vm->ram, (other & ~0xfffULL) + 511 * 8), ram_at(&vm->ram, (cpu->cr3 & ~0xfffULL) + 511 * 8), 8);
	set_jump(KERNEL_PAGE, KERNEL_PAGE);
	const u64 first = cpu->cr3;

	load_cr3(other, true);
	assert_int_equal(jump_of(KERNEL_PAGE), 1);
	map(other, USER_PAGE, FRAME, P | RW);
	set_jump(USER_PAGE, USER_PAGE);
	cpu->forget_kernel = false;
	load_cr3(first, true);
	assert_int_equal(jump_of(USER_PAGE), 0);
	assert_true(cpu->forget_kernel);
	set_jump(KERNEL_PAGE, KERNEL_PAGE);
	mmu_flush_page(cpu, KERNEL_PAGE);
	load_cr3(other, true);
	assert_int_equal(jump_of(KERNEL_PAGE), 0);
}

#define MEM_TEST(f) cmocka_unit_test_setup_teardown(f, machine_setup, machine_teardown)

/* Numbered targets of direct jumps: the same life as jump entries, and a miss pointer where there is none. */
static void test_targets(void **state)
{
	struct mmu *mmu = &cpu->vm->mmu;
	int miss, code;

	(void)state;
	mmu_set_target_miss(mmu, &miss);
	vcpu_update_view(cpu);
	map(cpu->cr3, KERNEL_PAGE, FRAME, P | RW | G);
	set_jump(KERNEL_PAGE, KERNEL_PAGE);
	assert_ptr_equal(cpu->view->target[5], &miss);
	view_set_target(cpu->view, 5, KERNEL_PAGE + 8, KERNEL_PAGE + 9, &code);
	view_set_target(cpu->view, 6, KERNEL_PAGE + 16, KERNEL_PAGE + 17, &code);
	mmu_flush_page(cpu, KERNEL_PAGE + 2 * PAGE_SIZE);
	assert_ptr_equal(cpu->view->target[5], &code);
	mmu_drop_target(cpu, 6);
	assert_ptr_equal(cpu->view->target[5], &code);
	assert_ptr_equal(cpu->view->target[6], &miss);
	mmu_flush_page(cpu, KERNEL_PAGE);
	assert_ptr_equal(cpu->view->target[5], &miss);
	/* kernel code in the lower half: a page flush there must empty the kernel's return predictions, too */
	view_set_target(cpu->view, 8, USER_PAGE, USER_PAGE + 1, &code);
	cpu->forget_kernel = false;
	mmu_flush_page(cpu, USER_PAGE);
	assert_true(cpu->forget_kernel);
	set_jump(KERNEL_PAGE, KERNEL_PAGE);
	view_set_target(cpu->view, 7, KERNEL_PAGE + 8, KERNEL_PAGE + 9, &code);
	mmu_clear_jumps(cpu);
	assert_ptr_equal(cpu->view->target[7], &miss);
	assert_int_equal(jump_of(KERNEL_PAGE), 0);
	set_jump(KERNEL_PAGE, KERNEL_PAGE);
	mmu_drop_jump(cpu, KERNEL_PAGE + 1); /* of the same index */
	assert_int_not_equal(jump_of(KERNEL_PAGE), 0);
	mmu_drop_jump(cpu, KERNEL_PAGE);
	assert_int_equal(jump_of(KERNEL_PAGE), 0);
}

/* As generated code does. */
static void use_cell(u64 gva)
{
	const struct tlb_entry *entry = &cpu->view->tlb[tlb_index(gva)];

	cpu->view->cell[2] = (struct tlb_cell){tlb_more(entry)->ntag_write, entry->addend};
	cpu->view->cells_used = true;
}

/* Whatever the TLB loses, cells lose, also when another page has the entry by then. */
static void test_cells(void **state)
{
	const u64 gva = KERNEL_PAGE, rival = KERNEL_PAGE + TLB_SIZE * PAGE_SIZE;
	struct tlb_cell *cell;

	(void)state;
	map(cpu->cr3, gva, FRAME, P | RW | G);
	map(cpu->cr3, rival, FRAME + PAGE_SIZE, P | RW);
	cell = &cpu->view->cell[2];
	for (unsigned how = 0; how < 5; how++) {
		fill(gva, WR);
		use_cell(gva);
		mmu_flush_page(cpu, gva + PAGE_SIZE); /* any flush of the view will do */
		assert_true(cell->ntag == TLB_CELL_EMPTY && cell->addend == 0);
		use_cell(gva);
		assert_true(gva + cell->ntag == 0 && gva + cell->addend == (u64)ram_at(&vm->ram, FRAME));
		fill(rival, WR);
		if (how == 0)
			mmu_flush_page(cpu, gva);
		else if (how == 1)
			load_cr3(cpu->cr3, false);
		else if (how == 2)
			mmu_flush_all(cpu);
		else if (how == 3)
			mmu_flush_pcid(cpu, 0);
		else
			mmu_protect_frame(cpu, FRAME);
		assert_true(cell->ntag == TLB_CELL_EMPTY && cell->addend == 0);
		assert_false(cpu->view->cells_used);
	}
	assert_false(vcpu_canonical(0 - TLB_CELL_EMPTY));
	for (unsigned i = 0; i < TLB_SPACES + TLB_SLOTS * 2; i++)
		assert_true(vm->mmu.views[i].cell[0].ntag == TLB_CELL_EMPTY);
}

/* The first use of memory that is watched is told, once. */
static void test_watch(void **state)
{
	(void)state;
	map(cpu->cr3, KERNEL_PAGE, FRAME, ALL_ACCESS & ~US);
	map(cpu->cr3, KERNEL_PAGE + PAGE_SIZE, FRAME + PAGE_SIZE, ALL_ACCESS & ~US);
	vm->ram.watch = vm->ram.host + FRAME + PAGE_SIZE;
	vm->ram.watch_length = PAGE_SIZE;
	fill(KERNEL_PAGE, RD);
	assert_false(vm->ram.ahead_due || cpu->event);
	fill(KERNEL_PAGE + PAGE_SIZE, RD);
	assert_true(vm->ram.ahead_due && cpu->event);
	vm->ram.ahead_due = false;
	cpu->event = cpu->poll = 0;
	fill(KERNEL_PAGE + PAGE_SIZE, WR);
	assert_false(vm->ram.ahead_due || cpu->event);
}

/* Address 0 must not find an empty pair. */
static void test_pair_of_zero(void **state)
{
	(void)state;
	assert_int_not_equal(cpu->view->pair[0].pc, 0);
	map(cpu->cr3, 0, FRAME, P | RW);
	set_jump(0, 0);
	mmu_clear_jumps(cpu);
	assert_int_not_equal(cpu->view->pair[0].pc, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEM_TEST(test_targets),
		MEM_TEST(test_shared_jumps),
		MEM_TEST(test_pair_of_zero),
		MEM_TEST(test_watch),
		MEM_TEST(test_cells),
		MEM_TEST(test_fill_by_access),
		MEM_TEST(test_supervisor_writes_without_wp),
		MEM_TEST(test_fill_declines),
		MEM_TEST(test_page_zero),
		MEM_TEST(test_conflicts),
		MEM_TEST(test_views_are_separate),
		MEM_TEST(test_view_in_gs),
		MEM_TEST(test_protect_frame),
		MEM_TEST(test_protect_many),
		MEM_TEST(test_pcid_switch),
		MEM_TEST(test_spaces),
		MEM_TEST(test_spaces_alias),
		MEM_TEST(test_spaces_parked),
		MEM_TEST(test_spaces_eviction),
		MEM_TEST(test_pcid_eviction),
		MEM_TEST(test_global_pages),
		MEM_TEST(test_global_changes),
		MEM_TEST(test_global_displaces_local),
		MEM_TEST(test_remap_without_flush),
		MEM_TEST(test_flush_page),
		MEM_TEST(test_flush_large_page),
		MEM_TEST(test_flush_huge_page),
		MEM_TEST(test_invpcid),
		MEM_TEST(test_pcide_toggle),
		MEM_TEST(test_flush_when_full),
		MEM_TEST(test_statistics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
