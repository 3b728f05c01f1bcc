#include "dev/msix.h"

#include "dev/irqchip.h"
#include "dev/pci.h"
#include "util/err.h"
#include "vm.h"

/* Offsets in the capability, and bits of its control word. */
#define CAP_CONTROL    2
#define CONTROL_ENABLE 0x8000u
#define CONTROL_MASK   0x4000u
#define ENTRY_MASKED   1u

#define ENTRY_SIZE sizeof(struct msix_entry)

_Static_assert(sizeof(struct msix_entry) == 16, "an entry as the manual has it");
_Static_assert(MSIX_VECTORS_MAX * sizeof(struct msix_entry) <= MSIX_PENDING, "the table ends before the pending bits");

static void send(struct pci_device *device, unsigned vector)
{
	const struct msix_entry *entry = &device->msix.entry[vector];
	struct vm *vm = pci_vm(device->pci);

	vm->stats.msi_messages++;
	irqchip_message(vm->irqchip, (u64)entry->address_high << 32 | entry->address_low, entry->data);
}

static bool is_held_back(const struct pci_device *device, unsigned vector)
{
	return device->msix.masked || (device->msix.entry[vector].control & ENTRY_MASKED) || !pci_is_master(device);
}

void msix_raise(struct pci_device *device, unsigned vector)
{
	struct msix *msix = &device->msix;

	if (!msix->enabled || vector >= msix->count)
		return;
	if (is_held_back(device, vector))
		msix->pending |= BIT(vector);
	else
		send(device, vector);
}

/* Sends what waits and need not wait any more. */
static void release_pending(struct pci_device *device)
{
	struct msix *msix = &device->msix;

	if (!msix->enabled || !device->pci)
		return;
	for (u64 left = msix->pending; left; left &= left - 1) {
		const unsigned vector = (unsigned)__builtin_ctzll(left);

		if (is_held_back(device, vector))
			continue;
		msix->pending &= ~BIT(vector);
		send(device, vector);
	}
}

void msix_control_written(struct pci_device *device)
{
	struct msix *msix = &device->msix;
	const unsigned at = msix->capability + CAP_CONTROL;
	unsigned control;

	if (!msix->count)
		return;
	control = device->config[at] | device->config[at + 1] << 8;
	msix->masked = control & CONTROL_MASK;
	msix->enabled = control & CONTROL_ENABLE;
	if (!msix->enabled)
		msix->pending = 0;
	release_pending(device);
}

/* The 32-bit word at an aligned offset of the BAR. */
static u32 *word_at(struct msix *msix, u64 offset)
{
	if (offset < msix->count * ENTRY_SIZE)
		return (u32 *)msix->entry + offset / 4;
	if (offset >= MSIX_PENDING && offset < MSIX_PENDING + 8)
		return (u32 *)&msix->pending + (offset - MSIX_PENDING) / 4;
	return NULL;
}

/* What is smaller than a word is as good as not specified (6.8.2): it acts on the part of the word that it names. */
static u64 table_read(void *opaque, u64 offset, unsigned size)
{
	struct pci_device *device = opaque;
	const u32 *word = word_at(&device->msix, offset);

	(void)size;
	return word ? *word >> 8 * (offset % 4) : 0;
}

static void table_write(void *opaque, u64 offset, unsigned size, u64 value)
{
	struct pci_device *device = opaque;
	const unsigned shift = 8 * (offset % 4);
	const u32 mask = (u32)(((1ULL << 8 * size) - 1) << shift);
	u32 *word;

	if (offset >= MSIX_PENDING) /* to be read only */
		return;
	word = word_at(&device->msix, offset);
	if (!word)
		return;
	*word = (*word & ~mask) | ((u32)value << shift & mask);
	release_pending(device);
}

void msix_init(struct pci_device *device, unsigned count, unsigned bar)
{
	static const struct bus_ops ops = {.read = table_read, .write = table_write, .widest = 4};
	struct msix *msix = &device->msix;
	const u32 pending = MSIX_PENDING | bar;
	u8 content[10] = {0};

	if (count == 0 || count > MSIX_VECTORS_MAX)
		BUG("%u MSI-X vectors", count);
	msix->count = count;
	for (unsigned i = 0; i < count; i++)
		msix->entry[i].control = ENTRY_MASKED;
	content[0] = (u8)(count - 1);
	content[2] = (u8)bar; /* offset 0, and which BAR */
	content[6] = (u8)pending;
	content[7] = (u8)(pending >> 8);
	msix->capability = pci_device_capability(device, PCI_CAP_MSIX, content, sizeof(content) + 2);
	device->writable[msix->capability + CAP_CONTROL + 1] = (CONTROL_ENABLE | CONTROL_MASK) >> 8;
	pci_device_bar(device, bar, MSIX_BAR_SIZE, &ops, device);
}
