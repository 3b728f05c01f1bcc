/* CPUID as the model in force answers it (SDM vol. 2A, CPUID). */
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/system.h"
#include "util/bytes.h"
#include "vm.h"

#define MAX_BASIC      0x16u
#define MAX_HYPERVISOR 0x40000010u
#define MAX_EXTENDED   0x80000008u
#define BRAND_FIRST    0x80000002u
#define BRAND_LAST     0x80000004u

/* Features that a KVM guest may use: no I/O delay, clock MSRs, clocks that agree across CPUs. */
#define KVM_FEATURES (BIT(1) | BIT(3) | BIT(24))

/* The local APIC's timer counts nanoseconds. */
#define APIC_CLOCK_KHZ 1000000u

/* Leaf 4: type and level, deterministic parameters minus 1. */
#define CACHE_DATA             1u
#define CACHE_CODE             2u
#define CACHE_UNIFIED          3u
#define CACHE_EAX(type, level) ((type) | (level) << 5 | 1u << 8)
#define CACHE_EBX(ways)        (((ways)-1u) << 22 | 63u)
#define CACHE_SETS(size, ways) ((size) / (ways) / 64u - 1u)
#define KIB                    1024u

/* What does not depend on the model or the guest's state. Feature bits are added to these. */
struct cpuid_row {
	u32 leaf, subleaf;
	struct cpuid_leaf value;
};

#define ANY_SUBLEAF 0xffffffffu

static const struct cpuid_row rows[] = {
	{0x0, ANY_SUBLEAF, {MAX_BASIC, 0x756e6547, 0x6c65746e, 0x49656e69}}, /* GenuineIntel */
	{0x1, ANY_SUBLEAF, {0, 0x00010800, 0, 0}},          /* APIC ID 0, 1 logical processor, CLFLUSH of 64 bytes */
	{0x2, ANY_SUBLEAF, {0x00feff01, 0x000000f0, 0, 0}}, /* caches: see leaf 4 */
	{0x4, 0, {CACHE_EAX(CACHE_DATA, 1u), CACHE_EBX(8u), CACHE_SETS(32 * KIB, 8u), 0}},
	{0x4, 1, {CACHE_EAX(CACHE_CODE, 1u), CACHE_EBX(8u), CACHE_SETS(32 * KIB, 8u), 0}},
	{0x4, 2, {CACHE_EAX(CACHE_UNIFIED, 2u), CACHE_EBX(16u), CACHE_SETS(1024 * KIB, 16u), 0}},
	{0x4, 3, {CACHE_EAX(CACHE_UNIFIED, 3u), CACHE_EBX(16u), CACHE_SETS(16384 * KIB, 16u), 0}},
	{0x7, 0, {2, 0, 0, 0}},
	{0xb, 0, {0, 1, 0x100, 0}},                                                      /* threads of a core */
	{0xb, 1, {0, 1, 0x201, 0}},                                                      /* cores of a package */
	{0xd, 2, {256, 576, 0, 0}},                                                      /* AVX state: size, offset */
	{0x40000000, ANY_SUBLEAF, {MAX_HYPERVISOR, 0x4b4d564b, 0x564b4d56, 0x0000004d}}, /* KVMKVMKVM */
	{0x40000001, ANY_SUBLEAF, {KVM_FEATURES, 0, 0, 0}},
	{0x80000000, ANY_SUBLEAF, {MAX_EXTENDED, 0, 0, 0}},
	{0x80000006, ANY_SUBLEAF, {0, 0, 0x04008040, 0}}, /* L2: 1 MiB, 16 ways */
	{0x80000008, ANY_SUBLEAF, {48u << 8 | MAXPHYADDR, 0, 0, 0}},
};

static void add_row(u32 leaf, u32 subleaf, struct cpuid_leaf *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct cpuid_row *row = &rows[i];

		if (row->leaf != leaf || (row->subleaf != ANY_SUBLEAF && row->subleaf != subleaf))
			continue;
		out->eax = row->value.eax;
		out->ebx = row->value.ebx;
		out->ecx = row->value.ecx;
		out->edx = row->value.edx;
		return;
	}
}

/* Leaves without subleaves ignore ECX. */
static bool has_subleaves(u32 leaf)
{
	return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd;
}

