/* Makes cases: every form on the allow-list with sampled operands, and random sequences of instructions. */
#ifndef AVANT_TEST_INSN_GENERATE_H
#define AVANT_TEST_INSN_GENERATE_H

#include "case.h"

/* Finds all forms; returns how many there are. Once. */
unsigned generate_init(void);

/* A case_maker: number / samples is the form, *opaque (unsigned) is how many samples of each. */
bool generate_form(void *opaque, u64 number, struct insn_case *c);

struct random;
struct insn;

/* Some extensions are the guest's but need not be the host's. */
bool generate_host_has(const struct insn *insn);

/* Registers, flags and vectors to start from; a place for the code. */
void generate_state(struct random *r, struct insn_case *c);

/* A case_maker: random instructions of 32-bit code, one each. */
bool generate_legacy(void *opaque, u64 number, struct insn_case *c);

/* A case_maker: 1 to 20 random instructions; *opaque (u64) is the seed. */
bool generate_sequence(void *opaque, u64 number, struct insn_case *c);

#endif
