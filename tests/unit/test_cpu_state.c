/* Operands, port I/O, random numbers, and the images of x87, SSE and AVX state. */
#include "cpu/fpu.h"
#include "test_cpu_machine.h"
#include "x86/mode.h"

#include <x86intrin.h>

#define AREA KERNEL_DATA

/* --- operands ------------------------------------------------------------------------------------------------------
 */

static struct insn decode(const u8 *bytes, unsigned length)
{
	struct insn insn;

	assert_int_equal(insn_decode(&insn, bytes, length), 0);
	assert_int_equal(insn.length, length);
	return insn;
}

#define DECODE(...) decode((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void test_addresses(void **state)
{
	struct insn insn;

	(void)state;
	cpu->gpr[RBX] = 0x1000;
	cpu->gpr[R12] = 0xffffffff00000010;
	cpu->rip = 0x7000;
	cpu->seg[SEG_GS].base = cpu->gs_base = 0xffff800000000000;
	insn = DECODE(0x4a, 0x8b, 0x44, 0xa3, 0xf0); /* mov rax, [rbx + r12 * 4 - 16] */
	assert_int_equal(operand_address(cpu, &insn), 0x1000 + 0xfffffffc00000040 - 16);
	insn = DECODE(0x67, 0x4a, 0x8b, 0x44, 0xa3, 0xf0); /* the same with ebx and r12d */
	assert_int_equal(operand_address(cpu, &insn), 0x1030);
	insn = DECODE(0x8b, 0x05, 0x00, 0x01, 0x00, 0x00); /* mov eax, [rip + 0x100] */
	assert_int_equal(operand_address(cpu, &insn), 0x7106);
	insn = DECODE(0x65, 0x8b, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff); /* mov eax, gs:[-8] */
	assert_int_equal(operand_address(cpu, &insn), 0xffff7ffffffffff8);
}

static void test_registers(void **state)
{
	const struct operand al = {OPERAND_GPR, 0, 1, false}, ah = {OPERAND_GPR, 4, 1, true};
	const struct operand ax = {OPERAND_GPR, 0, 2, false}, eax = {OPERAND_GPR, 0, 4, false};
	const struct operand spl = {OPERAND_GPR, 4, 1, false};

	(void)state;
	cpu->gpr[RAX] = 0x1122334455667788;
	cpu->gpr[RSP] = 0x99;
	assert_int_equal(operand_get_gpr(cpu, &al), 0x88);
	assert_int_equal(operand_get_gpr(cpu, &ah), 0x77);
	assert_int_equal(operand_get_gpr(cpu, &ax), 0x7788);
	assert_int_equal(operand_get_gpr(cpu, &eax), 0x55667788);
	assert_int_equal(operand_get_gpr(cpu, &spl), 0x99);
	operand_set_gpr(cpu, &ah, 0xabcd);
	assert_int_equal(cpu->gpr[RAX], 0x112233445566cd88);
	operand_set_gpr(cpu, &al, 0x101);
	assert_int_equal(cpu->gpr[RAX], 0x112233445566cd01);
	operand_set_gpr(cpu, &ax, 0xfffff);
	assert_int_equal(cpu->gpr[RAX], 0x112233445566ffff);
	operand_set_gpr(cpu, &eax, 0xfffffffff);
	assert_int_equal(cpu->gpr[RAX], 0xffffffff);
}

static void test_stack(void **state)
{
	u64 value;

	(void)state;
	assert_int_equal(stack_push(cpu, 0x1234), EXEC_OK);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - 8);
	assert_int_equal(stack_pop(cpu, &value), EXEC_OK);
	assert_int_equal(value, 0x1234);
	assert_int_equal(cpu->gpr[RSP], KERNEL_STACK);
	cpu->gpr[RSP] = NON_CANONICAL;
	ASSERT_FAULT_CODE(stack_push(cpu, 1), VEC_SS, 0);
	ASSERT_FAULT_CODE(stack_pop(cpu, &value), VEC_SS, 0);
	assert_int_equal(cpu->gpr[RSP], NON_CANONICAL);
	cpu->gpr[RSP] = UNMAPPED + 8;
	ASSERT_FAULT_CODE(stack_push(cpu, 1), VEC_PF, PFEC_WRITE);
	assert_int_equal(cpu->gpr[RSP], UNMAPPED + 8);
}

