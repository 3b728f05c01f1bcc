/* Model-specific registers (SDM vol. 4): one table, sorted by number. */
#include "cpu/control.h"
#include "cpu/features.h"
#include "cpu/kvmclock.h"
#include "cpu/system.h"
#include "vm.h"

#include <stddef.h>

struct msr;
typedef enum exec msr_read_fn(struct vcpu *v, const struct msr *msr, u32 number, u64 *value);
typedef enum exec msr_write_fn(struct vcpu *v, const struct msr *msr, u32 number, u64 value);

struct msr {
	u32 first, last;
	msr_read_fn *read;   /* NULL: #GP(0) */
	msr_write_fn *write; /* NULL: #GP(0) */
	u64 value;           /* the constant, or the writable bits of the field */
	u32 field;           /* offset in struct vcpu of the first one */
};

static u64 *field_of(struct vcpu *v, const struct msr *msr, u32 number)
{
	return (u64 *)((u8 *)v + msr->field) + (number - msr->first);
}

/* --- kinds of registers ---------------------------------------------------------------------------------------- */

static enum exec read_constant(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)v;
	(void)number;
	*value = msr->value;
	return EXEC_OK;
}

static enum exec write_ignored(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)v;
	(void)msr;
	(void)number;
	(void)value;
	return EXEC_OK;
}

static enum exec read_field(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	*value = *field_of(v, msr, number);
	return EXEC_OK;
}

/* Bits that are not writable must be 0. */
static enum exec write_field(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	if (value & ~msr->value)
		return raise_gp0(v);
	*field_of(v, msr, number) = value;
	return EXEC_OK;
}

static enum exec write_address(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	if (!vcpu_canonical(value))
		return raise_gp0(v);
	*field_of(v, msr, number) = value;
	return EXEC_OK;
}

/* --- time ------------------------------------------------------------------------------------------------------ */

static void move_tsc(struct vcpu *v, u64 offset)
{
	v->tsc_offset = offset;
	lapic_tsc_moved(v->vm->irqchip);
	kvmclock_update(v);
}

static enum exec read_tsc(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	(void)number;
	*value = guest_tsc(v);
	return EXEC_OK;
}

static enum exec write_tsc(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	move_tsc(v, v->tsc_offset + (value - guest_tsc(v)));
	return EXEC_OK;
}

static enum exec write_tsc_adjust(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	move_tsc(v, value);
	return EXEC_OK;
}

static enum exec read_deadline(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	(void)number;
	*value = lapic_read_deadline(v->vm->irqchip);
	return EXEC_OK;
}

static enum exec write_deadline(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	lapic_write_deadline(v->vm->irqchip, value);
	return EXEC_OK;
}

static enum exec write_kvm_wall_clock(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	kvmclock_set_wall_clock(v, value);
	return EXEC_OK;
}

static enum exec write_kvm_system_time(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	kvmclock_set_system_time(v, value);
	return EXEC_OK;
}

/* --- interrupt controller -------------------------------------------------------------------------------------- */

static enum exec read_apic_base(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	(void)number;
	*value = lapic_read_base(v->vm->irqchip);
	return EXEC_OK;
}

static enum exec write_apic_base(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	return lapic_write_base(v->vm->irqchip, value) == 0 ? EXEC_LEAVE : raise_gp0(v);
}

static enum exec read_x2apic(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	return lapic_read_msr(v->vm->irqchip, number, value) == 0 ? EXEC_OK : raise_gp0(v);
}

static enum exec write_x2apic(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	return lapic_write_msr(v->vm->irqchip, number, value) == 0 ? EXEC_OK : raise_gp0(v);
}

/* --- memory types: kept, but without effect -------------------------------------------------------------------- */

#define MTRR_VARIABLE    8u
#define MTRR_CAP         (MTRR_VARIABLE | BIT(8) /* fixed ranges */ | BIT(10) /* write combining */)
#define MTRR_DEF_ENABLES (BIT(10) | BIT(11))
#define MTRR_PHYSICAL    (BIT(MAXPHYADDR) - PAGE_SIZE)
#define MTRR_MASK_VALID  BIT(11)

