/* Transfers between privilege levels and within them, flags, and segment registers. */
#include "test_cpu_machine.h"

#define SYSCALL 0x0f, 0x05
#define SYSRETQ 0x48, 0x0f, 0x07
#define IRETQ   0x48, 0xcf

static void test_syscall_and_sysret(void **state)
{
	(void)state;
	set_mode(3);
	cpu->star = (u64)(USER_CS32 | 3) << 48 | (u64)KERNEL_CS << 32;
	cpu->lstar = 0xffffffff81000000;
	cpu->sfmask = FLAG_IF | FLAG_TF | FLAG_DF | FLAG_AC | FLAG_CF;
	vcpu_set_rflags(cpu, FLAG_IF | FLAG_CF | FLAG_ZF | FLAG_DF | FLAG_RF);
	assert_int_equal(EXECUTE(SYSCALL), EXEC_JUMP);
	assert_int_equal(cpu->rip, 0xffffffff81000000);
	assert_int_equal(cpu->gpr[RCX], USER_CODE + 2);
	assert_int_equal(cpu->gpr[R11], FLAG_FIXED | FLAG_IF | FLAG_CF | FLAG_ZF | FLAG_DF);
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_ZF);
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[SEG_CS].selector, KERNEL_CS);
	assert_int_equal(cpu->seg[SEG_SS].selector, KERNEL_CS + 8);
	assert_int_equal(cpu->gpr[RSP], USER_STACK);
	assert_int_equal(vm->stats.syscalls, 1);

	cpu->gpr[R11] |= FLAG_VM | FLAG_RF | BIT(15) | BIT(1) | FLAG_NT;
	assert_int_equal(EXECUTE(SYSRETQ), EXEC_JUMP);
	assert_int_equal(cpu->rip, USER_CODE + 2);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->seg[SEG_CS].selector, USER_CS);
	assert_int_equal(cpu->seg[SEG_CS].attr, 0xa0fb);
	assert_int_equal(cpu->seg[SEG_SS].selector, USER_DS);
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_IF | FLAG_CF | FLAG_ZF | FLAG_DF | FLAG_NT);
}

static void test_syscall_checks(void **state)
{
	(void)state;
	cpu->gpr[RCX] = 0x800000000000;
	ASSERT_FAULT_CODE(EXECUTE(SYSRETQ), VEC_GP, 0);
	assert_int_equal(cpu->cpl, 0);
	cpu->gpr[RCX] = USER_CODE;
	cpu->star = (u64)(USER_CS32 | 3) << 48;
	cpu->gpr[RCX] = 0x100000000 + USER_CODE;
	assert_int_equal(EXECUTE(0x0f, 0x07), EXEC_JUMP); /* to 32-bit code */
	assert_int_equal(cpu->rip, USER_CODE);
	assert_int_equal(cpu->seg[SEG_CS].selector, USER_CS32);
	assert_int_equal(cpu->seg[SEG_CS].attr, 0xc0fb);
	assert_true(vcpu_legacy(cpu));
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(SYSRETQ), VEC_GP, 0);
	cpu->efer &= ~EFER_SCE;
	ASSERT_FAULT(EXECUTE(SYSCALL), VEC_UD);
	ASSERT_FAULT(EXECUTE(SYSRETQ), VEC_UD);
}

static void test_sysenter(void **state)
{
	(void)state;
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x34), VEC_GP, 0);
	cpu->sysenter_cs = KERNEL_CS;
	cpu->sysenter_esp = KERNEL_STACK;
	cpu->sysenter_eip = KERNEL_CODE;
	assert_int_equal(EXECUTE(0x0f, 0x34), EXEC_JUMP);
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->rip, KERNEL_CODE);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK);
	assert_false(cpu->rflags & FLAG_IF);
	cpu->gpr[RCX] = USER_STACK;
	cpu->gpr[RDX] = USER_CODE;
	assert_int_equal(EXECUTE(0x48, 0x0f, 0x35), EXEC_JUMP);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->rip, USER_CODE);
	assert_int_equal(cpu->seg[SEG_CS].selector, (KERNEL_CS + 32) | 3);
}

