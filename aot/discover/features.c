/*
 * The feature bits by which Linux chooses alternatives: words of CPUID where it has them (arch/x86/include/asm/cpuid.h,
 * cpufeatures.h), and words of its own that it fills by what it finds. The latter were read from a running guest
 * (boot_cpu_data.x86_capability); they are the same for all CPU models here, since these differ in vector extensions only.
 */
#include "cpu/features.h"
#include "cpu/cpu.h"
#include "internal.h"

static const struct {
	u32 leaf, subleaf;
	u8 reg, word;
} words[] = {
	{0x1, 0, REG_EDX, 0},
	{0x80000001, 0, REG_EDX, 1},
	{0x1, 0, REG_ECX, 4},
	{0x80000001, 0, REG_ECX, 6},
	{0x7, 0, REG_EBX, 9},
	{0xd, 1, REG_EAX, 10},
	{0x7, 1, REG_EAX, 12},
	{0x80000008, 0, REG_EBX, 13},
	{0x6, 0, REG_EAX, 14},
	{0x8000000a, 0, REG_EDX, 15},
	{0x7, 0, REG_ECX, 16},
	{0x80000007, 0, REG_EBX, 17},
	{0x7, 0, REG_EDX, 18},
	{0x8000001f, 0, REG_EAX, 19},
	{0x80000021, 0, REG_EAX, 20},
};

/* Linux' own bits. Word 3 and the first bits of the others have kept their places since 5.x. */
static const struct {
	u8 word, bit;
	const char *name;
} synthetic[] = {
	{3, 8, "CONSTANT_TSC"},
	{3, 15, "SYSENTER32"},
	{3, 16, "REP_GOOD"},
	{3, 18, "LFENCE_RDTSC"},
	{3, 20, "NOPL"},
	{3, 21, "ALWAYS"},
	{3, 22, "XTOPOLOGY"},
	{3, 24, "NONSTOP_TSC"},
	{3, 25, "CPUID"},
	{3, 31, "TSC_KNOWN_FREQ"},
	{4, 27, "OSXSAVE"},
	{7, 7, "INVPCID_SINGLE"},
	{7, 16, "MSR_SPEC_CTRL"},
	{7, 21, "USE_IBPB"},
	{7, 25, "IBRS"},
	{7, 26, "IBPB"},
	{7, 30, "IBRS_ENHANCED"},
	{7, 31, "MSR_IA32_FEAT_CTL"},
	{11, 4, "FENCE_SWAPGS_USER"},
	{11, 5, "FENCE_SWAPGS_KERNEL"},
	{11, 27, "APIC_MSRS_FENCE"},
	{21, 2, "BHI_CTRL"},
	{21, 3, "CLEAR_BHB_HW"},
};

/* Bugs, by word relative to the first. */
static const struct {
	u8 word, bit;
	const char *name;
} bugs[] = {
	{0, 15, "SPECTRE_V1"},
	{0, 16, "SPECTRE_V2"},
	{0, 21, "SWAPGS"},
	{1, 3, "BHI"},
};

void features_of(const struct cpu_model *cpu, unsigned bug_word, struct features *features)
{
	if (!cpu)
		cpu = cpu_model_at(0);
	*features = (struct features){.bug_word = bug_word};
	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		const struct cpu_feature_bit *feature = &cpu_feature_bits[i];

		for (unsigned w = 0; cpu_model_has(cpu, i) && w < ARRAY_SIZE(words); w++)
			if (words[w].leaf == feature->leaf && words[w].subleaf == feature->subleaf &&
			    words[w].reg == feature->reg)
				features->word[words[w].word] |= 1u << feature->bit;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(synthetic); i++)
		features->word[synthetic[i].word] |= 1u << synthetic[i].bit;
	for (unsigned i = 0; i < ARRAY_SIZE(bugs); i++)
		if (bug_word + bugs[i].word < FEATURE_WORDS)
			features->word[bug_word + bugs[i].word] |= 1u << bugs[i].bit;
}
