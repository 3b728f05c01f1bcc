/* Control, debug and model-specific registers, TSC, and the KVM clock. */
#include "cpu/kvmclock.h"
#include "test_cpu_machine.h"

static u64 read_msr(u32 msr)
{
	u64 value = 0;

	assert_int_equal(cpu_read_msr(cpu, msr, &value), EXEC_OK);
	return value;
}

static void test_cr0(void **state)
{
	(void)state;
	assert_int_equal(cpu_write_cr0(cpu, cpu->cr0 | CR0_TS), EXEC_LEAVE);
	assert_true(cpu->cr0 & CR0_TS);
	assert_int_equal(EXECUTE(0x0f, 0x06), EXEC_LEAVE); /* clts */
	assert_false(cpu->cr0 & CR0_TS);
	ASSERT_FAULT_CODE(cpu_write_cr0(cpu, cpu->cr0 | BIT(32)), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_cr0(cpu, cpu->cr0 & ~CR0_PE), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_cr0(cpu, cpu->cr0 | CR0_NW), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_cr0(cpu, cpu->cr0 & ~CR0_PG), VEC_GP, 0);
	/* ET is always set; undefined bits are dropped */
	assert_int_equal(cpu_write_cr0(cpu, (cpu->cr0 & ~CR0_ET) | BIT(8)), EXEC_LEAVE);
	assert_true(cpu->cr0 & CR0_ET);
	assert_false(cpu->cr0 & BIT(8));
	cpu->gpr[RAX] = 0; /* lmsw cannot clear PE */
	assert_int_equal(EXECUTE(0x0f, 0x01, 0xf0), EXEC_LEAVE);
	assert_true(cpu->cr0 & CR0_PE);
	assert_false(cpu->cr0 & CR0_MP);
}

static void test_cr4(void **state)
{
	const u64 never[] = {CR4_VME, CR4_PVI, CR4_LA57, BIT(13), BIT(14), BIT(15), BIT(22), BIT(23), BIT(24), BIT(63)};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(never); i++)
		ASSERT_FAULT_CODE(cpu_write_cr4(cpu, cpu->cr4 | never[i]), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_cr4(cpu, cpu->cr4 & ~CR4_PAE), VEC_GP, 0);
	assert_int_equal(cpu_write_cr4(cpu, cpu->cr4 | CR4_SMEP | CR4_SMAP | CR4_FSGSBASE | CR4_UMIP | CR4_OSXSAVE),
			 EXEC_LEAVE);
	cpu->cr3 |= 1;
	ASSERT_FAULT_CODE(cpu_write_cr4(cpu, cpu->cr4 | CR4_PCIDE), VEC_GP, 0);
	cpu->cr3 &= ~1ULL;
	ASSERT_FAULT_CODE(cpu_write_cr3(cpu, cpu->cr3 | BIT(63)), VEC_GP, 0);
	assert_int_equal(cpu_write_cr4(cpu, cpu->cr4 | CR4_PCIDE), EXEC_LEAVE);
	assert_int_equal(cpu_write_cr3(cpu, cpu->cr3 | BIT(63) | 5), EXEC_LEAVE);
	assert_int_equal(cpu->cr3, PAGE_TABLES | 5);
	ASSERT_FAULT_CODE(cpu_write_cr3(cpu, BIT(MAXPHYADDR)), VEC_GP, 0);
}

/* Switching on protection must reach what the TLB holds already. */
static void test_smap_flushes(void **state)
{
	u64 value;

	(void)state;
	assert_int_equal(mem_read_u64(cpu, USER_DATA, &value, ACCESS_READ), EXEC_OK);
	assert_int_equal(cpu_write_cr4(cpu, cpu->cr4 | CR4_SMAP), EXEC_LEAVE);
	ASSERT_FAULT(mem_read_u64(cpu, USER_DATA, &value, ACCESS_READ), VEC_PF);
	assert_int_equal(cpu_write_cr4(cpu, cpu->cr4 & ~CR4_SMAP), EXEC_LEAVE);
	assert_int_equal(mem_read_u64(cpu, USER_DATA, &value, ACCESS_READ), EXEC_OK);
}

