/*
 * Split rings (virtio 1.2, 2.7), event index and indirect descriptors included. Ring and descriptors are hostile and
 * may change while they are read: each field is read once, into a copy, and the copy is checked. The guest's processor
 * and this code share a thread, so no barriers are needed between the two: what else writes to guest memory (requests
 * under way) writes where a driver told it to.
 */
#include "virtio/transport.h"

#include "mem/mem.h"
#include "vm.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull; /* for printf */

#define DESCRIPTOR_SIZE 16u

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

/* The driver area: flags, index, ring, used_event. The device area: flags, index, ring, avail_event. */
#define AREA_INDEX         2u
#define AREA_RING          4u
#define AVAILABLE_ENTRY    2u
#define USED_ENTRY         8u
#define AVAIL_NO_INTERRUPT 1u

/* A chain's bytes must be countable in the used ring's 32 bits (2.7.4.2). */
#define CHAIN_BYTES_MAX (1ULL << 32)

struct descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};

_Static_assert(sizeof(struct descriptor) == DESCRIPTOR_SIZE, "a descriptor as the manual has it");

static u16 load16(const u8 *at)
{
	return __atomic_load_n((const u16 *)at, __ATOMIC_ACQUIRE);
}

static void store16(u8 *at, u16 value)
{
	__atomic_store_n((u16 *)at, value, __ATOMIC_RELEASE);
}

static struct virtio_ring *ring_of(struct virtio_device *device, unsigned queue)
{
	return &device->transport->queue[queue].ring;
}

static const u8 *used_event(const struct virtio_ring *ring)
{
	return ring->available + AREA_RING + AVAILABLE_ENTRY * ring->size;
}

static u8 *avail_event(const struct virtio_ring *ring)
{
	return ring->used + AREA_RING + USED_ENTRY * ring->size;
}

/* --- starting ---------------------------------------------------------------------------------------------------- */

/* The host address of one area of the queue. NULL: it was broken by it. */
static u8 *area(struct virtio_device *device, unsigned queue, unsigned which, u64 length)
{
	static const u64 alignment[3] = {16, 2, 4};
	static const char *const names[3] = {"descriptor table", "available ring", "used ring"};
	const u64 address = device->transport->queue[queue].address[which];
	u8 *host = ram_range(&device->vm->ram, address, length);

	if (address % alignment[which])
		host = NULL;
	if (!host)
		virtio_broken(device, "the %s of queue %u at %#llx is not aligned or not in memory", names[which],
			      queue, (ull)address);
	return host;
}

void ring_start(struct virtio_device *device, unsigned queue)
{
	const u16 size = device->transport->queue[queue].size;
	struct virtio_ring *ring = ring_of(device, queue);

	*ring = (struct virtio_ring){.size = size, .allowance = ANY_ALLOWANCE};
	if (size == 0 || (size & (size - 1)) || size > device->ops->queue_size) {
		virtio_broken(device, "queue %u is to have %u entries", queue, size);
		return;
	}
	ring->descriptors = area(device, queue, 0, (u64)DESCRIPTOR_SIZE * size);
	ring->available = area(device, queue, 1, AREA_RING + (u64)AVAILABLE_ENTRY * size + 2);
	ring->used = area(device, queue, 2, AREA_RING + (u64)USED_ENTRY * size + 2);
	ring->live = ring->descriptors && ring->available && ring->used;
}

/* --- chains ------------------------------------------------------------------------------------------------------ */

int virtio_chain_init(struct virtio_chain *chain)
{
	*chain = (struct virtio_chain){.capacity = VIRTIO_CHAIN_MAX};
	chain->iov = malloc(VIRTIO_CHAIN_MAX * sizeof(*chain->iov));
	return chain->iov ? 0 : -1;
}

void virtio_chain_release(struct virtio_chain *chain)
{
	free(chain->iov);
	chain->iov = NULL;
}

/* The table that descriptors are read from: the queue's, or an indirect one. */
struct table {
	const u8 *host;
	u32 count;
	bool indirect;
};

/* A descriptor that names a table takes the walk there (2.7.5.3). False: broken. */
static bool enter_indirect(struct virtio_device *device, struct table *table, const struct descriptor *d)
{
	if (!(device->features & VIRTIO_F_INDIRECT_DESC)) {
		virtio_broken(device, "an indirect descriptor, which was not agreed on");
		return false;
	}
	if (table->indirect || (d->flags & DESC_NEXT)) {
		virtio_broken(device, "an indirect descriptor in an indirect table or before another descriptor");
		return false;
	}
	if (d->length == 0 || d->length % DESCRIPTOR_SIZE) {
		virtio_broken(device, "an indirect table of %u bytes", d->length);
		return false;
	}
	table->host = ram_range(&device->vm->ram, d->address, d->length);
	table->count = d->length / DESCRIPTOR_SIZE;
	table->indirect = true;
	if (!table->host)
		virtio_broken(device, "an indirect table at %#llx, which is not memory", (ull)d->address);
	return table->host;
}

