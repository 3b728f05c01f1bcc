/* ACPI fixed hardware (ACPI 6.4, 4.8): PM1 event and control blocks, PM timer, reset register. */
#ifndef AVANT_DEV_ACPI_PM_H
#define AVANT_DEV_ACPI_PM_H

#include "util/types.h"

struct vm;
struct acpi_pm;

#define ACPI_PM_TIMER_HZ 3579545ULL

/* NULL: out of memory. vm->irqchip must exist. */
struct acpi_pm *acpi_pm_create(struct vm *vm);
void acpi_pm_destroy(struct acpi_pm *pm);

/*
 * Asks the guest to shut down. False if it does not listen: the button's event is not enabled (ACPI 6.4, 4.8.3.1.2).
 * vCPU thread only.
 */
bool acpi_pm_press_power_button(struct acpi_pm *pm);

/* The reset register: its port lies among those of PCI, which pass accesses on. */
u8 acpi_pm_reset_read(const struct acpi_pm *pm);
void acpi_pm_reset_write(struct acpi_pm *pm, u8 value);

#endif
