/* Internal to cpu/: what far transfers and IRET of 64-bit and of 32-bit code share (SDM vol. 3A, 5.8). */
#ifndef AVANT_CPU_TRANSFER_H
#define AVANT_CPU_TRANSFER_H

#include "cpu/vcpu.h"
#include "x86/insn.h"

/* The code segment to return to. */
enum exec check_return_cs(struct vcpu *v, u16 selector, u64 *descriptor);

/* The stack segment to return to at privilege `cpl`; null is allowed below 3. *descriptor is 0 then. */
enum exec check_return_ss(struct vcpu *v, u16 selector, unsigned cpl, u64 *descriptor);
void set_return_ss(struct vcpu *v, u16 selector, u64 descriptor, unsigned cpl);

/* What IRET at the current privilege level takes of the flags in its frame. */
void set_return_flags(struct vcpu *v, u64 value, unsigned size);

/* The code segment of a far jump or call, and code_check() of the offset: same privilege. Call gates end the run. */
enum exec check_far_cs(struct vcpu *v, u16 selector, u64 *offset, u64 *descriptor);

/* Reads the far pointer in memory and checks where it leads. */
enum exec far_target(struct vcpu *v, const struct insn *insn, u64 *offset, u16 *selector, u64 *descriptor);

/* Goes on at `offset` in this code segment. */
void set_far_cs(struct vcpu *v, u16 selector, u64 descriptor, u64 offset);

#endif
