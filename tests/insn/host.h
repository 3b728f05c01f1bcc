/* Where processors differ: what this one does, found by trying. */
#ifndef AVANT_TEST_INSN_HOST_H
#define AVANT_TEST_INSN_HOST_H

#include "util/types.h"

struct host {
	bool hints_undefined; /* 0f 0d with a register is #UD (AMD); Intel's and the guest's processor do nothing */
	bool sha_unaligned;   /* SHA instructions take misaligned operands (AMD) */
	bool keeps_high_rcx;  /* a string instruction with 67, REP and ecx 0 leaves rcx alone (AMD) */
};

/* Of 32-bit code, with native_init_legacy(): push with a segment register writes four bytes (AMD), not two. */
bool host_pushes_all_bytes(void);

/* Needs native_init() and the signal handlers; finds out on the first call. */
const struct host *host(void);

#endif
