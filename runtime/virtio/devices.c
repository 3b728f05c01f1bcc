#include "virtio/devices.h"

#include "vm.h"

int virtio_create_all(struct vm *vm, struct err *err)
{
	/* disks first: their order and slots do not depend on what else there is */
	for (unsigned i = 0; i < vm->config.disk_count; i++)
		if (virtio_blk_create(vm, &vm->config.disks[i], err) < 0)
			return -1;
	for (unsigned i = 0; i < vm->config.share_count; i++)
		if (virtio_p9_create(vm, &vm->config.shares[i], err) < 0)
			return -1;
	if (virtio_rng_create(vm, err) < 0)
		return -1;
	if (vm->config.net && virtio_net_create(vm, vm->config.net, err) < 0)
		return -1;
	return vm->config.virtio_console ? virtio_console_create(vm, vm->config.virtio_console, err) : 0;
}
