#include "cpu/kvmclock.h"

#include "dev/irqchip.h"
#include "mem/mem.h"
#include "vm.h"

#define ENABLED       1ULL /* bit 0 of the system time MSR */
#define TSC_STABLE    1    /* flag: the clock never differs between CPUs nor goes back */
#define GUEST_STOPPED 2    /* flag: no reason for alarms of watchdogs; the guest clears it */
#define NS_PER_SECOND 1000000000ULL

struct wall_clock {
	u32 version; /* even: complete */
	u32 seconds;
	u32 nanoseconds;
};

struct system_time {
	u32 version;
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags;
	u8 pad[2];
};
_Static_assert(sizeof(struct system_time) == 32, "layout is part of the interface");

struct tsc_scale kvmclock_scale(u64 tsc_khz)
{
	u64 hz = tsc_khz * 1000, nanoseconds = NS_PER_SECOND << 32;
	s8 shift = 0;

	if (!hz)
		return (struct tsc_scale){0};
	/* bring ns/hz to [1/2, 1), so that the multiplier uses all of its 32 bits */
	for (; hz <= NS_PER_SECOND; shift++)
		hz <<= 1;
	for (u64 rest = hz; rest > 2 * NS_PER_SECOND && shift > -2; rest >>= 1) {
		nanoseconds <<= 1;
		shift--;
	}
	return (struct tsc_scale){.mul = (u32)(nanoseconds / hz), .shift = shift};
}

static void fill_system_time(struct vcpu *v, u8 flags)
{
	struct clock *clock = &v->vm->clock;
	const struct tsc_scale scale = kvmclock_scale(clock->tsc_khz);
	const u64 tsc = clock_tsc(clock);
	struct system_time time = {
		.tsc_timestamp = tsc + v->tsc_offset,
		.system_time = clock_tsc_to_ns(clock, tsc),
		.tsc_to_system_mul = scale.mul,
		.tsc_shift = scale.shift,
		.flags = TSC_STABLE | flags,
	};
	const u64 gpa = v->kvm_system_time & ~ENABLED;

	/* the only CPU is not executing now, so no odd version need be seen; memory that is not RAM stays unfilled */
	if (phys_read(v->vm, gpa, &time.version, sizeof(time.version)) != 0)
		return;
	time.version = (time.version & ~1u) + 2;
	phys_write(v->vm, gpa, &time, sizeof(time));
}

void kvmclock_update(struct vcpu *v)
{
	if (v->kvm_system_time & ENABLED)
		fill_system_time(v, 0);
}

void kvmclock_tell_stop(struct vcpu *v)
{
	if (v->kvm_system_time & ENABLED)
		fill_system_time(v, GUEST_STOPPED);
}

void kvmclock_set_system_time(struct vcpu *v, u64 value)
{
	v->kvm_system_time = value;
	kvmclock_update(v);
}

void kvmclock_set_wall_clock(struct vcpu *v, u64 value)
{
	const struct clock *clock = &v->vm->clock;
	struct wall_clock time = {.seconds = (u32)clock->boot_epoch, .nanoseconds = clock->boot_nsec};

	v->kvm_wall_clock = value;
	lapic_time_starts(v->vm->irqchip);
	if (phys_read(v->vm, value, &time.version, sizeof(time.version)) != 0)
		return;
	time.version = (time.version & ~1u) + 2;
	phys_write(v->vm, value, &time, sizeof(time));
}
