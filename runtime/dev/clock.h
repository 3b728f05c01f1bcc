/*
 * Guest time and timers. One source: the guest's TSC. On the host clock it follows the host's TSC, and while the
 * process or the host was stopped, the time that went by; with
 * `--clock=instructions` it is a function of the number of executed instructions, which makes a run repeatable.
 */
#ifndef AVANT_DEV_CLOCK_H
#define AVANT_DEV_CLOCK_H

#include "util/types.h"

struct vcpu;
struct err;

enum clock_source { CLOCK_SOURCE_HOST, CLOCK_SOURCE_INSTRUCTIONS };

#define CLOCK_NEVER UINT64_MAX

struct timer {
	u64 deadline; /* guest ns since start, or CLOCK_NEVER */
	void (*fire)(void *opaque);
	void *opaque;
	struct timer *next;
};

struct clock {
	enum clock_source source;
	u64 tsc_khz;   /* guest TSC frequency; = the host's on the host clock */
	u64 tsc_base;  /* host TSC at start (host clock); may be "before" 0 */
	u64 host_base; /* … and the host's CLOCK_BOOTTIME then */
	u64 seen;      /* clock_tsc() at the last look (host clock) */
	bool stopped;  /* set when nobody looked for long; whoever tells the guest resets it */
	u64 ns_mult;   /* ns = (tsc * ns_mult) >> 32 */
	u64 skipped;   /* instruction clock: TSC ticks skipped while halted */
	struct timer *timers;
	u64 armed;      /* deadline the host timer is armed for, or CLOCK_NEVER */
	s64 boot_epoch; /* wall clock at start, seconds since 1970 (a constant on the instruction clock) */
	u32 boot_nsec;  /* nanoseconds within that second */
	struct vcpu *vcpu;
	void *host_timer; /* the kernel's timer id + 1, NULL without a host timer */
};

/* Measures the host's TSC and prepares the host timer (a signal that calls vcpu_notify). */
int clock_init(struct clock *clock, enum clock_source source, struct vcpu *vcpu, struct err *err);
void clock_release(struct clock *clock);

/* Guest TSC (before the guest's own offset) and guest nanoseconds since start. */
u64 clock_tsc(struct clock *clock);
u64 clock_ns(struct clock *clock);
u64 clock_tsc_to_ns(const struct clock *clock, u64 tsc);
/* The first tick at or after `ns`; CLOCK_NEVER stays CLOCK_NEVER. */
u64 clock_ns_to_tsc(const struct clock *clock, u64 ns);
/* The first nanosecond at which the TSC has reached `tsc`: what to set a timer to. */
u64 clock_tsc_to_deadline(const struct clock *clock, u64 tsc);

/* Registers a timer once; then (re)sets its deadline. The host timer is re-armed only when the earliest moves earlier.
 */
void timer_register(struct clock *clock, struct timer *timer, void (*fire)(void *opaque), void *opaque);
void timer_set(struct clock *clock, struct timer *timer, u64 deadline_ns);

/*
 * Fires every timer that is due, then arms the host timer for the next. vcpu->budget becomes the number of instructions
 * until then on the instruction clock, INT64_MAX on the host's.
 */
void clock_run(struct clock *clock);

/* Earliest deadline, or CLOCK_NEVER. */
u64 clock_next_deadline(const struct clock *clock);

/* The guest was stopped by a debugger for `ticks` of the host's TSC: host time that it does not see. */
void clock_leave_out(struct clock *clock, u64 ticks);

/* Instruction clock: the guest is halted, time jumps to the next deadline. */
void clock_skip_to_next(struct clock *clock);

#endif
