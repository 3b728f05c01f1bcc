#include "dev/clock.h"

#include "cpu/vcpu.h"
#include "dev/scale.h"
#include "dev/tsc_frequency.h"
#include "util/err.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* One instruction is one nanosecond: slow enough that a guest does not see its timer each few instructions. */
#define INSTRUCTION_TSC_KHZ    1000000ULL
/* 2026-01-01 00:00:00 UTC: repeatable, and later than the build date of any kernel that checks it. */
#define INSTRUCTION_BOOT_EPOCH 1767225600LL

/* A timer that is served so much too late: nobody looked, because the process or its whole host was stopped. */
#define STOPPED_NS  1000000000ULL
/* What the clock is put right by at least. Below that it is left to whoever in the guest keeps time. */
#define CATCH_UP_NS 100000000ULL
/* Counters of different processors may differ by so many ticks. */
#define TSC_SLACK   1000000

/* A timer that is due again as soon as it has fired must not keep clock_run() from returning. */
#define FIRE_LIMIT 64

/* Reached while guest vector state is live, so neither libc's wrapper nor errno will do. */
static long raw_syscall4(long number, u64 a, u64 b, u64 c, u64 d)
{
	register u64 r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

/*
 * Forgets what the host timer was armed for, because that is over: the clock may be a moment behind the host's, and
 * then clock_run() has to arm it once more.
 */
static void on_signal(int number, siginfo_t *info, void *context)
{
	struct clock *clock = info->si_value.sival_ptr;

	(void)number;
	(void)context;
	if (info->si_code != SI_TIMER || !clock)
		return;
	__atomic_store_n(&clock->armed, CLOCK_NEVER, __ATOMIC_SEQ_CST);
	vcpu_notify(clock->vcpu);
}

static int create_host_timer(struct clock *clock, struct err *err)
{
	struct sigaction action;
	struct sigevent event;
	sigset_t set;
	int id = 0, number = SIGRTMIN;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_signal;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	sigfillset(&action.sa_mask);
	if (sigaction(number, &action, NULL) != 0)
		return err_set(err, "cannot handle signal %d: %s", number, strerror(errno));
	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);

	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = number;
	event.sigev_value.sival_ptr = clock;
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	/* not CLOCK_MONOTONIC: that stands still while the host is suspended */
	if (syscall(SYS_timer_create, CLOCK_BOOTTIME, &event, &id) != 0)
		return err_set(err, "cannot create a host timer: %s", strerror(errno));
	clock->host_timer = (void *)((uintptr_t)(unsigned)id + 1);
	return 0;
}

static u64 boottime_ns(void)
{
	struct timespec now;

	raw_syscall4(SYS_clock_gettime, CLOCK_BOOTTIME, (uintptr_t)&now, 0, 0);
	return (u64)now.tv_sec * NS_PER_SECOND + (u64)now.tv_nsec;
}

int clock_init(struct clock *clock, enum clock_source source, struct vcpu *vcpu, struct err *err)
{
	memset(clock, 0, sizeof(*clock));
	clock->source = source;
	clock->vcpu = vcpu;
	clock->armed = CLOCK_NEVER;
	vcpu->budget = INT64_MAX;
	if (source == CLOCK_SOURCE_INSTRUCTIONS) {
		clock->tsc_khz = INSTRUCTION_TSC_KHZ;
		clock->boot_epoch = INSTRUCTION_BOOT_EPOCH;
	} else {
		struct timespec now;

		clock->tsc_khz = host_tsc_khz(err);
		if (clock->tsc_khz == 0 || create_host_timer(clock, err) != 0)
			return -1;
		clock_gettime(CLOCK_REALTIME, &now);
		clock->boot_epoch = now.tv_sec;
		clock->boot_nsec = (u32)now.tv_nsec;
		clock->tsc_base = host_tsc();
		clock->host_base = boottime_ns();
	}
	clock->ns_mult = (1000000ULL << 32) / clock->tsc_khz;
	return 0;
}

