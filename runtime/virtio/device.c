/* The life of a virtio device as such: on the bus, off it, and how it says that something is wrong. */
#include "virtio/transport.h"

#include "util/err.h"
#include "virtio/devices.h"
#include "vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGES_MAX 8 /* a guest is not to fill the host's disk with what it does wrong */

int virtio_add(struct virtio_device *device, struct err *err)
{
	const struct virtio_ops *ops = device->ops;
	struct virtio_transport *t = calloc(1, sizeof(*t) + ops->queue_count * sizeof(t->queue[0]));

	if (!t)
		return err_set(err, "out of memory for '%s'", ops->name);
	if (ops->queue_size == 0 || ops->queue_size > VIRTIO_QUEUE_SIZE_MAX ||
	    (ops->queue_size & (ops->queue_size - 1)))
		BUG("queues of '%s' with %u entries", ops->name, ops->queue_size);
	t->device = device;
	t->queue_count = ops->queue_count;
	device->transport = t;
	transport_init(t);
	if (pci_add(device->vm->pci, &t->pci, err) < 0) {
		device->transport = NULL;
		free(t);
		return -1;
	}
	device->next = device->vm->virtio;
	device->vm->virtio = device;
	return 0;
}

void virtio_destroy_all(struct vm *vm)
{
	struct virtio_device *next;

	for (struct virtio_device *device = vm->virtio; device; device = next) {
		struct virtio_transport *t = device->transport;

		next = device->next;
		if (device->running && device->ops->reset)
			device->ops->reset(device);
		device->running = false;
		device->ops->release(device);
		free(t);
	}
	vm->virtio = NULL;
}

bool virtio_figures_at(const struct vm *vm, unsigned n, struct virtio_figures *figures)
{
	const struct virtio_device *device = vm->virtio;
	unsigned count = 0;

	for (const struct virtio_device *d = device; d; d = d->next)
		count++;
	if (n >= count)
		return false;
	for (unsigned i = count - 1; i > n; i--) /* the newest is first in the list */
		device = device->next;
	*figures = device->transport->figures;
	figures->name = device->ops->name;
	figures->slot = device->transport->pci.slot;
	return true;
}

void virtio_config_changed(struct virtio_device *device)
{
	struct virtio_transport *t = device->transport;

	t->generation++;
	if (t->status & STATUS_DRIVER_OK)
		transport_interrupt(t, t->config_vector, ISR_CONFIG);
}

void virtio_broken(struct virtio_device *device, const char *format, ...)
{
	struct virtio_transport *t = device->transport;
	char text[256];
	va_list args;

	if (t->broken)
		return;
	t->broken = true;
	t->status |= STATUS_NEEDS_RESET;
	if (t->status & STATUS_DRIVER_OK)
		transport_interrupt(t, t->config_vector, ISR_CONFIG);
	if (t->messages == MESSAGES_MAX)
		return;
	t->messages++;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	warn("the guest's driver of '%s' broke the rules: %s%s", device->ops->name, text,
	     t->messages == MESSAGES_MAX ? " (this is the last message about the device)" : "");
}
