/* The named CPU models: what CPUID says must hold together and offer nothing that cannot be kept. */
#include "cpu/features.h"
#include "test_cpu_machine.h"

static struct cpuid_leaf leaf(u32 number, u32 sub)
{
	struct cpuid_leaf out;

	cpu_cpuid(cpu, number, sub, &out);
	return out;
}

/* Bits of leaf 7 that no model may have, because nothing here emulates them. */
#define LEAF7_EBX_FORBIDDEN                                                                                            \
	(BIT(2) /* SGX */ | BIT(4) | BIT(11) /* TSX */ | BIT(14) /* MPX */ | BIT(16) | BIT(17) | BIT(21) | BIT(26) |   \
	 BIT(27) | BIT(28) | BIT(30) | BIT(31) /* AVX-512 */)
#define LEAF7_ECX_FORBIDDEN                                                                                            \
	(BIT(1) | BIT(3) | BIT(4) /* PKU */ | BIT(5) /* WAITPKG */ | BIT(6) | BIT(7) /* CET */ | BIT(9) | BIT(10) |    \
	 BIT(11) | BIT(12) | BIT(14) | BIT(16) /* LA57 */)
#define LEAF7_EDX_FORBIDDEN (BIT(2) | BIT(3) | BIT(5) | BIT(8) | BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(25))

static void for_each_model(void (*check)(const struct cpu_model *model))
{
	for (unsigned i = 0; cpu_model_at(i); i++) {
		vm->config.cpu = cpu_model_at(i);
		check(cpu_model_at(i));
	}
}

static void check_nothing_forbidden(const struct cpu_model *model)
{
	(void)model;
	assert_int_equal(leaf(7, 0).ebx & LEAF7_EBX_FORBIDDEN, 0);
	assert_int_equal(leaf(7, 0).ecx & LEAF7_ECX_FORBIDDEN, 0);
	assert_int_equal(leaf(7, 0).edx & LEAF7_EDX_FORBIDDEN, 0);
	assert_int_equal(leaf(7, 1).eax | leaf(7, 1).ebx | leaf(7, 1).edx, 0);
	/* MONITOR, VMX, SMX */
	assert_int_equal(leaf(1, 0).ecx & (BIT(3) | BIT(5) | BIT(6)), 0);
	/* no compaction, no supervisor states, XCR0 of three bits at most */
	assert_int_equal(leaf(0xd, 1).eax & ~1u, 0);
	assert_int_equal(leaf(0xd, 0).eax & ~7u, 0);
	assert_int_equal(leaf(0xd, 0).edx, 0);
	for (u32 sub = 3; sub < 64; sub++)
		assert_int_equal(leaf(0xd, sub).eax, 0);
	/* no performance counters, no SVM */
	assert_int_equal(leaf(0xa, 0).eax, 0);
	assert_int_equal(leaf(0x80000001, 0).ecx & BIT(2), 0);
}

static void test_nothing_forbidden(void **state)
{
	(void)state;
	for_each_model(check_nothing_forbidden);
}

static void check_identity(const struct cpu_model *model)
{
	char text[49] = {0};

	assert_int_equal(leaf(0, 0).ebx, 0x756e6547);
	assert_int_equal(leaf(0, 0).edx, 0x49656e69);
	assert_int_equal(leaf(0, 0).ecx, 0x6c65746e);
	for (unsigned i = 0; i < 3; i++)
		memcpy(text + 16 * i,
		       &(struct cpuid_leaf){leaf(0x80000002 + i, 0).eax, leaf(0x80000002 + i, 0).ebx,
					    leaf(0x80000002 + i, 0).ecx, leaf(0x80000002 + i, 0).edx},
		       16);
	assert_string_equal(text, model->brand);
	assert_true(leaf(1, 0).ecx & BIT(31));
	assert_int_equal(leaf(0x40000000, 0).eax, 0x40000010);
	assert_int_equal(leaf(0x40000000, 0).ebx, 0x4b4d564b);
	assert_int_equal(leaf(0x40000001, 0).eax, BIT(1) | BIT(3) | BIT(24));
	assert_int_equal(leaf(0x80000008, 0).eax, 48 << 8 | MAXPHYADDR);
	assert_true(leaf(0x80000007, 0).edx & BIT(8));
	assert_ptr_equal(cpu_model_find(cpu_model_name(model)), model);
	assert_non_null(cpu_model_describe(model));
}

static void test_identity(void **state)
{
	(void)state;
	for_each_model(check_identity);
	assert_null(cpu_model_find("pentium"));
	assert_non_null(cpu_model_find("default"));
}

static void check_state_sizes(const struct cpu_model *model)
{
	const bool avx = leaf(1, 0).ecx & BIT(28);

	assert_int_equal(avx, cpu_model_has(model, FEATURE_AVX));
	cpu->xcr0 = 1;
	assert_int_equal(leaf(0xd, 0).eax, avx ? 7 : 3);
	assert_int_equal(leaf(0xd, 0).ebx, 576);
	assert_int_equal(leaf(0xd, 0).ecx, avx ? 832 : 576);
	assert_int_equal(leaf(0xd, 2).eax, avx ? 256 : 0);
	assert_int_equal(leaf(0xd, 2).ebx, avx ? 576 : 0);
	if (avx) {
		cpu->xcr0 = 7;
		assert_int_equal(leaf(0xd, 0).ebx, 832);
	}
	/* what needs AVX comes with it */
	if (!avx)
		assert_int_equal((leaf(1, 0).ecx & (BIT(12) | BIT(29))) | (leaf(7, 0).ebx & BIT(5)), 0);
}

