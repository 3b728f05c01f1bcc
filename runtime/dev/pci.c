/* The bus: how software reaches configuration space and BARs, and where INTA of each slot goes. */
#include "dev/pci.h"

#include "dev/acpi_pm.h"
#include "dev/irqchip.h"
#include "dev/platform.h"
#include "util/err.h"
#include "vm.h"

#include <stdlib.h>

#define ADDRESS_ENABLE BIT(31)

/*
 * A host bridge without quirks of any chipset; the numbers are those that Red Hat reserves for the generic one of
 * virtual machines.
 */
static const struct pci_identity bridge_identity = {
	.vendor = 0x1b36,
	.device = 0x0008,
	.class_code = 0x060000,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
};

struct pci {
	struct vm *vm;
	u32 address; /* port CF8 */
	struct pci_device *slot[PCI_SLOTS];
	struct pci_device bridge;
	struct bus memory;           /* the BARs that decode, by address */
	u64 memory_used;             /* BARs have been given addresses up to here */
	u32 asserted[PCI_GSI_COUNT]; /* the slots that assert each line */
};

struct vm *pci_vm(const struct pci *pci)
{
	return pci->vm;
}

/* --- configuration space ----------------------------------------------------------------------------------------- */

static struct pci_device *find(const struct pci *pci, unsigned bus, unsigned devfn)
{
	return bus == 0 && devfn % 8 == 0 ? pci->slot[devfn / 8] : NULL;
}

/* The device that CF8 names, and whether it names any. */
static struct pci_device *addressed(const struct pci *pci)
{
	return pci->address & ADDRESS_ENABLE ? find(pci, pci->address >> 16 & 0xff, pci->address >> 8 & 0xff) : NULL;
}

/*
 * CF8 takes words of 32 bits only (PCI 3.0, 3.2.2.3.2); smaller accesses go past it, to what a chipset has there: the
 * reset register at CF9.
 */
static u64 ports_read(void *device, u64 offset, unsigned size)
{
	struct pci *pci = device;
	struct pci_device *target;

	if (offset == 0 && size == 4)
		return pci->address;
	if (offset == PORT_RESET - PORT_PCI && size == 1)
		return acpi_pm_reset_read(pci->vm->pm);
	if (offset < 4)
		return UINT64_MAX;
	target = addressed(pci);
	return target ? pci_device_read(target, (pci->address & 0xfc) + (offset & 3), size) : UINT64_MAX;
}

static void ports_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pci *pci = device;
	struct pci_device *target;

	if (offset == 0 && size == 4)
		pci->address = (u32)value & (ADDRESS_ENABLE | 0xfffffc);
	else if (offset == PORT_RESET - PORT_PCI && size == 1)
		acpi_pm_reset_write(pci->vm->pm, (u8)value);
	if (offset < 4)
		return;
	target = addressed(pci);
	if (target)
		pci_device_write(target, (pci->address & 0xfc) + (offset & 3), size, (u32)value);
}

/* No device here has more than the first 256 bytes of its 4 KiB: the rest reads as if nobody were there. */
static struct pci_device *ecam_find(const struct pci *pci, u64 offset, unsigned size)
{
	if (offset % PAGE_SIZE + size > PCI_CONFIG_SIZE)
		return NULL;
	return find(pci, (unsigned)(offset >> 20), offset >> 12 & 0xff);
}

static u64 ecam_read(void *device, u64 offset, unsigned size)
{
	struct pci_device *target = ecam_find(device, offset, size);

	return target ? pci_device_read(target, offset % PAGE_SIZE, size) : UINT64_MAX;
}

static void ecam_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pci_device *target = ecam_find(device, offset, size);

	if (target)
		pci_device_write(target, offset % PAGE_SIZE, size, (u32)value);
}

/* --- BARs -------------------------------------------------------------------------------------------------------- */

static u64 window_read(void *device, u64 offset, unsigned size)
{
	struct pci *pci = device;

	return bus_read(&pci->memory, PCI_MMIO_BASE + offset, size);
}

static void window_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pci *pci = device;

	bus_write(&pci->memory, PCI_MMIO_BASE + offset, size, value);
}

static u32 bar_base(const struct pci_device *device, unsigned bar)
{
	const u8 *at = device->config + PCI_BAR0 + 4 * (u64)bar;

	return (u32)at[0] | (u32)at[1] << 8 | (u32)at[2] << 16 | (u32)at[3] << 24;
}

