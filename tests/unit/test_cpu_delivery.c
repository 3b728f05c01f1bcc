/* Delivery of exceptions and interrupts: gates, stacks, frames, flags, escalation. */
#include "test_cpu_machine.h"

struct frame {
	u64 rip, cs, rflags, rsp, ss;
};

static struct frame *frame_at(u64 address)
{
	return (struct frame *)ram_bytes(address);
}

static void raise_error(u8 vector, u32 error)
{
	vcpu_raise_error(cpu, vector, error);
}

static void test_fault_from_user(void **state)
{
	const u64 top = STACK_RSP0 - 48;
	const struct frame *frame = frame_at(top + 8);

	(void)state;
	set_mode(3);
	vcpu_set_rflags(cpu, FLAG_CF | FLAG_IF | FLAG_TF | FLAG_NT | FLAG_AC | FLAG_DF);
	raise_error(VEC_GP, 0x1234);
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
	assert_int_equal(cpu->rip, HANDLER(VEC_GP));
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[SEG_CS].selector, KERNEL_CS);
	assert_int_equal(cpu->seg[SEG_CS].attr, 0xa09b);
	assert_int_equal(cpu->seg[SEG_SS].selector, 0);
	assert_int_equal(cpu->gpr[RSP], top);
	assert_int_equal(*ram_u64(top), 0x1234);
	assert_int_equal(frame->rip, USER_CODE);
	assert_int_equal(frame->cs, USER_CS);
	assert_int_equal(frame->rflags,
			 FLAG_FIXED | FLAG_CF | FLAG_IF | FLAG_TF | FLAG_NT | FLAG_AC | FLAG_DF | FLAG_RF);
	assert_int_equal(frame->rsp, USER_STACK);
	assert_int_equal(frame->ss, USER_DS);
	/* AC and DF survive, IF, TF, NT and RF do not */
	assert_int_equal(vcpu_rflags(cpu), FLAG_FIXED | FLAG_CF | FLAG_AC | FLAG_DF);
}

static void test_same_level_aligns_stack(void **state)
{
	const u64 top = ((KERNEL_STACK - 8) & ~15ULL) - 40;

	(void)state;
	cpu->gpr[RSP] = KERNEL_STACK - 8;
	vcpu_raise(cpu, VEC_UD);
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
	assert_int_equal(cpu->gpr[RSP], top);
	assert_int_equal(frame_at(top)->rsp, KERNEL_STACK - 8);
	assert_int_equal(frame_at(top)->ss, KERNEL_DS);
	assert_int_equal(cpu->seg[SEG_SS].selector, KERNEL_DS);
}

static void test_ist_and_trap_gate(void **state)
{
	(void)state;
	set_gate(VEC_UD, HANDLER(VEC_UD), KERNEL_CS, 0x8f, 3);
	vcpu_raise(cpu, VEC_UD);
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
	assert_int_equal(cpu->gpr[RSP], STACK_IST(3) - 40);
	assert_true(cpu->rflags & FLAG_IF);
}

static void test_page_fault_sets_cr2(void **state)
{
	(void)state;
	cpu->fault = (struct fault){.vector = VEC_PF, .has_error = true, .error = 6, .cr2 = 0xabcdef123};
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
	assert_int_equal(cpu->cr2, 0xabcdef123);
	assert_int_equal(*ram_u64(cpu->gpr[RSP]), 6);
}

static void test_debug_exceptions(void **state)
{
	(void)state;
	/* a trap: no RF */
	cpu->dr[6] = 0xffff0ff1;
	cpu->fault = (struct fault){.vector = VEC_DB, .dr6 = BIT(14)};
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
	assert_int_equal(cpu->dr[6], 0xffff4ff0);
	assert_false(frame_at(cpu->gpr[RSP])->rflags & FLAG_RF);
	/* access to a debug register under DR7.GD: a fault, and GD is cleared */
	set_mode(0);
	cpu->dr[7] |= BIT(13);
	ASSERT_FAULT(EXECUTE(0x0f, 0x21, 0xf0), VEC_DB); /* mov rax, dr6 */
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
	assert_true(frame_at(cpu->gpr[RSP])->rflags & FLAG_RF);
	assert_true(cpu->dr[6] & BIT(13));
	assert_false(cpu->dr[7] & BIT(13));
}

