/*
 * State traces of a counted run: every so many instructions a line with the instruction count, rip, the flags, cr3 and
 * hashes of the registers (and, more rarely, of RAM). Two engines that agree produce equal traces; the first line that
 * differs shows where to look. A run that ends by stop_after adds all registers, and the instruction that is next.
 */
#ifndef AVANT_DEBUG_TRACE_H
#define AVANT_DEBUG_TRACE_H

#include "util/types.h"

struct vm;
struct vcpu;
struct err;
struct tracer;

#define TRACE_INTERVAL 100000 /* unless told otherwise: instructions between lines, */
#define TRACE_RAM      64     /* and lines between hashes of RAM */

/* From vm->config: trace_*, stop_after, symbols_path. *tracer is NULL if there is nothing to do. 0 or -1. */
int trace_open(struct vm *vm, struct tracer **tracer, struct err *err);
void trace_close(struct tracer *tracer);

/* v->budget never reaches beyond the next point of interest. */
void trace_limit_budget(struct tracer *tracer, struct vcpu *v);

/* The budget is used up: writes a line, or ends the run, if this is such a point. */
void trace_step(struct tracer *tracer, struct vcpu *v);

#endif
