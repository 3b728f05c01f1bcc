/*
 * PCI: one root bus of devices with one function each. Configuration space is reached by ports CF8/CFC and by ECAM;
 * memory BARs of 32 bits decode anywhere in the window below the IOAPIC; interrupts are MSI-X (msix.h) or INTA.
 *
 * Compiled for general registers only, and so must be the handlers of BARs and the hooks of a device.
 */
#ifndef AVANT_DEV_PCI_H
#define AVANT_DEV_PCI_H

#include "dev/bus.h"
#include "dev/msix.h"
#include "util/types.h"

struct err;
struct pci;
struct vm;

#define PCI_SLOTS       32
#define PCI_BARS        6
#define PCI_CONFIG_SIZE 256

/* Offsets in configuration space (PCI 3.0, 6.1). */
#define PCI_VENDOR         0x00
#define PCI_DEVICE         0x02
#define PCI_COMMAND        0x04
#define PCI_STATUS         0x06
#define PCI_REVISION       0x08
#define PCI_CLASS          0x09
#define PCI_HEADER_TYPE    0x0e
#define PCI_BAR0           0x10
#define PCI_SUBSYSTEM      0x2c
#define PCI_CAPABILITIES   0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN  0x3d

#define PCI_COMMAND_MEMORY       0x0002u
#define PCI_COMMAND_MASTER       0x0004u
#define PCI_COMMAND_INTX_DISABLE 0x0400u

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

struct pci_bar {
	u32 size; /* a power of 2, at least 16; 0: there is none */
	const struct bus_ops *ops;
	void *opaque;
};

/* One device; the beginning of what a kind of device keeps. */
struct pci_device {
	const char *name;
	struct pci *pci; /* NULL until pci_add() */
	unsigned slot;
	u8 config[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE]; /* the bits of config that software may change */
	unsigned config_used;         /* capabilities end here */
	u8 last_capability;           /* the offset of the newest one, or 0 */
	struct pci_bar bar[PCI_BARS];
	struct msix msix;
	bool line; /* INTA as the device wants it */
	/* Before [offset, offset+size) of config is read, and after it was written. May be NULL. */
	void (*config_reading)(struct pci_device *device, unsigned offset, unsigned size);
	void (*config_written)(struct pci_device *device, unsigned offset, unsigned size);
};

struct pci_identity {
	u16 vendor, device;
	u8 revision;
	u32 class_code; /* class, subclass, interface: 0x010000 */
	u16 subsystem_vendor, subsystem;
};

/* Makes *device a device with these numbers, without BARs and capabilities. `name` is not copied. */
void pci_device_init(struct pci_device *device, const char *name, const struct pci_identity *identity);

/* A memory BAR; before pci_add(). */
void pci_device_bar(struct pci_device *device, unsigned bar, u32 size, const struct bus_ops *ops, void *opaque);

/*
 * Appends a capability of `size` bytes, of which the first two (number, next) are filled in here; `content` is what
 * follows them. Returns its offset. Software may write to none of it unless `writable` says otherwise later.
 */
unsigned pci_device_capability(struct pci_device *device, u8 id, const void *content, unsigned size);

/* The bus and its host bridge. It is added to the VM's ports and MMIO ranges. NULL: out of memory. */
struct pci *pci_create(struct vm *vm);
void pci_destroy(struct pci *pci);

/*
 * Puts a device on the bus, gives its BARs addresses and lets it decode them, as firmware would. The device is the
 * caller's and must stay as long as the bus. 0, or -1 with a message in err if there is no room.
 */
int pci_add(struct pci *pci, struct pci_device *device, struct err *err);

/* INTA of the device is wanted or not. It is held back while the driver has disabled it or uses MSI-X. */
void pci_set_line(struct pci_device *device, bool level);

/* May the device access memory, and send messages? (PCI 3.0, 6.2.2: Bus Master.) */
static inline bool pci_is_master(const struct pci_device *device)
{
	return device->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

/* Accesses a BAR of the device as the bus would, whether it decodes or not. False: not inside of it. */
bool pci_bar_read(struct pci_device *device, unsigned bar, u32 offset, unsigned size, u64 *value);
bool pci_bar_write(struct pci_device *device, unsigned bar, u32 offset, unsigned size, u64 value);

/* The interrupt that INTA of a slot is wired to (the _PRT object says so too). */
unsigned pci_slot_gsi(unsigned slot);

/* --- between the files of the bus ------------------------------------------------------------------------------ */

struct vm *pci_vm(const struct pci *pci);
/* Configuration space of one device: 1, 2 or 4 bytes, inside of the 256. */
u32 pci_device_read(struct pci_device *device, unsigned offset, unsigned size);
void pci_device_write(struct pci_device *device, unsigned offset, unsigned size, u32 value);
/* A BAR or whether it decodes has changed. */
void pci_remap(struct pci *pci);
/* Whether INTA may pass has changed. */
void pci_update_line(struct pci_device *device);

#endif
