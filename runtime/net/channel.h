/*
 * The way of packets between the VMM and the network process: two rings in memory that both map, one for each
 * direction, and a descriptor that wakes the other side. Neither side believes the other: what is read of the shared
 * memory is copied once and checked, and each keeps its own position to itself.
 */
#ifndef AVANT_NET_CHANNEL_H
#define AVANT_NET_CHANNEL_H

#include "util/types.h"

struct err;
struct channel_shared;

#define CHANNEL_RING_SIZE  (1U << 20)
#define CHANNEL_PACKET_MAX (66U << 10)

enum channel_end { CHANNEL_VMM, CHANNEL_PROCESS };

/* One direction, seen from one end. */
struct channel_ring {
	struct channel_ring_shared *shared;
	u8 *data;     /* CHANNEL_RING_SIZE bytes, mapped twice in a row: what wraps is contiguous too */
	u32 position; /* bytes produced or consumed by this end, modulo 2^32 */
	u32 reserved;
};

/* One end. */
struct channel {
	struct channel_shared *shared;
	struct channel_ring out, in;
	int wake_peer, wake_me; /* eventfds */
};

/* Memory for a channel, as a descriptor; it cannot change in size. -1 with a message in err. */
int channel_memory_create(struct err *err);

/*
 * Maps one end. `memory` may be closed afterwards; the eventfds (EFD_NONBLOCK) are the caller's. 0, or -1 with a
 * message in err.
 */
int channel_open(struct channel *channel, enum channel_end end, int memory, int wake_peer, int wake_me,
		 struct err *err);
void channel_close(struct channel *channel);

/*
 * Room for a packet of up to `size` <= CHANNEL_PACKET_MAX bytes in the outgoing ring, or NULL: the other end is behind.
 * Asked again, it is the same room.
 */
u8 *channel_reserve(struct channel *channel, u32 size);
/* What was reserved holds a packet of `size` bytes. The other end sees it from now on, but is not woken. */
void channel_commit(struct channel *channel, u32 size);

/* Bytes of the outgoing ring that are taken. */
u32 channel_used(const struct channel *channel);

/*
 * The next packet for this end, or NULL: there is none, or, with *broken set, the other end wrote nonsense. It stays
 * where it is until channel_consume(); the other end can change its bytes meanwhile.
 */
u8 *channel_peek(struct channel *channel, u32 *size, bool *broken);
void channel_consume(struct channel *channel, u32 size);

/* Wakes the other end if it waits for what was committed or consumed. */
void channel_flush(struct channel *channel);

/*
 * This end will do something else, or sleep: from now on the other end wakes it, once, when there is a packet
 * (`packets`), or when half of the outgoing ring is free (`room`). False if that is so already: then it does not wake.
 */
bool channel_wait(struct channel *channel, bool packets, bool room);

/* After a wake-up: drains the descriptor. */
void channel_woken(struct channel *channel);

/* What the guest's driver can do (NET_OFFLOAD_*): the VMM writes it, the process reads it. */
void channel_set_offloads(struct channel *channel, u32 offloads);
u32 channel_offloads(const struct channel *channel);

#endif
