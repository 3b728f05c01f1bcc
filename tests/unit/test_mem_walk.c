/* RAM and the page walk: permissions, error codes, reserved bits, large pages, A and D bits. */
#include "test_mem_machine.h"

#define GVA 0x7f1234567000ULL
#define GPA 0x800000ULL

#define RD  ACCESS_READ
#define WR  ACCESS_WRITE
#define EX  ACCESS_EXEC
#define SYS ACCESS_SYSTEM
#define USR ACCESS_USER

#define OK (~0u)

/* How the control registers differ from those of machine_setup(). */
enum { NO_WP = 1, NO_SMEP = 2, NO_SMAP = 4, NO_NXE = 8, AC = 16 };

static const struct permission_case {
	u8 cpl;
	unsigned mode;
	u64 leaf;  /* flags of the PTE */
	u64 upper; /* flags of the PDE */
	unsigned access;
	u32 error; /* or OK */
} permission_cases[] = {
	/* user, reading */
	{3, 0, P | US, ALL_ACCESS, RD, OK},
	{3, 0, P, ALL_ACCESS, RD, PFEC_P | PFEC_USER},
	{3, 0, P | US, P | RW, RD, PFEC_P | PFEC_USER},
	{3, 0, RW | US, ALL_ACCESS, RD, PFEC_USER},
	{3, 0, ALL_ACCESS, RW | US, RD, PFEC_USER},
	{3, AC, P | US, ALL_ACCESS, RD, OK},
	{3, 0, P | US | NX, ALL_ACCESS, RD, OK},
	/* user, writing */
	{3, 0, ALL_ACCESS, ALL_ACCESS, WR, OK},
	{3, 0, P | US, ALL_ACCESS, WR, PFEC_P | PFEC_USER | PFEC_WRITE},
	{3, 0, ALL_ACCESS, P | US, WR, PFEC_P | PFEC_USER | PFEC_WRITE},
	{3, NO_WP, P | US, ALL_ACCESS, WR, PFEC_P | PFEC_USER | PFEC_WRITE},
	{3, 0, P | RW, ALL_ACCESS, WR, PFEC_P | PFEC_USER | PFEC_WRITE},
	{3, 0, 0, ALL_ACCESS, WR, PFEC_USER | PFEC_WRITE},
	{3, 0, P | US, ALL_ACCESS, RD | WR, PFEC_P | PFEC_USER | PFEC_WRITE},
	/* user, fetching */
	{3, 0, P | US, ALL_ACCESS, EX, OK},
	{3, 0, P | US | NX, ALL_ACCESS, EX, PFEC_P | PFEC_USER | PFEC_FETCH},
	{3, 0, P | US, ALL_ACCESS | NX, EX, PFEC_P | PFEC_USER | PFEC_FETCH},
	{3, 0, P, ALL_ACCESS, EX, PFEC_P | PFEC_USER | PFEC_FETCH},
	{3, 0, 0, ALL_ACCESS, EX, PFEC_USER | PFEC_FETCH},
	/* the I/D bit is only there with NXE or SMEP */
	{3, NO_NXE, 0, ALL_ACCESS, EX, PFEC_USER | PFEC_FETCH},
	{3, NO_SMEP, 0, ALL_ACCESS, EX, PFEC_USER | PFEC_FETCH},
	{3, NO_NXE | NO_SMEP, 0, ALL_ACCESS, EX, PFEC_USER},
	/* supervisor on its own pages */
	{0, 0, P, ALL_ACCESS, RD, OK},
	{0, 0, P | RW, ALL_ACCESS, WR, OK},
	{0, 0, P, ALL_ACCESS, EX, OK},
	{0, 0, P, ALL_ACCESS, WR, PFEC_P | PFEC_WRITE},
	{0, 0, P | RW, P | US, WR, PFEC_P | PFEC_WRITE},
	{0, NO_WP, P, ALL_ACCESS, WR, OK},
	{0, 0, P | NX, ALL_ACCESS, EX, PFEC_P | PFEC_FETCH},
	{0, 0, 0, ALL_ACCESS, RD, 0},
	{0, 0, 0, ALL_ACCESS, WR, PFEC_WRITE},
	{0, 0, ALL_ACCESS, P | RW, RD, OK},
	{2, 0, P, ALL_ACCESS, RD, OK},
	/* supervisor on user pages: SMAP */
	{0, 0, ALL_ACCESS, ALL_ACCESS, RD, PFEC_P},
	{0, 0, ALL_ACCESS, ALL_ACCESS, WR, PFEC_P | PFEC_WRITE},
	{0, NO_WP, ALL_ACCESS, ALL_ACCESS, WR, PFEC_P | PFEC_WRITE},
	{0, AC, ALL_ACCESS, ALL_ACCESS, RD, OK},
	{0, AC, ALL_ACCESS, ALL_ACCESS, WR, OK},
	{0, AC, P | US, ALL_ACCESS, WR, PFEC_P | PFEC_WRITE},
	{0, AC | NO_WP, P | US, ALL_ACCESS, WR, OK},
	{0, NO_SMAP, ALL_ACCESS, ALL_ACCESS, WR, OK},
	{0, NO_SMAP | AC, ALL_ACCESS, ALL_ACCESS, RD, OK},
	/* SMEP, which AC does not lift */
	{0, 0, ALL_ACCESS, ALL_ACCESS, EX, PFEC_P | PFEC_FETCH},
	{0, AC, ALL_ACCESS, ALL_ACCESS, EX, PFEC_P | PFEC_FETCH},
	{0, NO_SMEP, ALL_ACCESS, ALL_ACCESS, EX, OK},
	{0, NO_SMEP, ALL_ACCESS | NX, ALL_ACCESS, EX, PFEC_P | PFEC_FETCH},
	/* implicit supervisor accesses: any CPL, never under AC */
	{3, 0, P | RW, ALL_ACCESS, WR | SYS, OK},
	{3, 0, P, ALL_ACCESS, WR | SYS, PFEC_P | PFEC_WRITE},
	{3, 0, 0, ALL_ACCESS, RD | SYS, 0},
	{3, 0, ALL_ACCESS, ALL_ACCESS, RD | SYS, PFEC_P},
	{3, AC, ALL_ACCESS, ALL_ACCESS, RD | SYS, PFEC_P},
	{0, AC, ALL_ACCESS, ALL_ACCESS, RD | SYS, PFEC_P},
	{0, NO_SMAP, ALL_ACCESS, ALL_ACCESS, RD | SYS, OK},
	/* accesses as if at CPL 3 */
	{0, 0, ALL_ACCESS, ALL_ACCESS, RD | USR, OK},
	{0, AC, P | RW, ALL_ACCESS, RD | USR, PFEC_P | PFEC_USER},
	{0, NO_WP, P | US, ALL_ACCESS, WR | USR, PFEC_P | PFEC_USER | PFEC_WRITE},
	/* NX is a reserved bit without NXE */
	{0, NO_NXE, P | NX, ALL_ACCESS, RD, PFEC_P | PFEC_RESERVED},
	{3, NO_NXE, P | US, ALL_ACCESS | NX, WR, PFEC_P | PFEC_RESERVED | PFEC_USER | PFEC_WRITE},
	{0, NO_NXE, P | NX, ALL_ACCESS, EX, PFEC_P | PFEC_RESERVED | PFEC_FETCH},
	{0, NO_NXE, NX, ALL_ACCESS, RD, 0},
};