static void push_frame(u64 rip, u64 cs, u64 rflags, u64 rsp, u64 ss)
{
	u64 *frame = ram_u64(cpu->gpr[RSP]);

	frame[0] = rip;
	frame[1] = cs;
	frame[2] = rflags;
	frame[3] = rsp;
	frame[4] = ss;
}

static void test_iret_to_user(void **state)
{
	(void)state;
	cpu->seg[SEG_DS] = cpu->seg[SEG_SS];
	cpu->seg[SEG_GS] = (struct segment){.selector = KERNEL_DS, .attr = 0xc093, .base = 0x1234000};
	push_frame(USER_CODE + 5, USER_CS, FLAG_IF | FLAG_CF | FLAG_RF | FLAG_IOPL | FLAG_AC | FLAG_VM, USER_STACK,
		   USER_DS);
	assert_int_equal(EXECUTE(IRETQ), EXEC_JUMP);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->rip, USER_CODE + 5);
	assert_int_equal(cpu->gpr[RSP], USER_STACK);
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_IF | FLAG_CF | FLAG_RF | FLAG_IOPL | FLAG_AC);
	assert_int_equal(cpu->seg[SEG_SS].selector, USER_DS);
	/* the kernel's data segments are out of reach, bases stay */
	assert_int_equal(cpu->seg[SEG_DS].selector, 0);
	assert_int_equal(cpu->seg[SEG_GS].selector, 0);
	assert_int_equal(cpu->seg[SEG_GS].base, 0x1234000);
}

static void test_iret_keeps_privileged_flags(void **state)
{
	(void)state;
	set_mode(3);
	vcpu_set_rflags(cpu, FLAG_IF);
	push_frame(USER_CODE, USER_CS, FLAG_IOPL | FLAG_ZF, USER_STACK, USER_DS);
	assert_int_equal(EXECUTE(IRETQ), EXEC_JUMP);
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_IF | FLAG_ZF);
}

/* Within the kernel a null SS is as good as any; 4-byte frames exist too. */
static void test_iret_within_kernel(void **state)
{
	const u32 frame[5] = {KERNEL_CODE + 1, KERNEL_CS, FLAG_ZF, KERNEL_STACK - 64, 0};

	(void)state;
	push_frame(KERNEL_CODE + 7, KERNEL_CS, FLAG_ZF, KERNEL_STACK - 32, 0);
	assert_int_equal(EXECUTE(IRETQ), EXEC_JUMP);
	assert_int_equal(cpu->rip, KERNEL_CODE + 7);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - 32);
	assert_int_equal(cpu->seg[SEG_SS].selector, 0);
	memcpy(ram_bytes(cpu->gpr[RSP]), frame, sizeof(frame));
	assert_int_equal(EXECUTE(0xcf), EXEC_JUMP);
	assert_int_equal(cpu->rip, KERNEL_CODE + 1);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - 64);
}

