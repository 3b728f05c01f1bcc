/* KVM's paravirtual clock: two MSRs by which the guest names memory that the VMM fills (Linux, virt/kvm/x86/msr.rst).
 */
#ifndef AVANT_CPU_KVMCLOCK_H
#define AVANT_CPU_KVMCLOCK_H

#include "cpu/vcpu.h"
#include "util/types.h"

#define MSR_KVM_WALL_CLOCK  0x4b564d00
#define MSR_KVM_SYSTEM_TIME 0x4b564d01

/* The guest wrote one of the MSRs: remembers the address and fills the structure. */
void kvmclock_set_wall_clock(struct vcpu *v, u64 value);
void kvmclock_set_system_time(struct vcpu *v, u64 value);

/* Fills the system time structure anew, if the guest uses it. To be called after the guest's TSC has moved. */
void kvmclock_update(struct vcpu *v);

/* The same, and tells the guest that it stood still, for which its watchdogs should not blame anybody. */
void kvmclock_tell_stop(struct vcpu *v);

/* ns = ((ticks << shift) * mul) >> 32, with a negative shift to the right. For 1 kHz to 8 GHz. */
struct tsc_scale {
	u32 mul;
	s8 shift;
};
struct tsc_scale kvmclock_scale(u64 tsc_khz);

#endif