static void set_mode(u8 cpl, unsigned mode)
{
	cpu->cr0 = CR0_PG | CR0_PE | (mode & NO_WP ? 0 : CR0_WP);
	cpu->cr4 = CR4_PAE | CR4_PGE | CR4_PCIDE | (mode & NO_SMEP ? 0 : CR4_SMEP) | (mode & NO_SMAP ? 0 : CR4_SMAP);
	cpu->efer = EFER_LME | EFER_LMA | (mode & NO_NXE ? 0 : EFER_NXE);
	cpu->cpl = cpl;
	cpu->rflags = FLAG_FIXED | (mode & AC ? FLAG_AC : 0);
	mmu_flush_all(cpu);
}

static void test_permissions(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(permission_cases); i++) {
		const struct permission_case *c = &permission_cases[i];
		u64 *leaf = pte_of(cpu->cr3, GVA, 0), *upper = pte_of(cpu->cr3, GVA, 1);
		const u64 table = *upper & 0xfffffff000ULL;
		u64 gpa = 0;
		enum exec exec;

		set_mode(c->cpl, c->mode);
		*leaf = GPA | c->leaf;
		*upper = table | c->upper;
		memset(&cpu->fault, 0xee, sizeof(cpu->fault));
		exec = mmu_translate(cpu, GVA + 0x123, c->access, &gpa);
		if (c->error == OK) {
			if (exec != EXEC_OK)
				fail_msg("case %u: fault, error %x", i, cpu->fault.error);
			assert_int_equal(gpa, GPA + 0x123);
			assert_int_equal(*leaf, GPA | c->leaf | A | (c->access & WR ? D : 0));
			assert_int_equal(*upper, table | c->upper | A);
			/* and again, through the TLB */
			assert_int_equal(mmu_translate(cpu, GVA + 0xfff, c->access, &gpa), EXEC_OK);
			assert_int_equal(gpa, GPA + 0xfff);
			mmu_check(vm);
		} else {
			if (exec != EXEC_FAULT || cpu->fault.vector != VEC_PF || cpu->fault.error != c->error)
				fail_msg("case %u: exec %d, vector %u, error %x instead of %x", i, exec,
					 cpu->fault.vector, cpu->fault.error, c->error);
			assert_page_fault(GVA + 0x123, c->error);
			/* an access that fails leaves no trace */
			assert_int_equal(*leaf, GPA | c->leaf);
			assert_int_equal(*upper, table | c->upper);
		}
		*upper = table | ALL_ACCESS;
	}
}

