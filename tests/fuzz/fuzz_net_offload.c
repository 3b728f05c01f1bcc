/*
 * Fuzzes what is done to packets between the guest and libslirp, in both directions: no access beyond a packet, no
 *piece longer than the MTU, and what is cut is complete. The first byte: bits 0 to 2: what the driver can do; bit 3: to
 *the guest, else from it; bits 4 to 7: MTU. Then a virtio-net header and a frame. Build by hand:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_net_offload.c \
 *		runtime/net/checksum.c runtime/net/frame.c runtime/net/offload.c -o fuzz_net_offload
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/checksum.h"
#include "net/offload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RIGHT_TYPE = 1, RIGHT_VERSION_6 = 2, RIGHT_LENGTH = 4, RIGHT_TCP = 8, RIGHT_TCP_HEADER = 16, RIGHT_SYN = 32 };

struct sink {
	struct offload_sink sink;
	u8 *packet;
	size_t size, payload; /* of transport data that came out altogether */
	unsigned mtu;
	bool whole; /* one frame as it is, or one that the guest cuts */
};

static u8 *reserve(struct offload_sink *base, size_t size)
{
	struct sink *sink = (struct sink *)base;

	sink->packet = malloc(size);
	sink->size = size;
	return sink->packet;
}

/* A sum over data that holds its own right checksum is all ones; see test_net_offload.c for an independent one. */
static bool is_sealed(const struct frame_layout *layout, const u8 *frame)
{
	u64 sum = checksum_add(frame_pseudo_sum(layout, frame), frame + layout->transport,
			       layout->end - layout->transport);

	return checksum_fold(sum) == 0xffff;
}

static void commit(struct offload_sink *base, size_t size)
{
	struct sink *sink = (struct sink *)base;
	struct net_header header;
	struct frame_layout layout;
	const u8 *frame = sink->packet + sizeof(header);

	if (size != sink->size)
		abort();
	memcpy(&header, sink->packet, sizeof(header));
	frame_parse(&layout, frame, size - sizeof(header));
	if (header.gso_type && (!header.gso_size || !layout.payload || header.hdr_len != layout.payload ||
				header.gso_size + layout.payload - NET_ETHERNET_SIZE > sink->mtu))
		abort();
	if (!header.gso_type && layout.version && layout.end - NET_ETHERNET_SIZE > sink->mtu)
		abort();
	if (!sink->whole && layout.payload && !is_sealed(&layout, frame))
		abort();
	if (layout.version)
		sink->payload += layout.end - (layout.payload ? layout.payload : layout.transport);
	free(sink->packet);
}

static void to_guest(const u8 *frame, size_t size, unsigned offloads, unsigned mtu)
{
	struct sink sink = {.sink = {.reserve = reserve, .commit = commit}, .mtu = mtu};
	struct frame_layout layout;
	unsigned count;

	frame_parse(&layout, frame, size);
	sink.whole = !layout.version || layout.end - NET_ETHERNET_SIZE <= mtu ||
		     ((offloads & NET_OFFLOAD_CSUM) &&
		      (offloads & (layout.version == 4 ? NET_OFFLOAD_TSO4 : NET_OFFLOAD_TSO6)));
	count = offload_to_guest(&sink.sink, frame, size, offloads, mtu);
	if (sink.whole && layout.payload && count != 1)
		abort();
	if (layout.payload && count && sink.payload != layout.end - layout.payload)
		abort();
}

static void from_guest(const u8 *packet, size_t size, unsigned offloads)
{
	struct net_header header;
	struct frame_layout layout;
	size_t frame_size = size - sizeof(header);
	u8 *frame = malloc(frame_size ? frame_size : 1);

	memcpy(&header, packet, sizeof(header));
	memcpy(frame, packet + sizeof(header), frame_size);
	if (offload_from_guest(&header, frame, frame_size)) {
		frame_parse(&layout, frame, frame_size);
		if (header.gso_type && (!layout.payload || layout.end != frame_size || !is_sealed(&layout, frame)))
			abort();
		offload_raise_mss(frame, frame_size, offloads, 32768);
		if (header.gso_type && !is_sealed(&layout, frame))
			abort();
	}
	free(frame);
}

static void put_right(u8 *frame, size_t size, unsigned what)
{
	bool six = what & RIGHT_VERSION_6;
	size_t header = six ? 40 : 20, room = size - NET_ETHERNET_SIZE;
	u8 *ip = frame + NET_ETHERNET_SIZE, *tcp = ip + header;

	if (!(what & RIGHT_TYPE) || size < NET_ETHERNET_SIZE + header + NET_TCP_SIZE + 4)
		return;
	frame_put16(frame + 12, six ? 0x86dd : 0x0800);
	ip[0] = six ? 0x60 : 0x45;
	if (what & RIGHT_LENGTH)
		frame_put16(ip + (six ? 4 : 2), (unsigned)(six ? room - header : room));
	if (!(what & RIGHT_TCP))
		return;
	ip[six ? 6 : 9] = NET_PROTOCOL_TCP;
	if (!six)
		frame_put16(ip + 6, 0x4000);
	if (what & RIGHT_TCP_HEADER)
		tcp[12] = 0x60;
	if (what & RIGHT_SYN) {
		tcp[13] = 0x02;
		frame_put32(tcp + NET_TCP_SIZE, 0x020405b4);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 + sizeof(struct net_header) || size > 2 + sizeof(struct net_header) + NET_FRAME_MAX)
		return 0;

	unsigned bits = *data, mtu = 1280 + (bits >> 4) * (bits >> 4) * 285;
	size_t frame_size = size - 2 - sizeof(struct net_header);
	u8 *copy = malloc(size - 2);

	memcpy(copy, data + 2, size - 2);
	put_right(copy + sizeof(struct net_header), frame_size, data[1]);
	if (bits & 8)
		to_guest(copy + sizeof(struct net_header), frame_size, bits & 7, mtu);
	else
		from_guest(copy, size - 2, bits & 7);
	free(copy);
	return 0;
}
