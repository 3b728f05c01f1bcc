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
	bool counts;        /* the guest does count ticks, as far as one can tell */
	unsigned intervals; /* from which the period was learnt */
	u64 period_ns;      /* 0: it has not started its timer yet */
	u64 since_ns;       /* time that has gone by since then is not in any tick yet */
	u64 owed_ns;        /* time without a tick before that */
	u64 next_ns;        /* the next tick cannot come earlier */
};

/* The guest's time starts now. */
void tick_backlog_begin(struct tick_backlog *backlog, u64 now_ns);

/*
 * The guest arms its timer. Returns true if it should get an interrupt at once, instead: what counts ticks arms the
 * timer for one period after each, however late that was; anything else means that the guest looks at a clock, and is
 * owed nothing any more.
 *
 * The period begins where the guest has read its TSC. The host may have taken the processor away since then, so that
 * the interval looks shorter, or the deadline has passed already (it gets its interrupt for that in any case). So one
 * interval says little. But each tick comes after the interrupt for the one before, and the deadline moves by more than
 * the period each time; who looks at a clock arms for a point of time that is exactly one period later, or earlier, or
 * after an interrupt too many for the same one again.
 */
bool tick_backlog_armed(struct tick_backlog *backlog, u64 now_ns, u64 deadline_ns);

#endif
