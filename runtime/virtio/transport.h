/* What the files of the transport know of each other: pci.c (registers), ring.c, device.c. No device includes this. */
#ifndef AVANT_VIRTIO_TRANSPORT_H
#define AVANT_VIRTIO_TRANSPORT_H

#include "dev/pci.h"
#include "virtio/devices.h"
#include "virtio/virtio.h"

/* Device status (virtio 1.2, 2.1). */
#define STATUS_ACKNOWLEDGE 0x01u
#define STATUS_DRIVER      0x02u
#define STATUS_DRIVER_OK   0x04u
#define STATUS_FEATURES_OK 0x08u
#define STATUS_NEEDS_RESET 0x40u
#define STATUS_FAILED      0x80u

/* ISR status (4.1.4.5). */
#define ISR_QUEUE  0x01u
#define ISR_CONFIG 0x02u

#define NO_VECTOR 0xffffu

#define ANY_ALLOWANCE UINT32_MAX /* outside of kicks */

/* A split ring (2.7): as it was when the driver enabled the queue. What it writes to registers later changes nothing.
 */
struct virtio_ring {
	bool live;
	u16 size;
	u16 popped;    /* entries of the available ring taken; its index to go on at */
	u16 pushed;    /* the used ring's index */
	u16 signalled; /* the used index when it was last asked whether the driver wants an interrupt */
	u16 in_flight; /* chains popped and not pushed */
	/*
	 * So many chains may still be popped. The guest stands still while a kick is served, so there is no more then
	 * than the ring holds, unless the device is made to write into the ring; that must not go on for ever.
	 */
	u32 allowance;
	const u8 *descriptors, *available;
	u8 *used;
};

struct virtio_queue {
	/* registers */
	u16 size, vector;
	bool enabled;
	u64 address[3]; /* descriptors, driver area, device area */
	struct virtio_ring ring;
};

struct virtio_transport {
	struct virtio_device *device;
	struct pci_device pci;
	unsigned access_capability; /* its offset in configuration space (4.1.4.9) */
	u32 device_feature_select, driver_feature_select;
	u64 driver_features;
	u16 config_vector, queue_select;
	u8 status, generation, isr;
	bool broken;       /* by its driver; until reset */
	unsigned messages; /* that have been printed about it */
	struct virtio_figures figures;
	u16 queue_count;
	struct virtio_queue queue[];
};

/* --- pci.c: general registers only -------------------------------------------------------------------------------- */

/* Builds the PCI function: registers, capabilities. transport->device and queue_count are set. */
void transport_init(struct virtio_transport *transport);
/* Back to what it was after power-on, device included. Ordinary C must be allowed. */
void transport_reset(struct virtio_transport *transport);
/* Sends the message of `vector`, or asserts INTA for the reason `isr`. */
void transport_interrupt(struct virtio_transport *transport, u16 vector, u8 isr);

/* --- ring.c ------------------------------------------------------------------------------------------------------- */

/* The driver has enabled the queue: takes over what its registers say. virtio_broken() if that cannot be a ring. */
void ring_start(struct virtio_device *device, unsigned queue);

#endif
