#include "cpu/fpu.h"

#include "cpu/cpu.h"
#include "cpu/features.h"
#include "util/bytes.h"

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
