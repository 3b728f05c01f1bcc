/*
 * The single-instruction path: executes exactly one guest instruction. Sensitive ones, branches, stack and string
 * instructions run in C; every other one is copied into a thunk with its memory operand redirected to v->bounce and
 * executed by the processor with the guest's registers loaded. Slow, small, complete.
 */
#ifndef AVANT_INTERP_INTERP_H
#define AVANT_INTERP_INTERP_H

#include "cpu/vcpu.h"
#include "util/types.h"
#include "x86/insn.h"

struct vm;
struct err;
struct interp;
struct insn;

struct interp *interp_create(struct vm *vm, struct err *err);
void interp_destroy(struct interp *interp);

/*
 * Executes the instruction at v->rip and moves rip past it (or where it jumps). Counts it in v->icount unless it
 * faulted or is to be resumed. Returns EXEC_OK, _LEAVE, _JUMP, _HALT with rip moved; _FAULT, _AGAIN with rip unchanged;
 * or _STOP. General registers only, except where it has to decode (it puts the vector state away meanwhile).
 */
enum exec interp_step(struct vcpu *v);

/* Which kind of code is being executed. */
enum insn_code interp_code(const struct vcpu *v);

/* The linear address of the instruction at rip, which is relative to the code segment in 32-bit code. */
u64 interp_pc(const struct vcpu *v);

/* Was this host address in a thunk? Then the signal handler continues at interp_thunk_fault. */
bool interp_owns(const struct interp *interp, u64 host);
void interp_thunk_fault(void);

/* Evaluates condition code `cond` (0–15) on arithmetic flags. */
bool interp_condition(u64 arith, unsigned cond);

/* Executes a string instruction (INSN_STRING); EXEC_AGAIN after a bounded part of a long REP. In string.c. */
enum exec interp_string(struct vcpu *v, const struct insn *insn);

/* Executes a bit instruction whose index, a register, reaches beyond its memory operand (INSN_BITSTRING). */
enum exec interp_bitstring(struct vcpu *v, const struct insn *insn);

#endif