static void test_interrupt(void **state)
{
	(void)state;
	set_mode(3);
	vcpu_set_rflags(cpu, FLAG_IF);
	cpu->irq_line = 1;
	cpu->shadow = 1;
	vcpu_update_poll(cpu);
	assert_int_equal(cpu->poll, 1);
	assert_int_equal(cpu_deliver_interrupt(cpu, 0x41), EXEC_JUMP);
	assert_int_equal(cpu->rip, HANDLER(0x41));
	assert_int_equal(cpu->gpr[RSP], STACK_RSP0 - 40);
	assert_false(frame_at(STACK_RSP0 - 40)->rflags & FLAG_RF);
	assert_int_equal(cpu->poll, 0);
	assert_int_equal(cpu->shadow, 0);
	/* the benign interrupt whose gate is absent turns into #NP with EXT */
	set_mode(3);
	set_gate(0x42, HANDLER(0x42), KERNEL_CS, 0x0e, 0);
	assert_int_equal(cpu_deliver_interrupt(cpu, 0x42), EXEC_JUMP);
	assert_int_equal(cpu->rip, HANDLER(VEC_NP));
	assert_int_equal(*ram_u64(cpu->gpr[RSP]), 0x42 * 8 + 3);
}

static void test_software_interrupts(void **state)
{
	(void)state;
	set_mode(3);
	/* gates of DPL 0 */
	ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), VEC_GP, 0x80 * 8 + 2);
	ASSERT_FAULT_CODE(EXECUTE(0xcc), VEC_GP, 3 * 8 + 2);
	assert_int_equal(cpu->rip, USER_CODE);
	assert_int_equal(cpu->gpr[RSP], USER_STACK);
	assert_int_equal(cpu->cpl, 3);
	set_gate(VEC_BP, HANDLER(VEC_BP), KERNEL_CS, 0xee, 0);
	assert_int_equal(EXECUTE(0xcc), EXEC_JUMP);
	assert_int_equal(cpu->rip, HANDLER(VEC_BP));
	assert_int_equal(frame_at(cpu->gpr[RSP])->rip, USER_CODE + 1);
	assert_false(frame_at(cpu->gpr[RSP])->rflags & FLAG_RF);
	/* int1 needs no DPL */
	set_mode(3);
	assert_int_equal(EXECUTE(0xf1), EXEC_JUMP);
	assert_int_equal(cpu->rip, HANDLER(VEC_DB));
	assert_int_equal(frame_at(cpu->gpr[RSP])->rip, USER_CODE + 1);
}

struct bad_gate {
	u64 offset;
	u16 selector;
	u8 attr;
	u8 vector;
	u32 error;
};

/* What delivery of INT 0x80 at CPL 0 raises, by gate. Nothing else may change. */
static void test_bad_gates(void **state)
{
	static const struct bad_gate bad[] = {
		{HANDLER(0), KERNEL_CS, 0x0e, VEC_NP, 0x80 * 8 + 2},
		{HANDLER(0), KERNEL_CS, 0x8c, VEC_GP, 0x80 * 8 + 2},
		{HANDLER(0), KERNEL_CS, 0x9e, VEC_GP, 0x80 * 8 + 2},
		{HANDLER(0), 0, 0x8e, VEC_GP, 0},
		{HANDLER(0), 3, 0x8e, VEC_GP, 0},
		{HANDLER(0), KERNEL_DS, 0x8e, VEC_GP, KERNEL_DS},
		{HANDLER(0), USER_CS, 0x8e, VEC_GP, USER_CS & ~3},
		{HANDLER(0), ABSENT_CS, 0x8e, VEC_NP, ABSENT_CS},
		{HANDLER(0), 0x1000, 0x8e, VEC_GP, 0x1000},
		{HANDLER(0), 0x0c, 0x8e, VEC_GP, 0x0c}, /* in the LDT, of which there is none */
		{NON_CANONICAL, KERNEL_CS, 0x8e, VEC_GP, 0},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vcpu before = *cpu;

		set_gate(0x80, bad[i].offset, bad[i].selector, bad[i].attr, 0);
		ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), bad[i].vector, bad[i].error);
		before.fault = cpu->fault;
		assert_memory_equal(&before.gpr, &cpu->gpr, sizeof(cpu->gpr));
		assert_memory_equal(&before.seg, &cpu->seg, sizeof(cpu->seg));
		assert_int_equal(before.rip, cpu->rip);
		assert_int_equal(vcpu_rflags(&before), vcpu_rflags(cpu));
	}
	cpu->idtr.limit = 0x80 * 16 + 14;
	ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), VEC_GP, 0x80 * 8 + 2);
}