/* A non-canonical address is #SS when the base is RSP or RBP, else #GP. */
static void test_segment_of_faults(void **state)
{
	struct insn insn;
	u64 value;

	(void)state;
	cpu->gpr[RBX] = cpu->gpr[RBP] = NON_CANONICAL;
	insn = DECODE(0xff, 0x23); /* jmp [rbx] */
	ASSERT_FAULT_CODE(operand_read(cpu, &insn, 0, &value), VEC_GP, 0);
	insn = DECODE(0xff, 0x65, 0x00); /* jmp [rbp] */
	ASSERT_FAULT_CODE(operand_read(cpu, &insn, 0, &value), VEC_SS, 0);
}

/* --- ports ---------------------------------------------------------------------------------------------------------
 */

struct port_log {
	unsigned reads, writes, size;
	u64 value, offset;
};

static struct port_log port_log;

static u64 log_read(void *device, u64 offset, unsigned size)
{
	(void)device;
	port_log.reads++;
	port_log.offset = offset;
	port_log.size = size;
	return 0x8877665544332211 & (BIT(size * 8) - 1);
}

static void log_write(void *device, u64 offset, unsigned size, u64 value)
{
	(void)device;
	port_log.writes++;
	port_log.offset = offset;
	port_log.size = size;
	port_log.value = value;
}

static const struct bus_ops log_ops = {.read = log_read, .write = log_write};

static int setup_ports(void **state)
{
	memset(&port_log, 0, sizeof(port_log));
	if (machine_setup(state) != 0)
		return -1;
	bus_add(&vm->ports, 0x1230, 16, &log_ops, NULL, "log");
	return 0;
}

static void test_in_out(void **state)
{
	(void)state;
	cpu->gpr[RDX] = 0xffff1234;
	cpu->gpr[RAX] = 0xaaaaaaaaaaaaaaaa;
	assert_int_equal(EXECUTE(0xec), EXEC_OK); /* in al, dx */
	assert_int_equal(cpu->gpr[RAX], 0xaaaaaaaaaaaaaa11);
	assert_int_equal(port_log.offset, 4);
	assert_int_equal(EXECUTE(0x66, 0xed), EXEC_OK); /* in ax, dx */
	assert_int_equal(cpu->gpr[RAX], 0xaaaaaaaaaaaa2211);
	assert_int_equal(EXECUTE(0xed), EXEC_OK); /* in eax, dx */
	assert_int_equal(cpu->gpr[RAX], 0x44332211);
	cpu->gpr[RAX] = 0x123456789abcdef0;
	assert_int_equal(EXECUTE(0xee), EXEC_OK); /* out dx, al */
	assert_int_equal(port_log.value, 0xf0);
	assert_int_equal(EXECUTE(0xef), EXEC_OK);
	assert_int_equal(port_log.value, 0x9abcdef0);
	assert_int_equal(port_log.size, 4);
	assert_int_equal(EXECUTE(0xe4, 0x80), EXEC_OK); /* in al, 0x80: nobody there */
	assert_int_equal(cpu->gpr[RAX] & 0xff, 0xff);
	vm->exit = EXIT_POWER_OFF;
	assert_int_equal(EXECUTE(0xee), EXEC_STOP);
}

static void test_io_permission(void **state)
{
	const u16 map = 0x200;

	(void)state;
	set_mode(3);
	cpu->gpr[RDX] = 0x1237;
	memcpy(ram_bytes(TSS + 0x66), &map, 2);
	assert_int_equal(EXECUTE(0xec), EXEC_OK);
	ram_bytes(TSS + map + 0x1230 / 8 + 1)[0] = 0x01; /* port 0x1238 */
	assert_int_equal(EXECUTE(0xec), EXEC_OK);
	ASSERT_FAULT_CODE(EXECUTE(0x66, 0xed), VEC_GP, 0);
	ram_bytes(TSS + map + 0x1230 / 8)[0] = 0x80;
	ASSERT_FAULT_CODE(EXECUTE(0xec), VEC_GP, 0);
	cpu->gpr[RDX] = 0xffff; /* beyond the TSS's limit */
	ASSERT_FAULT_CODE(EXECUTE(0xec), VEC_GP, 0);
	cpu->seg[SEG_TR].limit = 0x66;
	cpu->gpr[RDX] = 0x1230;
	ASSERT_FAULT_CODE(EXECUTE(0xec), VEC_GP, 0);
	cpu->rflags |= FLAG_IOPL;
	assert_int_equal(EXECUTE(0xec), EXEC_OK);
}

