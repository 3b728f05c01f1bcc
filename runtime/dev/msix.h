/* MSI-X: a table of messages and an array of pending bits in a BAR of the device (PCI 3.0, 6.8.2). */
#ifndef AVANT_DEV_MSIX_H
#define AVANT_DEV_MSIX_H

#include "util/types.h"

struct pci_device;

#define MSIX_VECTORS_MAX 64
#define MSIX_BAR_SIZE    4096 /* table at 0, pending bits at MSIX_PENDING */
#define MSIX_PENDING     2048

struct msix_entry {
	u32 address_low, address_high, data, control;
};

struct msix {
	unsigned count; /* 0: the device has no MSI-X */
	unsigned capability;
	bool enabled, masked; /* of the whole function */
	u64 pending;
	struct msix_entry entry[MSIX_VECTORS_MAX];
};

/* Gives the device `count` vectors, in a BAR of their own. Before pci_add(). */
void msix_init(struct pci_device *device, unsigned count, unsigned bar);

/* Sends the vector's message, or keeps it pending while it is masked. Nothing if MSI-X is off. */
void msix_raise(struct pci_device *device, unsigned vector);

static inline bool msix_enabled(const struct msix *msix)
{
	return msix->enabled;
}

/* The capability's control word may have been written. */
void msix_control_written(struct pci_device *device);

#endif