/* UC, WC, WT, WP, WB; PAT also knows UC- (7). */
static bool memory_type_valid(u64 type)
{
	return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

static bool memory_types_valid(u64 types, bool pat)
{
	for (unsigned i = 0; i < 8; i++) {
		const u64 type = types >> i * 8 & 0xff;

		if (!memory_type_valid(type) && !(pat && type == 7))
			return false;
	}
	return true;
}

static enum exec write_memory_types(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	if (!memory_types_valid(value, number == 0x277))
		return raise_gp0(v);
	*field_of(v, msr, number) = value;
	return EXEC_OK;
}

static enum exec write_mtrr_default(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	if ((value & ~(MTRR_DEF_ENABLES | 0xff)) || !memory_type_valid(value & 0xff))
		return raise_gp0(v);
	*field_of(v, msr, number) = value;
	return EXEC_OK;
}

/* Even: base and type; odd: mask and valid bit. */
static enum exec write_mtrr_variable(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	const bool is_mask = number & 1;

	if (is_mask ? value & ~(MTRR_PHYSICAL | MTRR_MASK_VALID)
		    : (value & ~(MTRR_PHYSICAL | 0xff)) || !memory_type_valid(value & 0xff))
		return raise_gp0(v);
	*field_of(v, msr, number) = value;
	return EXEC_OK;
}

/* Fixed ranges lie at 0x250, 0x258, 0x259 and 0x268 to 0x26f; mtrr_fixed[] has them without the gaps. */
static enum exec read_mtrr_fixed(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	*value = v->mtrr_fixed[number == 0x250 ? 0 : number < 0x260 ? number - 0x257 : number - 0x265];
	return EXEC_OK;
}

static enum exec write_mtrr_fixed(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	if (!memory_types_valid(value, false))
		return raise_gp0(v);
	v->mtrr_fixed[number == 0x250 ? 0 : number < 0x260 ? number - 0x257 : number - 0x265] = value;
	return EXEC_OK;
}

/* --- system ---------------------------------------------------------------------------------------------------- */

static enum exec write_efer(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	return cpu_write_efer(v, value);
}

static enum exec read_fs_base(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	(void)number;
	*value = v->seg[SEG_FS].base;
	return EXEC_OK;
}

static enum exec write_fs_base(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	if (!vcpu_canonical(value))
		return raise_gp0(v);
	set_fs_base(v, value);
	return EXEC_OK;
}

static enum exec read_gs_base(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)msr;
	(void)number;
	*value = v->seg[SEG_GS].base;
	return EXEC_OK;
}

static enum exec write_gs_base(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	if (!vcpu_canonical(value))
		return raise_gp0(v);
	set_gs_base(v, value);
	return EXEC_OK;
}

#define MISC_FAST_STRINGS BIT(0)
#define MISC_FIXED        (BIT(11) | BIT(12)) /* no branch trace, no PEBS */

/* What cannot be switched stays as it is, as on processors where firmware has locked it. */
static enum exec write_misc_enable(struct vcpu *v, const struct msr *msr, u32 number, u64 value)
{
	(void)msr;
	(void)number;
	v->misc_enable = (value & MISC_FAST_STRINGS) | MISC_FIXED;
	return EXEC_OK;
}

static enum exec read_arch_capabilities(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	(void)v;
	(void)msr;
	(void)number;
	*value = cpu_arch_capabilities();
	return EXEC_OK;
}

/* The ratio of base frequency to 100 MHz, in the fields of maximum non-turbo and of maximum efficiency ratio. */
static enum exec read_platform_info(struct vcpu *v, const struct msr *msr, u32 number, u64 *value)
{
	const u64 ratio = v->vm->clock.tsc_khz / 100000 & 0xff;

	(void)msr;
	(void)number;
	*value = ratio << 8 | ratio << 40;
	return EXEC_OK;
}

/* Software writes 0, executes CPUID, and reads the revision in the upper half. */
#define MICROCODE_REVISION (0x2b000000ULL << 32)

#define FIELD(name)        offsetof(struct vcpu, name)
#define SPEC_CTRL_WRITABLE (BIT(0) | BIT(1) | BIT(2) | BIT(10)) /* IBRS, STIBP, SSBD, BHI_DIS_S */

