/* Makes cases: every form on the allow-list with sampled operands, and random sequences of instructions. */
#ifndef AVANT_TEST_INSN_GENERATE_H
#define AVANT_TEST_INSN_GENERATE_H

#include "case.h"

/* Finds all forms; returns how many there are. Once. */
unsigned generate_init(void);

/* A case_maker: number / samples is the form, *opaque (unsigned) is how many samples of each. */
bool generate_form(void *opaque, u64 number, struct insn_case *c);

/* A case_maker: 1 to 20 random instructions; *opaque (u64) is the seed. */
bool generate_sequence(void *opaque, u64 number, struct insn_case *c);

#endif