/* A BAR outside of the window, or on top of another one, is not reached: that is the guest's own doing. */
static void map_bars(struct pci *pci, struct pci_device *device)
{
	if (!(device->config[PCI_COMMAND] & PCI_COMMAND_MEMORY))
		return;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &device->bar[i];
		const u64 base = bar_base(device, i);

		if (bar->size && base >= PCI_MMIO_BASE && base + bar->size <= PCI_MMIO_END &&
		    bus_is_free(&pci->memory, base, bar->size))
			bus_add(&pci->memory, base, bar->size, bar->ops, bar->opaque, device->name);
	}
}

void pci_remap(struct pci *pci)
{
	pci->memory.count = 0;
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (pci->slot[slot])
			map_bars(pci, pci->slot[slot]);
}

/* --- interrupts -------------------------------------------------------------------------------------------------- */

unsigned pci_slot_gsi(unsigned slot)
{
	static const u8 gsi[PCI_GSI_COUNT] = {GSI_PCI_0, GSI_PCI_1, GSI_PCI_2};

	return gsi[slot % PCI_GSI_COUNT];
}

void pci_update_line(struct pci_device *device)
{
	struct pci *pci = device->pci;
	const bool disabled = device->config[PCI_COMMAND + 1] & PCI_COMMAND_INTX_DISABLE >> 8;
	u32 *asserted = &pci->asserted[device->slot % PCI_GSI_COUNT];
	const u32 before = *asserted;

	if (device->line && !disabled && !msix_enabled(&device->msix))
		*asserted |= 1u << device->slot;
	else
		*asserted &= ~(1u << device->slot);
	if (!before != !*asserted)
		irqchip_set_line(pci->vm->irqchip, pci_slot_gsi(device->slot), *asserted);
}

void pci_set_line(struct pci_device *device, bool level)
{
	if (device->line == level)
		return;
	device->line = level;
	pci_update_line(device);
}

/* --- building ---------------------------------------------------------------------------------------------------- */

/* What firmware does: an address for each BAR, and the command bit that makes them decode. */
static void place_bars(struct pci *pci, struct pci_device *device)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const u32 size = device->bar[i].size;
		u8 *at = device->config + PCI_BAR0 + 4 * (u64)i;

		if (!size)
			continue;
		pci->memory_used = align_up(pci->memory_used, size);
		for (unsigned byte = 0; byte < 4; byte++)
			at[byte] = (u8)(pci->memory_used >> 8 * byte);
		pci->memory_used += size;
		device->config[PCI_COMMAND] |= PCI_COMMAND_MEMORY;
	}
	if (pci->memory_used > PCI_MMIO_END)
		BUG("BARs do not fit below %#llx", PCI_MMIO_END);
}

static unsigned free_slot(const struct pci *pci)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && pci->slot[slot])
		slot++;
	return slot;
}

int pci_add(struct pci *pci, struct pci_device *device, struct err *err)
{
	const unsigned slot = free_slot(pci);

	if (slot == PCI_SLOTS)
		return err_set(err, "more than %d PCI devices: no room for '%s'", PCI_SLOTS, device->name);
	device->pci = pci;
	device->slot = slot;
	if (device->bar[0].size) {
		device->config[PCI_INTERRUPT_PIN] = 1;
		device->config[PCI_INTERRUPT_LINE] = (u8)pci_slot_gsi(slot);
	}
	pci->slot[slot] = device;
	place_bars(pci, device);
	pci_remap(pci);
	return 0;
}

struct pci *pci_create(struct vm *vm)
{
	static const struct bus_ops ports = {.read = ports_read, .write = ports_write, .widest = 4};
	static const struct bus_ops ecam = {.read = ecam_read, .write = ecam_write, .widest = 4};
	static const struct bus_ops window = {.read = window_read, .write = window_write};
	struct pci *pci = calloc(1, sizeof(*pci));

	if (!pci)
		return NULL;
	pci->vm = vm;
	pci->memory_used = PCI_MMIO_BASE;
	pci_device_init(&pci->bridge, "host bridge", &bridge_identity);
	pci_add(pci, &pci->bridge, NULL); /* as the first one it has room */
	bus_add(&vm->ports, PORT_PCI, 8, &ports, pci, "pci configuration");
	bus_add(&vm->mmio, PCI_ECAM, PCI_ECAM_SIZE, &ecam, pci, "pci ecam");
	bus_add(&vm->mmio, PCI_MMIO_BASE, PCI_MMIO_END - PCI_MMIO_BASE, &window, pci, "pci memory");
	return pci;
}

void pci_destroy(struct pci *pci)
{
	free(pci);
}
