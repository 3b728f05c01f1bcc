/*
 * The CPUID feature bits that some CPU model has. One line each: name, leaf, subleaf, register, bit, level, and
 * whether the host must have it because guest instructions run natively.
 *
 * Levels: BASE is in every model, V3 in those from x86-64-v3 on, SHA only where a model says so.
 * Left out on purpose: what this VMM does not emulate or cannot hide (AVX-512, AMX, XSAVES, PKU, CET, LA57, VMX, SGX,
 * TSX, MONITOR), and VME, which does nothing in long mode.
 */
#ifndef AVANT_CPU_FEATURES_H
#define AVANT_CPU_FEATURES_H

#include "cpu/vcpu.h"
#include "util/types.h"

/* clang-format off */
#define CPU_FEATURES(X) \
	X(SSE3, 1, 0, ECX, 0, BASE, true) \
	X(PCLMULQDQ, 1, 0, ECX, 1, V3, true) \
	X(SSSE3, 1, 0, ECX, 9, BASE, true) \
	X(FMA, 1, 0, ECX, 12, V3, true) \
	X(CX16, 1, 0, ECX, 13, BASE, true) \
	X(PCID, 1, 0, ECX, 17, BASE, false) \
	X(SSE4_1, 1, 0, ECX, 19, BASE, true) \
	X(SSE4_2, 1, 0, ECX, 20, BASE, true) \
	X(X2APIC, 1, 0, ECX, 21, BASE, false) \
	X(MOVBE, 1, 0, ECX, 22, V3, true) \
	X(POPCNT, 1, 0, ECX, 23, BASE, true) \
	X(TSC_DEADLINE, 1, 0, ECX, 24, BASE, false) \
	X(AES, 1, 0, ECX, 25, V3, true) \
	X(XSAVE, 1, 0, ECX, 26, BASE, true) \
	X(AVX, 1, 0, ECX, 28, V3, true) \
	X(F16C, 1, 0, ECX, 29, V3, true) \
	X(RDRAND, 1, 0, ECX, 30, BASE, false) \
	X(HYPERVISOR, 1, 0, ECX, 31, BASE, false) \
	X(FPU, 1, 0, EDX, 0, BASE, true) \
	X(DE, 1, 0, EDX, 2, BASE, false) \
	X(PSE, 1, 0, EDX, 3, BASE, false) \
	X(TSC, 1, 0, EDX, 4, BASE, true) \
	X(MSR, 1, 0, EDX, 5, BASE, false) \
	X(PAE, 1, 0, EDX, 6, BASE, false) \
	X(MCE, 1, 0, EDX, 7, BASE, false) \
	X(CX8, 1, 0, EDX, 8, BASE, true) \
	X(APIC, 1, 0, EDX, 9, BASE, false) \
	X(SEP, 1, 0, EDX, 11, BASE, false) \
	X(MTRR, 1, 0, EDX, 12, BASE, false) \
	X(PGE, 1, 0, EDX, 13, BASE, false) \
	X(MCA, 1, 0, EDX, 14, BASE, false) \
	X(CMOV, 1, 0, EDX, 15, BASE, true) \
	X(PAT, 1, 0, EDX, 16, BASE, false) \
	X(PSE36, 1, 0, EDX, 17, BASE, false) \
	X(CLFLUSH, 1, 0, EDX, 19, BASE, false) \
	X(MMX, 1, 0, EDX, 23, BASE, true) \
	X(FXSR, 1, 0, EDX, 24, BASE, true) \
	X(SSE, 1, 0, EDX, 25, BASE, true) \
	X(SSE2, 1, 0, EDX, 26, BASE, true) \
	X(ARAT, 6, 0, EAX, 2, BASE, false) \
	X(FSGSBASE, 7, 0, EBX, 0, BASE, false) \
	X(TSC_ADJUST, 7, 0, EBX, 1, BASE, false) \
	X(BMI1, 7, 0, EBX, 3, V3, true) \
	X(AVX2, 7, 0, EBX, 5, V3, true) \
	X(FDP_EXCPTN_ONLY, 7, 0, EBX, 6, BASE, false) \
	X(SMEP, 7, 0, EBX, 7, BASE, false) \
	X(BMI2, 7, 0, EBX, 8, V3, true) \
	X(ERMS, 7, 0, EBX, 9, BASE, false) \
	X(INVPCID, 7, 0, EBX, 10, BASE, false) \
	X(NO_FCS_FDS, 7, 0, EBX, 13, BASE, false) \
	X(RDSEED, 7, 0, EBX, 18, BASE, false) \
	X(ADX, 7, 0, EBX, 19, V3, true) \
	X(SMAP, 7, 0, EBX, 20, BASE, false) \
	X(CLFLUSHOPT, 7, 0, EBX, 23, BASE, false) \
	X(SHA, 7, 0, EBX, 29, SHA, true) \
	X(UMIP, 7, 0, ECX, 2, BASE, false) \
	X(RDPID, 7, 0, ECX, 22, BASE, false) \
	X(FSRM, 7, 0, EDX, 4, BASE, false) \
	X(SERIALIZE, 7, 0, EDX, 14, BASE, false) /* saves Linux an IRET after each piece of code that it patches */ \
	X(SPEC_CTRL, 7, 0, EDX, 26, BASE, false) \
	X(ARCH_CAPABILITIES, 7, 0, EDX, 29, BASE, false) \
	X(BHI_CTRL, 7, 2, EDX, 4, BASE, false) \
	X(MCDT_NO, 7, 2, EDX, 5, BASE, false) \
	X(XSAVEOPT, 0xd, 1, EAX, 0, BASE, false) \
	X(LAHF, 0x80000001, 0, ECX, 0, BASE, true) \
	X(LZCNT, 0x80000001, 0, ECX, 5, V3, true) \
	X(PREFETCHW, 0x80000001, 0, ECX, 8, BASE, false) \
	X(SYSCALL, 0x80000001, 0, EDX, 11, BASE, false) \
	X(NX, 0x80000001, 0, EDX, 20, BASE, false) \
	X(PDPE1GB, 0x80000001, 0, EDX, 26, BASE, false) \
	X(RDTSCP, 0x80000001, 0, EDX, 27, BASE, false) \
	X(LM, 0x80000001, 0, EDX, 29, BASE, false) \
	X(INVARIANT_TSC, 0x80000007, 0, EDX, 8, BASE, false)
