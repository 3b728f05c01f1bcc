/* Direct boot of Linux: no firmware, no boot loader (Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL"). */
#ifndef AVANT_BOOT_LINUX_H
#define AVANT_BOOT_LINUX_H

#include "util/err.h"

struct vm;

/*
 * Loads the kernel, initrd and command line that vm->config names into guest RAM (fresh, hence all zero), adds boot
 * parameters, memory map and ACPI tables, and sets vm->vcpu, which has been through vcpu_reset(), to the kernel's
 * 64-bit entry. Returns 0, or -1 with a message in err.
 */
int boot_linux(struct vm *vm, struct err *err);

#endif