static void test_string_io(void **state)
{
	(void)state;
	cpu->gpr[RDX] = 0x1230;
	cpu->gpr[RDI] = KERNEL_DATA;
	cpu->gpr[RCX] = 3;
	assert_int_equal(EXECUTE(0xf3, 0x6c), EXEC_OK); /* rep insb */
	assert_int_equal(cpu->gpr[RCX], 0);
	assert_int_equal(cpu->gpr[RDI], KERNEL_DATA + 3);
	assert_int_equal(*ram_u64(KERNEL_DATA), 0x111111);
	cpu->gpr[RSI] = KERNEL_DATA + 2;
	cpu->rflags |= FLAG_DF;
	assert_int_equal(EXECUTE(0x66, 0x6f), EXEC_OK); /* outsw */
	assert_int_equal(port_log.value, 0x11);
	assert_int_equal(cpu->gpr[RSI], KERNEL_DATA);
	cpu->rflags &= ~FLAG_DF;
	/* long ones pause */
	cpu->gpr[RCX] = 5000;
	cpu->gpr[RSI] = KERNEL_DATA;
	assert_int_equal(EXECUTE(0xf3, 0x6e), EXEC_AGAIN); /* rep outsb */
	assert_true(cpu->gpr[RCX] > 0 && cpu->gpr[RCX] < 5000);
	assert_int_equal(cpu->gpr[RSI] - KERNEL_DATA, 5000 - cpu->gpr[RCX]);
	/* a fault midway leaves the registers at the element; the device is not read in vain */
	cpu->gpr[RDI] = UNMAPPED - 2;
	cpu->gpr[RCX] = 4;
	port_log.reads = 0;
	ASSERT_FAULT_CODE(EXECUTE(0xf3, 0x6c), VEC_PF, PFEC_WRITE);
	assert_int_equal(cpu->gpr[RCX], 2);
	assert_int_equal(cpu->gpr[RDI], UNMAPPED);
	assert_int_equal(port_log.reads, 2);
	cpu->gpr[RCX] = 0xffffffff00000000;
	assert_int_equal(EXECUTE(0x67, 0xf3, 0x6c), EXEC_OK); /* ecx is 0 */
	assert_int_equal(port_log.reads, 2);
}

/* --- random numbers ------------------------------------------------------------------------------------------------
 */

static void test_random(void **state)
{
	u64 first;

	(void)state;
	cpu->arith = FLAGS_ARITH;
	assert_int_equal(EXECUTE(0x48, 0x0f, 0xc7, 0xf0), EXEC_OK); /* rdrand rax */
	assert_int_equal(cpu->arith & FLAGS_ARITH, FLAG_CF);
	first = cpu->gpr[RAX];
	assert_int_equal(EXECUTE(0x48, 0x0f, 0xc7, 0xf8), EXEC_OK); /* rdseed rax */
	assert_int_not_equal(cpu->gpr[RAX], first);
	/* repeatable on the instruction clock */
	vcpu_reset(cpu);
	assert_int_equal(EXECUTE(0x48, 0x0f, 0xc7, 0xf0), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX], first);
	cpu->gpr[RAX] = ~0ULL;
	assert_int_equal(EXECUTE(0x0f, 0xc7, 0xf0), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX] >> 32, 0);
	/* on the host clock, with and without the host's RDRAND */
	vm->clock.source = CLOCK_SOURCE_HOST;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(EXECUTE(0x48, 0x0f, 0xc7, 0xf0), EXEC_OK);
		assert_int_not_equal(cpu->gpr[RAX], first);
		first = cpu->gpr[RAX];
		assert_true(cpu->arith & FLAG_CF);
		cpu->host_rdrand = false;
	}
	vm->clock.source = CLOCK_SOURCE_INSTRUCTIONS;
}

/* --- vector state --------------------------------------------------------------------------------------------------
 */

static void enable_xsave(u64 xcr0)
{
	cpu->cr4 |= CR4_OSXSAVE;
	cpu->xcr0 = xcr0;
	cpu->gpr[RBX] = AREA;
	cpu->gpr[RDX] = 0;
	cpu->gpr[RAX] = 7;
}

/* Puts recognizable values into the guest's state as it is kept in v->xsave. */
static void fill_state(void)
{
	for (unsigned i = 0; i < 256; i++) {
		cpu->xsave[160 + i] = (u8)(i * 7 + 1);
		cpu->xsave[576 + i] = (u8)(i * 3 + 2);
	}
	cpu->xsave[0] = 0x7e; /* of the x87's control word: AMD processors tell its initial state from another */
	*(u64 *)(cpu->xsave + XSAVE_XSTATE_BV) = 7;
}

