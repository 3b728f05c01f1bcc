/*
 * What generated code does not look for: breakpoints of the debug registers (SDM vol. 3B, 17.2) and misaligned data at
 * CPL 3 (vol. 3A, 6.15, "Interrupt 17"). While either is wanted, and with RFLAGS.TF, instructions are executed singly,
 * and mem_read() and mem_write() tell of each access here. 32-bit code is never translated either.
 */
#ifndef AVANT_CPU_OBSERVE_H
#define AVANT_CPU_OBSERVE_H

#include "cpu/vcpu.h"
#include "util/types.h"

#define DR6_BS      BIT(14)
#define DR7_ENABLED 0xffULL /* L0, G0 … L3, G3 */

/* v->observe, which is not 0 only while a single instruction is executed. */
#define OBSERVE_DATA      1u
#define OBSERVE_ALIGNMENT 2u

static inline bool observe_alignment_wanted(const struct vcpu *v)
{
	return (v->rflags & FLAG_AC) && v->cpl == 3 && (v->cr0 & CR0_AM);
}

/* Must instructions be executed singly now? */
static inline bool observe_wanted(const struct vcpu *v)
{
	return (v->rflags & FLAG_TF) || (v->dr[7] & DR7_ENABLED) || observe_alignment_wanted(v) || vcpu_legacy(v);
}

/* Before and after an instruction. Data breakpoints met in between are in v->observed, as bits of DR6. */
static inline void observe_begin(struct vcpu *v)
{
	v->observed = v->observed_late;
	v->observed_late = 0;
	v->observe =
		(v->dr[7] & DR7_ENABLED ? OBSERVE_DATA : 0) | (observe_alignment_wanted(v) ? OBSERVE_ALIGNMENT : 0);
}

static inline void observe_end(struct vcpu *v)
{
	v->observe = 0;
}

/*
 * A load of SS holds its trap back until the next instruction has been executed, be that one that enters the kernel
 * (SDM vol. 3A, 6.8.3); if it faults, the trap is lost.
 */
static inline void observe_hold_back(struct vcpu *v)
{
	v->observed_late = v->observed;
	v->observed = 0;
}

/* The instruction breakpoints at `pc`, as bits of DR6. */
u64 observe_breakpoints_at(const struct vcpu *v, u64 pc);

/* An access to data is about to be made. EXEC_OK, or EXEC_FAULT with #AC. Only with v->observe not 0. */
enum exec observe_access(struct vcpu *v, u64 gva, unsigned length, unsigned access);

/*
 * The first half of it: must be called, with v->observe not 0, before an instruction changes anything that it could not
 * take back, and for operands of more than 8 bytes. A non-canonical address is left to the access.
 */
enum exec observe_alignment(struct vcpu *v, u64 gva, unsigned length);

/* Ports [port, port + size) have been read or written: breakpoints on ports (CR4.DE). */
void observe_port(struct vcpu *v, u16 port, unsigned size);

#endif
