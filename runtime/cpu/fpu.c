#include "cpu/fpu.h"

#include "cpu/cpu.h"
#include "cpu/features.h"
#include "util/bytes.h"

/* Bits 127:0 and 255:128 of each vector register have places of their own in the area. */
#define EACH_REGISTER(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOW(n)           "160+16*" #n "(%0)"
#define HIGH(n)          "576+16*" #n "(%0)"
#define SAVE_SSE(n)      "movaps %%xmm" #n "," LOW(n) "\n\t"
#define LOAD_SSE(n)      "movaps " LOW(n) ",%%xmm" #n "\n\t"
#define SAVE_AVX(n)      "vmovaps %%xmm" #n "," LOW(n) "\n\tvextractf128 $1,%%ymm" #n "," HIGH(n) "\n\t"
#define LOAD_AVX(n)      "vmovaps " LOW(n) ",%%xmm" #n "\n\tvinsertf128 $1," HIGH(n) ",%%ymm" #n ",%%ymm" #n "\n\t"
_Static_assert(FXSAVE_XMM == 160 && XSAVE_HEADER_END == 576, "what the macros above have as numbers");

static u64 *xstate_bv(struct vcpu *v)
{
	return (u64 *)(v->xsave + XSAVE_XSTATE_BV);
}

static void default_mxcsr(void)
{
	static const u32 mxcsr = MXCSR_DEFAULT;

	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

/*
 * XSAVE and not XSAVEOPT: the latter remembers by linear address what it has saved, and nothing may change the area
 * behind its back. What was lent is in the area already.
 */
static void save(struct vcpu *v, u64 components)
{
	__asm__ volatile("xsave64 %0\n\tfninit" : "+m"(v->xsave) : "a"(components), "d"(0));
}

/* C code expects rounding to nearest, masked exceptions, an empty x87 stack and clean upper halves. */
void vcpu_fpu_put(struct vcpu *v)
{
	if (v->fpu_lent)
		save(v, XCR0_X87);
	else if (!v->fpu_loaded)
		return;
	else
		save(v, v->host_xsave);
	default_mxcsr();
	if (v->host_xsave & XCR0_AVX)
		__asm__ volatile("vzeroupper");
	v->fpu_loaded = v->fpu_lent = false;
}

void vcpu_fpu_lend(struct vcpu *v)
{
	if (!v->fpu_loaded)
		return;
	__asm__ volatile("stmxcsr %0" : "=m"(*(u32 *)(v->xsave + FXSAVE_MXCSR)));
	if (v->host_xsave & XCR0_AVX)
		__asm__ volatile(EACH_REGISTER(SAVE_AVX) "vzeroupper" : : "r"(v->xsave) : "memory");
	else
		__asm__ volatile(EACH_REGISTER(SAVE_SSE) : : "r"(v->xsave) : "memory");
	*xstate_bv(v) |= v->host_xsave & (XCR0_SSE | XCR0_AVX);
	default_mxcsr();
	v->fpu_loaded = false;
	v->fpu_lent = true;
}

void vcpu_fpu_get(struct vcpu *v)
{
	if (v->fpu_loaded)
		return;
	if (v->fpu_lent) {
		__asm__ volatile("ldmxcsr %0" : : "m"(*(u32 *)(v->xsave + FXSAVE_MXCSR)));
		if (v->host_xsave & XCR0_AVX)
			__asm__ volatile(EACH_REGISTER(LOAD_AVX) : : "r"(v->xsave) : "memory");
		else
			__asm__ volatile(EACH_REGISTER(LOAD_SSE) : : "r"(v->xsave) : "memory");
	} else {
		__asm__ volatile("xrstor64 %0" : : "m"(v->xsave), "a"(v->host_xsave), "d"(0));
	}
	v->fpu_lent = false;
	v->fpu_loaded = true;
}

void fpu_reset(struct vcpu *v)
{
	u32 low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	v->host_xsave = low & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
	v->fpu_loaded = v->fpu_lent = false;
	bytes_zero(v->xsave, sizeof(v->xsave));
	*(u16 *)(v->xsave + FXSAVE_FCW) = FCW_DEFAULT;
	*(u32 *)(v->xsave + FXSAVE_MXCSR) = MXCSR_DEFAULT;
	*(u64 *)(v->xsave + XSAVE_XSTATE_BV) = XCR0_X87 | XCR0_SSE;
}
