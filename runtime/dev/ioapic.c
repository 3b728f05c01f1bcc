/*
 * I/O APIC: Intel 82093AA with the EOI register of its successors (version 20h). A pin's polarity bit is kept but has
 * no effect: lines here are asserted or not.
 */
#include "dev/bus.h"
#include "dev/irqchip_parts.h"
#include "dev/platform.h"
#include "vm.h"

#include <stdlib.h>

#define REG_SELECT  0x00
#define REG_WINDOW  0x10
#define REG_EOI     0x40
#define IOAPIC_SIZE PAGE_SIZE

#define INDEX_ID          0
#define INDEX_VERSION     1
#define INDEX_ARBITRATION 2
#define INDEX_ENTRIES     0x10

#define VERSION (0x20u | (GSI_COUNT - 1) << 16)

/* Redirection table entry, low half. */
#define ENTRY_LOGICAL       BIT(11)
#define ENTRY_REMOTE_IRR    BIT(14)
#define ENTRY_LEVEL         BIT(15)
#define ENTRY_MASKED        BIT(16)
#define ENTRY_WRITABLE_LOW  0x1afffu /* all but delivery status, remote IRR and the reserved bits */
#define ENTRY_WRITABLE_HIGH 0xff000000u

struct ioapic {
	struct irqchip *chip;
	u32 select;
	u32 id;
	u32 lines; /* levels of the pins */
	u64 entry[GSI_COUNT];
};

static bool deliver(struct ioapic *io, u64 entry)
{
	struct apic_message message = {
		.destination = entry >> 56,
		.logical = (entry & ENTRY_LOGICAL) != 0,
		.level = (entry & ENTRY_LEVEL) != 0,
		.mode = (entry >> 8) & 7,
		.vector = entry & 0xff,
	};

	return lapic_deliver(io->chip->lapic, &message);
}

/* Delivers what a level-triggered pin asks for, unless the previous one is still being served. */
static void service_level(struct ioapic *io, unsigned pin)
{
	u64 *entry = &io->entry[pin];

	if (!(io->lines & BIT(pin)) || !(*entry & ENTRY_LEVEL) || (*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
		return;
	if (deliver(io, *entry))
		*entry |= ENTRY_REMOTE_IRR;
}

void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level)
{
	u32 bit = 1u << pin;
	bool rise = level && !(io->lines & bit);

	io->lines = level ? io->lines | bit : io->lines & ~bit;
	if (io->entry[pin] & ENTRY_LEVEL)
		service_level(io, pin);
	else if (rise && !(io->entry[pin] & ENTRY_MASKED)) /* an edge on a masked pin is lost (3.2.4) */
		deliver(io, io->entry[pin]);
}

void ioapic_end_of_interrupt(struct ioapic *io, u8 vector)
{
	for (unsigned pin = 0; pin < GSI_COUNT; pin++) {
		if ((io->entry[pin] & 0xff) != vector || !(io->entry[pin] & ENTRY_REMOTE_IRR))
			continue;
		io->entry[pin] &= ~ENTRY_REMOTE_IRR;
		service_level(io, pin);
	}
}

static void write_entry(struct ioapic *io, unsigned pin, bool high, u32 value)
{
	u64 *entry = &io->entry[pin];

	if (high)
		*entry = (*entry & 0xffffffff) | (u64)(value & ENTRY_WRITABLE_HIGH) << 32;
	else
		*entry = (*entry & ~(u64)ENTRY_WRITABLE_LOW) | (value & ENTRY_WRITABLE_LOW);
	/* Turning a pin to edge mode is how software gets rid of a remote IRR whose EOI went astray. */
	if (!(*entry & ENTRY_LEVEL))
		*entry &= ~ENTRY_REMOTE_IRR;
	service_level(io, pin);
}

static u32 read_window(const struct ioapic *io)
{
	u32 index = io->select;

	switch (index) {
	case INDEX_ID:
	case INDEX_ARBITRATION:
		return io->id;
	case INDEX_VERSION:
		return VERSION;
	default:
		break;
	}
	if (index < INDEX_ENTRIES || index >= INDEX_ENTRIES + 2 * GSI_COUNT)
		return 0;
	index -= INDEX_ENTRIES;
	return index & 1 ? io->entry[index / 2] >> 32 : (u32)io->entry[index / 2];
}

static void write_window(struct ioapic *io, u32 value)
{
	u32 index = io->select;

	if (index == INDEX_ID)
		io->id = value & 0x0f000000;
	if (index < INDEX_ENTRIES || index >= INDEX_ENTRIES + 2 * GSI_COUNT)
		return;
	index -= INDEX_ENTRIES;
	write_entry(io, index / 2, index & 1, value);
}

static u64 mmio_read(void *device, u64 offset, unsigned size)
{
	const struct ioapic *io = device;

	(void)size;
	switch (offset) {
	case REG_SELECT:
		return io->select;
	case REG_WINDOW:
		return read_window(io);
	default:
		return 0;
	}
}

static void mmio_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct ioapic *io = device;

	(void)size;
	switch (offset) {
	case REG_SELECT:
		io->select = value & 0xff;
		return;
	case REG_WINDOW:
		write_window(io, value);
		break;
	case REG_EOI:
		ioapic_end_of_interrupt(io, value);
		break;
	default:
		return;
	}
	irqchip_update(io->chip);
}

struct ioapic *ioapic_create(struct vm *vm, struct irqchip *chip)
{
	static const struct bus_ops ops = {.read = mmio_read, .write = mmio_write, .widest = 4};
	struct ioapic *io = calloc(1, sizeof(*io));

	if (!io)
		return NULL;
	io->chip = chip;
	for (unsigned pin = 0; pin < GSI_COUNT; pin++)
		io->entry[pin] = ENTRY_MASKED;
	bus_add(&vm->mmio, MMIO_IOAPIC, IOAPIC_SIZE, &ops, io, "ioapic");
	return io;
}

void ioapic_destroy(struct ioapic *io)
{
	free(io);
}
