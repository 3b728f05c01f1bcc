/*
 * The mode word: what changes the meaning of guest code besides its bytes. Part of every translation's key, in memory
 * and in caches. Inline, because both the translator and code for general registers only need it.
 */
#ifndef AVANT_X86_MODE_H
#define AVANT_X86_MODE_H

#include "cpu/vcpu.h"
#include "x86/insn.h"

#define MODE_USER       0x00000001u /* CPL 3 */
#define MODE_EM         0x00000002u /* CR0.EM, .TS, .MP; CR4.OSFXSR, .OSXSAVE, .SMAP */
#define MODE_TS         0x00000004u
#define MODE_OSFXSR     0x00000008u
#define MODE_OSXSAVE    0x00000010u
#define MODE_MP         0x00000020u
#define MODE_SMAP       0x00000040u
#define MODE_XCR0_SHIFT 8           /* x87, SSE and AVX bits of XCR0 */
#define MODE_CAREFUL    0x80000000u /* translated without windows, for where one does not fit */

#define MODE_XCR0_VECTOR (6u << MODE_XCR0_SHIFT)

/* Bits that matter to instructions with vector or x87 state. */
#define MODE_UNITS (MODE_EM | MODE_TS | MODE_OSFXSR | MODE_OSXSAVE | MODE_MP | 7u << MODE_XCR0_SHIFT)

static inline u32 vcpu_mode(const struct vcpu *v)
{
	u32 mode = v->cpl == 3 ? MODE_USER : 0;

	if (v->cr0 & CR0_EM)
		mode |= MODE_EM;
	if (v->cr0 & CR0_TS)
		mode |= MODE_TS;
	if (v->cr4 & CR4_OSFXSR)
		mode |= MODE_OSFXSR;
	if (v->cr4 & CR4_OSXSAVE)
		mode |= MODE_OSXSAVE;
	if (v->cr0 & CR0_MP)
		mode |= MODE_MP;
	if (v->cr4 & CR4_SMAP)
		mode |= MODE_SMAP;
	return mode | (u32)(v->xcr0 & 7) << MODE_XCR0_SHIFT;
}

/* The vector that an instruction using this state (enum insn_unit) raises for being disabled, or -1 (SDM vol. 3A, 2.5).
 */
static inline int mode_unit_fault_of(u32 mode, unsigned unit)
{
	switch ((enum insn_unit)unit) {
	case UNIT_NONE:
		return -1;
	case UNIT_X87:
		return mode & (MODE_EM | MODE_TS) ? VEC_NM : -1;
	case UNIT_MMX:
		if (mode & MODE_EM)
			return VEC_UD;
		break;
	case UNIT_SSE:
		if ((mode & MODE_EM) || !(mode & MODE_OSFXSR))
			return VEC_UD;
		break;
	case UNIT_AVX:
		if (!(mode & MODE_OSXSAVE) || (mode & MODE_XCR0_VECTOR) != MODE_XCR0_VECTOR)
			return VEC_UD;
		break;
	}
	return mode & MODE_TS ? VEC_NM : -1;
}

#define MODE_OPCODE_FWAIT 0x9b

/* The same for an instruction: FWAIT obeys CR0.MP (SDM vol. 3A, table 2-2). */
static inline int mode_unit_fault(u32 mode, const struct insn *insn)
{
	if (insn->unit == UNIT_X87 && insn->bytes[insn->opcode_at] == MODE_OPCODE_FWAIT)
		return (mode & (MODE_MP | MODE_TS)) == (MODE_MP | MODE_TS) ? VEC_NM : -1;
	return mode_unit_fault_of(mode, insn->unit);
}

#endif
