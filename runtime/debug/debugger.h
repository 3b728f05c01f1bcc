/*
 * Stopping the guest and looking at it. The loop asks debugger_stops() before each single instruction and whether it
 * may run translations at all (debugger_single_steps()); debugger_stop() then talks to gdb until the guest is to go on.
 *
 * Breakpoints are a table here: nothing is written into guest memory. Code of a page that holds one is never
 * translated but executed one instruction at a time (README.md says why that is sound); all other code runs at full
 * speed.
 */
#ifndef AVANT_DEBUG_DEBUGGER_H
#define AVANT_DEBUG_DEBUGGER_H

#include "cpu/vcpu.h"
#include "util/types.h"

struct vm;
struct err;
struct gdb_server;

#define DEBUGGER_BREAKPOINTS 256

enum debugger_stop { DEBUGGER_STOP_ASKED, DEBUGGER_STOP_STEP, DEBUGGER_STOP_BREAKPOINT };

struct debugger {
	bool stepping; /* one instruction, then stop; interrupts wait meanwhile */
	bool stepped;  /* … which has been begun */
	u8 attention;  /* the connection wants to be looked at; set by the server's thread */
	unsigned count, clean_count;
	u64 breakpoint[DEBUGGER_BREAKPOINTS]; /* guest virtual addresses */
	u64 clean[DEBUGGER_BREAKPOINTS];      /* pages without translations: none has been made since they had a
						 breakpoint */
	u64 resumed_rip, resumed_icount;      /* the instruction to go on with is not stopped at again */
	struct gdb_server *server;
};

/* From vm->config.gdb: listens there. *debugger is NULL if it is not wanted. 0, or -1 with a message in err. */
int debugger_create(struct vm *vm, struct debugger **debugger, struct err *err);
/* Tells the debugger how the run ended. */
void debugger_destroy(struct vm *vm);

/*
 * The guest stands between two instructions, its state is in struct vcpu, the vector state put away. Returns when the
 * guest is to go on (from another rip, perhaps) or vm->exit says that it is not.
 */
void debugger_stop(struct vm *vm, enum debugger_stop why);
/* `attention` was set: stops if that is what the connection wants. */
void debugger_attend(struct vm *vm);

/* Breakpoints; the table is full: -1. Adding one that is there, and removing one that is not, is no error. */
int debugger_add_breakpoint(struct debugger *d, u64 address);
void debugger_remove_breakpoint(struct debugger *d, u64 address);
/* Before the guest goes on: no translation may run that could pass a breakpoint. */
void debugger_resume(struct vm *vm, bool step);

/* --- for the loop: general registers only ------------------------------------------------------------------------ */

/* Must the instruction at rip be executed alone? */
static inline bool debugger_single_steps(const struct debugger *d, u64 rip)
{
	if (d->stepping)
		return true;
	for (unsigned i = 0; i < d->count; i++)
		if (PAGE_BASE(d->breakpoint[i]) == PAGE_BASE(rip))
			return true;
	return false;
}

static inline bool debugger_has_breakpoint(const struct debugger *d, u64 address)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->breakpoint[i] == address)
			return true;
	return false;
}

/* An instruction is about to be executed alone: stop before it, and why? */
static inline bool debugger_stops(struct debugger *d, const struct vcpu *v, enum debugger_stop *why)
{
	*why = DEBUGGER_STOP_BREAKPOINT;
	if (debugger_has_breakpoint(d, v->rip) && !(v->rip == d->resumed_rip && v->icount == d->resumed_icount))
		return true;
	*why = DEBUGGER_STOP_STEP;
	if (d->stepping && d->stepped)
		return true;
	d->stepped = true;
	return false;
}

/* A single step does not end in an interrupt handler. */
static inline bool debugger_holds_interrupts(const struct debugger *d)
{
	return d->stepping;
}

static inline bool debugger_wants_attention(const struct debugger *d)
{
	return __atomic_load_n(&d->attention, __ATOMIC_SEQ_CST);
}

#endif