static void test_iret_checks(void **state)
{
	static const struct {
		u64 rip, cs, ss;
		u8 vector;
		u32 error;
	} bad[] = {
		{USER_CODE, 0, USER_DS, VEC_GP, 0},
		{USER_CODE, 3, USER_DS, VEC_GP, 0},
		{USER_CODE, USER_DS, USER_DS, VEC_GP, USER_DS & ~3},
		{USER_CODE, KERNEL_CS | 3, USER_DS, VEC_GP, KERNEL_CS},
		{USER_CODE, USER_CS & ~3, USER_DS, VEC_GP, USER_CS & ~3},
		{USER_CODE, ABSENT_CS, KERNEL_DS, VEC_NP, ABSENT_CS},
		{USER_CODE, 0x1003, USER_DS, VEC_GP, 0x1000},
		{USER_CODE, USER_CS, 0, VEC_GP, 0},
		{USER_CODE, USER_CS, 3, VEC_GP, 0},
		{USER_CODE, USER_CS, KERNEL_DS, VEC_GP, KERNEL_DS},
		{USER_CODE, USER_CS, KERNEL_DS | 3, VEC_GP, KERNEL_DS},
		{USER_CODE, USER_CS, USER_CS, VEC_GP, USER_CS & ~3},
		{USER_CODE, USER_CS, READONLY_DS, VEC_GP, READONLY_DS & ~3},
		{USER_CODE, USER_CS, ABSENT_DS, VEC_SS, ABSENT_DS & ~3},
		{NON_CANONICAL, USER_CS, USER_DS, VEC_GP, 0},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		push_frame(bad[i].rip, bad[i].cs, FLAG_ZF, USER_STACK, bad[i].ss);
		ASSERT_FAULT_CODE(EXECUTE(IRETQ), bad[i].vector, bad[i].error);
		assert_int_equal(cpu->gpr[RSP], KERNEL_STACK);
		assert_int_equal(cpu->cpl, 0);
		assert_false(cpu->arith & FLAG_ZF);
	}
	/* 32-bit code is user code */
	push_frame(0x100000000 + USER_CODE, USER_CS32, 0, USER_STACK, USER_DS);
	assert_int_equal(EXECUTE(IRETQ), EXEC_JUMP);
	assert_int_equal(cpu->rip, USER_CODE);
	assert_true(vcpu_legacy(cpu));
	set_mode(0);
	push_frame(KERNEL_CODE, KERNEL_CS32, 0, KERNEL_STACK, KERNEL_DS);
	assert_int_equal(EXECUTE(IRETQ), EXEC_STOP);
	assert_int_equal(vm->exit, EXIT_ERROR);
	assert_false(vcpu_legacy(cpu));
	cpu->rflags |= FLAG_NT;
	ASSERT_FAULT_CODE(EXECUTE(IRETQ), VEC_GP, 0);
	cpu->rflags &= ~FLAG_NT;
	/* user code cannot return to the kernel */
	set_mode(3);
	push_frame(KERNEL_CODE, KERNEL_CS, 0, KERNEL_STACK, KERNEL_DS);
	ASSERT_FAULT_CODE(EXECUTE(IRETQ), VEC_GP, KERNEL_CS);
	cpu->gpr[RSP] = NON_CANONICAL;
	ASSERT_FAULT_CODE(EXECUTE(IRETQ), VEC_SS, 0);
}

static void test_far_transfers(void **state)
{
	u64 *stack = ram_u64(KERNEL_STACK);

	(void)state;
	stack[0] = KERNEL_CODE + 9;
	stack[1] = KERNEL_CS;
	assert_int_equal(EXECUTE(0x48, 0xcb), EXEC_JUMP); /* retfq */
	assert_int_equal(cpu->rip, KERNEL_CODE + 9);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK + 16);

	cpu->gpr[RBX] = KERNEL_DATA;
	memcpy(ram_bytes(KERNEL_DATA), &(u64){KERNEL_CODE + 3}, 8);
	memcpy(ram_bytes(KERNEL_DATA + 8), &(u16){KERNEL_CS}, 2);
	assert_int_equal(EXECUTE(0x48, 0xff, 0x2b), EXEC_JUMP); /* jmp m16:64 [rbx] */
	assert_int_equal(cpu->rip, KERNEL_CODE + 3);
	cpu->gpr[RSP] = KERNEL_STACK;
	assert_int_equal(EXECUTE(0x48, 0xff, 0x1b), EXEC_JUMP); /* call m16:64 [rbx] */
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - 16);
	assert_int_equal(ram_u64(KERNEL_STACK - 16)[0], KERNEL_CODE + 6);
	assert_int_equal(ram_u64(KERNEL_STACK - 16)[1], KERNEL_CS);

	/* to user code with lretq: the stack follows */
	cpu->gpr[RSP] = KERNEL_STACK;
	stack[0] = USER_CODE;
	stack[1] = USER_CS;
	stack[2] = USER_STACK;
	stack[3] = USER_DS;
	assert_int_equal(EXECUTE(0x48, 0xcb), EXEC_JUMP);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->gpr[RSP], USER_STACK);
	cpu->gpr[RBX] = USER_DATA;
	memcpy(ram_bytes(USER_DATA), &(u64){KERNEL_CODE}, 8);
	memcpy(ram_bytes(USER_DATA + 8), &(u16){KERNEL_CS}, 2);
	ASSERT_FAULT_CODE(EXECUTE(0x48, 0xff, 0x2b), VEC_GP, KERNEL_CS);
}

