#include "dev/acpi_pm.h"

#include "dev/bus.h"
#include "dev/irqchip.h"
#include "dev/platform.h"
#include "dev/scale.h"
#include "vm.h"

#include <stdlib.h>

/* PM1 status and enable: the same bits (4.8.3.1). */
#define PM1_TIMER        BIT(0)
#define PM1_GLOBAL       BIT(5)
#define PM1_POWER_BUTTON BIT(8)
#define PM1_SLEEP_BUTTON BIT(9)
#define PM1_RTC          BIT(10)
#define PM1_ENABLES      (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)

/* PM1 control (4.8.3.2). SCI_EN is always set: there is no SMM to take the events and no port to ask it. */
#define PM1_SCI_ENABLE        BIT(0)
#define PM1_BUS_MASTER_RELOAD BIT(1)
#define PM1_SLEEP_TYPE_SHIFT  10
#define PM1_SLEEP_TYPE        (7ULL << PM1_SLEEP_TYPE_SHIFT)
#define PM1_SLEEP_ENABLE      BIT(13)

/* The PM timer's status bit is set whenever its top bit changes. */
#define TIMER_HALF BIT(31)

/* Reset control register of PC chipsets: this bit resets the processor. */
#define RESET_CPU 0x04

struct acpi_pm {
	struct vm *vm;
	struct timer timer;
	u16 status, enable, control;
	u8 reset;
	u64 halves_seen; /* how often the PM timer's top bit had changed when its status bit was cleared */
};

/* 3.579545 MHz ticks since start; the register shows the low 32 bits. */
static u64 timer_ticks(const struct acpi_pm *pm)
{
	return scale(clock_ns(&pm->vm->clock), ACPI_PM_TIMER_HZ, NS_PER_SECOND);
}

static void update(struct acpi_pm *pm)
{
	u64 halves = timer_ticks(pm) / TIMER_HALF, deadline = CLOCK_NEVER;

	if (halves != pm->halves_seen) {
		pm->halves_seen = halves;
		pm->status |= PM1_TIMER;
	}
	if ((pm->enable & PM1_TIMER) && !(pm->status & PM1_TIMER))
		deadline = scale_up((halves + 1) * TIMER_HALF, NS_PER_SECOND, ACPI_PM_TIMER_HZ);
	timer_set(&pm->vm->clock, &pm->timer, deadline);
	irqchip_set_line(pm->vm->irqchip, GSI_SCI, pm->status & pm->enable);
}

static void timer_fired(void *opaque)
{
	update(opaque);
}

/* The part of a little-endian register block that an access of any size at `offset` sees. */
static u64 extract(u64 block, u64 offset)
{
	return block >> (8 * offset);
}

static u64 event_read(void *device, u64 offset, unsigned size)
{
	struct acpi_pm *pm = device;

	(void)size;
	update(pm);
	return extract((u64)pm->enable << 16 | pm->status, offset);
}

static void event_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct acpi_pm *pm = device;
	u64 written = (BIT(8 * size) - 1) << (8 * offset);

	value <<= 8 * offset;
	update(pm);
	pm->status &= ~(u16)value;
	pm->enable = ((pm->enable & ~(written >> 16)) | value >> 16) & PM1_ENABLES;
	update(pm);
}

static u64 control_read(void *device, u64 offset, unsigned size)
{
	const struct acpi_pm *pm = device;

	(void)size;
	return extract(pm->control, offset);
}

static void control_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct acpi_pm *pm = device;
	u64 written = (BIT(8 * size) - 1) << (8 * offset);

	value <<= 8 * offset;
	pm->control &= ~written;
	pm->control |= value & (PM1_BUS_MASTER_RELOAD | PM1_SLEEP_TYPE);
	pm->control |= PM1_SCI_ENABLE;
	if (!(value & PM1_SLEEP_ENABLE))
		return;
	if ((value & PM1_SLEEP_TYPE) >> PM1_SLEEP_TYPE_SHIFT == ACPI_SLEEP_TYPE_S5)
		vm_stop(pm->vm, EXIT_POWER_OFF, 0);
}

static u64 timer_read(void *device, u64 offset, unsigned size)
{
	const struct acpi_pm *pm = device;

	(void)size;
	return extract((u32)timer_ticks(pm), offset);
}

u8 acpi_pm_reset_read(const struct acpi_pm *pm)
{
	return pm->reset;
}

void acpi_pm_reset_write(struct acpi_pm *pm, u8 value)
{
	pm->reset = value & (u8)~RESET_CPU;
	if (value & RESET_CPU)
		vm_stop(pm->vm, EXIT_RESET, 0);
}

bool acpi_pm_press_power_button(struct acpi_pm *pm)
{
	pm->status |= PM1_POWER_BUTTON;
	update(pm);
	return pm->enable & PM1_POWER_BUTTON;
}

struct acpi_pm *acpi_pm_create(struct vm *vm)
{
	static const struct bus_ops event = {.read = event_read, .write = event_write, .widest = 4};
	static const struct bus_ops control = {.read = control_read, .write = control_write, .widest = 2};
	static const struct bus_ops timer = {.read = timer_read};
	struct acpi_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return NULL;
	pm->vm = vm;
	pm->control = PM1_SCI_ENABLE;
	timer_register(&vm->clock, &pm->timer, timer_fired, pm);
	bus_add(&vm->ports, PORT_ACPI_PM1_EVENT, 4, &event, pm, "acpi pm1 event");
	bus_add(&vm->ports, PORT_ACPI_PM1_CONTROL, 2, &control, pm, "acpi pm1 control");
	bus_add(&vm->ports, PORT_ACPI_PM_TIMER, 4, &timer, pm, "acpi pm timer");
	return pm;
}

void acpi_pm_destroy(struct acpi_pm *pm)
{
	free(pm);
}
