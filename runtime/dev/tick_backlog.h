/*
 * Ticks that a guest could not take, made up for while it keeps time by counting them. Linux does so from the moment at
 * which it has asked for the wall clock until its TSC is its clock: late in its boot. Until it has started its timer,
 * and wherever it is slow to take an interrupt, its time would stand still: by tenths of a second, which are then
 * missing for good. Hypervisors have always done this for the PIT.
 */
#ifndef AVANT_DEV_TICK_BACKLOG_H
#define AVANT_DEV_TICK_BACKLOG_H

#include "util/types.h"

struct tick_backlog {
	bool counts;   /* the guest does count ticks, as far as one can tell */
	u64 period_ns; /* 0: it has not started its timer yet */
	u64 since_ns;  /* time that has gone by since then is not in any tick yet */
	u64 owed_ns;   /* time without a tick before that */
};

/* The guest's time starts now. */
void tick_backlog_begin(struct tick_backlog *backlog, u64 now_ns);

/*
 * The guest arms its timer for a later time. Returns true if it should get an interrupt at once, instead: what counts
 * ticks arms the timer for one period after each, however late that was; any other interval means that the guest looks
 * at a clock, and is owed nothing any more.
 */
bool tick_backlog_armed(struct tick_backlog *backlog, u64 now_ns, u64 deadline_ns);

#endif