static void test_interrupt_flag(void **state)
{
	(void)state;
	assert_int_equal(EXECUTE(0xfa), EXEC_OK); /* cli */
	assert_false(cpu->rflags & FLAG_IF);
	cpu->irq_line = 1;
	assert_int_equal(EXECUTE(0xfb), EXEC_LEAVE); /* sti with an interrupt waiting */
	assert_int_equal(cpu->shadow, 1);
	assert_int_equal(cpu->poll, 1);
	cpu->shadow = 0;
	assert_int_equal(EXECUTE(0xfb), EXEC_OK); /* IF was set already: no shadow */
	assert_int_equal(cpu->shadow, 0);
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(0xfa), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0xfb), VEC_GP, 0);
	cpu->rflags |= FLAG_IOPL;
	assert_int_equal(EXECUTE(0xfa), EXEC_OK);
	assert_false(cpu->rflags & FLAG_IF);
}

static void test_pushf_popf(void **state)
{
	(void)state;
	vcpu_set_rflags(cpu, FLAG_CF | FLAG_IF | FLAG_RF);
	assert_int_equal(EXECUTE(0x9c), EXEC_OK);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - 8);
	assert_int_equal(*ram_u64(KERNEL_STACK - 8), FLAG_FIXED | FLAG_CF | FLAG_IF);
	*ram_u64(KERNEL_STACK - 8) = ~0ULL & ~FLAG_AC;
	assert_int_equal(EXECUTE(0x9d), EXEC_OK);
	assert_int_equal(vcpu_rflags(cpu),
			 FLAG_FIXED | FLAGS_ARITH | FLAG_IF | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_ID | FLAG_IOPL);
	/* 16 bits */
	vcpu_set_rflags(cpu, FLAG_ID | FLAG_CF);
	assert_int_equal(EXECUTE(0x66, 0x9c), EXEC_OK);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - 2);
	assert_int_equal(EXECUTE(0x66, 0x9d), EXEC_OK);
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_ID | FLAG_CF);
	/* users may change neither IF nor IOPL, and AC is theirs alone */
	set_mode(3);
	vcpu_set_rflags(cpu, FLAG_IF);
	*ram_u64(USER_STACK) = FLAG_IOPL | FLAG_AC | FLAG_ZF;
	assert_int_equal(EXECUTE(0x9d), EXEC_OK);
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_IF | FLAG_AC | FLAG_ZF);
	cpu->gpr[RSP] = UNMAPPED;
	ASSERT_FAULT_CODE(EXECUTE(0x9d), VEC_PF, PFEC_USER);
	assert_int_equal(cpu->gpr[RSP], UNMAPPED);
}

static void test_stac_clac(void **state)
{
	u64 gpa;

	(void)state;
	cpu->cr4 |= CR4_SMAP;
	mmu_flush_all(cpu);
	ASSERT_FAULT(mmu_translate(cpu, USER_DATA, ACCESS_READ, &gpa), VEC_PF);
	assert_int_equal(EXECUTE(0x0f, 0x01, 0xcb), EXEC_LEAVE);
	assert_int_equal(mmu_translate(cpu, USER_DATA, ACCESS_READ, &gpa), EXEC_OK);
	assert_int_equal(EXECUTE(0x0f, 0x01, 0xca), EXEC_LEAVE);
	ASSERT_FAULT(mmu_translate(cpu, USER_DATA, ACCESS_READ, &gpa), VEC_PF);
	set_mode(3);
	ASSERT_FAULT(EXECUTE(0x0f, 0x01, 0xcb), VEC_UD);
}

