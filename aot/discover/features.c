/*
 * The feature bits by which Linux chooses alternatives: words of CPUID where it has them (arch/x86/include/asm/cpuid.h,
 * cpufeatures.h), and words of its own that it fills by what it finds. The latter were read from a running guest
 * (boot_cpu_data.x86_capability); they are the same for all CPU models here, since these differ in vector extensions
 * only.
 */
#include "cpu/features.h"
#include "cpu/cpu.h"
#include "internal.h"

static const struct {
	u32 leaf, subleaf;
	u8 reg, word;
} words[] = {
	{0x1, 0, REG_EDX, 0},  {0x80000001, 0, REG_EDX, 1},  {0x1, 0, REG_ECX, 4},         {0x80000001, 0, REG_ECX, 6},
	{0x7, 0, REG_EBX, 9},  {0xd, 1, REG_EAX, 10},        {0x7, 1, REG_EAX, 12},        {0x80000008, 0, REG_EBX, 13},
	{0x6, 0, REG_EAX, 14}, {0x8000000a, 0, REG_EDX, 15}, {0x7, 0, REG_ECX, 16},        {0x80000007, 0, REG_EBX, 17},
	{0x7, 0, REG_EDX, 18}, {0x8000001f, 0, REG_EAX, 19}, {0x80000021, 0, REG_EAX, 20},
};

enum age { ANY, OLDER, NEWER };

/* Linux' own bits. They keep their places from version to version, but for a few. */
static const struct {
	u8 word, bit;
	u8 age; /* enum age: kernels that have it so */
	const char *name;
} synthetic[] = {
	{3, 8, ANY, "CONSTANT_TSC"},
	{3, 15, ANY, "SYSENTER32"},
	{3, 16, ANY, "REP_GOOD"},
	{3, 18, OLDER, "LFENCE_RDTSC"},
	{3, 20, ANY, "NOPL"},
	{3, 21, ANY, "ALWAYS"},
	{3, 22, ANY, "XTOPOLOGY"},
	{3, 24, ANY, "NONSTOP_TSC"},
	{3, 25, ANY, "CPUID"},
	{3, 31, ANY, "TSC_KNOWN_FREQ"},
	{4, 27, ANY, "OSXSAVE"},
	{7, 7, ANY, "INVPCID_SINGLE"},
	{7, 16, ANY, "MSR_SPEC_CTRL"},
	{7, 21, ANY, "USE_IBPB"},
	{7, 25, ANY, "IBRS"},
	{7, 26, ANY, "IBPB"},
	{7, 30, ANY, "IBRS_ENHANCED"},
	{7, 31, ANY, "MSR_IA32_FEAT_CTL"},
	{11, 4, ANY, "FENCE_SWAPGS_USER"},
	{11, 5, ANY, "FENCE_SWAPGS_KERNEL"},
	{11, 27, ANY, "APIC_MSRS_FENCE"},
	{20, 2, NEWER, "LFENCE_RDTSC"},
	{21, 2, ANY, "BHI_CTRL"},
	{21, 3, ANY, "CLEAR_BHB_HW"},
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

void features_of(const struct cpu_model *cpu, unsigned bug_word, bool newer, struct features *features)
{
	if (!cpu)
		cpu = cpu_model_at(0);
	*features = (struct features){0};
	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		const struct cpu_feature_bit *feature = &cpu_feature_bits[i];

		for (unsigned w = 0; cpu_model_has(cpu, i) && w < ARRAY_SIZE(words); w++)
			if (words[w].leaf == feature->leaf && words[w].subleaf == feature->subleaf &&
			    words[w].reg == feature->reg)
				features->word[words[w].word] |= 1u << feature->bit;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(synthetic); i++)
		if (synthetic[i].age != (newer ? OLDER : NEWER))
			features->word[synthetic[i].word] |= 1u << synthetic[i].bit;
	for (unsigned i = 0; i < ARRAY_SIZE(bugs); i++)
		if (bug_word + bugs[i].word < FEATURE_WORDS)
			features->word[bug_word + bugs[i].word] |= 1u << bugs[i].bit;
}
