/* How fast the host's time-stamp counter runs. */
#ifndef AVANT_DEV_TSC_FREQUENCY_H
#define AVANT_DEV_TSC_FREQUENCY_H

#include "util/types.h"

struct err;

static inline u64 host_tsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

/*
 * Frequency of the host's TSC in kHz, from the most exact source there is: the host kernel's own figure, the
 * processor's (checked against a short measurement), a measurement of 20 ms; corrected as the host corrects its clock.
 * 0 with a message in err.
 */
u64 host_tsc_khz(struct err *err);

#endif