static void test_segment_registers(void **state)
{
	(void)state;
	set_mode(3);
	cpu->gpr[RAX] = USER_DS;
	assert_int_equal(EXECUTE(0x8e, 0xd8), EXEC_OK); /* mov ds, eax */
	assert_int_equal(cpu->seg[SEG_DS].selector, USER_DS);
	cpu->seg[SEG_FS].base = cpu->fs_base = 0x123;
	cpu->gpr[RAX] = 0;
	assert_int_equal(EXECUTE(0x8e, 0xe0), EXEC_OK); /* mov fs, eax: null clears the base */
	assert_int_equal(cpu->seg[SEG_FS].base, 0);
	assert_int_equal(cpu->fs_base, 0);
	cpu->gpr[RAX] = KERNEL_DS;
	ASSERT_FAULT_CODE(EXECUTE(0x8e, 0xd8), VEC_GP, KERNEL_DS);
	cpu->gpr[RAX] = ABSENT_DS;
	ASSERT_FAULT_CODE(EXECUTE(0x8e, 0xd8), VEC_NP, ABSENT_DS & ~3);
	ASSERT_FAULT_CODE(EXECUTE(0x8e, 0xd0), VEC_SS, ABSENT_DS & ~3);
	cpu->gpr[RAX] = 0;
	ASSERT_FAULT_CODE(EXECUTE(0x8e, 0xd0), VEC_GP, 0); /* null SS at CPL 3 */
	cpu->gpr[RAX] = USER_DS;
	cpu->shadow = 0;
	assert_int_equal(EXECUTE(0x8e, 0xd0), EXEC_OK);
	assert_int_equal(cpu->shadow, 1);
	cpu->gpr[RAX] = ~0ULL;
	assert_int_equal(EXECUTE(0x8c, 0xd0), EXEC_OK); /* mov eax, ss */
	assert_int_equal(cpu->gpr[RAX], USER_DS);
	cpu->gpr[RAX] = ~0ULL;
	assert_int_equal(EXECUTE(0x66, 0x8c, 0xd0), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX], 0xffffffffffff0000 | USER_DS);
}

static void test_swapgs_and_bases(void **state)
{
	(void)state;
	cpu->kernel_gs_base = 0xffff888000000000;
	cpu->seg[SEG_GS].base = cpu->gs_base = 0x7000;
	assert_int_equal(EXECUTE(0x0f, 0x01, 0xf8), EXEC_OK);
	assert_int_equal(cpu->seg[SEG_GS].base, 0xffff888000000000);
	assert_int_equal(cpu->gs_base, 0xffff888000000000);
	assert_int_equal(cpu->kernel_gs_base, 0x7000);
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0xf8), VEC_GP, 0);
	ASSERT_FAULT(EXECUTE(0xf3, 0x48, 0x0f, 0xae, 0xc0), VEC_UD); /* rdfsbase rax without CR4.FSGSBASE */
	cpu->cr4 |= CR4_FSGSBASE;
	cpu->gpr[R9] = 0x1122334455;
	assert_int_equal(EXECUTE(0xf3, 0x49, 0x0f, 0xae, 0xd1), EXEC_OK); /* wrfsbase r9 */
	assert_int_equal(cpu->fs_base, 0x1122334455);
	assert_int_equal(EXECUTE(0xf3, 0x0f, 0xae, 0xc0), EXEC_OK); /* rdfsbase eax */
	assert_int_equal(cpu->gpr[RAX], 0x22334455);
	cpu->gpr[R9] = NON_CANONICAL;
	ASSERT_FAULT_CODE(EXECUTE(0xf3, 0x49, 0x0f, 0xae, 0xd9), VEC_GP, 0); /* wrgsbase r9 */
}

