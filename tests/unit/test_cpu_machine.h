/*
 * What the tests of runtime/cpu share: a machine in 64-bit mode with identity-mapped pages, a GDT, an IDT whose gates
 * lead to HANDLER(vector), a TSS with stacks, and a way to execute one sensitive instruction given by its bytes.
 */
#ifndef AVANT_TEST_CPU_MACHINE_H
#define AVANT_TEST_CPU_MACHINE_H

#include "cpu/cpu.h"
#include "cpu/operand.h"
#include "mem/mem.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RAM_SIZE (8ULL << 20)

/* Guest addresses, all identity-mapped. The first 2 MiB are the supervisor's, the next 2 MiB the user's, then nothing.
 */
#define PAGE_TABLES     0x1000ULL
#define GDT             0x10000ULL
#define IDT             0x11000ULL
#define TSS             0x12000ULL
#define STACK_RSP0      0x20000ULL
#define STACK_IST(n)    (0x30000ULL + (n)*0x1000)
#define KERNEL_STACK    0x28000ULL
#define KERNEL_DATA     0x40000ULL
#define KERNEL_CODE     0x50000ULL
#define USER_CODE       0x200000ULL
#define USER_DATA       0x300000ULL
#define USER_STACK      0x380008ULL /* not aligned to 16 */
#define UNMAPPED        0x400000ULL
#define NON_CANONICAL   0x8000000000000000ULL
#define HANDLER(vector) (0x60000ULL + (vector)*16)

/* Selectors. */
#define KERNEL_CS     0x10
#define KERNEL_DS     0x18
#define USER_CS32     0x23
#define USER_DS       0x2b
#define USER_CS       0x33
#define CONFORMING_CS 0x38
#define ABSENT_CS     0x40
#define ABSENT_DS     0x4b
#define TSS_SELECTOR  0x50 /* 16 bytes */
#define READONLY_DS   0x63
#define KERNEL_CS32   0x68
#define GDT_END       0x70

#define KERNEL_FLAGS (FLAG_FIXED | FLAG_IF)

struct machine {
	struct vm vm;
	struct vcpu vcpu;
};

static struct machine machine;
static struct vm *const vm = &machine.vm;
static struct vcpu *const cpu = &machine.vcpu;

static inline u8 *ram_bytes(u64 gpa)
{
	return ram_at(&vm->ram, gpa);
}

static inline u64 *ram_u64(u64 gpa)
{
	return (u64 *)ram_bytes(gpa);
}

static inline void set_gate(unsigned vector, u64 offset, u16 selector, u8 attr, u8 ist)
{
	u64 *gate = ram_u64(IDT + vector * 16);

	gate[0] = (offset & 0xffff) | (u64)selector << 16 | (u64)ist << 32 | (u64)attr << 40 |
		  (offset >> 16 & 0xffff) << 48;
	gate[1] = offset >> 32;
}

static inline void build_tables(void)
{
	static const u64 gdt[GDT_END / 8] = {
		[KERNEL_CS / 8] = 0x00af9b000000ffff,
		[KERNEL_DS / 8] = 0x00cf93000000ffff,
		[USER_CS32 / 8] = 0x00cffb000000ffff,
		[USER_DS / 8] = 0x00cff3000000ffff,
		[USER_CS / 8] = 0x00affb000000ffff,
		[CONFORMING_CS / 8] = 0x00af9e000000ffff,
		[ABSENT_CS / 8] = 0x00af1b000000ffff,
		[ABSENT_DS / 8] = 0x00cf73000000ffff,
		[TSS_SELECTOR / 8] = 0x0000890000000fff | (TSS & 0xffffff) << 16,
		[READONLY_DS / 8] = 0x00cff1000000ffff,
		[KERNEL_CS32 / 8] = 0x00cf9b000000ffff,
	};
	u64 *pml4 = ram_u64(PAGE_TABLES), *pdpt = pml4 + 512, *directory = pdpt + 512;

	pml4[0] = (PAGE_TABLES + 0x1000) | 7;
	pdpt[0] = (PAGE_TABLES + 0x2000) | 7;
	directory[0] = 0 | 0x83;
	directory[1] = 0x200000 | 0x87;
	memcpy(ram_bytes(GDT), gdt, sizeof(gdt));
	for (unsigned vector = 0; vector < 256; vector++)
		set_gate(vector, HANDLER(vector), KERNEL_CS, 0x8e, 0);
	memcpy(ram_bytes(TSS + 4), &(u64){STACK_RSP0}, 8);
	for (unsigned i = 1; i <= 7; i++)
		memcpy(ram_bytes(TSS + 36 + (i - 1) * 8), &(u64){STACK_IST(i)}, 8);
}

