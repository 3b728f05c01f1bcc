/*
 * What a virtio device is made of (virtio 1.2). The transport (dev/pci.h, virtio_pci.c) and the rings (ring.c) are
 * shared; a device is one file that fills in struct virtio_ops and works on chains of guest buffers.
 *
 * Everything here is ordinary C on the vCPU's thread: the guest's vector state has been put away before any callback.
 * Guest memory is hostile: it changes while it is read. What a device decides about, it copies first.
 */
#ifndef AVANT_VIRTIO_VIRTIO_H
#define AVANT_VIRTIO_VIRTIO_H

#include <sys/uio.h>

#include "util/types.h"

struct vm;
struct err;
struct virtio_device;

/* Device numbers (virtio 1.2, chapter 5). */
enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_9P = 9,
};

/* Feature bits that concern every device; the transport offers them (virtio 1.2, 6). */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

#define VIRTIO_QUEUE_SIZE_MAX 1024
#define VIRTIO_CHAIN_MAX      1024 /* descriptors in a chain, indirect ones included; more is an error of the driver's */

struct virtio_ops {
	const char *name; /* "virtio-blk": for messages and the bus */
	enum virtio_id id;
	u32 pci_class; /* class, subclass, interface: 0x010000 */
	u16 queue_count, queue_size;
	u32 config_size; /* bytes of device->config */

	/* The driver has set DRIVER_OK: device->features is what it accepted. May be NULL. */
	void (*start)(struct virtio_device *device);
	/*
	 * The driver resets the device, or it goes away. When this returns, no buffer of the guest's may be touched any
	 * more: requests in flight are waited for. Chains need not be pushed. May be NULL.
	 */
	void (*reset)(struct virtio_device *device);
	/* The driver has made buffers available in the queue. */
	void (*kick)(struct virtio_device *device, unsigned queue);
	/* The driver has written [offset, offset+size) of device->config. NULL: such writes are ignored. */
	void (*config_written)(struct virtio_device *device, u32 offset, u32 size);
	/* Releases the device's own state, after reset. */
	void (*release)(struct virtio_device *device);
};

/* The beginning of every device's own struct. The transport owns what lies in `transport`. */
struct virtio_device {
	const struct virtio_ops *ops;
	struct vm *vm;
	u8 *config;   /* ops->config_size bytes, little-endian, of the device's own; read by the driver as it is */
	u64 offered;  /* the device's own feature bits, set before virtio_add() */
	u64 features; /* what the driver accepted; stable from start() to reset() */
	bool running; /* between start() and reset() */
	struct virtio_transport *transport;
	struct virtio_device *next; /* in vm->virtio */
};

/*
 * Puts a device on the PCI bus of device->vm; it belongs to the VM from then on and is released with it. 0, or -1 with
 * a message in err if the bus is full; the device is the caller's then.
 */
int virtio_add(struct virtio_device *device, struct err *err);

/* device->config has changed: the driver is told (virtio 1.2, 2.3). */
void virtio_config_changed(struct virtio_device *device);

/*
 * The driver has broken the rules: the device stops, with a message on the host and DEVICE_NEEDS_RESET in the guest
 * (virtio 1.2, 2.1.1). printf format, lower case, no full stop.
 */
void virtio_broken(struct virtio_device *device, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * One chain of buffers. `out` is what the driver wrote for the device, `in` what the device may write; both point into
 * guest RAM and were checked to lie in it. A chain costs nothing to drop: only virtio_push() returns it to the driver.
 */
struct virtio_chain {
	u16 head;
	unsigned out_count, in_count;
	u64 out_bytes, in_bytes;
	struct iovec *out, *in; /* into iov */
	unsigned capacity;
	struct iovec *iov;
};

/* `room` for VIRTIO_CHAIN_MAX pieces; -1: out of memory. A chain is reused for any number of pops. */
int virtio_chain_init(struct virtio_chain *chain);
void virtio_chain_release(struct virtio_chain *chain);

/*
 * Takes the next available chain. False if there is none, the device is not running, or the driver broke the rules
 * (then virtio_broken() was called). With event index: before it returns false, kicks are enabled and the ring was
 * looked at again.
 */
bool virtio_pop(struct virtio_device *device, unsigned queue, struct virtio_chain *chain);

/* Puts the last popped chain back: it will be popped again (not enough room in it, try later). */
void virtio_unpop(struct virtio_device *device, unsigned queue);

/*
 * Returns a chain to the driver. `written` bytes of `in` hold data, from its beginning: translations made from those
 * pages are dropped. Chains may be pushed in any order. Nothing happens after a reset.
 */
void virtio_push(struct virtio_device *device, unsigned queue, const struct virtio_chain *chain, u32 written);

/*
 * For many buffers of one packet (mergeable receive buffers): fills entries of the used ring without showing them, then
 * shows `count` of them at once.
 */
void virtio_fill(struct virtio_device *device, unsigned queue, const struct virtio_chain *chain, u32 written,
		 unsigned at);
void virtio_flush(struct virtio_device *device, unsigned queue, unsigned count);

/* Interrupts the driver if it wants to know about what was pushed since the last call. Once per batch. */
void virtio_notify(struct virtio_device *device, unsigned queue);

/* Copy between a chain's pieces and memory, from byte `offset` on. Return the number of bytes copied. */
u64 virtio_copy_from(const struct virtio_chain *chain, u64 offset, void *to, u64 size);
u64 virtio_copy_to(const struct virtio_chain *chain, u64 offset, const void *from, u64 size);

#endif