/* Where a bad bit in the entry of some level must give the reserved-bit error. `large`: that entry maps a large page.
 */
static const struct reserved_case {
	int level;
	bool large;
	u64 bits;
	bool fault;
} reserved_cases[] = {
	{0, false, BIT(40), true},
	{0, false, BIT(51), true},
	{0, false, BIT(52), false},
	{0, false, BIT(62), false},
	{0, false, PS, false}, /* PAT */
	{0, false, BIT(9) | BIT(11), false},
	{1, false, BIT(40), true},
	{2, false, BIT(45), true},
	{3, false, BIT(51), true},
	{3, false, PS, true},
	{3, false, BIT(52), false},
	{1, true, 0, false},
	{1, true, BIT(12), false},
	{1, true, BIT(13), true},
	{1, true, BIT(20), true},
	{1, true, BIT(40), true},
	{2, true, 0, false},
	{2, true, BIT(12), false},
	{2, true, BIT(13), true},
	{2, true, BIT(21), true},
	{2, true, BIT(29), true},
	{2, true, BIT(51), true},
	{3, true, 0, true},
};

static void test_reserved_bits(void **state)
{
	(void)state;
	map(cpu->cr3, GVA, GPA, ALL_ACCESS);
	set_cpl(3, false);
	for (unsigned i = 0; i < ARRAY_SIZE(reserved_cases); i++) {
		const struct reserved_case *c = &reserved_cases[i];
		u64 *entry = pte_of(cpu->cr3, GVA, c->level), old = *entry, gpa;
		enum exec exec;

		*entry = (c->large ? ALL_ACCESS | PS : old) | c->bits;
		mmu_flush_all(cpu);
		exec = mmu_translate(cpu, GVA, RD, &gpa);
		if (exec != (c->fault ? EXEC_FAULT : EXEC_OK))
			fail_msg("case %u", i);
		if (c->fault)
			assert_page_fault(GVA, PFEC_P | PFEC_RESERVED | PFEC_USER);
		*entry = old;
		mmu_flush_all(cpu);
	}
	/* a table where there is no RAM reads as ones */
	*pte_of(cpu->cr3, GVA, 2) = 0xd0000000 | ALL_ACCESS;
	assert_int_equal(mmu_translate(cpu, GVA, WR, &(u64){0}), EXEC_FAULT);
	assert_page_fault(GVA, PFEC_P | PFEC_RESERVED | PFEC_USER | PFEC_WRITE);
	cpu->cr3 = 0xd0000000;
	assert_int_equal(mmu_translate(cpu, GVA, WR, &(u64){0}), EXEC_FAULT);
	assert_page_fault(GVA, PFEC_P | PFEC_RESERVED | PFEC_USER | PFEC_WRITE);
}

