/* Delivery of one event through the IDT. */
#ifndef AVANT_CPU_INTERRUPT_H
#define AVANT_CPU_INTERRUPT_H

#include "cpu/vcpu.h"
#include "util/types.h"

struct event {
	u8 vector;
	bool software;  /* INT n, INT3, INTO: the gate's DPL counts */
	bool external;  /* error codes raised during delivery have EXT set */
	bool has_error; /* an error code is pushed */
	u32 error;
	u64 rip;    /* return address to push */
	u64 rflags; /* RFLAGS image to push */
};

/*
 * Delivers an event through the IDT in long mode (SDM vol. 3A, 6.14). EXEC_JUMP, or EXEC_FAULT with nothing changed
 * but v->fault.
 */
enum exec event_deliver(struct vcpu *v, const struct event *event);

#endif