static void test_unit_faults(void **state)
{
	struct insn sse = {.unit = UNIT_SSE}, x87 = {.unit = UNIT_X87}, mmx = {.unit = UNIT_MMX},
		    avx = {.unit = UNIT_AVX};
	struct insn none = {.unit = UNIT_NONE}, wait = {.unit = UNIT_X87, .bytes = {0x9b}, .length = 1};

	(void)state;
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &sse), -1);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &x87), -1);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &avx), VEC_UD);
	enable_xsave(3);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &avx), VEC_UD);
	enable_xsave(7);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &avx), -1);
	cpu->cr0 |= CR0_TS;
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &none), -1);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &sse), VEC_NM);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &x87), VEC_NM);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &mmx), VEC_NM);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &avx), VEC_NM);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &wait), VEC_NM);
	cpu->cr0 &= ~CR0_MP;
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &wait), -1);
	cpu->cr0 = (cpu->cr0 & ~CR0_TS) | CR0_EM;
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &sse), VEC_UD);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &mmx), VEC_UD);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &x87), VEC_NM);
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &wait), -1);
	cpu->cr0 &= ~CR0_EM;
	cpu->cr4 &= ~CR4_OSFXSR;
	assert_int_equal(mode_unit_fault(vcpu_mode(cpu), &sse), VEC_UD);
}

static void test_xsave_round_trip(void **state)
{
	u8 *area = ram_bytes(AREA);
	u8 xmm[256];

	(void)state;
	if (!(cpu->host_xsave & 4))
		skip();
	enable_xsave(7);
	fill_state();
	memcpy(xmm, cpu->xsave + 160, sizeof(xmm));
	memset(area, 0xcc, 1024);
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x23), EXEC_OK); /* xsave [rbx] */
	assert_memory_equal(area + 160, xmm, 256);
	assert_memory_equal(area + 576, cpu->xsave + 576, 256);
	/* XSTATE_BV: bits not asked for keep what was there */
	assert_int_equal(*(u64 *)(area + 512), 0xcccccccccccccccf);
	assert_int_equal(*(u32 *)(area + FXSAVE_MXCSR_MASK), 0xffff);
	assert_int_equal(*(u64 *)(area + 8), 0);
	/* software's bytes and the rest of the header stay */
	for (unsigned i = 464; i < 512; i++)
		assert_int_equal(area[i], 0xcc);
	assert_int_equal(area[832], 0xcc);
	assert_int_equal(area[520], 0xcc);

	/* only part of it */
	memset(area, 0xcc, 1024);
	cpu->gpr[RAX] = 4;
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x33), EXEC_OK); /* xsaveopt [rbx] */
	assert_int_equal(area[160], 0xcc);
	assert_int_equal(area[0], 0xcc);
	assert_memory_equal(area + 576, cpu->xsave + 576, 256);

	/* back, after the registers have changed */
	cpu->gpr[RAX] = 7;
	memset(area + 512, 0, 64);
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x23), EXEC_OK);
	memset(cpu->xsave + 160, 0, 256);
	memset(cpu->xsave + 576, 0, 256);
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x2b), EXEC_OK); /* xrstor [rbx] */
	assert_memory_equal(cpu->xsave + 160, xmm, 256);
	assert_int_equal(cpu->xsave[576 + 5], 5 * 3 + 2);
	/* a component that the image does not hold becomes initial */
	*(u64 *)(area + 512) = 3;
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x2b), EXEC_OK);
	assert_memory_equal(cpu->xsave + 160, xmm, 256);
	assert_false(*(u64 *)(cpu->xsave + XSAVE_XSTATE_BV) & 4);
}

/* AVX state is neither saved nor restored when the guest's XCR0 does not name it. */
static void test_xsave_masked(void **state)
{
	u8 *area = ram_bytes(AREA);

	(void)state;
	enable_xsave(3);
	fill_state();
	memset(area, 0xcc, 1024);
	memset(area + 512, 0, 64);
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x23), EXEC_OK);
	assert_int_equal(*(u64 *)(area + 512), 3);
	assert_int_equal(area[576], 0xcc);
	*(u64 *)(area + 512) = 7;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x2b), VEC_GP, 0);
}