static void test_moves(void **state)
{
	(void)state;
	cpu->cr2 = 0xdead;
	assert_int_equal(EXECUTE(0x41, 0x0f, 0x20, 0xd1), EXEC_OK); /* mov r9, cr2 */
	assert_int_equal(cpu->gpr[R9], 0xdead);
	cpu->gpr[RAX] = 7;
	assert_int_equal(EXECUTE(0x44, 0x0f, 0x22, 0xc0), EXEC_LEAVE); /* mov cr8, rax */
	assert_int_equal(EXECUTE(0x44, 0x0f, 0x20, 0xc3), EXEC_OK);    /* mov rbx, cr8 */
	assert_int_equal(cpu->gpr[RBX], 7);
	cpu->gpr[RAX] = 0x10;
	ASSERT_FAULT_CODE(EXECUTE(0x44, 0x0f, 0x22, 0xc0), VEC_GP, 0);
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x20, 0xd0), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x22, 0xd8), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0xf4), VEC_GP, 0);
	set_mode(0);
	assert_int_equal(EXECUTE(0xf4), EXEC_HALT);
}

static void test_debug_registers(void **state)
{
	(void)state;
	cpu->gpr[RAX] = 0xffffffff;
	assert_int_equal(EXECUTE(0x0f, 0x23, 0xf0), EXEC_LEAVE); /* mov dr6, rax */
	assert_int_equal(cpu->dr[6], 0xffffeffful);
	cpu->gpr[RAX] = 0x2aa;
	assert_int_equal(EXECUTE(0x0f, 0x23, 0xe8), EXEC_LEAVE); /* mov dr5, rax: DR7 */
	assert_int_equal(cpu->dr[7], 0x6aa);
	cpu->gpr[RAX] = BIT(32);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x23, 0xf8), VEC_GP, 0);
	cpu->cr4 |= CR4_DE;
	ASSERT_FAULT(EXECUTE(0x0f, 0x21, 0xe8), VEC_UD); /* mov rax, dr5 */
	set_mode(3);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x21, 0xc0), VEC_GP, 0);
}

static void test_efer(void **state)
{
	(void)state;
	assert_int_equal(cpu_write_msr(cpu, 0xc0000080, EFER_LME | EFER_NXE), EXEC_LEAVE);
	/* LMA is read-only */
	assert_int_equal(cpu->efer, EFER_LME | EFER_LMA | EFER_NXE);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0xc0000080, EFER_NXE), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0xc0000080, cpu->efer | BIT(12)), VEC_GP, 0);
}

static void test_msr_instructions(void **state)
{
	(void)state;
	cpu->gpr[RCX] = 0xffffffffc0000082;
	cpu->gpr[RDX] = 0x12345678ffffffff;
	cpu->gpr[RAX] = 0x9abcdef081234567;
	assert_int_equal(EXECUTE(0x0f, 0x30), EXEC_OK);
	assert_int_equal(cpu->lstar, 0xffffffff81234567);
	assert_int_equal(EXECUTE(0x0f, 0x32), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX], 0x81234567);
	assert_int_equal(cpu->gpr[RDX], 0xffffffff);
	cpu->gpr[RCX] = 0x12345;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x32), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x30), VEC_GP, 0);
	set_mode(3);
	cpu->gpr[RCX] = 0xc0000082;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x32), VEC_GP, 0);
}

