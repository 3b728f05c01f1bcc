/* Port 0xf2: the guest marks a stage of its boot, the run's statistics print when that was. */
#ifndef AVANT_DEV_BOOT_TIMER_H
#define AVANT_DEV_BOOT_TIMER_H

#include "util/types.h"

struct vm;
struct boot_timer;

#define BOOT_MARKS 256

/* NULL: out of memory. */
struct boot_timer *boot_timer_create(struct vm *vm);
void boot_timer_destroy(struct boot_timer *timer);

/* When byte `mark` was first written, in clock_ns(); CLOCK_NEVER if it was not. */
u64 boot_timer_mark(const struct boot_timer *timer, u8 mark);

#endif
