/* Processor state of the 64-bit boot protocol. */
#ifndef AVANT_BOOT_LONG_MODE_H
#define AVANT_BOOT_LONG_MODE_H

#include "util/types.h"

struct vm;

/*
 * Writes a GDT and an identity map of the first 4 GiB to guest memory (layout.h; below 1 MiB, which must be RAM) and
 * puts the vCPU, fresh from vcpu_reset(), into 64-bit mode at CPL 0 with interrupts off: RIP = entry, RSI = params, no
 * IDT (boot.rst, "64-bit BOOT PROTOCOL"). Nothing has run yet, so there is no TLB to flush.
 */
void boot_enter_long_mode(struct vm *vm, u64 entry, u64 params);

#endif