void clock_release(struct clock *clock)
{
	if (clock->host_timer)
		syscall(SYS_timer_delete, (int)((uintptr_t)clock->host_timer - 1));
	clock->host_timer = NULL;
	clock->timers = NULL;
}

u64 clock_tsc(struct clock *clock)
{
	u64 now;

	if (clock->source == CLOCK_SOURCE_INSTRUCTIONS)
		return clock->vcpu->icount + clock->skipped;
	now = host_tsc() - clock->tsc_base;
	/* A processor whose counter lags by a few ticks must not make time start with a huge value. */
	return LIKELY((s64)now > 0) ? now : 0;
}

u64 clock_tsc_to_ns(const struct clock *clock, u64 tsc)
{
	return (u64)(((unsigned __int128)tsc * clock->ns_mult) >> 32);
}

u64 clock_ns(struct clock *clock)
{
	return clock_tsc_to_ns(clock, clock_tsc(clock));
}

u64 clock_ns_to_tsc(const struct clock *clock, u64 ns)
{
	return ns == CLOCK_NEVER ? CLOCK_NEVER : scale_up(ns, BIT(32), clock->ns_mult);
}

u64 clock_tsc_to_deadline(const struct clock *clock, u64 tsc)
{
	return tsc == CLOCK_NEVER ? CLOCK_NEVER : scale_up(tsc, clock->ns_mult, BIT(32));
}

/* Lets the host timer expire at `deadline`, or announces it at once if it is not in the future. */
static void arm_host_timer(struct clock *clock, u64 deadline)
{
	struct itimerspec spec;
	u64 now = clock_ns(clock), wait;

	if (deadline <= now) {
		vcpu_notify(clock->vcpu);
		return;
	}
	/* Relative, because guest and host nanoseconds differ by what the host corrects its own clock. */
	wait = deadline - now;
	spec.it_interval.tv_sec = 0;
	spec.it_interval.tv_nsec = 0;
	spec.it_value.tv_sec = (time_t)(wait / NS_PER_SECOND);
	spec.it_value.tv_nsec = (long)(wait % NS_PER_SECOND);
	/* In this order: the signal may come before the system call has returned, and takes the mark back. */
	__atomic_store_n(&clock->armed, deadline, __ATOMIC_SEQ_CST);
	raw_syscall4(SYS_timer_settime, (uintptr_t)clock->host_timer - 1, 0, (uintptr_t)&spec, 0);
}

/* Instructions until `deadline`. */
static s64 instructions_until(struct clock *clock, u64 deadline)
{
	u64 now = clock_tsc(clock), then = clock_ns_to_tsc(clock, deadline);

	if (then <= now)
		return 0;
	return then - now > (u64)INT64_MAX ? INT64_MAX : (s64)(then - now);
}

void timer_register(struct clock *clock, struct timer *timer, void (*fire)(void *opaque), void *opaque)
{
	struct timer **last = &clock->timers;

	/* At the end: equal deadlines fire in the order of registration. */
	while (*last)
		last = &(*last)->next;
	*last = timer;
	timer->deadline = CLOCK_NEVER;
	timer->fire = fire;
	timer->opaque = opaque;
	timer->next = NULL;
}

void timer_set(struct clock *clock, struct timer *timer, u64 deadline_ns)
{
	timer->deadline = deadline_ns;
	if (deadline_ns == CLOCK_NEVER)
		return;
	if (clock->source == CLOCK_SOURCE_INSTRUCTIONS) {
		s64 left = instructions_until(clock, deadline_ns);

		if (left < clock->vcpu->budget)
			clock->vcpu->budget = left;
	} else if (deadline_ns < __atomic_load_n(&clock->armed, __ATOMIC_SEQ_CST)) {
		arm_host_timer(clock, deadline_ns);
	}
}