/* Appends what a descriptor names. False: broken. */
static bool add_piece(struct virtio_device *device, struct virtio_chain *chain, const struct descriptor *d)
{
	const bool write = d->flags & DESC_WRITE;
	u8 *host;

	if (!write && chain->in_count) {
		virtio_broken(device, "a descriptor to be read after one to be written");
		return false;
	}
	if (d->length == 0)
		return true;
	host = ram_range(&device->vm->ram, d->address, d->length);
	if (!host) {
		virtio_broken(device, "a descriptor of %u bytes at %#llx, which is not memory", d->length,
			      (ull)d->address);
		return false;
	}
	chain->iov[chain->out_count + chain->in_count] = (struct iovec){host, d->length};
	if (write) {
		chain->in_count++;
		chain->in_bytes += d->length;
	} else {
		chain->out_count++;
		chain->out_bytes += d->length;
	}
	if (chain->in_bytes + chain->out_bytes < CHAIN_BYTES_MAX)
		return true;
	virtio_broken(device, "a chain of more than 4 GiB");
	return false;
}

/* Collects the chain that begins at descriptor `head` of the queue's table. False: broken. */
static bool collect(struct virtio_device *device, const struct virtio_ring *ring, u16 head, struct virtio_chain *chain)
{
	struct table table = {.host = ring->descriptors, .count = ring->size};
	unsigned steps = 0;
	u32 next = head;

	chain->head = head;
	chain->out_count = chain->in_count = 0;
	chain->out_bytes = chain->in_bytes = 0;
	for (;;) {
		struct descriptor d;

		/* whatever is longer than its table comes back to where it was */
		if (next >= table.count || steps++ == (table.count < chain->capacity ? table.count : chain->capacity)) {
			virtio_broken(device, "a chain that leaves its table, loops, or has more than %u descriptors",
				      chain->capacity);
			return false;
		}
		memcpy(&d, table.host + (u64)next * DESCRIPTOR_SIZE, sizeof(d));
		if (d.flags & DESC_INDIRECT) {
			if (!enter_indirect(device, &table, &d))
				return false;
			next = 0;
			steps = 0;
			continue;
		}
		if (chain->out_count + chain->in_count == chain->capacity) {
			virtio_broken(device, "a chain of more than %u descriptors", chain->capacity);
			return false;
		}
		if (!add_piece(device, chain, &d))
			return false;
		if (!(d.flags & DESC_NEXT))
			break;
		next = d.next;
	}
	chain->out = chain->iov;
	chain->in = chain->iov + chain->out_count;
	return true;
}

/* --- the available ring ------------------------------------------------------------------------------------------ */

/* How many chains wait; with event index, kicks are asked for if none does. */
static u16 available(struct virtio_device *device, struct virtio_ring *ring)
{
	u16 waiting = (u16)(load16(ring->available + AREA_INDEX) - ring->popped);

	if (waiting || !(device->features & VIRTIO_F_EVENT_IDX))
		return waiting;
	store16(avail_event(ring), ring->popped);
	ram_written(device->vm, avail_event(ring), 2);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (u16)(load16(ring->available + AREA_INDEX) - ring->popped);
}

/* May the device work with the queue at all? A device that is no bus master may not touch memory. */
static bool is_usable(const struct virtio_device *device, const struct virtio_ring *ring)
{
	return ring->live && device->running && !device->transport->broken && pci_is_master(&device->transport->pci);
}

bool virtio_pop(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
	struct virtio_ring *ring = ring_of(device, queue);
	u16 waiting, head;

	if (!is_usable(device, ring))
		return false;
	waiting = available(device, ring);
	if (!waiting)
		return false;
	if (waiting > ring->size) {
		virtio_broken(device, "queue %u has %u chains available, of %u", queue, waiting, ring->size);
		return false;
	}
	if (ring->in_flight == ring->size) {
		virtio_broken(device, "queue %u has more chains under way than descriptors", queue);
		return false;
	}
	if (ring->allowance == 0) {
		virtio_broken(device, "queue %u grows while it is served", queue);
		return false;
	}
	head = load16(ring->available + AREA_RING + AVAILABLE_ENTRY * (ring->popped & (ring->size - 1u)));
	if (!collect(device, ring, head, chain))
		return false;
	ring->popped++;
	ring->in_flight++;
	if (ring->allowance != ANY_ALLOWANCE)
		ring->allowance--;
	return true;
}

