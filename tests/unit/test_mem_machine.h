/* What the tests of runtime/mem share: a machine of RAM, TLBs and one CPU in 64-bit mode, and a builder of page tables.
 */
#ifndef AVANT_TEST_MEM_MACHINE_H
#define AVANT_TEST_MEM_MACHINE_H

#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define P  BIT(0)
#define RW BIT(1)
#define US BIT(2)
#define A  BIT(5)
#define D  BIT(6)
#define PS BIT(7)
#define G  BIT(8)
#define NX BIT(63)

#define TABLES     0x100000ULL /* page tables are allocated from here on */
#define ALL_ACCESS (P | RW | US)

struct machine {
	struct vm vm;
	struct vcpu vcpu;
	u64 tables_end;
	/* calls of smc_write() */
	unsigned smc_calls;
	u64 smc_gpa;
	unsigned smc_length;
	u8 smc_old; /* the byte at smc_gpa when it was called */
};

static struct machine machine;
static struct vm *const vm = &machine.vm;
static struct vcpu *const cpu = &machine.vcpu;

void smc_write(struct vcpu *v, u64 gpa, unsigned length)
{
	u8 *host = ram_at(&v->vm->ram, gpa);

	machine.smc_calls++;
	machine.smc_gpa = gpa;
	machine.smc_length = length;
	machine.smc_old = *host;
	v->vm->ram.frames[(host - v->vm->ram.host) >> PAGE_SHIFT] &= (u8)~FRAME_CODE;
}

static inline u64 new_table(void)
{
	u64 gpa = machine.tables_end;

	machine.tables_end += PAGE_SIZE;
	memset(ram_at(&vm->ram, gpa), 0, PAGE_SIZE);
	return gpa;
}

static inline u64 *entry_at(u64 table, u64 gva, int level)
{
	return (u64 *)ram_at(&vm->ram, table + (gva >> (12 + 9 * level) & 511) * 8);
}

/* The entry for gva at `level` (0: PTE), in tables made as needed with all permissions. */
static inline u64 *pte_of(u64 cr3, u64 gva, int level)
{
	u64 table = cr3 & ~0xfffULL;

	for (int at = 3; at > level; at--) {
		u64 *entry = entry_at(table, gva, at);

		if (!(*entry & P))
			*entry = new_table() | ALL_ACCESS;
		table = *entry & 0xfffffff000ULL;
	}
	return entry_at(table, gva, level);
}

static inline void map(u64 cr3, u64 gva, u64 gpa, u64 flags)
{
	*pte_of(cr3, gva, 0) = gpa | flags;
}

/* A machine at CPL 0 with paging on, empty tables, and SMEP, SMAP, NX, WP, global pages and PCIDs. */
static inline int machine_setup(void **state)
{
	(void)state;
	memset(&machine, 0, sizeof(machine));
	assert_int_equal(ram_init(&vm->ram, 32 << 20, NULL), 0);
	assert_int_equal(mmu_init(&vm->mmu, NULL), 0);
	vm->vcpu = cpu;
	cpu->vm = vm;
	cpu->cr0 = CR0_PG | CR0_PE | CR0_WP;
	cpu->cr4 = CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
	cpu->rflags = FLAG_FIXED;
	machine.tables_end = TABLES;
	cpu->cr3 = new_table();
	mmu_load_cr3(cpu, false);
	return 0;
}

static inline int machine_release(void **state)
{
	(void)state;
	mmu_release(&vm->mmu);
	ram_release(&vm->ram);
	return 0;
}

/* For tests that end with everything flushed that had to be. */
static inline int machine_teardown(void **state)
{
	mmu_check(vm);
	return machine_release(state);
}

static inline void set_cpl(u8 cpl, bool ac)
{
	cpu->cpl = cpl;
	cpu->rflags = ac ? cpu->rflags | FLAG_AC : cpu->rflags & ~FLAG_AC;
	vcpu_update_view(cpu);
}

static inline void load_cr3(u64 cr3, bool keep)
{
	cpu->cr3 = cr3;
	mmu_load_cr3(cpu, keep);
}

#define assert_page_fault(gva_, error_)                                                                                \
	do {                                                                                                           \
		assert_int_equal(cpu->fault.vector, VEC_PF);                                                           \
		assert_true(cpu->fault.has_error);                                                                     \
		assert_int_equal(cpu->fault.error, (error_));                                                          \
		assert_int_equal(cpu->fault.cr2, (gva_));                                                              \
	} while (0)

#endif