/* clang-format on */

enum cpu_feature {
#define X(name, leaf, subleaf, reg, bit, level, native) FEATURE_##name,
	CPU_FEATURES(X)
#undef X
		FEATURE_COUNT
};

enum cpuid_register { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

enum feature_level { LEVEL_BASE = 1, LEVEL_V3 = 2, LEVEL_SHA = 4 };

struct cpu_feature_bit {
	const char *name;
	u32 leaf, subleaf;
	u8 reg, bit;
	u8 level;
	bool native;
};

extern const struct cpu_feature_bit cpu_feature_bits[FEATURE_COUNT];

struct cpu_model {
	const char *name;
	const char *description;
	const char *brand; /* at most 47 characters */
	u32 signature;     /* CPUID.1:EAX: family, model, stepping */
	u8 levels;         /* enum feature_level */
};

/* The model in force. */
const struct cpu_model *cpu_model_of(const struct vcpu *v);

static inline bool cpu_model_has(const struct cpu_model *model, enum cpu_feature feature)
{
	return cpu_feature_bits[feature].level & model->levels;
}

/* Does the guest's CPU have this feature? */
static inline bool cpu_has(const struct vcpu *v, enum cpu_feature feature)
{
	return cpu_model_has(cpu_model_of(v), feature);
}

/* State components that XCR0 may enable (SDM vol. 1, 13.3). */
#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)

static inline u64 cpu_xcr0_supported(const struct vcpu *v)
{
	return cpu_has(v, FEATURE_AVX) ? XCR0_X87 | XCR0_SSE | XCR0_AVX : XCR0_X87 | XCR0_SSE;
}

/* Bytes of the standard-format XSAVE area that holds these components. */
static inline u32 xsave_size(u64 components)
{
	return components & XCR0_AVX ? 832 : 576;
}

/* IA32_ARCH_CAPABILITIES of every model: nothing that a guest would spend time on mitigating. */
u64 cpu_arch_capabilities(void);

#endif