void virtio_unpop(struct virtio_device *device, unsigned queue)
{
	struct virtio_ring *ring = ring_of(device, queue);

	if (!is_usable(device, ring) || !ring->in_flight)
		return;
	ring->popped--;
	ring->in_flight--;
	if (ring->allowance != ANY_ALLOWANCE)
		ring->allowance++;
}

/* --- the used ring ----------------------------------------------------------------------------------------------- */

static void count(struct virtio_figures *figures, const struct virtio_chain *chain, u32 written)
{
	figures->chains++;
	figures->bytes_read += chain->out_bytes;
	figures->bytes_written += written;
}

static void written_to(struct virtio_device *device, const struct virtio_chain *chain, u64 bytes)
{
	for (unsigned i = 0; i < chain->in_count && bytes; i++) {
		const u64 size = bytes < chain->in[i].iov_len ? bytes : chain->in[i].iov_len;

		ram_written(device->vm, chain->in[i].iov_base, size);
		bytes -= size;
	}
}

void virtio_fill(struct virtio_device *device, unsigned queue, const struct virtio_chain *chain, u32 written,
		 unsigned at)
{
	struct virtio_ring *ring = ring_of(device, queue);
	const u32 entry[2] = {chain->head, written};
	u8 *to;

	if (!is_usable(device, ring))
		return;
	written_to(device, chain, written);
	count(&device->transport->figures, chain, written);
	to = ring->used + AREA_RING + USED_ENTRY * ((ring->pushed + at) & (ring->size - 1u));
	memcpy(to, entry, sizeof(entry));
	ram_written(device->vm, to, sizeof(entry));
}

void virtio_flush(struct virtio_device *device, unsigned queue, unsigned count)
{
	struct virtio_ring *ring = ring_of(device, queue);

	if (!is_usable(device, ring))
		return;
	ring->pushed = (u16)(ring->pushed + count);
	ring->in_flight = (u16)(count < ring->in_flight ? ring->in_flight - count : 0);
	store16(ring->used + AREA_INDEX, ring->pushed);
	ram_written(device->vm, ring->used + AREA_INDEX, 2);
}

void virtio_push(struct virtio_device *device, unsigned queue, const struct virtio_chain *chain, u32 written)
{
	virtio_fill(device, queue, chain, written, 0);
	virtio_flush(device, queue, 1);
}

/* Does the driver want to know of what was pushed? (2.7.7) */
static bool wants_interrupt(const struct virtio_device *device, struct virtio_ring *ring)
{
	const u16 before = ring->signalled, now = ring->pushed;

	ring->signalled = now;
	if (now == before)
		return false;
	if (!(device->features & VIRTIO_F_EVENT_IDX))
		return !(load16(ring->available) & AVAIL_NO_INTERRUPT);
	/* has the index passed the one that the driver named? */
	return (u16)(now - load16(used_event(ring)) - 1) < (u16)(now - before);
}

void virtio_notify(struct virtio_device *device, unsigned queue)
{
	struct virtio_ring *ring = ring_of(device, queue);

	if (!is_usable(device, ring))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index is seen before it is looked whether anybody waits */
	if (wants_interrupt(device, ring))
		transport_interrupt(device->transport, device->transport->queue[queue].vector, ISR_QUEUE);
}

/* --- copying ----------------------------------------------------------------------------------------------------- */

static u64 copy(const struct iovec *iov, unsigned count, u64 offset, u8 *buffer, u64 size, bool to_guest)
{
	u64 done = 0;

	for (unsigned i = 0; i < count && done < size; i++) {
		const u64 length = iov[i].iov_len;
		u8 *at = iov[i].iov_base;
		u64 part;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		part = length - offset < size - done ? length - offset : size - done;
		if (to_guest)
			memcpy(at + offset, buffer + done, part);
		else
			memcpy(buffer + done, at + offset, part);
		done += part;
		offset = 0;
	}
	return done;
}

u64 virtio_copy_from(const struct virtio_chain *chain, u64 offset, void *to, u64 size)
{
	return copy(chain->out, chain->out_count, offset, to, size, false);
}

u64 virtio_copy_to(const struct virtio_chain *chain, u64 offset, const void *from, u64 size)
{
	return copy(chain->in, chain->in_count, offset, (u8 *)(uintptr_t)from, size, true);
}