static void add_features(const struct cpu_model *model, u32 leaf, u32 subleaf, struct cpuid_leaf *out)
{
	u32 *const reg[] = {[REG_EAX] = &out->eax, [REG_EBX] = &out->ebx, [REG_ECX] = &out->ecx, [REG_EDX] = &out->edx};

	for (unsigned i = 0; i < FEATURE_COUNT; i++) {
		const struct cpu_feature_bit *feature = &cpu_feature_bits[i];

		if (feature->leaf == leaf && (!has_subleaves(leaf) || feature->subleaf == subleaf) &&
		    (feature->level & model->levels))
			*reg[feature->reg] |= 1u << feature->bit;
	}
}

/* 16 bytes of the brand string, padded with zeros. */
static void brand(const struct cpu_model *model, unsigned part, struct cpuid_leaf *out)
{
	union {
		char text[48];
		struct cpuid_leaf leaf[3];
	} whole;
	unsigned length = 0;

	bytes_zero(&whole, sizeof(whole));
	while (length < sizeof(whole.text) - 1 && model->brand[length]) {
		whole.text[length] = model->brand[length];
		length++;
	}
	out->eax = whole.leaf[part].eax;
	out->ebx = whole.leaf[part].ebx;
	out->ecx = whole.leaf[part].ecx;
	out->edx = whole.leaf[part].edx;
}

/*
 * TSC frequency = crystal * EBX / EAX, with the APIC timer's clock as crystal. Linux computes it in kHz and in 32 bits:
 * of the fractions that do not overflow there, the best one.
 */
static void tsc_ratio(u64 tsc_khz, struct cpuid_leaf *out)
{
	u64 best = UINT32_MAX;

	out->ecx = APIC_CLOCK_KHZ * 1000;
	for (u32 denominator = 1;; denominator++) {
		const u64 exact = tsc_khz * denominator;
		const u64 numerator = (exact + APIC_CLOCK_KHZ / 2) / APIC_CLOCK_KHZ;
		const u64 rounded = numerator * APIC_CLOCK_KHZ;
		const u64 error = rounded > exact ? rounded - exact : exact - rounded;

		if (rounded > UINT32_MAX)
			break;
		if (denominator > 1 && error * out->eax >= best * denominator)
			continue;
		best = error;
		out->eax = denominator;
		out->ebx = (u32)numerator;
	}
}

static void add_dynamic(const struct vcpu *v, const struct cpu_model *model, u32 leaf, u32 subleaf,
			struct cpuid_leaf *out)
{
	const u64 tsc_khz = v->vm ? v->vm->clock.tsc_khz : 0;

	switch (leaf) {
	case 1:
		out->eax = model->signature;
		if (v->cr4 & CR4_OSXSAVE)
			out->ecx |= 1u << 27;
		break;
	case 0xb:
		out->ecx |= subleaf & 0xff;
		break;
	case 0xd:
		if (subleaf == 0) {
			out->eax = (u32)cpu_xcr0_supported(v);
			out->ebx = xsave_size(v->xcr0);
			out->ecx = xsave_size(cpu_xcr0_supported(v));
		} else if (subleaf == 2 && !cpu_model_has(model, FEATURE_AVX)) {
			out->eax = out->ebx = 0;
		}
		break;
	case 0x15:
		if (tsc_khz)
			tsc_ratio(tsc_khz, out);
		break;
	case 0x16:
		out->eax = out->ebx = (u32)(tsc_khz / 1000);
		out->ecx = 100;
		break;
	case 0x40000010:
		out->eax = (u32)tsc_khz;
		out->ebx = APIC_CLOCK_KHZ;
		break;
	default:
		if (leaf >= BRAND_FIRST && leaf <= BRAND_LAST)
			brand(model, leaf - BRAND_FIRST, out);
		break;
	}
}

void cpu_cpuid(const struct vcpu *v, u32 leaf, u32 subleaf, struct cpuid_leaf *out)
{
	const struct cpu_model *model = cpu_model_of(v);
	const bool known = leaf <= MAX_BASIC || (leaf >= 0x40000000 && leaf <= MAX_HYPERVISOR) ||
			   (leaf >= 0x80000000 && leaf <= MAX_EXTENDED);

	out->eax = out->ebx = out->ecx = out->edx = 0;
	/* beyond the last one, a processor answers as for the last basic leaf */
	if (!known)
		leaf = MAX_BASIC;
	add_row(leaf, subleaf, out);
	add_features(model, leaf, subleaf, out);
	add_dynamic(v, model, leaf, subleaf, out);
}