static const struct msr msrs[] = {
	{0x10, 0x10, read_tsc, write_tsc, 0, 0},                                     /* TIME_STAMP_COUNTER */
	{0x17, 0x17, read_constant, NULL, 0, 0},                                     /* PLATFORM_ID */
	{0x1b, 0x1b, read_apic_base, write_apic_base, 0, 0},                         /* APIC_BASE */
	{0x34, 0x34, read_constant, NULL, 0, 0},                                     /* SMI_COUNT */
	{0x3a, 0x3a, read_field, NULL, 0, FIELD(feature_control)},                   /* FEATURE_CONTROL, locked */
	{0x3b, 0x3b, read_field, write_tsc_adjust, 0, FIELD(tsc_offset)},            /* TSC_ADJUST */
	{0x48, 0x48, read_field, write_field, SPEC_CTRL_WRITABLE, FIELD(spec_ctrl)}, /* SPEC_CTRL */
	{0x49, 0x49, NULL, write_ignored, 0, 0},                                     /* PRED_CMD */
	{0x8b, 0x8b, read_constant, write_ignored, MICROCODE_REVISION, 0},           /* BIOS_SIGN_ID */
	{0xce, 0xce, read_platform_info, NULL, 0, 0},                                /* PLATFORM_INFO */
	{0xfe, 0xfe, read_constant, NULL, MTRR_CAP, 0},                              /* MTRRCAP */
	{0x10a, 0x10a, read_arch_capabilities, NULL, 0, 0},                          /* ARCH_CAPABILITIES */
	{0x10b, 0x10b, NULL, write_ignored, 0, 0},                                   /* FLUSH_CMD */
	{0x174, 0x174, read_field, write_field, UINT32_MAX, FIELD(sysenter_cs)},     /* SYSENTER_CS */
	{0x175, 0x175, read_field, write_address, 0, FIELD(sysenter_esp)},           /* SYSENTER_ESP */
	{0x176, 0x176, read_field, write_address, 0, FIELD(sysenter_eip)},           /* SYSENTER_EIP */
	{0x179, 0x179, read_constant, NULL, 0, 0},                                   /* MCG_CAP: no banks */
	{0x17a, 0x17a, read_constant, write_ignored, 0, 0},                          /* MCG_STATUS */
	{0x198, 0x198, read_constant, NULL, 0, 0},                                   /* PERF_STATUS */
	{0x199, 0x199, read_constant, write_ignored, 0, 0},                          /* PERF_CTL */
	{0x1a0, 0x1a0, read_field, write_misc_enable, 0, FIELD(misc_enable)},        /* MISC_ENABLE */
	{0x1d9, 0x1d9, read_constant, write_ignored, 0, 0},                          /* DEBUGCTL: no branch records */
	{0x1db, 0x1de, read_constant, write_ignored, 0, 0},                          /* LASTBRANCH*, LASTINT* */
	{0x200, 0x20f, read_field, write_mtrr_variable, 0, FIELD(mtrr_variable)},    /* MTRR_PHYSBASE/MASK */
	{0x250, 0x250, read_mtrr_fixed, write_mtrr_fixed, 0, 0},                     /* MTRR_FIX64K */
	{0x258, 0x259, read_mtrr_fixed, write_mtrr_fixed, 0, 0},                     /* MTRR_FIX16K */
	{0x268, 0x26f, read_mtrr_fixed, write_mtrr_fixed, 0, 0},                     /* MTRR_FIX4K */
	{0x277, 0x277, read_field, write_memory_types, 0, FIELD(pat)},               /* PAT */
	{0x2ff, 0x2ff, read_field, write_mtrr_default, 0, FIELD(mtrr_def_type)},     /* MTRR_DEF_TYPE */
	{0x6e0, 0x6e0, read_deadline, write_deadline, 0, 0},                         /* TSC_DEADLINE */
	{0x800, 0x8ff, read_x2apic, write_x2apic, 0, 0},                             /* x2APIC registers */
	{MSR_KVM_WALL_CLOCK, MSR_KVM_WALL_CLOCK, read_field, write_kvm_wall_clock, 0, FIELD(kvm_wall_clock)},
	{MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME, read_field, write_kvm_system_time, 0, FIELD(kvm_system_time)},
	{0xc0000080, 0xc0000080, read_field, write_efer, 0, FIELD(efer)},              /* EFER */
	{0xc0000081, 0xc0000081, read_field, write_field, ~0ULL, FIELD(star)},         /* STAR */
	{0xc0000082, 0xc0000082, read_field, write_address, 0, FIELD(lstar)},          /* LSTAR */
	{0xc0000083, 0xc0000083, read_field, write_address, 0, FIELD(cstar)},          /* CSTAR */
	{0xc0000084, 0xc0000084, read_field, write_field, UINT32_MAX, FIELD(sfmask)},  /* FMASK */
	{0xc0000100, 0xc0000100, read_fs_base, write_fs_base, 0, 0},                   /* FS_BASE */
	{0xc0000101, 0xc0000101, read_gs_base, write_gs_base, 0, 0},                   /* GS_BASE */
	{0xc0000102, 0xc0000102, read_field, write_address, 0, FIELD(kernel_gs_base)}, /* KERNEL_GS_BASE */
	{0xc0000103, 0xc0000103, read_field, write_field, UINT32_MAX, FIELD(tsc_aux)}, /* TSC_AUX */
};

static const struct msr *find(u32 number)
{
	unsigned low = 0, high = ARRAY_SIZE(msrs);

	while (low < high) {
		const unsigned middle = (low + high) / 2;

		if (number > msrs[middle].last)
			low = middle + 1;
		else if (number < msrs[middle].first)
			high = middle;
		else
			return &msrs[middle];
	}
	return NULL;
}

enum exec cpu_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
	const struct msr *entry = find(msr);

	return entry && entry->read ? entry->read(v, entry, msr, value) : raise_gp0(v);
}

enum exec cpu_write_msr(struct vcpu *v, u32 msr, u64 value)
{
	const struct msr *entry = find(msr);

	return entry && entry->write ? entry->write(v, entry, msr, value) : raise_gp0(v);
}

enum exec help_rdmsr(struct vcpu *v, const struct insn *insn)
{
	u64 value;

	(void)insn;
	if (require_cpl0(v) != EXEC_OK || cpu_read_msr(v, (u32)v->gpr[RCX], &value) != EXEC_OK)
		return EXEC_FAULT;
	v->gpr[RAX] = (u32)value;
	v->gpr[RDX] = value >> 32;
	return EXEC_OK;
}

enum exec help_wrmsr(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	return cpu_write_msr(v, (u32)v->gpr[RCX], v->gpr[RDX] << 32 | (u32)v->gpr[RAX]);
}