static void test_accessed_dirty(void **state)
{
	u64 *entry[4], gpa;

	(void)state;
	set_cpl(3, false);
	map(cpu->cr3, GVA, GPA, ALL_ACCESS);
	for (int level = 0; level < 4; level++)
		entry[level] = pte_of(cpu->cr3, GVA, level);

	assert_true(mmu_peek(cpu, GVA + 5, &gpa));
	assert_int_equal(gpa, GPA + 5);
	for (int level = 0; level < 4; level++)
		assert_int_equal(*entry[level] & (A | D), 0);

	assert_int_equal(mmu_translate(cpu, GVA, RD, &gpa), EXEC_OK);
	for (int level = 0; level < 4; level++)
		assert_int_equal(*entry[level] & (A | D), A);

	/* the read must not have made the page writable without D */
	assert_int_equal(mmu_translate(cpu, GVA, WR, &gpa), EXEC_OK);
	assert_int_equal(*entry[0] & (A | D), A | D);
	for (int level = 1; level < 4; level++)
		assert_int_equal(*entry[level] & (A | D), A);

	/* 2 MiB: D goes into the entry that maps */
	*entry[1] = GPA | ALL_ACCESS | PS;
	mmu_flush_page(cpu, GVA);
	assert_int_equal(mmu_translate(cpu, GVA, WR, &gpa), EXEC_OK);
	assert_int_equal(*entry[1], GPA | ALL_ACCESS | PS | A | D);
}

static void test_large_pages(void **state)
{
	u64 gpa, *pde = pte_of(cpu->cr3, GVA, 1), *pdpte = pte_of(cpu->cr3, GVA, 2);

	(void)state;
	set_cpl(3, false);
	*pde = 0xa00000 | ALL_ACCESS | PS | BIT(12);
	assert_int_equal(mmu_translate(cpu, GVA + 0x345, RD, &gpa), EXEC_OK);
	assert_int_equal(gpa, 0xa00000 + ((GVA + 0x345) & 0x1fffff));
	*pdpte = 0x40000000 | ALL_ACCESS | PS; /* beyond RAM: still translated */
	mmu_flush_page(cpu, GVA);
	assert_int_equal(mmu_translate(cpu, GVA + 0x345, RD, &gpa), EXEC_OK);
	assert_int_equal(gpa, 0x40000000 + ((GVA + 0x345) & 0x3fffffff));
	assert_true(mmu_peek(cpu, GVA, &gpa));
	assert_int_equal(gpa, 0x40000000 + (GVA & 0x3fffffff));
	*pdpte = ALL_ACCESS | PS;
	mmu_flush_all(cpu);
	assert_int_equal(mmu_translate(cpu, 0x7f1240abc678, RD, &gpa), EXEC_FAULT);
	assert_int_equal(mmu_translate(cpu, 0x7f1200abc678, WR, &gpa), EXEC_OK);
	assert_int_equal(gpa, 0xabc678);
	assert_int_equal(*pdpte, ALL_ACCESS | PS | A | D);
}

static void test_non_canonical(void **state)
{
	static const u64 bad[] = {0x800000000000, 0xffff7fffffffffff, 0x8000000000000000, 0x7fffffffffffffff};
	u64 gpa;
	u8 *hva;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&cpu->fault, 0xee, sizeof(cpu->fault));
		assert_int_equal(mmu_translate(cpu, bad[i], RD, &gpa), EXEC_FAULT);
		assert_int_equal(cpu->fault.vector, VEC_GP);
		assert_true(cpu->fault.has_error);
		assert_int_equal(cpu->fault.error, 0);
		assert_int_equal(mmu_fetch(cpu, bad[i], &gpa), EXEC_FAULT);
		assert_int_equal(mmu_fill(cpu, bad[i], 1, WR, &hva), EXEC_FAULT);
		assert_false(mmu_peek(cpu, bad[i], &gpa));
	}
	/* the ends of both halves are only unmapped */
	assert_int_equal(mmu_translate(cpu, 0x7fffffffffff, RD, &gpa), EXEC_FAULT);
	assert_page_fault(0x7fffffffffff, 0);
	assert_int_equal(mmu_translate(cpu, 0xffff800000000000, RD, &gpa), EXEC_FAULT);
	assert_page_fault(0xffff800000000000, 0);
}

static void test_paging_off(void **state)
{
	u64 gpa, value = 0x1122334455667788, back;

	(void)state;
	cpu->cr0 = CR0_PE;
	mmu_flush_all(cpu);
	assert_int_equal(mmu_translate(cpu, 0x123456, RD | WR, &gpa), EXEC_OK);
	assert_int_equal(gpa, 0x123456);
	assert_int_equal(mem_write(cpu, 0x1ffc, &value, 8, 0), EXEC_OK);
	assert_int_equal(phys_read(vm, 0x1ffc, &back, 8), 0);
	assert_int_equal(back, value);
	assert_int_equal(mmu_fetch(cpu, 0xfffffff0, &gpa), EXEC_OK);
	assert_int_equal(gpa, 0xfffffff0);
	mmu_check(vm);
}