static void test_descriptor_tables(void **state)
{
	(void)state;
	cpu->gpr[RBX] = KERNEL_DATA;
	memcpy(ram_bytes(KERNEL_DATA), &(u16){0x7f}, 2);
	memcpy(ram_bytes(KERNEL_DATA + 2), &(u64){GDT}, 8);
	assert_int_equal(EXECUTE(0x0f, 0x01, 0x13), EXEC_OK); /* lgdt [rbx] */
	assert_int_equal(cpu->gdtr.limit, 0x7f);
	assert_int_equal(EXECUTE(0x0f, 0x01, 0x4b, 0x10), EXEC_OK); /* sidt [rbx + 16] */
	assert_int_equal(*(u16 *)ram_bytes(KERNEL_DATA + 16), 0xfff);
	memcpy(ram_bytes(KERNEL_DATA + 2), &(u64){NON_CANONICAL}, 8);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0x13), VEC_GP, 0);
	cpu->gpr[RAX] = TSS_SELECTOR;
	assert_int_equal(EXECUTE(0x0f, 0x00, 0xd8), EXEC_OK); /* ltr ax */
	assert_int_equal(cpu->seg[SEG_TR].base, TSS);
	assert_int_equal(ram_bytes(GDT + TSS_SELECTOR)[5], 0x8b);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x00, 0xd8), VEC_GP, TSS_SELECTOR); /* busy now */
	assert_int_equal(EXECUTE(0x0f, 0x00, 0xc8), EXEC_OK);               /* str eax */
	assert_int_equal(cpu->gpr[RAX], TSS_SELECTOR);
	set_mode(3);
	cpu->gpr[RBX] = USER_DATA;
	assert_int_equal(EXECUTE(0x0f, 0x01, 0x03), EXEC_OK); /* sgdt [rbx] */
	cpu->cr4 |= CR4_UMIP;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0x03), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x00, 0xc8), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0xe0), VEC_GP, 0); /* smsw eax */
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0x13), VEC_GP, 0);
}

static void test_descriptor_queries(void **state)
{
	(void)state;
	set_mode(3);
	cpu->gpr[RCX] = USER_CS;
	assert_int_equal(EXECUTE(0x0f, 0x02, 0xc1), EXEC_OK); /* lar eax, ecx */
	assert_true(cpu->arith & FLAG_ZF);
	assert_int_equal(cpu->gpr[RAX], 0x00a0fb00);
	assert_int_equal(EXECUTE(0x0f, 0x03, 0xc1), EXEC_OK); /* lsl eax, ecx */
	assert_int_equal(cpu->gpr[RAX], 0xffffffff);
	cpu->gpr[RCX] = KERNEL_DS;
	assert_int_equal(EXECUTE(0x0f, 0x03, 0xc1), EXEC_OK);
	assert_false(cpu->arith & FLAG_ZF);
	assert_int_equal(cpu->gpr[RAX], 0xffffffff);
	cpu->gpr[RCX] = READONLY_DS;
	assert_int_equal(EXECUTE(0x0f, 0x00, 0xe1), EXEC_OK); /* verr cx */
	assert_true(cpu->arith & FLAG_ZF);
	assert_int_equal(EXECUTE(0x0f, 0x00, 0xe9), EXEC_OK); /* verw cx */
	assert_false(cpu->arith & FLAG_ZF);
	cpu->gpr[RCX] = 0;
	assert_int_equal(EXECUTE(0x0f, 0x00, 0xe1), EXEC_OK);
	assert_false(cpu->arith & FLAG_ZF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(test_syscall_and_sysret),
		MACHINE_TEST(test_syscall_checks),
		MACHINE_TEST(test_sysenter),
		MACHINE_TEST(test_iret_to_user),
		MACHINE_TEST(test_iret_keeps_privileged_flags),
		MACHINE_TEST(test_iret_within_kernel),
		MACHINE_TEST(test_iret_checks),
		MACHINE_TEST(test_far_transfers),
		MACHINE_TEST(test_interrupt_flag),
		MACHINE_TEST(test_pushf_popf),
		MACHINE_TEST(test_stac_clac),
		MACHINE_TEST(test_segment_registers),
		MACHINE_TEST(test_swapgs_and_bases),
		MACHINE_TEST(test_descriptor_tables),
		MACHINE_TEST(test_descriptor_queries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
