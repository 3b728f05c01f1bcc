/* Runs a case on the host's processor, in this process. */
#ifndef AVANT_TEST_INSN_NATIVE_H
#define AVANT_TEST_INSN_NATIVE_H

#include "case.h"

/* Maps the regions. Exits on failure. */
void native_init(void);

/* Prepares the segments of 32-bit cases; false if this kernel does not let user programs have any. */
bool native_init_legacy(void);

/* Does the host have what the cases need: AVX2, BMI, FSGSBASE? */
bool native_supported(void);

/* The handler has to be the process's for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP; false if no case is running. */
bool native_signal(void *context);

/* How many there were. */
u64 native_runs(void);

void native_run(const struct insn_case *c, struct outcome *out);

#endif
