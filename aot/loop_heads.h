/* Units that begin at the heads of hot loops. */
#ifndef AVANT_AOT_LOOP_HEADS_H
#define AVANT_AOT_LOOP_HEADS_H

#include "plan.h"

/*
 * A loop that is interrupted (its head polls) goes on at its head, as a unit that begins there, and so does one that
 * was left for a page fault; training runs are too short to have seen that of every loop, and what goes on in live code
 * stays there. Adds such a unit for each loop in recorded units that executed some instruction at least `least` times,
 * with the executions of its blocks. Returns 0, or -1 with a message in err.
 */
int plan_add_loop_heads(struct plan *plan, u64 least, struct err *err);

#endif