/* The user's or the kernel's segments, stack and code address. */
static inline void set_mode(unsigned cpl)
{
	const u16 cs = cpl ? USER_CS : KERNEL_CS, ss = cpl ? USER_DS : KERNEL_DS;

	cpu->seg[SEG_CS] = (struct segment){.selector = cs, .attr = cpl ? 0xa0fb : 0xa09b, .limit = UINT32_MAX};
	cpu->seg[SEG_SS] = (struct segment){.selector = ss, .attr = cpl ? 0xc0f3 : 0xc093, .limit = UINT32_MAX};
	cpu->gpr[RSP] = cpl ? USER_STACK : KERNEL_STACK;
	cpu->rip = cpl ? USER_CODE : KERNEL_CODE;
	cpu_set_cpl(cpu, (u8)cpl);
}

static inline int machine_setup_model(const char *model)
{
	struct err err = ERR_INIT;

	memset(&machine, 0, sizeof(machine));
	vm->config.cpu = cpu_model_find(model);
	vm->vcpu = cpu;
	cpu->vm = vm;
	if (!vm->config.cpu || ram_init(&vm->ram, RAM_SIZE, &err) != 0 || mmu_init(&vm->mmu, &err) != 0 ||
	    clock_init(&vm->clock, CLOCK_SOURCE_INSTRUCTIONS, cpu, &err) != 0)
		return -1;
	vm->irqchip = irqchip_create(vm);
	if (!vm->irqchip)
		return -1;
	vcpu_reset(cpu);
	build_tables();
	cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	cpu->cr3 = PAGE_TABLES;
	cpu->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	cpu->gdtr = (struct table_register){.base = GDT, .limit = GDT_END - 1};
	cpu->idtr = (struct table_register){.base = IDT, .limit = 0xfff};
	cpu->seg[SEG_TR] = (struct segment){.selector = TSS_SELECTOR, .attr = 0x8b, .limit = 0xfff, .base = TSS};
	cpu->seg[SEG_LDTR] = (struct segment){0};
	vcpu_set_rflags(cpu, KERNEL_FLAGS);
	mmu_flush_all(cpu);
	set_mode(0);
	return 0;
}

static inline int machine_setup(void **state)
{
	(void)state;
	return machine_setup_model("default");
}

static inline int machine_teardown(void **state)
{
	(void)state;
	vcpu_fpu_put(cpu);
	irqchip_destroy(vm->irqchip);
	clock_release(&vm->clock);
	mmu_release(&vm->mmu);
	ram_release(&vm->ram);
	return 0;
}

/* Executes one instruction's helper at rip, without advancing it. */
static inline enum exec execute_bytes(const u8 *bytes, unsigned length)
{
	struct insn insn;
	enum exec result;

	assert_int_equal(insn_decode(&insn, bytes, length), 0);
	assert_int_equal(insn.length, length);
	assert_int_equal(insn.class, INSN_HELPER);
	result = cpu_helpers[insn.helper](cpu, &insn);
	/* tests are compiled for all registers */
	vcpu_fpu_put(cpu);
	return result;
}

#define EXECUTE(...) execute_bytes((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

#define ASSERT_FAULT(result, number)                                                                                   \
	do {                                                                                                           \
		assert_int_equal(result, EXEC_FAULT);                                                                  \
		assert_int_equal(cpu->fault.vector, number);                                                           \
	} while (0)

#define ASSERT_FAULT_CODE(result, number, code)                                                                        \
	do {                                                                                                           \
		ASSERT_FAULT(result, number);                                                                          \
		assert_true(cpu->fault.has_error);                                                                     \
		assert_int_equal(cpu->fault.error, code);                                                              \
	} while (0)

#define MACHINE_TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

#endif
