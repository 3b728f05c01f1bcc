/* What the device tests share: a machine without guest on the instruction clock, so that time stands until moved. */
#ifndef AVANT_TEST_DEV_MACHINE_H
#define AVANT_TEST_DEV_MACHINE_H

#include "cpu/vcpu.h"
#include "dev/platform.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct vm *vm;
static struct {
	bool irq_line;
	unsigned irq_line_changes;
	enum exit_reason stop_reason;
	int stop_code;
	bool stop_error;
} seen;

void vm_stop(struct vm *stopped, enum exit_reason reason, int code)
{
	assert_ptr_equal(stopped, vm);
	seen.stop_reason = reason;
	seen.stop_code = code;
}

void vm_stop_error(struct vm *stopped, const char *message)
{
	assert_ptr_equal(stopped, vm);
	assert_non_null(message);
	seen.stop_error = true;
}

void vm_set_irq_line(struct vm *set, bool asserted)
{
	assert_ptr_equal(set, vm);
	assert_int_not_equal(seen.irq_line, asserted); /* told of changes only */
	seen.irq_line = asserted;
	seen.irq_line_changes++;
}

static inline int machine_setup_with(struct console *console, bool debug_exit)
{
	struct err err = ERR_INIT;

	memset(&seen, 0, sizeof(seen));
	vm = calloc(1, sizeof(*vm));
	vm->vcpu = aligned_alloc(64, align_up(sizeof(struct vcpu), 64));
	memset(vm->vcpu, 0, sizeof(*vm->vcpu));
	vm->vcpu->vm = vm;
	vm->console = console;
	vm->config.debug_exit = debug_exit;
	assert_int_equal(clock_init(&vm->clock, CLOCK_SOURCE_INSTRUCTIONS, vm->vcpu, &err), 0);
	assert_int_equal(platform_create(vm, &err), 0);
	return 0;
}

static inline int machine_setup(void **state)
{
	(void)state;
	return machine_setup_with(NULL, false);
}

static inline int machine_teardown(void **state)
{
	(void)state;
	platform_destroy(vm);
	clock_release(&vm->clock);
	free(vm->vcpu);
	free(vm);
	return 0;
}

/* Executes `n` instructions, that is nanoseconds, and fires timers where the budget says so. */
static inline void run(u64 n)
{
	struct vcpu *v = vm->vcpu;

	while (n) {
		u64 step = v->budget < (s64)n ? (u64)v->budget : n;

		v->icount += step;
		v->budget -= (s64)step;
		n -= step;
		if (v->budget == 0)
			clock_run(&vm->clock);
		if (step == 0)
			assert_true(v->budget > 0); /* a device that is always due would stop time */
	}
}

static inline u8 in8(u16 port)
{
	return (u8)bus_read(&vm->ports, port, 1);
}

static inline void out8(u16 port, u8 value)
{
	bus_write(&vm->ports, port, 1, value);
}

/* Routes interrupts through the 8259 pair: vectors from 0x20 and 0x28, all inputs open, edge-triggered. */
static inline void setup_pic(void)
{
	static const u16 ports[2] = {PORT_PIC_MASTER, PORT_PIC_SLAVE};

	for (unsigned i = 0; i < 2; i++) {
		out8(ports[i], 0x11);
		out8(ports[i] + 1, (u8)(0x20 + 8 * i));
		out8(ports[i] + 1, i ? 2 : 4);
		out8(ports[i] + 1, 1);
		out8(ports[i] + 1, 0);
	}
}

static inline u32 lapic_mmio(unsigned offset)
{
	return (u32)bus_read(&vm->mmio, MMIO_LAPIC + offset, 4);
}

static inline void lapic_set(unsigned offset, u32 value)
{
	bus_write(&vm->mmio, MMIO_LAPIC + offset, 4, value);
}

static inline u32 ioapic_get(unsigned index)
{
	bus_write(&vm->mmio, MMIO_IOAPIC, 4, index);
	return (u32)bus_read(&vm->mmio, MMIO_IOAPIC + 0x10, 4);
}

static inline void ioapic_set(unsigned index, u32 value)
{
	bus_write(&vm->mmio, MMIO_IOAPIC, 4, index);
	bus_write(&vm->mmio, MMIO_IOAPIC + 0x10, 4, value);
}

#define IOAPIC_ENTRY(pin) (0x10u + 2 * (pin))

#endif
