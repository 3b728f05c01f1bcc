#include "cpu/fpu.h"

#include "cpu/cpu.h"
#include "cpu/features.h"
#include "util/bytes.h"

#define FWAIT 0x9b

/*
 * XSAVE and not XSAVEOPT: the latter remembers by linear address what it has saved, and nothing may change the area
 * behind its back.
 */
void vcpu_fpu_put(struct vcpu *v)
{
	static const u32 mxcsr = MXCSR_DEFAULT;

	if (!v->fpu_loaded)
		return;
	__asm__ volatile("xsave64 %0" : "+m"(v->xsave) : "a"(v->host_xsave), "d"(0));
	/* C code expects rounding to nearest, masked exceptions, an empty x87 stack and clean upper halves */
	__asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr));
	if (v->host_xsave & XCR0_AVX)
		__asm__ volatile("vzeroupper");
	v->fpu_loaded = false;
}

void vcpu_fpu_get(struct vcpu *v)
{
	if (v->fpu_loaded)
		return;
	__asm__ volatile("xrstor64 %0" : : "m"(v->xsave), "a"(v->host_xsave), "d"(0));
	v->fpu_loaded = true;
}

void fpu_reset(struct vcpu *v)
{
	u32 low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	v->host_xsave = low & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
	v->fpu_loaded = false;
	bytes_zero(v->xsave, sizeof(v->xsave));
	*(u16 *)(v->xsave + FXSAVE_FCW) = FCW_DEFAULT;
	*(u32 *)(v->xsave + FXSAVE_MXCSR) = MXCSR_DEFAULT;
	*(u64 *)(v->xsave + XSAVE_XSTATE_BV) = XCR0_X87 | XCR0_SSE;
}

int cpu_unit_fault_of(const struct vcpu *v, unsigned unit)
{
	switch ((enum insn_unit)unit) {
	case UNIT_NONE:
		return -1;
	case UNIT_X87:
		return v->cr0 & (CR0_EM | CR0_TS) ? VEC_NM : -1;
	case UNIT_MMX:
		if (v->cr0 & CR0_EM)
			return VEC_UD;
		break;
	case UNIT_SSE:
		if ((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR))
			return VEC_UD;
		break;
	case UNIT_AVX:
		if (!(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX))
			return VEC_UD;
		break;
	}
	return v->cr0 & CR0_TS ? VEC_NM : -1;
}

int cpu_unit_fault(const struct vcpu *v, const struct insn *insn)
{
	if (insn->unit == UNIT_X87 && insn->bytes[insn->opcode_at] == FWAIT)
		return (v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS) ? VEC_NM : -1;
	return cpu_unit_fault_of(v, insn->unit);
}
