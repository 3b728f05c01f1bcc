/*
 * A directory of the host's in the guest (virtio 1.2, 5.9, is the number alone; the rest is Linux' virtio_9p.h): one
 * queue of requests, and the name that the guest mounts it by. What the requests say is p9/'s business.
 */
#include "virtio/virtio.h"

#include "p9/p9.h"
#include "p9/worker.h"
#include "util/err.h"
#include "virtio/devices.h"
#include "vm.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE      0
#define QUEUE_SIZE 128

#define FEATURE_MOUNT_TAG BIT(0)

/* The tag's length in 16 bits, and the tag, not zero-terminated. */
#define CONFIG_SIZE (2 + VM_SHARE_TAG_MAX)

struct share {
	struct virtio_device device;
	struct virtio_chain chain; /* the request that is being answered */
	struct p9_server *server;
	struct p9_worker *worker; /* or NULL: this thread waits itself */
	bool waiting;             /* the worker has the request */
	u8 config[CONFIG_SIZE];
};

static void answer(struct share *share, s64 size)
{
	if (size < 0)
		virtio_broken(&share->device, "a request without a header or without room for a reply");
	else
		virtio_push(&share->device, QUEUE, &share->chain, (u32)size);
}

static void serve(struct share *share)
{
	const struct virtio_chain *chain = &share->chain;
	const struct p9_request request = {
		.out = chain->out,
		.in = chain->in,
		.out_count = chain->out_count,
		.in_count = chain->in_count,
	};
	s64 size = p9_handle(share->server, &request, !share->worker);

	if (size == P9_WOULD_WAIT) {
		share->waiting = true;
		p9_worker_start(share->worker, &request);
	} else {
		answer(share, size);
	}
}

static void serve_all(struct share *share)
{
	while (!share->waiting && virtio_pop(&share->device, QUEUE, &share->chain))
		serve(share);
	virtio_notify(&share->device, QUEUE);
}

static void kick(struct virtio_device *device, unsigned queue)
{
	struct share *share = (struct share *)device;

	(void)queue;
	if (!share->waiting)
		serve_all(share);
}

/* The worker has answered. */
static void on_answer(void *opaque, s64 size)
{
	struct share *share = opaque;

	share->waiting = false;
	answer(share, size);
	serve_all(share);
}

static void reset(struct virtio_device *device)
{
	struct share *share = (struct share *)device;

	if (share->waiting)
		p9_worker_drop(share->worker);
	share->waiting = false;
	p9_reset(share->server);
}

static void release(struct virtio_device *device)
{
	struct share *share = (struct share *)device;

	if (share->worker)
		p9_worker_destroy(share->worker);
	if (share->server)
		p9_destroy(share->server);
	virtio_chain_release(&share->chain);
	free(share);
}

static void fill_config(struct share *share, const char *tag)
{
	u16 length = (u16)strlen(tag);

	memcpy(share->config, &length, sizeof(length));
	memcpy(share->config + sizeof(length), tag, length);
	share->device.config = share->config;
}

static int build(struct share *share, const struct vm_share *config, struct err *err)
{
	struct p9_config server = config->config;
	struct vm *vm = share->device.vm;

	server.descriptors = p9_descriptors() / vm->config.share_count;
	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow any more is an error of the guest's write */
	if (virtio_chain_init(&share->chain) < 0)
		return err_set(err, "out of memory for '%s'", share->device.ops->name);
	fill_config(share, config->tag);
	share->device.offered = FEATURE_MOUNT_TAG;
	share->server = p9_create(&server, err);
	if (!share->server)
		return -1;
	/* on the instruction clock a reply must not come when it happens to */
	if (vm->config.clock == CLOCK_SOURCE_HOST) {
		share->worker = p9_worker_create(share->server, vm->poller, on_answer, share, err);
		if (!share->worker)
			return -1;
	}
	return virtio_add(&share->device, err);
}

int virtio_p9_create(struct vm *vm, const struct vm_share *config, struct err *err)
{
	static const struct virtio_ops ops = {
		.name = "virtio-9p",
		.id = VIRTIO_ID_9P,
		.pci_class = 0x018000,
		.queue_count = 1,
		.queue_size = QUEUE_SIZE,
		.config_size = CONFIG_SIZE,
		.reset = reset,
		.kick = kick,
		.release = release,
	};
	struct share *share = calloc(1, sizeof(*share));

	if (!share)
		return err_set(err, "out of memory for '%s'", ops.name);
	share->device.ops = &ops;
	share->device.vm = vm;
	if (build(share, config, err) < 0) {
		release(&share->device);
		return -1;
	}
	return 0;
}
