/* The guest's x87, SSE and AVX state while it is in the host's registers. */
#ifndef AVANT_CPU_FPU_H
#define AVANT_CPU_FPU_H

#include "cpu/vcpu.h"
#include "util/types.h"

/* Layout of the FXSAVE image and of the XSAVE area in standard format (SDM vol. 1, 10.5 and 13.4). */
#define FXSAVE_FCW        0u
#define FXSAVE_POINTERS   8u /* FIP, FCS, FDP, FDS: 16 bytes */
#define FXSAVE_MXCSR      24u
#define FXSAVE_MXCSR_MASK 28u
#define FXSAVE_XMM        160u
#define FXSAVE_USED       416u /* what follows is for software */
#define FXSAVE_SIZE       512u
#define XSAVE_XSTATE_BV   512u
#define XSAVE_XCOMP_BV    520u
#define XSAVE_HEADER_END  576u

#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_DEFINED 0xffffu
#define FCW_DEFAULT   0x37fu

/* Power-on vector state, and what the host offers for keeping it. */
void fpu_reset(struct vcpu *v);

#endif
