/* One device's configuration space (PCI 3.0, chapter 6). */
#include "dev/pci.h"

#include "util/bytes.h"
#include "util/err.h"

#define FIRST_CAPABILITY 0x40

#define COMMAND_WRITABLE (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | 0x0140u | PCI_COMMAND_INTX_DISABLE)
#define STATUS_INTERRUPT 0x08u /* the line is asserted */
#define STATUS_CAPABLE   0x10u /* there is a list of capabilities */

static void set16(u8 *at, u16 value)
{
	at[0] = (u8)value;
	at[1] = (u8)(value >> 8);
}

static void set32(u8 *at, u32 value)
{
	set16(at, (u16)value);
	set16(at + 2, (u16)(value >> 16));
}

void pci_device_init(struct pci_device *device, const char *name, const struct pci_identity *identity)
{
	bytes_zero(device, sizeof(*device));
	device->name = name;
	device->config_used = FIRST_CAPABILITY;
	set16(device->config + PCI_VENDOR, identity->vendor);
	set16(device->config + PCI_DEVICE, identity->device);
	set32(device->config + PCI_REVISION, identity->class_code << 8 | identity->revision);
	set16(device->config + PCI_SUBSYSTEM, identity->subsystem_vendor);
	set16(device->config + PCI_SUBSYSTEM + 2, identity->subsystem);
	set16(device->writable + PCI_COMMAND, COMMAND_WRITABLE);
	device->writable[0x0c] = 0xff; /* cache line size: kept, without effect */
	device->writable[0x0d] = 0xff; /* latency timer: the same */
	device->writable[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_device_bar(struct pci_device *device, unsigned bar, u32 size, const struct bus_ops *ops, void *opaque)
{
	if (size < 16 || (size & (size - 1)) || bar >= PCI_BARS || device->bar[bar].size)
		BUG("BAR %u of '%s' with %u bytes", bar, device->name, size);
	device->bar[bar] = (struct pci_bar){.size = size, .ops = ops, .opaque = opaque};
	/* what cannot be written reads as 0: so software finds the size (6.2.5.1) */
	set32(device->writable + PCI_BAR0 + 4 * (u64)bar, ~(size - 1));
}

unsigned pci_device_capability(struct pci_device *device, u8 id, const void *content, unsigned size)
{
	const unsigned at = device->config_used;

	if (size < 2 || at + size > PCI_CONFIG_SIZE)
		BUG("no room for a capability of '%s'", device->name);
	device->config[at] = id;
	bytes_copy(device->config + at + 2, content, size - 2);
	device->config[device->last_capability ? device->last_capability + 1 : PCI_CAPABILITIES] = (u8)at;
	device->config[PCI_STATUS] |= STATUS_CAPABLE;
	device->last_capability = (u8)at;
	device->config_used = (unsigned)align_up(at + size, 4);
	return at;
}

u32 pci_device_read(struct pci_device *device, unsigned offset, unsigned size)
{
	u64 value = 0; /* as wide as bytes_copy() may write at once */

	if (device->line)
		device->config[PCI_STATUS] |= STATUS_INTERRUPT;
	else
		device->config[PCI_STATUS] &= (u8)~STATUS_INTERRUPT;
	if (device->config_reading)
		device->config_reading(device, offset, size);
	bytes_copy(&value, device->config + offset, size);
	return (u32)value;
}

static bool touches(unsigned offset, unsigned size, unsigned first, unsigned length)
{
	return offset < first + length && first < offset + size;
}

void pci_device_write(struct pci_device *device, unsigned offset, unsigned size, u32 value)
{
	for (unsigned i = 0; i < size; i++) {
		const u8 writable = device->writable[offset + i];
		u8 *byte = &device->config[offset + i];

		*byte = (u8)((*byte & ~writable) | ((value >> 8 * i) & writable));
	}
	if (touches(offset, size, PCI_COMMAND, 2) || touches(offset, size, PCI_BAR0, 4 * PCI_BARS))
		pci_remap(device->pci);
	/* the control word's effect also depends on who is bus master */
	msix_control_written(device);
	pci_update_line(device);
	if (device->config_written)
		device->config_written(device, offset, size);
}

static const struct pci_bar *find_bar(const struct pci_device *device, unsigned bar, u32 offset, unsigned size)
{
	if (bar >= PCI_BARS || offset > device->bar[bar].size || size > device->bar[bar].size - offset)
		return NULL;
	return &device->bar[bar];
}

bool pci_bar_read(struct pci_device *device, unsigned bar, u32 offset, unsigned size, u64 *value)
{
	const struct pci_bar *found = find_bar(device, bar, offset, size);

	if (!found || !found->ops->read)
		return false;
	*value = found->ops->read(found->opaque, offset, size);
	return true;
}

bool pci_bar_write(struct pci_device *device, unsigned bar, u32 offset, unsigned size, u64 value)
{
	const struct pci_bar *found = find_bar(device, bar, offset, size);

	if (!found || !found->ops->write)
		return false;
	found->ops->write(found->opaque, offset, size, value);
	return true;
}