static void test_xsave_checks(void **state)
{
	u8 *area = ram_bytes(AREA);

	(void)state;
	cpu->gpr[RBX] = AREA;
	ASSERT_FAULT(EXECUTE(0x0f, 0xae, 0x23), VEC_UD);
	ASSERT_FAULT(EXECUTE(0x0f, 0x01, 0xd0), VEC_UD); /* xgetbv */
	enable_xsave(3);
	cpu->gpr[RBX] = AREA + 16;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x23), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x2b), VEC_GP, 0);
	cpu->gpr[RBX] = UNMAPPED;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x23), VEC_PF, PFEC_WRITE);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x2b), VEC_PF, 0);
	cpu->gpr[RBX] = UNMAPPED - 512; /* the header is missing */
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x23), VEC_PF, PFEC_WRITE);
	cpu->gpr[RBX] = AREA;
	*(u64 *)(area + 512) = 3;
	*(u32 *)(area + 24) = 0x10000; /* MXCSR */
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x2b), VEC_GP, 0);
	cpu->gpr[RAX] = 1; /* MXCSR is not loaded */
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x2b), EXEC_OK);
	cpu->gpr[RAX] = 7;
	*(u32 *)(area + 24) = 0x1f80;
	*(u64 *)(area + 520) = BIT(63) | 3; /* compacted */
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x2b), VEC_GP, 0);
	*(u64 *)(area + 520) = 0;
	*(u64 *)(area + 528) = 1;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x2b), VEC_GP, 0);
	*(u64 *)(area + 528) = 0;
	cpu->cr0 |= CR0_TS;
	ASSERT_FAULT(EXECUTE(0x0f, 0xae, 0x2b), VEC_NM);
}

static void test_xsetbv(void **state)
{
	(void)state;
	enable_xsave(1);
	cpu->gpr[RCX] = 0;
	for (u64 value = 0; value < 16; value++) {
		const bool valid = value == 1 || value == 3 || value == 7;

		cpu->gpr[RAX] = value;
		if (valid)
			assert_int_equal(EXECUTE(0x0f, 0x01, 0xd1), EXEC_LEAVE);
		else
			ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0xd1), VEC_GP, 0);
	}
	assert_int_equal(cpu->xcr0, 7);
	cpu->gpr[RAX] = cpu->gpr[RDX] = ~0ULL;
	assert_int_equal(EXECUTE(0x0f, 0x01, 0xd0), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX], 7);
	assert_int_equal(cpu->gpr[RDX], 0);
	vm->config.cpu = cpu_model_find("v2");
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0xd1), VEC_GP, 0);
	cpu->gpr[RCX] = 1;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0xd0), VEC_GP, 0);
}

static void test_fxsave(void **state)
{
	u8 *area = ram_bytes(AREA);

	(void)state;
	fill_state();
	cpu->gpr[RBX] = AREA;
	memset(area, 0xcc, 1024);
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x03), EXEC_OK); /* fxsave [rbx] */
	assert_memory_equal(area + 160, cpu->xsave + 160, 256);
	assert_int_equal(*(u16 *)area, 0x37e);
	assert_int_equal(area[464], 0xcc);
	memset(cpu->xsave + 160, 0, 256);
	*(u16 *)area = 0x27f;
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x0b), EXEC_OK); /* fxrstor [rbx] */
	assert_int_equal(cpu->xsave[160 + 9], 9 * 7 + 1);
	assert_int_equal(*(u16 *)cpu->xsave, 0x27f);
	*(u32 *)(area + 24) = 0xffff0000;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x0b), VEC_GP, 0);
	cpu->gpr[RBX] = AREA + 8;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x03), VEC_GP, 0);
}

static void test_mxcsr(void **state)
{
	u32 *at = (u32 *)ram_bytes(AREA);

	(void)state;
	cpu->gpr[RBX] = AREA;
	*at = 0x7f80;                                         /* round towards zero */
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x13), EXEC_OK); /* ldmxcsr [rbx] */
	/* the host's own is untouched */
	assert_int_equal(_mm_getcsr() & ~0x3fu, 0x1f80);
	*at = 0;
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x1b), EXEC_OK); /* stmxcsr [rbx] */
	assert_int_equal(*at, 0x7f80);
	*at = 0x10000;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x13), VEC_GP, 0);
	ASSERT_FAULT(EXECUTE(0xc5, 0xf8, 0xae, 0x1b), VEC_UD); /* vstmxcsr without AVX */
}