/* Every number at the table's edges and around it is found exactly where it is listed. */
static void test_msr_table(void **state)
{
	static const u32 readable[] = {
		0x10,       0x17,       0x1b,       0x3a,       0x3b,       0x48,       0x8b,       0xce,
		0xfe,       0x10a,      0x174,      0x175,      0x176,      0x179,      0x17a,      0x1a0,
		0x1d9,      0x200,      0x20f,      0x250,      0x258,      0x259,      0x268,      0x26f,
		0x277,      0x2ff,      0x6e0,      0x4b564d00, 0x4b564d01, 0xc0000080, 0xc0000081, 0xc0000082,
		0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103,
	};
	static const u32 unknown[] = {0x0,   0x11,       0x12,       0x1c,       0x49,      0xe7,  0xe8,  0x122,
				      0x140, 0x173,      0x177,      0x1ff,      0x210,     0x24f, 0x251, 0x25a,
				      0x267, 0x270,      0x300,      0x400,      0x480,     0x6e1, 0x7ff, 0x900,
				      0xda0, 0x4b564d02, 0xc0000085, 0xc0000104, 0xffffffff};
	u64 value;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(readable); i++)
		read_msr(readable[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
		ASSERT_FAULT_CODE(cpu_read_msr(cpu, unknown[i], &value), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0x10a, 0), VEC_GP, 0);
	assert_int_equal(cpu_write_msr(cpu, 0x49, 1), EXEC_OK);
}

static void test_msr_values(void **state)
{
	static const u32 addresses[] = {0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102, 0x175, 0x176};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
		ASSERT_FAULT_CODE(cpu_write_msr(cpu, addresses[i], NON_CANONICAL), VEC_GP, 0);
		assert_int_equal(cpu_write_msr(cpu, addresses[i], 0xffff800000000000 + i), EXEC_OK);
		assert_int_equal(read_msr(addresses[i]), 0xffff800000000000 + i);
	}
	assert_int_equal(cpu->fs_base, cpu->seg[SEG_FS].base);
	assert_int_equal(cpu->gs_base, cpu->seg[SEG_GS].base);
	assert_int_equal(read_msr(0x277), 0x0007040600070406);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0x277, 0x0007040600070402), VEC_GP, 0);
	assert_int_equal(cpu_write_msr(cpu, 0x277, 0x0407050600070106), EXEC_OK);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0x48, BIT(63)), VEC_GP, 0);
	assert_int_equal(cpu_write_msr(cpu, 0x48, 1), EXEC_OK);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0x200, 2), VEC_GP, 0);
	ASSERT_FAULT_CODE(cpu_write_msr(cpu, 0x250, 7), VEC_GP, 0);
	assert_int_equal(cpu_write_msr(cpu, 0x26f, 5), EXEC_OK);
	assert_int_equal(cpu->mtrr_fixed[10], 5);
	assert_int_equal(cpu_write_msr(cpu, 0x258, 4), EXEC_OK);
	assert_int_equal(cpu->mtrr_fixed[1], 4);
	/* fast strings are on, or Linux would not use them */
	assert_true(read_msr(0x1a0) & 1);
}

static void test_tsc(void **state)
{
	(void)state;
	cpu->icount = 1000;
	cpu->gpr[RAX] = cpu->gpr[RDX] = ~0ULL;
	assert_int_equal(EXECUTE(0x0f, 0x31), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX], 1000);
	assert_int_equal(cpu->gpr[RDX], 0);
	assert_int_equal(cpu_write_msr(cpu, 0x10, 5000000000), EXEC_OK);
	assert_int_equal(read_msr(0x10), 5000000000);
	assert_int_equal(read_msr(0x3b), 5000000000 - 1000);
	assert_int_equal(cpu_write_msr(cpu, 0x3b, 1), EXEC_OK);
	assert_int_equal(read_msr(0x10), 1001);
	cpu->tsc_aux = 0x42;
	assert_int_equal(EXECUTE(0x0f, 0x01, 0xf9), EXEC_OK); /* rdtscp */
	assert_int_equal(cpu->gpr[RCX], 0x42);
	assert_int_equal(EXECUTE(0xf3, 0x41, 0x0f, 0xc7, 0xf8), EXEC_OK); /* rdpid r8 */
	assert_int_equal(cpu->gpr[R8], 0x42);
	set_mode(3);
	assert_int_equal(EXECUTE(0x0f, 0x31), EXEC_OK);
	cpu->cr4 |= CR4_TSD;
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x31), VEC_GP, 0);
	ASSERT_FAULT_CODE(EXECUTE(0x0f, 0x01, 0xf9), VEC_GP, 0);
}

