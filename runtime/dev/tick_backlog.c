#include "dev/tick_backlog.h"

/* Of ticks: 1000 Hz to 50 Hz. */
#define PERIOD_MIN_NS  900000ULL
#define PERIOD_MAX_NS  22000000ULL
#define TOLERANCE      64 /* an interval is longer than the period by no more than this part */
#define LEARNING       4  /* intervals from which the period is learnt: one may have been cut short */
#define BACKLOG_MAX_NS 5000000000ULL

/*
 * From an interrupt to the tick that it brings takes at least so long (Linux: 1 us). Who arms for points of time arms
 * for one period after the last one, to within less (Linux: 0.1 us).
 */
#define HANDLING_MIN_NS 400ULL

void tick_backlog_begin(struct tick_backlog *backlog, u64 now_ns)
{
	*backlog = (struct tick_backlog){.counts = true, .since_ns = now_ns, .next_ns = now_ns};
}

/*
 * The period is the longest interval: from all of them, the time between reading the TSC and arming is missing, and if
 * the host took the processor away just then, that is long.
 */
static bool learn_period(struct tick_backlog *backlog, u64 interval)
{
	const bool learning = backlog->intervals < LEARNING;

	backlog->intervals += learning;
	if (interval > PERIOD_MAX_NS || (!backlog->period_ns && interval < PERIOD_MIN_NS))
		return false;
	if (!learning && interval > backlog->period_ns + backlog->period_ns / TOLERANCE)
		return false;
	if (learning && interval > backlog->period_ns)
		backlog->period_ns = interval;
	return true;
}

bool tick_backlog_armed(struct tick_backlog *backlog, u64 now_ns, u64 deadline_ns)
{
	const bool passed = deadline_ns <= now_ns;
	u64 tick_ns;

	if (!backlog->counts)
		return false;
	backlog->counts = learn_period(backlog, passed ? 0 : deadline_ns - now_ns) && deadline_ns > backlog->period_ns;
	if (!backlog->counts)
		return false;
	tick_ns = deadline_ns - backlog->period_ns;
	/* the tick before this one must have come by an interrupt first */
	if (tick_ns < backlog->next_ns) {
		backlog->counts = false;
		return false;
	}
	if (tick_ns > backlog->since_ns)
		backlog->owed_ns += tick_ns - backlog->since_ns;
	if (backlog->owed_ns > BACKLOG_MAX_NS)
		backlog->owed_ns = BACKLOG_MAX_NS;
	if (passed || backlog->owed_ns < backlog->period_ns) {
		backlog->since_ns = deadline_ns;
		backlog->next_ns = deadline_ns + HANDLING_MIN_NS;
		return false;
	}
	backlog->owed_ns -= backlog->period_ns;
	backlog->since_ns = tick_ns;
	backlog->next_ns = tick_ns + HANDLING_MIN_NS;
	return true;
}
