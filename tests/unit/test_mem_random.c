/*
 * Random edits of page tables, each followed by a flush that the architecture asks for, between random accesses. Every
 * answer must be that of a second, simpler walk of the tables as they are; and after a while all TLBs are compared.
 */
#include "test_mem_machine.h"

#define SPACES       6
#define PCIDS        3
#define DATA         0x1000000ULL /* frames that pages are mapped to */
#define DATA_FRAMES  16
#define USER_PAGES   6
#define KERNEL_PAGES 6
#define LARGE_USER   0x40000000ULL
#define HUGE_USER    0x80000000ULL
#define KERNEL       0xffffffff80000000ULL
#define LARGE_KERNEL 0xffffffff90000000ULL

static u64 seed;

static u64 roll(u64 below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static u64 space[SPACES]; /* values for CR3 */

/* The PCID's entries are of this space; another one with the same PCID may not be loaded so that they stay. */
static unsigned loaded[PCIDS];

static unsigned pcid_of(unsigned n)
{
	return n % PCIDS + 1;
}

static void load_space(unsigned n, bool keep)
{
	unsigned *last = &loaded[n % PCIDS];

	load_cr3(space[n], keep && *last == n);
	*last = n;
}

/* The reference: permissions from the top down, one level at a time. Error code of the page fault, or -1 and *gpa. */
static int model_walk(u64 cr3, u64 gva, enum view_kind kind, unsigned access, u64 *gpa)
{
	const bool user = kind == VIEW_USER, write = access & ACCESS_WRITE, exec = access & ACCESS_EXEC;
	const int code =
		(write ? 2 : 0) | (user ? 4 : 0) | (exec && ((cpu->efer & EFER_NXE) || (cpu->cr4 & CR4_SMEP)) ? 16 : 0);
	bool may_user = true, may_write = true, may_exec = true;
	u64 base = cr3 & 0xfffffffffffff000;

	for (int level = 3; level >= 0; level--) {
		const u64 *at = (u64 *)ram_at(&vm->ram, base + (gva >> (12 + 9 * level) & 511) * 8);
		const u64 entry = at ? *at : ~0ULL, size = BIT(12 + 9 * level);
		const bool leaf = level == 0 || (entry & PS);

		if (!(entry & P))
			return code;
		if ((entry >> 40 & 0xfff) || (level == 3 && (entry & PS)) ||
		    ((entry & NX) && !(cpu->efer & EFER_NXE)) || (leaf && level && (entry & (size - 1) & ~0x1fffULL)))
			return code | 9;
		may_user = may_user && (entry & US);
		may_write = may_write && (entry & RW);
		may_exec = may_exec && !(entry & NX);
		base = entry & 0xfffffff000;
		if (!leaf)
			continue;
		*gpa = (base & ~(size - 1)) + (gva & (size - 1));
		break;
	}
	if (user && (!may_user || (write && !may_write)))
		return code | 1;
	if (!user && write && !may_write && (cpu->cr0 & CR0_WP))
		return code | 1;
	if (!user && may_user && exec && (cpu->cr4 & CR4_SMEP))
		return code | 1;
	if (!user && may_user && !exec && (cpu->cr4 & CR4_SMAP) && kind == VIEW_KERNEL)
		return code | 1;
	if (exec && !may_exec)
		return code | 1;
	return -1;
}

/* --- edits ------------------------------------------------------------------------------------------------------ */

static u64 random_flags(void)
{
	u64 flags = P | RW | US | A | D;

	for (unsigned i = 0; i < 2; i++)
		flags &= ~BIT(roll(24)); /* mostly spares P, RW, US, A, D */
	if (roll(8) == 0)
		flags &= ~US;
	if (roll(8) == 0)
		flags |= NX;
	if (roll(40) == 0)
		flags |= BIT(40 + roll(12));
	return flags;
}

static u64 random_frame(void)
{
	return roll(20) ? DATA + roll(DATA_FRAMES) * PAGE_SIZE : 0xd0000000 + roll(4) * PAGE_SIZE;
}

static u64 random_user_page(void)
{
	static const u64 bases[] = {0, 0x400000, 0x400000 + (u64)TLB_SIZE * PAGE_SIZE};

	return bases[roll(ARRAY_SIZE(bases))] + roll(USER_PAGES) * PAGE_SIZE;
}

static u64 random_kernel_page(void)
{
	return KERNEL + (roll(2) ? (u64)TLB_SIZE * PAGE_SIZE : 0) + roll(KERNEL_PAGES) * PAGE_SIZE;
}

/* Flushes one page of the user half of space n by any of the ways that do so. */
static void flush_user(unsigned n, u64 gva)
{
	unsigned current = 0;

	while (space[current] != cpu->cr3)
		current++;
	/* what is not loaded has no entries: whoever loads it keeps none */
	if (loaded[n % PCIDS] != n)
		return;
	switch (roll(6)) {
	case 0:
		load_space(n, false);
		load_space(current, true);
		return;
	case 1:
		mmu_flush_pcid(cpu, pcid_of(n));
		return;
	case 2:
		mmu_flush_non_global(cpu);
		return;
	case 3:
		if (n == current) {
			mmu_flush_page(cpu, gva);
			return;
		}
		/* fall through */
	default:
		mmu_flush_pcid_page(cpu, pcid_of(n), gva);
	}
}

static void edit_user_page(void)
{
	const unsigned n = (unsigned)roll(SPACES);
	const u64 gva = random_user_page();

	*pte_of(space[n], gva, 0) = random_frame() | random_flags();
	flush_user(n, gva + roll(PAGE_SIZE));
}

/* A large page changes as a whole; a flush of any address in it will do. */
static void edit_large(void)
{
	const unsigned n = (unsigned)roll(SPACES), level = roll(3) ? 1 : 2;
	const u64 gva = level == 1 ? LARGE_USER : HUGE_USER, size = BIT(12 + 9 * level);

	*pte_of(space[n], gva, (int)level) = (level == 1 ? DATA : 0) | random_flags() | PS | (roll(16) ? 0 : BIT(13));
	flush_user(n, gva + roll(size));
}

static void edit_kernel_page(void)
{
	const bool large = roll(4) == 0;
	const u64 gva = large ? LARGE_KERNEL : random_kernel_page();
	u64 *entry = pte_of(space[0], gva, large ? 1 : 0);

	*entry = (large ? DATA | PS : random_frame()) | (random_flags() & ~(roll(4) ? US : 0)) | (roll(3) ? G : 0);
	if (roll(8))
		mmu_flush_page(cpu, gva + (large ? roll(0x200000) : roll(PAGE_SIZE)));
	else
		mmu_flush_all(cpu);
}

/* Permissions in an upper level concern many pages. */
static void edit_upper(void)
{
	const bool kernel = roll(2);
	const unsigned n = (unsigned)roll(SPACES);
	u64 *entry = pte_of(space[n], kernel ? KERNEL : 0x400000, 1 + (int)roll(2));

	*entry = (*entry & 0xfffffff000) | P | A | (roll(5) ? RW : 0) | (roll(5) ? US : 0) | (roll(8) ? 0 : NX);
	if (kernel || roll(4) == 0)
		mmu_flush_all(cpu);
	else if (roll(2))
		mmu_flush_pcid(cpu, pcid_of(n));
	else
		mmu_flush_non_global(cpu);
}

static void edit_controls(void)
{
	static const u64 bits[] = {CR4_SMAP, CR4_SMEP, CR4_PGE};

	if (roll(3))
		cpu->cr4 ^= bits[roll(ARRAY_SIZE(bits))];
	else if (roll(2))
		cpu->cr0 ^= CR0_WP;
	else
		cpu->efer ^= EFER_NXE;
	mmu_flush_all(cpu);
}

/* --- accesses --------------------------------------------------------------------------------------------------- */

/* What a jump entry leads to in this test: where its first and last byte were. */
struct landing {
	u64 gpa, last, gpa_last;
};
static struct landing landings[1 << 18]; /* of all jump entries ever made: 0 is none */
static u32 landing_count;

static u64 random_gva(void)
{
	switch (roll(6)) {
	case 0:
	case 1:
		return random_user_page() + roll(PAGE_SIZE);
	case 2:
		return LARGE_USER + roll(DATA_FRAMES * PAGE_SIZE);
	case 3:
		return HUGE_USER + DATA + roll(DATA_FRAMES * PAGE_SIZE);
	case 4:
		return LARGE_KERNEL + roll(DATA_FRAMES * PAGE_SIZE);
	default:
		return random_kernel_page() + roll(PAGE_SIZE);
	}
}

static void check_fault(u64 gva, int expected)
{
	if (cpu->fault.vector != VEC_PF || (int)cpu->fault.error != expected || cpu->fault.cr2 != gva)
		fail_msg("fault %u error %x cr2 %llx; expected error %x at %llx", cpu->fault.vector, cpu->fault.error,
			 (unsigned long long)cpu->fault.cr2, expected, (unsigned long long)gva);
}

static void check_dirty(u64 gva, bool write)
{
	u64 table = cpu->cr3 & 0xfffffff000;

	for (int level = 3; level >= 0; level--) {
		const u64 entry = *entry_at(table, gva, level);

		assert_true(entry & A);
		table = entry & 0xfffffff000;
		if (level == 0 || (entry & PS)) {
			assert_true(!write || (entry & D));
			return;
		}
	}
}

static void access_translate(void)
{
	static const unsigned kinds[] = {0, 0, 0, ACCESS_SYSTEM, ACCESS_USER};
	const unsigned access = BIT(roll(3)), how = kinds[roll(ARRAY_SIZE(kinds))];
	const u64 gva = random_gva();
	u64 expected_gpa = 0, gpa = ~0ULL;
	const int expected = model_walk(cpu->cr3, gva, mmu_view_kind(cpu, how), access, &expected_gpa);
	const enum exec exec = mmu_translate(cpu, gva, access | how, &gpa);

	assert_int_equal(exec, expected < 0 ? EXEC_OK : EXEC_FAULT);
	if (exec != EXEC_OK) {
		check_fault(gva, expected);
		return;
	}
	assert_int_equal(gpa, expected_gpa);
	check_dirty(gva, access & ACCESS_WRITE);
}

static void access_fill(void)
{
	const unsigned access = roll(2) ? ACCESS_READ : ACCESS_READ | ACCESS_WRITE;
	const u64 gva = random_gva();
	const struct tlb_entry *entry = &cpu->view->tlb[tlb_index(gva)];
	u64 gpa = 0;
	const int expected = model_walk(cpu->cr3, gva, mmu_view_kind(cpu, 0), access, &gpa);
	u8 *hva, *ram = ram_at(&vm->ram, gpa);
	const enum exec exec = mmu_fill(cpu, gva, 1, access, &hva);

	assert_int_equal(exec, expected < 0 ? EXEC_OK : EXEC_FAULT);
	if (exec != EXEC_OK) {
		check_fault(gva, expected);
		return;
	}
	if (ram && (access & ACCESS_WRITE) && (vm->ram.frames[(ram - vm->ram.host) >> PAGE_SHIFT] & FRAME_CODE))
		ram = NULL;
	assert_ptr_equal(hva, ram);
	if (hva) {
		assert_true(gva + (access & ACCESS_WRITE ? tlb_more(entry)->ntag_write : entry->ntag_read) < PAGE_SIZE);
		assert_ptr_equal(gva + entry->addend, hva);
	}
}

static void access_memory(void)
{
	const bool write = roll(2);
	const unsigned length = 1 + (unsigned)roll(16), access = write ? ACCESS_WRITE : ACCESS_READ;
	const u64 gva = random_gva(), next = PAGE_BASE(gva) + PAGE_SIZE;
	const enum view_kind kind = mmu_view_kind(cpu, 0);
	const unsigned first = gva + length > next ? (unsigned)(next - gva) : length;
	u8 bytes[16], expected_bytes[16];
	u64 gpa[2] = {0, 0};
	u64 fault_at = gva;
	int expected = model_walk(cpu->cr3, gva, kind, access, &gpa[0]);
	enum exec exec;

	if (expected < 0 && first < length) {
		fault_at = next;
		expected = model_walk(cpu->cr3, next, kind, access, &gpa[1]);
	}
	for (unsigned i = 0; i < length; i++) {
		const u8 *host = ram_at(&vm->ram, i < first ? gpa[0] + i : gpa[1] + i - first);

		bytes[i] = (u8)roll(256);
		expected_bytes[i] = !host ? 0xff : write && expected < 0 ? bytes[i] : *host;
	}
	exec = write ? mem_write(cpu, gva, bytes, length, 0) : mem_read(cpu, gva, bytes, length, 0);
	assert_int_equal(exec, expected < 0 ? EXEC_OK : EXEC_FAULT);
	if (exec != EXEC_OK)
		check_fault(fault_at, expected);
	for (unsigned i = 0; i < length; i++) {
		const u64 where = i < first ? gpa[0] + i : gpa[1] + i - first;
		const u8 *host = ram_at(&vm->ram, where);

		/* two pages in one frame: the second half of a write may cover the first */
		if (write && first < length && PAGE_BASE(gpa[0]) == PAGE_BASE(gpa[1]))
			break;
		if (host && (exec == EXEC_OK || write))
			assert_int_equal(*host, expected_bytes[i]);
		if (!write && exec == EXEC_OK)
			assert_int_equal(bytes[i], expected_bytes[i]);
	}
	if (write && exec == EXEC_OK && ram_at(&vm->ram, gpa[0]))
		assert_int_equal(vm->ram.frames[(ram_at(&vm->ram, gpa[0]) - vm->ram.host) >> PAGE_SHIFT] & FRAME_CODE,
				 0);
}

static void access_fetch(void)
{
	const u64 pc = random_gva(), last = pc + roll(15);
	const u32 code = landing_count++ % (ARRAY_SIZE(landings) - 1) + 1;
	struct landing *landing = &landings[code];
	u64 gpa = 0;
	const int expected = model_walk(cpu->cr3, pc, mmu_view_kind(cpu, 0), ACCESS_EXEC, &gpa);
	const enum exec exec = mmu_fetch(cpu, pc, &landing->gpa);

	assert_int_equal(exec, expected < 0 ? EXEC_OK : EXEC_FAULT);
	if (exec != EXEC_OK) {
		check_fault(pc, expected);
		return;
	}
	assert_int_equal(landing->gpa, gpa);
	if (pc && mmu_fetch(cpu, last, &landing->gpa_last) == EXEC_OK) {
		landing->last = last;
		view_set_jump(cpu->view, pc, last, code, code % 4 ? landing : NULL);
	}
}

/*
 * Every jump entry of every view leads to the frames that its addresses are mapped to now. Those of kernel code are
 * shared by all slots, and right for the one that is loaded.
 */
static void check_jumps(void)
{
	for (unsigned n = 0; n < TLB_SLOTS * VIEW_KINDS; n++) {
		const struct slot *slot = &vm->mmu.slots[n / VIEW_KINDS];
		const enum view_kind kind = n % VIEW_KINDS;
		const struct view *view = slot_view(&vm->mmu, n / VIEW_KINDS, kind);

		for (unsigned i = 0; i < JUMP_SIZE && (kind == VIEW_USER || n / VIEW_KINDS == cpu->slot); i++) {
			const u64 pc = view->jump_pc[i];
			const struct landing *landing = &landings[view->jump[i]];
			u64 gpa;

			if (!view->jump[i])
				continue;
			assert_int_equal(model_walk(slot->cr3, pc, kind, ACCESS_EXEC, &gpa), -1);
			assert_int_equal(gpa, landing->gpa);
			assert_int_equal(model_walk(slot->cr3, landing->last, kind, ACCESS_EXEC, &gpa), -1);
			assert_int_equal(gpa, landing->gpa_last);
		}
	}
}

static void build_spaces(void)
{
	const u64 shared = 511 * 8;

	for (unsigned n = 0; n < SPACES; n++) {
		space[n] = new_table() | pcid_of(n);
		for (unsigned i = 0; i < 40; i++)
			map(space[n], random_user_page(), random_frame(), random_flags());
		*pte_of(space[n], LARGE_USER, 1) = DATA | ALL_ACCESS | PS;
		*pte_of(space[n], HUGE_USER, 2) = ALL_ACCESS | PS;
		if (n) {
			memcpy(ram_at(&vm->ram, (space[n] & ~0xfffULL) + shared),
			       ram_at(&vm->ram, (space[0] & ~0xfffULL) + shared), 8);
			continue;
		}
		for (unsigned i = 0; i < 40; i++)
			map(space[0], random_kernel_page(), random_frame(), (random_flags() & ~US) | G);
		*pte_of(space[0], LARGE_KERNEL, 1) = DATA | P | RW | G | PS;
	}
	load_space(0, false);
}

static void step(void)
{
	switch (roll(32)) {
	case 0:
		edit_user_page();
		break;
	case 1:
		edit_kernel_page();
		break;
	case 2:
		edit_large();
		break;
	case 3:
		if (roll(4) == 0)
			edit_upper();
		break;
	case 4:
		if (roll(16) == 0)
			edit_controls();
		break;
	case 5:
		load_space((unsigned)roll(SPACES), roll(4));
		break;
	case 6:
	case 7:
		set_cpl(roll(2) ? 3 : 0, roll(2));
		break;
	case 8:
		mmu_protect_frame(cpu, DATA + roll(DATA_FRAMES) * PAGE_SIZE);
		break;
	case 9:
	case 10:
	case 11:
	case 12:
	case 13:
		access_translate();
		break;
	case 14:
	case 15:
	case 16:
	case 17:
	case 18:
	case 19:
		access_fetch();
		break;
	case 20:
	case 21:
	case 22:
	case 23:
	case 24:
		access_fill();
		break;
	default:
		access_memory();
	}
}

static void test_random(void **state)
{
	(void)state;
	for (seed = 1; seed < 5; seed++) {
		const u64 this_seed = seed;

		build_spaces();
		for (unsigned i = 0; i < 60000; i++) {
			step();
			if (i % 1024 == 0) {
				mmu_check(vm);
				check_jumps();
			}
		}
		mmu_check(vm);
		check_jumps();
		seed = this_seed;
		mmu_flush_all(cpu);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, machine_setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