static void test_peek_has_no_effects(void **state)
{
	u64 gpa;

	(void)state;
	map(cpu->cr3, GVA, GPA, ALL_ACCESS | NX);
	memset(&cpu->fault, 0xee, sizeof(cpu->fault));
	set_cpl(0, false); /* SMAP would not let the kernel read it */
	assert_true(mmu_peek(cpu, GVA + 9, &gpa));
	assert_int_equal(gpa, GPA + 9);
	assert_false(mmu_peek(cpu, GVA + PAGE_SIZE, &gpa));
	assert_int_equal(cpu->fault.vector, 0xee);
	assert_int_equal(*pte_of(cpu->cr3, GVA, 0), GPA | ALL_ACCESS | NX);
}

static void test_ram_split(void **state)
{
	struct ram ram;
	struct err err = ERR_INIT;
	const u64 size = 5ULL << 30, high = size - RAM_LOW_END;

	(void)state;
	assert_int_equal(ram_init(&ram, size, &err), 0);
	assert_int_equal((u64)ram.host % (2 << 20), 0);
	assert_int_equal(ram.low, RAM_LOW_END);
	assert_ptr_equal(ram_at(&ram, 0), ram.host);
	assert_ptr_equal(ram_at(&ram, RAM_LOW_END - 1), ram.host + RAM_LOW_END - 1);
	assert_null(ram_at(&ram, RAM_LOW_END));
	assert_null(ram_at(&ram, RAM_HIGH_BASE - 1));
	assert_ptr_equal(ram_at(&ram, RAM_HIGH_BASE), ram.host + RAM_LOW_END);
	assert_ptr_equal(ram_at(&ram, RAM_HIGH_BASE + high - 1), ram.host + size - 1);
	assert_null(ram_at(&ram, RAM_HIGH_BASE + high));
	assert_null(ram_at(&ram, ~0ULL));
	assert_int_equal(ram_gpa(&ram, ram.host + RAM_LOW_END - 1), RAM_LOW_END - 1);
	assert_int_equal(ram_gpa(&ram, ram.host + RAM_LOW_END), RAM_HIGH_BASE);

	assert_ptr_equal(ram_range(&ram, 0x1000, RAM_LOW_END - 0x1000), ram.host + 0x1000);
	assert_null(ram_range(&ram, 0x1000, RAM_LOW_END - 0x1000 + 1));
	assert_null(ram_range(&ram, 0x1000, ~0ULL));
	assert_null(ram_range(&ram, RAM_LOW_END, 1));
	assert_ptr_equal(ram_range(&ram, RAM_HIGH_BASE, high), ram.host + RAM_LOW_END);
	assert_null(ram_range(&ram, RAM_HIGH_BASE + 1, high));
	assert_null(ram_range(&ram, RAM_HIGH_BASE + 1, ~0ULL));
	assert_null(ram_range(&ram, ~0ULL, 2));

	/* the last byte of each part is really there, and so is its frame */
	ram.host[RAM_LOW_END - 1] = 1;
	ram.host[size - 1] = 1;
	ram.frames[(size >> PAGE_SHIFT) - 1] = FRAME_CODE;
	ram_release(&ram);

	assert_int_equal(ram_init(&ram, 2 << 20, &err), 0);
	assert_int_equal(ram.low, 2 << 20);
	assert_null(ram_at(&ram, 2 << 20));
	assert_null(ram_at(&ram, RAM_HIGH_BASE));
	ram_release(&ram);

	assert_int_equal(ram_init(&ram, 0, &err), -1);
	assert_int_equal(ram_init(&ram, (2 << 20) + 4096, &err), -1);
	assert_int_equal(ram_init(&ram, 1ULL << 62, &err), -1);
	assert_true(err.text[0] != 0);
}

#define MEM_TEST(f) cmocka_unit_test_setup_teardown(f, machine_setup, machine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ram_split),
		cmocka_unit_test_setup_teardown(test_permissions, machine_setup, machine_release),
		cmocka_unit_test_setup_teardown(test_reserved_bits, machine_setup, machine_release),
		MEM_TEST(test_accessed_dirty),
		MEM_TEST(test_large_pages),
		MEM_TEST(test_non_canonical),
		MEM_TEST(test_paging_off),
		MEM_TEST(test_peek_has_no_effects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
