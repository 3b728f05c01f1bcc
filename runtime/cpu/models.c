/*
 * Named CPU models. Each is one fixed set on all hosts, because caches of translated code move between hosts and the
 * guest kernel patches itself by these bits.
 *
 * Family 6, model 136 is nobody's. Programs and kernels that know a processor by its number take more for granted than
 * CPUID says: code that gcc compiled for several processors (target_clones with arch=sapphirerapids) uses AVX-512 on
 * one that has this name. An unknown processor is what its feature bits say. It is also in none of the lists by which
 * Linux (6.1 to 6.12, arch/x86/kernel/cpu/common.c) decides that a CPU needs a mitigation although it does not say so
 * itself, but for those that a hypervisor bit switches off.
 */
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "util/err.h"
#include "vm.h"

#include <cpuid.h>
#include <string.h>

#define SIGNATURE 0x00080681 /* family 6, model 136, stepping 1 */

static const struct cpu_model models[] = {
	{"default", "x86-64-v3 (AVX2, BMI, FMA, AES) with what saves a guest kernel work", "Avant x86-64-v3", SIGNATURE,
	 LEVEL_BASE | LEVEL_V3},
	{"v3-sha", "the default model with the SHA extensions", "Avant x86-64-v3 with SHA", SIGNATURE,
	 LEVEL_BASE | LEVEL_V3 | LEVEL_SHA},
	{"v2", "x86-64-v2 (SSE4.2), for hosts without AVX2", "Avant x86-64-v2", SIGNATURE, LEVEL_BASE},
};

#define X(name, leaf, subleaf, reg, bit, level, native)                                                                \
	[FEATURE_##name] = {#name, leaf, subleaf, REG_##reg, bit, LEVEL_##level, native},
const struct cpu_feature_bit cpu_feature_bits[FEATURE_COUNT] = {CPU_FEATURES(X)};
#undef X

const struct cpu_model *cpu_model_of(const struct vcpu *v)
{
	return v->vm && v->vm->config.cpu ? v->vm->config.cpu : &models[0];
}

const struct cpu_model *cpu_model_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(models); i++)
		if (strcmp(models[i].name, name) == 0)
			return &models[i];
	return NULL;
}

const struct cpu_model *cpu_model_at(unsigned index)
{
	return index < ARRAY_SIZE(models) ? &models[index] : NULL;
}

const char *cpu_model_name(const struct cpu_model *model)
{
	return model->name;
}

const char *cpu_model_describe(const struct cpu_model *model)
{
	return model->description;
}

static bool host_has(const struct cpu_feature_bit *feature)
{
	unsigned reg[4];

	if (!__get_cpuid_count(feature->leaf, feature->subleaf, &reg[REG_EAX], &reg[REG_EBX], &reg[REG_ECX],
			       &reg[REG_EDX]))
		return false;
	return reg[feature->reg] >> feature->bit & 1;
}

/* XSAVE and AVX need the host kernel's consent as well. */
static bool host_enables(u64 components)
{
	u32 low, high, eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & components) == components;
}

int cpu_model_check_host(const struct cpu_model *model, struct err *err)
{
	u64 components = XCR0_X87 | XCR0_SSE;

	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		const struct cpu_feature_bit *feature = &cpu_feature_bits[i];

		if (feature->native && cpu_model_has(model, i) && !host_has(feature))
			return err_set(err, "CPU model '%s' needs %s, which this host's processor lacks", model->name,
				       feature->name);
	}
	if (cpu_model_has(model, FEATURE_AVX))
		components |= XCR0_AVX;
	if (!host_enables(components))
		return err_set(err, "CPU model '%s' needs %s, which this host's kernel does not enable", model->name,
			       components & XCR0_AVX ? "XSAVE and AVX" : "XSAVE");
	return 0;
}

u64 cpu_arch_capabilities(void)
{
	return BIT(0) /* RDCL_NO: no meltdown, no L1TF */ | BIT(1) /* IBRS_ALL: no retpolines */ |
	       BIT(3) /* SKIP_L1DFL_VMENTRY */ | BIT(4) /* SSB_NO */ | BIT(5) /* MDS_NO */ |
	       BIT(6) /* PSCHANGE_MC_NO */ | BIT(8) /* TAA_NO */ | BIT(13) /* SBDR_SSDP_NO */ | BIT(14) /* FBSDP_NO */ |
	       BIT(15) /* PSDP_NO */ | BIT(20) /* BHI_NO */ | BIT(24) /* PBRSB_NO */ | BIT(26) /* GDS_NO */ |
	       BIT(27) /* RFDS_NO */ | BIT(62) /* ITS_NO */;
}
