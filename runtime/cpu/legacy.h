/*
 * What 32-bit and 16-bit code (compatibility mode) does in its own way: memory through segments with base and limit,
 * the stack, far transfers. It runs at CPL 3 only.
 */
#ifndef AVANT_CPU_LEGACY_H
#define AVANT_CPU_LEGACY_H

#include "cpu/vcpu.h"
#include "util/types.h"
#include "x86/insn.h"

/* Memory at an offset in a segment. Faults are recorded. */
enum exec legacy_read(struct vcpu *v, unsigned seg, u32 offset, void *value, unsigned size);
enum exec legacy_write(struct vcpu *v, unsigned seg, u32 offset, const void *value, unsigned size);

/* The stack pointer is SP or ESP, as the stack segment has it; what is above SP is left alone, what is above ESP
 * cleared. */
u32 legacy_sp(const struct vcpu *v);
void legacy_set_sp(struct vcpu *v, u32 value);

/* The stack at so many bytes above its top; a push of 2 or 4 bytes. The pointer moves only on success. */
enum exec legacy_peek(struct vcpu *v, u32 above, void *value, unsigned size);
enum exec legacy_push(struct vcpu *v, u32 value, unsigned size);
/* As push does it with a segment register: of a slot of four bytes Intel's processors write the lower two (SDM vol. 2B,
 * PUSH). */
enum exec legacy_push_selector(struct vcpu *v, u16 selector, unsigned size);

/* Where a near branch with this operand size leads: #GP(0) beyond the code segment's limit. */
enum exec legacy_jump(struct vcpu *v, const struct insn *insn, u64 target);

/* Far transfers and the return from a handler, at the same privilege; they may lead to 64-bit code. */
enum exec legacy_jmp_far(struct vcpu *v, const struct insn *insn);
enum exec legacy_call_far(struct vcpu *v, const struct insn *insn);
enum exec legacy_ret_far(struct vcpu *v, const struct insn *insn);
enum exec legacy_iret(struct vcpu *v, const struct insn *insn);

#endif
