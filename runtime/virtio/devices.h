/* The virtio devices of a VM, by its configuration. */
#ifndef AVANT_VIRTIO_DEVICES_H
#define AVANT_VIRTIO_DEVICES_H

#include "util/types.h"

struct console;
struct err;
struct net_config;
struct vm;
struct vm_disk;
struct vm_share;

/* What a device has done so far. */
struct virtio_figures {
	const char *name; /* of the kind of device */
	unsigned slot;    /* on the PCI bus */
	u64 kicks, interrupts;
	u64 chains;                    /* returned to the driver */
	u64 bytes_read, bytes_written; /* of guest memory, headers included */
};

/* Adds the devices that vm->config asks for, and those that every VM has. 0, or -1 with a message in err. */
int virtio_create_all(struct vm *vm, struct err *err);

/* Resets and releases all devices; requests under way are waited for. */
void virtio_destroy_all(struct vm *vm);

/* The n-th device's figures, by slot. False: there are not so many. */
bool virtio_figures_at(const struct vm *vm, unsigned n, struct virtio_figures *figures);

/* One function for each kind of device: creates one and adds it. 0, or -1 with a message in err. */
int virtio_blk_create(struct vm *vm, const struct vm_disk *disk, struct err *err);
int virtio_p9_create(struct vm *vm, const struct vm_share *share, struct err *err);
int virtio_console_create(struct vm *vm, struct console *far, struct err *err);
int virtio_rng_create(struct vm *vm, struct err *err);
int virtio_net_create(struct vm *vm, const struct net_config *config, struct err *err);

/*
 * Networks are set up while the rest of the VM is: waits until they are complete. 0, or -1 with a message in err. Call
 * last before the guest runs.
 */
int virtio_net_start(struct vm *vm, struct err *err);

#endif
