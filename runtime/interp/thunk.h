/* Decoded instructions and their executable copies, cached by content: the bytes are compared at every use. */
#ifndef AVANT_INTERP_THUNK_H
#define AVANT_INTERP_THUNK_H

#include "x86/insn.h"

struct thunk {
	struct insn insn;
	u64 word[2], mask[2]; /* its bytes, and which of 16 they are */
	void *code;           /* executable copy, for INSN_COPY */
	bool valid;
	u8 kind;      /* of the code that it is from: enum insn_code */
	bool by_c;    /* a copy was not possible (lea of a RIP-relative address), or not wanted (lea in 32-bit code) */
	bool aligned; /* a memory operand that is not aligned to its size raises #GP */
};

/*
 * The thunk for the instruction at the start of `bytes` (room for 16, so many available), of code of this kind; NULL:
 * more bytes are needed.
 */
const struct thunk *thunk_get(struct vcpu *v, const u8 *bytes, unsigned available, enum insn_code kind);

/* Executes an instruction with INSN_COPY (interp.c). */
enum exec interp_copy(struct vcpu *v, const struct thunk *thunk);

/* thunk.S */
int interp_run(void *code);
void interp_thunk_done(void);

#endif