static void test_state_sizes(void **state)
{
	(void)state;
	for_each_model(check_state_sizes);
}

static void test_levels(void **state)
{
	const u32 v3_1 = BIT(12) | BIT(22) | BIT(28) | BIT(29), v3_7 = BIT(3) | BIT(5) | BIT(8);
	const u32 v2_1 = BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(23);

	(void)state;
	assert_int_equal(leaf(1, 0).ecx & (v2_1 | v3_1), v2_1 | v3_1);
	assert_int_equal(leaf(7, 0).ebx & v3_7, v3_7);
	assert_true(leaf(0x80000001, 0).ecx & BIT(5));
	assert_false(leaf(7, 0).ebx & BIT(29));
	vm->config.cpu = cpu_model_find("v2");
	assert_int_equal(leaf(1, 0).ecx & (v2_1 | v3_1), v2_1);
	assert_int_equal(leaf(7, 0).ebx & v3_7, 0);
	assert_false(leaf(0x80000001, 0).ecx & BIT(5));
	vm->config.cpu = cpu_model_find("v3-sha");
	assert_true(leaf(7, 0).ebx & BIT(29));
}

static void test_dynamic(void **state)
{
	(void)state;
	assert_false(leaf(1, 0).ecx & BIT(27));
	cpu->cr4 |= CR4_OSXSAVE;
	assert_true(leaf(1, 0).ecx & BIT(27));
	/* past the last leaf of a range: the last basic leaf */
	assert_int_equal(leaf(0x17, 0).ecx, 100);
	assert_int_equal(leaf(0x80000009, 0).ecx, 100);
	assert_int_equal(leaf(0x50000000, 0).ecx, 100);
	/* topology: one processor, whatever the level */
	assert_int_equal(leaf(0xb, 0).ecx, 0x100);
	assert_int_equal(leaf(0xb, 1).ecx, 0x201);
	assert_int_equal(leaf(0xb, 2).ecx, 2);
	assert_int_equal(leaf(0xb, 2).ebx, 0);
	assert_int_equal(leaf(4, 4).eax, 0);
}

/* Linux multiplies in 32 bits: crystal in kHz * numerator / denominator. That is good for a few parts in a million. */
static void test_frequency(void **state)
{
	static const u64 frequencies[] = {1000000, 1900001, 2000000, 2593907, 2596123, 3000000, 3999999, 4200017};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(frequencies); i++) {
		struct cpuid_leaf out;
		u64 khz;

		vm->clock.tsc_khz = frequencies[i];
		out = leaf(0x15, 0);
		assert_true((u64)(out.ecx / 1000) * out.ebx <= UINT32_MAX);
		khz = (u64)(out.ecx / 1000) * out.ebx / out.eax;
		assert_in_range(khz, frequencies[i] - frequencies[i] / 100000,
				frequencies[i] + frequencies[i] / 100000);
		assert_int_equal(leaf(0x40000010, 0).eax, frequencies[i]);
		assert_int_equal(leaf(0x40000010, 0).ebx, out.ecx / 1000);
	}
}

static void test_instruction(void **state)
{
	(void)state;
	cpu->gpr[RAX] = 0xffffffff00000004;
	cpu->gpr[RCX] = 0xffffffff00000001;
	cpu->gpr[RBX] = cpu->gpr[RDX] = ~0ULL;
	set_mode(3);
	assert_int_equal(EXECUTE(0x0f, 0xa2), EXEC_OK);
	assert_int_equal(cpu->gpr[RAX], leaf(4, 1).eax);
	assert_int_equal(cpu->gpr[RBX], leaf(4, 1).ebx);
	assert_int_equal(cpu->gpr[RDX], 0);
}

/* The bits by which Linux decides that there is nothing to mitigate. */
static void test_no_mitigations(void **state)
{
	u64 caps;

	(void)state;
	assert_true(leaf(7, 0).edx & BIT(29));
	assert_int_equal(cpu_read_msr(cpu, 0x10a, &caps), EXEC_OK);
	for (unsigned i = 0; i < 64; i++) {
		static const u64 wanted = BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) |
					  BIT(14) | BIT(15) | BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62);

		assert_int_equal(caps >> i & 1, wanted >> i & 1);
	}
	/* IBRS is there to be enabled, and BHI is handled by a bit of SPEC_CTRL */
	assert_true(leaf(7, 0).edx & BIT(26));
	assert_int_equal(leaf(7, 0).eax, 2);
	assert_true(leaf(7, 2).edx & BIT(4));
	assert_int_equal(cpu_write_msr(cpu, 0x48, BIT(0) | BIT(10)), EXEC_OK);
}

static void test_host_check(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	/* every build host runs the smallest model */
	assert_int_equal(cpu_model_check_host(cpu_model_find("v2"), &err), 0);
	if (cpu_model_check_host(cpu_model_find("default"), &err) != 0)
		assert_non_null(strstr(err.text, "default"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(test_nothing_forbidden), MACHINE_TEST(test_identity),
		MACHINE_TEST(test_state_sizes),       MACHINE_TEST(test_levels),
		MACHINE_TEST(test_dynamic),           MACHINE_TEST(test_frequency),
		MACHINE_TEST(test_instruction),       MACHINE_TEST(test_no_mitigations),
		MACHINE_TEST(test_host_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