static void test_fpu_environment(void **state)
{
	u8 *area = ram_bytes(AREA);

	(void)state;
	cpu->gpr[RBX] = AREA;
	memset(area, 0xcc, 128);
	assert_int_equal(EXECUTE(0xd9, 0x33), EXEC_OK); /* fnstenv [rbx] */
	assert_int_equal(*(u16 *)area, 0x37f);
	for (unsigned i = 12; i < 28; i++)
		assert_int_equal(area[i], 0);
	assert_int_equal(area[28], 0xcc);
	memset(area, 0xcc, 128);
	assert_int_equal(EXECUTE(0x66, 0xd9, 0x33), EXEC_OK);
	assert_int_equal(area[14], 0xcc);
	/* a pending unmasked exception: loading it is fine, the next load reports it */
	assert_int_equal(EXECUTE(0xd9, 0x33), EXEC_OK);
	*(u16 *)area = 0x37e;
	*(u16 *)(area + 4) = 0x81;
	assert_int_equal(EXECUTE(0xd9, 0x23), EXEC_OK); /* fldenv [rbx] */
	ASSERT_FAULT(EXECUTE(0xd9, 0x23), VEC_MF);
	/* a store that faults changes nothing; one that does not masks all */
	cpu->gpr[RBX] = UNMAPPED - 8;
	ASSERT_FAULT_CODE(EXECUTE(0xd9, 0x33), VEC_PF, PFEC_WRITE);
	assert_int_equal(*(u16 *)cpu->xsave, 0x37e);
	cpu->gpr[RBX] = AREA;
	assert_int_equal(EXECUTE(0xdd, 0x33), EXEC_OK); /* fnsave [rbx] */
	assert_int_equal(*(u16 *)area, 0x37e);
	assert_int_equal(EXECUTE(0xd9, 0x33), EXEC_OK);
	assert_int_equal(*(u16 *)area, 0x37f);
	assert_int_equal(EXECUTE(0xdd, 0x23), EXEC_OK); /* frstor [rbx] */
}

static void test_invalidations(void **state)
{
	(void)state;
	cpu->gpr[RBX] = NON_CANONICAL;
	assert_int_equal(EXECUTE(0x0f, 0x01, 0x3b), EXEC_LEAVE); /* invlpg [rbx] does nothing */
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x3b), VEC_GP, 0); /* clflush [rbx] */
	cpu->gpr[RBX] = UNMAPPED;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0xae, 0x3b), VEC_PF, 0);
	cpu->gpr[RBX] = AREA;
	assert_int_equal(EXECUTE(0x0f, 0xae, 0x3b), EXEC_OK);
	ram_u64(AREA)[0] = 0;
	ram_u64(AREA)[1] = NON_CANONICAL;
	cpu->gpr[RAX] = 0;
	ASSERT_FAULT_CODE(EXECUTE(0x66, 0x0f, 0x38, 0x82, 0x03), VEC_GP, 0); /* invpcid rax, [rbx] */
	for (cpu->gpr[RAX] = 1; cpu->gpr[RAX] < 4; cpu->gpr[RAX]++)
		assert_int_equal(EXECUTE(0x66, 0x0f, 0x38, 0x82, 0x03), EXEC_LEAVE);
	ASSERT_FAULT_CODE(EXECUTE(0x66, 0x0f, 0x38, 0x82, 0x03), VEC_GP, 0);
	cpu->gpr[RAX] = 1;
	ram_u64(AREA)[0] = 5; /* a PCID although there are none */
	ASSERT_FAULT_CODE(EXECUTE(0x66, 0x0f, 0x38, 0x82, 0x03), VEC_GP, 0);
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0x3b), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x09), VEC_GP, 0); /* wbinvd */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(test_addresses),
		MACHINE_TEST(test_registers),
		MACHINE_TEST(test_stack),
		MACHINE_TEST(test_segment_of_faults),
		cmocka_unit_test_setup_teardown(test_in_out, setup_ports, machine_teardown),
		cmocka_unit_test_setup_teardown(test_io_permission, setup_ports, machine_teardown),
		cmocka_unit_test_setup_teardown(test_string_io, setup_ports, machine_teardown),
		MACHINE_TEST(test_random),
		MACHINE_TEST(test_unit_faults),
		MACHINE_TEST(test_xsave_round_trip),
		MACHINE_TEST(test_xsave_masked),
		MACHINE_TEST(test_xsave_checks),
		MACHINE_TEST(test_xsetbv),
		MACHINE_TEST(test_fxsave),
		MACHINE_TEST(test_mxcsr),
		MACHINE_TEST(test_fpu_environment),
		MACHINE_TEST(test_invalidations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