static void test_bad_stacks(void **state)
{
	(void)state;
	set_mode(3);
	set_gate(0x80, HANDLER(0x80), KERNEL_CS, 0xee, 0);
	memcpy(ram_bytes(TSS + 4), &(u64){NON_CANONICAL}, 8);
	ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), VEC_SS, 0);
	memcpy(ram_bytes(TSS + 4), &(u64){UNMAPPED + 0x1000}, 8);
	ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), VEC_PF, PFEC_WRITE);
	assert_int_equal(cpu->fault.cr2 & ~0xfffULL, UNMAPPED);
	assert_int_equal(cpu->cpl, 3);
	cpu->seg[SEG_TR].limit = 10;
	ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), VEC_TS, TSS_SELECTOR);
	set_mode(0);
	cpu->gpr[RSP] = NON_CANONICAL + 0x1000;
	ASSERT_FAULT_CODE(EXECUTE(0xcd, 0x80), VEC_SS, 0);
}

/* Conforming handlers run at the interrupted level; the accessed bit of their descriptor gets set. */
static void test_conforming_handler(void **state)
{
	(void)state;
	set_mode(3);
	set_gate(0x80, USER_CODE, CONFORMING_CS, 0xee, 0);
	assert_int_equal(EXECUTE(0xcd, 0x80), EXEC_JUMP);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->seg[SEG_CS].selector, CONFORMING_CS | 3);
	assert_int_equal(cpu->gpr[RSP], (USER_STACK & ~15ULL) - 40);
	assert_int_equal(ram_bytes(GDT + CONFORMING_CS)[5], 0x9f);
}

/* By what follows what: first exception, the one its delivery raises, the handler that runs in the end. */
static void test_escalation(void **state)
{
	static const struct {
		u8 first;
		bool second_is_pf;
		u8 handler;
	} cases[] = {
		{VEC_UD, false, VEC_GP}, {VEC_UD, true, VEC_PF},  {VEC_DB, false, VEC_GP}, {VEC_GP, false, VEC_DF},
		{VEC_NP, false, VEC_DF}, {VEC_DE, false, VEC_DF}, {VEC_GP, true, VEC_PF},  {VEC_PF, true, VEC_DF},
		{VEC_PF, false, VEC_DF}, {VEC_AC, false, VEC_GP}, {VEC_TS, true, VEC_PF},  {VEC_SS, false, VEC_DF},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const u8 first = cases[i].first;

		set_mode(0);
		for (unsigned vector = 0; vector < 32; vector++)
			set_gate(vector, HANDLER(vector), KERNEL_CS, 0x8e, 1);
		if (cases[i].second_is_pf) { /* an unmapped stack */
			set_gate(first, HANDLER(first), KERNEL_CS, 0x8e, 2);
			memcpy(ram_bytes(TSS + 36 + 8), &(u64){UNMAPPED + 0x1000}, 8);
		} else {
			set_gate(first, HANDLER(first), KERNEL_DS, 0x8e, 1);
		}
		cpu->fault = (struct fault){.vector = first, .has_error = true, .error = 0x55, .cr2 = 0x77};
		assert_int_equal(cpu_deliver_fault(cpu), EXEC_JUMP);
		assert_int_equal(cpu->rip, HANDLER(cases[i].handler));
		if (cases[i].handler == VEC_DF)
			assert_int_equal(*ram_u64(cpu->gpr[RSP]), 0);
		else if (cases[i].handler == VEC_GP)
			assert_int_equal(*ram_u64(cpu->gpr[RSP]), KERNEL_DS | 1);
		if (cases[i].second_is_pf)
			assert_int_equal(cpu->cr2 & ~0xfffULL, UNMAPPED);
	}
}

static void test_triple_fault(void **state)
{
	(void)state;
	cpu->idtr.limit = 0;
	vcpu_raise(cpu, VEC_UD);
	assert_int_equal(cpu_deliver_fault(cpu), EXEC_STOP);
	assert_int_equal(vm->exit, EXIT_TRIPLE_FAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(test_fault_from_user),     MACHINE_TEST(test_same_level_aligns_stack),
		MACHINE_TEST(test_ist_and_trap_gate),   MACHINE_TEST(test_page_fault_sets_cr2),
		MACHINE_TEST(test_debug_exceptions),    MACHINE_TEST(test_interrupt),
		MACHINE_TEST(test_software_interrupts), MACHINE_TEST(test_bad_gates),
		MACHINE_TEST(test_bad_stacks),          MACHINE_TEST(test_conforming_handler),
		MACHINE_TEST(test_escalation),          MACHINE_TEST(test_triple_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
