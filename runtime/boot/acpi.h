/* The machine's ACPI tables (ACPI 6.4, chapter 5). Their figures come from dev/platform.h. */
#ifndef AVANT_BOOT_ACPI_H
#define AVANT_BOOT_ACPI_H

#include "util/types.h"

/*
 * Builds RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT in `size` bytes of guest memory (a few KiB) at guest physical
 * address `gpa`, of which `area` is the host's view. The RSDP comes first. Returns its guest physical address. `rtc`:
 * they name the CMOS clock.
 */
u64 acpi_build(u8 *area, u64 gpa, u64 size, bool rtc);

#endif
