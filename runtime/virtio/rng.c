/* Entropy (virtio 1.2, 5.4): fills whatever buffers the driver offers. */
#include "virtio/virtio.h"

#include "util/err.h"
#include "virtio/devices.h"
#include "vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define QUEUE_SIZE 64

/* So much of a chain is filled; more takes another request. Filling memory is no reason to stop the guest for long. */
#define FILL_MAX (64u << 10)

struct rng {
	struct virtio_device device;
	struct virtio_chain chain;
	u64 state; /* of the generator that makes runs on the instruction clock repeatable */
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static u64 next_number(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void fill_repeatable(struct rng *rng, u8 *to, u64 size)
{
	while (size) {
		const u64 number = next_number(&rng->state), part = size < sizeof(number) ? size : sizeof(number);

		memcpy(to, &number, part);
		to += part;
		size -= part;
	}
}

/* Returns how many bytes were filled. */
static u64 fill_from_host(u8 *to, u64 size)
{
	u64 done = 0;

	while (done < size) {
		const ssize_t got = getrandom(to + done, size - done, 0);

		if (got < 0 && errno != EINTR)
			break;
		done += got > 0 ? (u64)got : 0;
	}
	return done;
}

static u32 fill(struct rng *rng)
{
	u64 done = 0;

	for (unsigned i = 0; i < rng->chain.in_count && done < FILL_MAX; i++) {
		const struct iovec *piece = &rng->chain.in[i];
		const u64 size = piece->iov_len < FILL_MAX - done ? piece->iov_len : FILL_MAX - done;
		u64 filled = size;

		if (rng->device.vm->clock.source == CLOCK_SOURCE_INSTRUCTIONS)
			fill_repeatable(rng, piece->iov_base, size);
		else
			filled = fill_from_host(piece->iov_base, size);
		done += filled;
		if (filled < size)
			break;
	}
	return (u32)done;
}

static void kick(struct virtio_device *device, unsigned queue)
{
	struct rng *rng = (struct rng *)device;

	while (virtio_pop(device, queue, &rng->chain))
		virtio_push(device, queue, &rng->chain, fill(rng));
	virtio_notify(device, queue);
}

static void release(struct virtio_device *device)
{
	struct rng *rng = (struct rng *)device;

	virtio_chain_release(&rng->chain);
	free(rng);
}

int virtio_rng_create(struct vm *vm, struct err *err)
{
	static const struct virtio_ops ops = {
		.name = "virtio-rng",
		.id = VIRTIO_ID_RNG,
		.pci_class = 0xff0000,
		.queue_count = 1,
		.queue_size = QUEUE_SIZE,
		.kick = kick,
		.release = release,
	};
	struct rng *rng = calloc(1, sizeof(*rng));

	if (!rng || virtio_chain_init(&rng->chain) < 0) {
		free(rng);
		return err_set(err, "out of memory for '%s'", ops.name);
	}
	rng->device.ops = &ops;
	rng->device.vm = vm;
	if (virtio_add(&rng->device, err) < 0) {
		release(&rng->device);
		return -1;
	}
	return 0;
}