struct system_time {
	u32 version, pad;
	u64 tsc_timestamp, system_time;
	u32 mul;
	s8 shift;
	u8 flags, pad1[2];
};

/* Nanoseconds as a guest computes them. */
static u64 scaled(struct tsc_scale scale, u64 ticks)
{
	ticks = scale.shift < 0 ? ticks >> -scale.shift : ticks << scale.shift;
	return (u64)(((unsigned __int128)ticks * scale.mul) >> 32);
}

static void test_kvmclock_scale(void **state)
{
	static const u64 frequencies[] = {1,       999,     1000,    1193,    999999,  1000000,
					  1000001, 1999999, 2000000, 2000001, 2400000, 2593907,
					  3999999, 4000000, 4000001, 5200000, 7999999};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(frequencies); i++) {
		const u64 khz = frequencies[i];
		/* a day, as far as 64 bits hold it */
		const u64 ticks = khz * 86400 * 1000;
		const struct tsc_scale scale = kvmclock_scale(khz);
		const u64 expected = 86400ULL * 1000000000;
		const u64 result = scaled(scale, ticks);

		assert_true(scale.mul >= 1u << 31);
		assert_in_range(result, expected - expected / 1000000000 * 2 - 8, expected);
	}
	assert_int_equal(kvmclock_scale(0).mul, 0);
}

static void test_kvmclock(void **state)
{
	const u64 at = KERNEL_DATA + 0x20;
	const struct system_time *time = (const struct system_time *)ram_bytes(at);
	const u32 *wall = (const u32 *)ram_bytes(KERNEL_DATA);

	(void)state;
	assert_int_equal(cpu_write_msr(cpu, MSR_KVM_WALL_CLOCK, KERNEL_DATA), EXEC_OK);
	assert_int_equal(wall[0], 2);
	assert_int_equal(wall[1], vm->clock.boot_epoch);
	cpu->icount = 123456;
	cpu->tsc_offset = 1000;
	assert_int_equal(cpu_write_msr(cpu, MSR_KVM_SYSTEM_TIME, at | 1), EXEC_OK);
	assert_int_equal(time->version, 2);
	assert_int_equal(time->tsc_timestamp, 124456);
	assert_int_equal(time->system_time, clock_ns(&vm->clock));
	assert_int_equal(time->flags, 1);
	assert_int_equal(time->mul, kvmclock_scale(vm->clock.tsc_khz).mul);
	/* it follows when the guest moves its TSC */
	assert_int_equal(cpu_write_msr(cpu, 0x3b, 7000), EXEC_OK);
	assert_int_equal(time->version, 4);
	assert_int_equal(time->tsc_timestamp, 130456);
	/* that it stood still is said once */
	kvmclock_tell_stop(cpu);
	assert_int_equal(time->version, 6);
	assert_int_equal(time->flags, 3);
	kvmclock_update(cpu);
	assert_int_equal(time->version, 8);
	assert_int_equal(time->flags, 1);
	/* off: nothing is written any more; an address without RAM harms nobody */
	assert_int_equal(cpu_write_msr(cpu, MSR_KVM_SYSTEM_TIME, at), EXEC_OK);
	kvmclock_update(cpu);
	kvmclock_tell_stop(cpu);
	assert_int_equal(time->version, 8);
	assert_int_equal(cpu_write_msr(cpu, MSR_KVM_SYSTEM_TIME, 0xffffffffffff0001), EXEC_OK);
	assert_int_equal(cpu_write_msr(cpu, MSR_KVM_WALL_CLOCK, RAM_SIZE - 4), EXEC_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(test_cr0),
		MACHINE_TEST(test_cr4),
		MACHINE_TEST(test_smap_flushes),
		MACHINE_TEST(test_moves),
		MACHINE_TEST(test_debug_registers),
		MACHINE_TEST(test_efer),
		MACHINE_TEST(test_msr_instructions),
		MACHINE_TEST(test_msr_table),
		MACHINE_TEST(test_msr_values),
		MACHINE_TEST(test_tsc),
		MACHINE_TEST(test_kvmclock_scale),
		MACHINE_TEST(test_kvmclock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
