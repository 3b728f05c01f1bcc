/* Control registers and EFER: what may be written, and what must be forgotten after it (SDM vol. 3A, 2.5, 4.10.4.1). */
#include "cpu/control.h"

#include "cpu/features.h"
#include "cpu/system.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR3_KEEP    BIT(63) /* with CR4.PCIDE: TLB entries of the new PCID stay */
#define CR3_PCID    0xfffULL

/* Bits of CR4 that exist only with a feature. */
static const struct {
	u64 bits;
	enum cpu_feature feature;
} cr4_bits[] = {
	{CR4_TSD, FEATURE_TSC},    {CR4_DE, FEATURE_DE},
	{CR4_PSE, FEATURE_PSE},    {CR4_PAE, FEATURE_PAE},
	{CR4_MCE, FEATURE_MCE},    {CR4_PGE, FEATURE_PGE},
	{CR4_PCE, FEATURE_TSC},    {CR4_OSFXSR | CR4_OSXMMEXCPT, FEATURE_FXSR},
	{CR4_UMIP, FEATURE_UMIP},  {CR4_FSGSBASE, FEATURE_FSGSBASE},
	{CR4_PCIDE, FEATURE_PCID}, {CR4_OSXSAVE, FEATURE_XSAVE},
	{CR4_SMEP, FEATURE_SMEP},  {CR4_SMAP, FEATURE_SMAP},
};

static u64 cr4_defined(const struct vcpu *v)
{
	u64 bits = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(cr4_bits); i++)
		if (cpu_has(v, cr4_bits[i].feature))
			bits |= cr4_bits[i].bits;
	return bits;
}

void cpu_set_cpl(struct vcpu *v, u8 cpl)
{
	v->cpl = cpl;
	vcpu_update_view(v);
}

enum exec cpu_write_cr0(struct vcpu *v, u64 value)
{
	const u64 changed = v->cr0 ^ value;

	if (value >> 32 || (value & (CR0_PG | CR0_PE)) == CR0_PG || (value & (CR0_NW | CR0_CD)) == CR0_NW)
		return raise_gp0(v);
	/* paging cannot be switched off in 64-bit mode, the only one there is here */
	if (!(value & CR0_PG) && (v->efer & EFER_LMA))
		return raise_gp0(v);
	v->cr0 = (value & CR0_DEFINED) | CR0_ET;
	if (changed & (CR0_PG | CR0_WP))
		mmu_flush_all(v);
	return EXEC_LEAVE;
}

enum exec cpu_write_cr3(struct vcpu *v, u64 value)
{
	bool keep = false;

	if (v->cr4 & CR4_PCIDE) {
		keep = value & CR3_KEEP;
		value &= ~CR3_KEEP;
	}
	if (value >> MAXPHYADDR)
		return raise_gp0(v);
	v->cr3 = value;
	mmu_load_cr3(v, keep);
	return EXEC_LEAVE;
}

enum exec cpu_write_cr4(struct vcpu *v, u64 value)
{
	const u64 flushing = CR4_PGE | CR4_PAE | CR4_PSE | CR4_PCIDE | CR4_SMEP | CR4_SMAP;
	const u64 changed = v->cr4 ^ value;

	if (value & ~cr4_defined(v))
		return raise_gp0(v);
	if (!(value & CR4_PAE) && (v->efer & EFER_LMA))
		return raise_gp0(v);
	if ((changed & value & CR4_PCIDE) && (!(v->efer & EFER_LMA) || (v->cr3 & CR3_PCID)))
		return raise_gp0(v);
	v->cr4 = value;
	if (changed & flushing)
		mmu_flush_all(v);
	return EXEC_LEAVE;
}

enum exec cpu_write_efer(struct vcpu *v, u64 value)
{
	const u64 changed = v->efer ^ value;

	if (value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return raise_gp0(v);
	if ((changed & EFER_LME) && (v->cr0 & CR0_PG))
		return raise_gp0(v);
	/* LMA is read-only: writes to it are ignored */
	v->efer = (value & ~EFER_LMA) | (v->efer & EFER_LMA);
	if (changed & EFER_NXE)
		mmu_flush_all(v);
	return EXEC_LEAVE;
}

enum exec cpu_write_xcr0(struct vcpu *v, u64 value)
{
	if ((value & ~cpu_xcr0_supported(v)) || !(value & XCR0_X87) || (value & (XCR0_AVX | XCR0_SSE)) == XCR0_AVX)
		return raise_gp0(v);
	v->xcr0 = value;
	return EXEC_LEAVE;
}
