#include "dev/platform.h"

#include "dev/acpi_pm.h"
#include "dev/boot_timer.h"
#include "dev/debug_exit.h"
#include "dev/irqchip.h"
#include "dev/pci.h"
#include "dev/pit.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "util/err.h"
#include "vm.h"

/*
 * Port 0x80 (POST codes, and Linux' I/O delay) and the ports that Linux probes for devices that are not here, such as
 * 0x60 and 0x64, need no device: an empty bus ignores writes and reads as all ones.
 */
int platform_create(struct vm *vm, struct err *err)
{
	vm->irqchip = irqchip_create(vm);
	if (!vm->irqchip)
		return err_set(err, "out of memory for the devices");
	vm->pit = pit_create(vm);
	vm->rtc = rtc_create(vm);
	vm->uart = uart_create(vm);
	vm->pm = acpi_pm_create(vm);
	vm->pci = pci_create(vm);
	vm->boot_timer = boot_timer_create(vm);
	if (vm->config.debug_exit)
		debug_exit_add(vm);
	if (!vm->pit || !vm->rtc || !vm->uart || !vm->pm || !vm->pci || !vm->boot_timer) {
		platform_destroy(vm);
		return err_set(err, "out of memory for the devices");
	}
	return 0;
}

void platform_destroy(struct vm *vm)
{
	boot_timer_destroy(vm->boot_timer);
	pci_destroy(vm->pci);
	acpi_pm_destroy(vm->pm);
	uart_destroy(vm->uart);
	rtc_destroy(vm->rtc);
	pit_destroy(vm->pit);
	irqchip_destroy(vm->irqchip);
	vm->boot_timer = NULL;
	vm->pci = NULL;
	vm->pm = NULL;
	vm->uart = NULL;
	vm->rtc = NULL;
	vm->pit = NULL;
	vm->irqchip = NULL;
	/* Their timers lie in what was freed. */
	vm->clock.timers = NULL;
	vm->ports.count = 0;
	vm->mmio.count = 0;
}
