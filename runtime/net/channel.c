#include "net/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/err.h"

#define RECORD_HEADER 8U
#define RECORD_ALIGN  64U
#define ROOM_ENOUGH   (CHANNEL_RING_SIZE / 2) /* a producer that waits for room is woken at so much */
#define MEMORY_SIZE   (PAGE_SIZE + 2 * CHANNEL_RING_SIZE)

/* Positions are bytes modulo 2^32; each side writes its own cache line. */
struct channel_ring_shared {
	_Alignas(64) u32 head; /* written by the producer */
	u32 producer_waits;    /* … for room; cleared by whoever wakes it */
	_Alignas(64) u32 tail; /* written by the consumer */
	u32 consumer_waits;    /* … for packets */
};

struct channel_shared {
	struct channel_ring_shared rings[2]; /* from the VMM, to the VMM */
	_Alignas(64) u32 offloads;
};

static u32 record_size(u32 size)
{
	return (size + RECORD_HEADER + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1);
}

static u8 *record_at(const struct channel_ring *ring)
{
	return ring->data + (ring->position & (CHANNEL_RING_SIZE - 1));
}

int channel_memory_create(struct err *err)
{
	int fd = memfd_create("avant-net", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_set(err, "cannot create memory for the network: %s", strerror(errno));
	/* the other end cannot take pages away */
	if (ftruncate(fd, MEMORY_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		err_set(err, "cannot create memory for the network: %s", strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

/* Maps a ring's data twice in a row. NULL: errno says why. */
static u8 *map_ring(int memory, unsigned number)
{
	off_t offset = (off_t)(PAGE_SIZE + (u64)number * CHANNEL_RING_SIZE);
	u8 *area = mmap(NULL, 2UL * CHANNEL_RING_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	for (unsigned i = 0; i < 2; i++)
		if (mmap(area + (u64)i * CHANNEL_RING_SIZE, CHANNEL_RING_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, memory, offset) == MAP_FAILED) {
			int why = errno;

			munmap(area, 2UL * CHANNEL_RING_SIZE);
			errno = why;
			return NULL;
		}
	return area;
}

int channel_open(struct channel *channel, enum channel_end end, int memory, int wake_peer, int wake_me, struct err *err)
{
	unsigned out = end == CHANNEL_VMM ? 0 : 1;

	*channel = (struct channel){.wake_peer = wake_peer, .wake_me = wake_me};
	channel->shared = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (channel->shared == MAP_FAILED) {
		channel->shared = NULL;
		return err_set(err, "cannot map memory for the network: %s", strerror(errno));
	}
	channel->out = (struct channel_ring){.shared = &channel->shared->rings[out], .data = map_ring(memory, out)};
	channel->in = (struct channel_ring){.shared = &channel->shared->rings[!out], .data = map_ring(memory, !out)};
	if (channel->out.data && channel->in.data)
		return 0;
	err_set(err, "cannot map memory for the network: %s", strerror(errno));
	channel_close(channel);
	return -1;
}

void channel_close(struct channel *channel)
{
	if (channel->in.data)
		munmap(channel->in.data, 2UL * CHANNEL_RING_SIZE);
	if (channel->out.data)
		munmap(channel->out.data, 2UL * CHANNEL_RING_SIZE);
	if (channel->shared)
		munmap(channel->shared, PAGE_SIZE);
	*channel = (struct channel){.wake_peer = -1, .wake_me = -1};
}

u32 channel_used(const struct channel *channel)
{
	const struct channel_ring *ring = &channel->out;
	u32 used = ring->position - __atomic_load_n(&ring->shared->tail, __ATOMIC_ACQUIRE);

	return used <= CHANNEL_RING_SIZE ? used : CHANNEL_RING_SIZE; /* nonsense: never any room */
}

u8 *channel_reserve(struct channel *channel, u32 size)
{
	if (size > CHANNEL_PACKET_MAX)
		BUG("a packet of %u bytes", size);
	if (CHANNEL_RING_SIZE - channel_used(channel) < record_size(size))
		return NULL;
	channel->out.reserved = record_size(size);
	return record_at(&channel->out) + RECORD_HEADER;
}

void channel_commit(struct channel *channel, u32 size)
{
	struct channel_ring *ring = &channel->out;

	if (record_size(size) > ring->reserved)
		BUG("a packet of %u bytes in a room of %u", size, ring->reserved);
	memcpy(record_at(ring), &size, sizeof(size));
	ring->position += record_size(size);
	ring->reserved = 0;
	__atomic_store_n(&ring->shared->head, ring->position, __ATOMIC_RELEASE);
}

u8 *channel_peek(struct channel *channel, u32 *size, bool *broken)
{
	struct channel_ring *ring = &channel->in;
	u32 used = __atomic_load_n(&ring->shared->head, __ATOMIC_ACQUIRE) - ring->position;
	u8 *record = record_at(ring);

	*broken = false;
	if (!used)
		return NULL;
	*size = __atomic_load_n((const u32 *)record, __ATOMIC_RELAXED);
	*broken = used > CHANNEL_RING_SIZE || *size > CHANNEL_PACKET_MAX || record_size(*size) > used;
	return *broken ? NULL : record + RECORD_HEADER;
}

void channel_consume(struct channel *channel, u32 size)
{
	struct channel_ring *ring = &channel->in;

	ring->position += record_size(size);
	__atomic_store_n(&ring->shared->tail, ring->position, __ATOMIC_RELEASE);
}

static bool has_packet(const struct channel *channel)
{
	return __atomic_load_n(&channel->in.shared->head, __ATOMIC_ACQUIRE) != channel->in.position;
}

void channel_flush(struct channel *channel)
{
	struct channel_ring_shared *out = channel->out.shared, *in = channel->in.shared;
	bool wake = false;

	/* what was stored above must be seen by a peer whose flag is not seen here, and which looks again */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&out->consumer_waits, __ATOMIC_RELAXED)) {
		__atomic_store_n(&out->consumer_waits, 0, __ATOMIC_RELAXED);
		wake = true;
	}
	if (__atomic_load_n(&in->producer_waits, __ATOMIC_RELAXED) &&
	    __atomic_load_n(&in->head, __ATOMIC_RELAXED) - channel->in.position <= ROOM_ENOUGH) {
		__atomic_store_n(&in->producer_waits, 0, __ATOMIC_RELAXED);
		wake = true;
	}
	if (wake) {
		const u64 one = 1;

		if (write(channel->wake_peer, &one, sizeof(one)) < 0)
			return; /* EAGAIN: so many wake-ups are pending that one more changes nothing */
	}
}

bool channel_wait(struct channel *channel, bool packets, bool room)
{
	struct channel_ring_shared *in = channel->in.shared, *out = channel->out.shared;

	__atomic_store_n(&in->consumer_waits, packets, __ATOMIC_RELAXED);
	__atomic_store_n(&out->producer_waits, room, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!(packets && has_packet(channel)) && !(room && channel_used(channel) <= ROOM_ENOUGH))
		return true;
	__atomic_store_n(&in->consumer_waits, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&out->producer_waits, 0, __ATOMIC_RELAXED);
	return false;
}

void channel_woken(struct channel *channel)
{
	u64 count;

	if (read(channel->wake_me, &count, sizeof(count)) < 0)
		return; /* EAGAIN: woken by something else */
}

void channel_set_offloads(struct channel *channel, u32 offloads)
{
	__atomic_store_n(&channel->shared->offloads, offloads, __ATOMIC_RELAXED);
}

u32 channel_offloads(const struct channel *channel)
{
	return __atomic_load_n(&channel->shared->offloads, __ATOMIC_RELAXED);
}
