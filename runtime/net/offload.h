/*
 * What a network card would do to packets: completing checksums, cutting large packets to size. The guest's side speaks
 * virtio-net headers (frame.h), the network's side (libslirp) whole frames with complete checksums, of any size. Frames
 * and headers are not believed in either direction.
 */
#ifndef AVANT_NET_OFFLOAD_H
#define AVANT_NET_OFFLOAD_H

#include "net/frame.h"

/* What the guest's driver can do with what it receives. */
#define NET_OFFLOAD_CSUM BIT(0) /* take packets without a complete checksum, or with one that was looked at */
#define NET_OFFLOAD_TSO4 BIT(1) /* take TCP packets longer than the MTU */
#define NET_OFFLOAD_TSO6 BIT(2)

/*
 * Makes a frame from the guest complete: fills in the checksum that the header says is missing, and for a packet to be
 * cut (it is not: libslirp takes TCP packets of 64 KiB) what a card would fill into the pieces. False if the header
 * does not fit the frame: it is to be dropped.
 */
bool offload_from_guest(const struct net_header *header, u8 *frame, size_t size);

/*
 * A guest that takes long TCP packets is sent some: raises the maximum segment size that it announces in a SYN to
 * `size`. The frame must be complete.
 */
void offload_raise_mss(u8 *frame, size_t size, unsigned offloads, unsigned mss);

/* Where frames for the guest go. */
struct offload_sink {
	/* Room for a header and a frame of `size` bytes altogether, or NULL: the frame is lost. */
	u8 *(*reserve)(struct offload_sink *sink, size_t size);
	/* What was reserved last is complete. */
	void (*commit)(struct offload_sink *sink, size_t size);
	u32 fragment_id; /* of the next IPv6 packet that is cut into fragments */
};

/*
 * Sends a complete frame to the guest: as it is, with a header that asks the guest to treat it as several, or cut into
 * several of at most `mtu` bytes of IP packet each. Returns the number of frames.
 */
unsigned offload_to_guest(struct offload_sink *sink, const u8 *frame, size_t size, unsigned offloads, unsigned mtu);

#endif