static struct timer *earliest(const struct clock *clock)
{
	struct timer *first = clock->timers;

	for (struct timer *t = first; t; t = t->next)
		if (t->deadline < first->deadline)
			first = t;
	return first;
}

u64 clock_next_deadline(const struct clock *clock)
{
	const struct timer *first = earliest(clock);

	return first ? first->deadline : CLOCK_NEVER;
}

static void fire_due(struct clock *clock)
{
	u64 now = clock_ns(clock);

	for (int i = 0; i < FIRE_LIMIT; i++) {
		struct timer *timer = earliest(clock);

		if (!timer || timer->deadline > now)
			return;
		timer->deadline = CLOCK_NEVER;
		timer->fire(timer->opaque);
	}
}

void clock_leave_out(struct clock *clock, u64 ticks)
{
	if (clock->source != CLOCK_SOURCE_HOST)
		return;
	clock->tsc_base += ticks;
	clock->host_base += clock_tsc_to_ns(clock, ticks);
}

/* The guest's clock behind the host's: it goes on from where that is, and never back. */
static void catch_up(struct clock *clock, u64 now)
{
	const u64 host = boottime_ns() - clock->host_base;

	if ((s64)(host - now) < (s64)CATCH_UP_NS)
		return;
	clock->tsc_base = host_tsc() - clock_ns_to_tsc(clock, host);
	clock->stopped = true;
}

/*
 * Was the process or the whole host stopped? Then a timer is overdue since long; or, because the counter of a suspended
 * host may stand still or start anew, the host's timer was early, or the guest's clock has gone back. The guest should
 * know, for its watchdogs' sake, and its clock be right.
 */
static void look_for_stops(struct clock *clock)
{
	const u64 ticks = clock_tsc(clock), now = clock_tsc_to_ns(clock, ticks);
	const u64 deadline = clock_next_deadline(clock), seen = clock_tsc_to_ns(clock, clock->seen);
	const bool back = ticks + TSC_SLACK < clock->seen;
	const bool late = deadline > seen && deadline < now && now - deadline > STOPPED_NS;
	const bool early = deadline > now && deadline != CLOCK_NEVER && deadline - now > CATCH_UP_NS &&
			   __atomic_load_n(&clock->armed, __ATOMIC_SEQ_CST) == CLOCK_NEVER;

	if (UNLIKELY(back || late || early)) {
		clock->stopped |= back || late;
		catch_up(clock, now);
	}
	clock->seen = clock_tsc(clock);
}

void clock_run(struct clock *clock)
{
	u64 none = 0, armed, next;

	if (clock->source == CLOCK_SOURCE_INSTRUCTIONS) {
		fire_due(clock);
		next = clock_next_deadline(clock);
		clock->vcpu->budget = next == CLOCK_NEVER ? INT64_MAX : instructions_until(clock, next);
		return;
	}
	look_for_stops(clock);
	clock->vcpu->budget = INT64_MAX; /* counting on the host clock: no timer limits it */
	/* Nothing is earlier than 0: timers that are set meanwhile do not arm the host timer one by one. */
	armed = __atomic_exchange_n(&clock->armed, 0, __ATOMIC_SEQ_CST);
	fire_due(clock);
	/* Fails if the signal came meanwhile, which has stored CLOCK_NEVER. */
	if (!__atomic_compare_exchange_n(&clock->armed, &none, armed, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		armed = CLOCK_NEVER;
	next = clock_next_deadline(clock);
	if (next != CLOCK_NEVER && (next < armed || armed <= clock_ns(clock)))
		arm_host_timer(clock, next);
}

void clock_skip_to_next(struct clock *clock)
{
	u64 next = clock_next_deadline(clock);

	if (clock->source == CLOCK_SOURCE_INSTRUCTIONS && next != CLOCK_NEVER)
		clock->skipped += (u64)instructions_until(clock, next);
}
