/*
 * Re-encoding: the same instruction with other registers and another address. Used for thunks that execute one
 * instruction (interp) and for copied code (live, aot).
 */
#ifndef AVANT_X86_ENCODE_H
#define AVANT_X86_ENCODE_H

#include "x86/insn.h"

enum reencode_address {
	REENCODE_REPLACE, /* [base + index + disp]; the guest's own base, index, displacement and segment are dropped */
	REENCODE_RENAME,  /* the guest's base, index, scale, displacement and address size, registers renamed */
};

/*
 * How to re-encode. Registers are renamed where the encoding names them (insn->gpr_fields); implicit ones (rax and rdx
 * of mul, cl of shl, rax of cmpxchg, of `add eax, imm32` and of mov with a 64-bit offset …) cannot be: for them
 * host_reg must be the identity, which is the caller's duty. AH–BH follow their register, which must stay rax–rbx.
 */
struct reencode {
	u8 host_reg[GPR_COUNT]; /* by guest register number */
	u8 address;             /* enum reencode_address, for an instruction with has_mem */
	u8 segment;             /* override for the memory operand: SEG_FS, SEG_GS, or 0 for none */
	u8 base;                /* REENCODE_REPLACE: host register, or INSN_NO_REG for an absolute address */
	u8 index;               /* REENCODE_REPLACE: host register (not rsp), or INSN_NO_REG */
	s32 disp;               /* REENCODE_REPLACE */
};

/* Every register names itself, and addresses stay as they are. */
#define REENCODE_IDENTITY                                                                                              \
	{                                                                                                              \
		.host_reg = {RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15},            \
		.address = REENCODE_RENAME, .base = INSN_NO_REG, .index = INSN_NO_REG                                  \
	}

/*
 * Writes the re-encoded instruction to out (room for INSN_MAX bytes) and returns its length. Returns 0, out unchanged,
 * if it has no such encoding: AH–BH beside a register that needs REX, a renamed RIP-relative or 64-bit absolute
 * address, rsp as index, more than 15 bytes.
 * With REENCODE_REPLACE, lea yields the address given: truncating that to addrsize is the caller's part.
 * Only for INSN_COPY; also for INSN_STACK, INSN_JMP_IND, INSN_CALL_IND and INSN_BITSTRING, whose effect on the stack
 * or on rip is then the host's. Not for instructions with VSIB. Prefixes without meaning (REP, HLE, segments, 67) are
 * dropped; LOCK stays.
 */
unsigned insn_reencode(const struct insn *insn, const struct reencode *how, u8 *out);

#endif
