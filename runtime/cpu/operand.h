/* Operands of instructions that C code emulates: effective addresses, register and memory values. */
#ifndef AVANT_CPU_OPERAND_H
#define AVANT_CPU_OPERAND_H

#include "cpu/vcpu.h"
#include "mem/mem.h"
#include "x86/insn.h"

/* Linear address of the ModRM memory operand (segment base included). v->rip is the instruction's address. */
u64 operand_address(const struct vcpu *v, const struct insn *insn);

/* The base of its segment, and the linear address of an offset in that, which is first cut to the address size. */
u64 operand_base(const struct vcpu *v, const struct insn *insn);
u64 operand_linear(const struct vcpu *v, const struct insn *insn, u64 offset);

/*
 * May this much be accessed so at the linear address? Only 32-bit code has segments that may say no: #GP(0) or #SS(0).
 * operand_load() and operand_store() have asked.
 */
enum exec operand_check(struct vcpu *v, const struct insn *insn, u64 address, unsigned length, unsigned access);

/* General register read and write with the usual rules: 4-byte writes zero the upper half, 1 and 2 byte ones merge. */
u64 operand_get_gpr(const struct vcpu *v, const struct operand *op);
void operand_set_gpr(struct vcpu *v, const struct operand *op, u64 value);

/* Operand n (register, memory or immediate), zero-extended. A #PF etc. is recorded and EXEC_FAULT returned. */
enum exec operand_read(struct vcpu *v, const struct insn *insn, unsigned n, u64 *value);
enum exec operand_write(struct vcpu *v, const struct insn *insn, unsigned n, u64 value);

/* Pushes or pops 8 bytes at the current privilege level; RSP moves only on success. */
enum exec stack_push(struct vcpu *v, u64 value);
enum exec stack_pop(struct vcpu *v, u64 *value);

#endif
