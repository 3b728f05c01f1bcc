#include "dev/tick_backlog.h"

/* Of ticks: 1000 Hz to 50 Hz. */
#define PERIOD_MIN_NS  900000ULL
#define PERIOD_MAX_NS  22000000ULL
#define TOLERANCE      64 /* an interval may differ by this part: that of the instructions that compute it */
#define BACKLOG_MAX_NS 5000000000ULL

void tick_backlog_begin(struct tick_backlog *backlog, u64 now_ns)
{
	*backlog = (struct tick_backlog){.counts = true, .since_ns = now_ns};
}

static bool is_period(const struct tick_backlog *backlog, u64 interval)
{
	const u64 period = backlog->period_ns ? backlog->period_ns : interval;
	const u64 difference = interval > period ? interval - period : period - interval;

	return interval >= PERIOD_MIN_NS && interval <= PERIOD_MAX_NS && difference <= period / TOLERANCE;
}

bool tick_backlog_armed(struct tick_backlog *backlog, u64 now_ns, u64 deadline_ns)
{
	if (!backlog->counts)
		return false;
	if (!is_period(backlog, deadline_ns - now_ns)) {
		backlog->counts = false;
		return false;
	}
	if (!backlog->period_ns)
		backlog->period_ns = deadline_ns - now_ns;
	if (now_ns > backlog->since_ns)
		backlog->owed_ns += now_ns - backlog->since_ns;
	if (backlog->owed_ns > BACKLOG_MAX_NS)
		backlog->owed_ns = BACKLOG_MAX_NS;
	if (backlog->owed_ns < backlog->period_ns) {
		backlog->since_ns = deadline_ns;
		return false;
	}
	backlog->owed_ns -= backlog->period_ns;
	backlog->since_ns = now_ns;
	return true;
}
