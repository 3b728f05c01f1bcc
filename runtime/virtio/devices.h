/* The virtio devices of a VM, by its configuration. */
#ifndef AVANT_VIRTIO_DEVICES_H
#define AVANT_VIRTIO_DEVICES_H

struct err;
struct vm;
struct vm_disk;
struct vm_share;

/* Adds the devices that vm->config asks for, and those that every VM has. 0, or -1 with a message in err. */
int virtio_create_all(struct vm *vm, struct err *err);

/* Resets and releases all devices; requests under way are waited for. */
void virtio_destroy_all(struct vm *vm);

/* One function for each kind of device: creates one and adds it. 0, or -1 with a message in err. */
int virtio_blk_create(struct vm *vm, const struct vm_disk *disk, struct err *err);
int virtio_p9_create(struct vm *vm, const struct vm_share *share, struct err *err);
int virtio_rng_create(struct vm *vm, struct err *err);

#endif
