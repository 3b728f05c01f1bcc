#include "net/offload.h"

#include <string.h>

#include "net/checksum.h"

#define IPV4_LENGTH   2 /* offsets in headers */
#define IPV4_ID       4
#define IPV4_FRAGMENT 6
#define IPV4_CHECKSUM 10
#define IPV6_LENGTH   4
#define IPV6_NEXT     6
#define TCP_SEQUENCE  4
#define TCP_FLAGS     13
#define TCP_CHECKSUM  16

#define IPV4_DF             0x4000
#define IPV4_MF             0x2000
#define IPV6_FRAGMENT       44 /* protocol number of the fragment header (RFC 8200, 4.5) */
#define IPV6_FRAGMENT_SIZE  8
#define TCP_FIN             0x01
#define TCP_SYN             0x02
#define TCP_PSH             0x08
#define TCP_CWR             0x80
#define TCP_OPTION_END      0
#define TCP_OPTION_NOP      1
#define TCP_OPTION_MSS      2
#define TCP_OPTION_MSS_SIZE 4

/* The lengths in the IP header, for a frame that ends where its packet does. */
static void set_ip_length(u8 *frame, unsigned version, size_t size)
{
	u8 *ip = frame + NET_ETHERNET_SIZE;

	if (version == 4)
		frame_put16(ip + IPV4_LENGTH, (unsigned)(size - NET_ETHERNET_SIZE));
	else
		frame_put16(ip + IPV6_LENGTH, (unsigned)(size - NET_ETHERNET_SIZE - NET_IPV6_SIZE));
}

static void set_ipv4_checksum(u8 *frame)
{
	u8 *ip = frame + NET_ETHERNET_SIZE;
	u16 sum = 0;

	memcpy(ip + IPV4_CHECKSUM, &sum, sizeof(sum));
	sum = checksum_finish(checksum_add(0, ip, (ip[0] & 15U) * 4));
	memcpy(ip + IPV4_CHECKSUM, &sum, sizeof(sum));
}

static void set_tcp_checksum(const struct frame_layout *layout, u8 *frame)
{
	u8 *tcp = frame + layout->transport;
	u16 sum = 0;

	memcpy(tcp + TCP_CHECKSUM, &sum, sizeof(sum));
	sum = checksum_finish(checksum_add(frame_pseudo_sum(layout, frame), tcp, layout->end - layout->transport));
	memcpy(tcp + TCP_CHECKSUM, &sum, sizeof(sum));
}

/* A packet that the guest wants to have cut. Some systems leave its lengths to the card. */
static bool complete_large(const struct net_header *header, u8 *frame, size_t size)
{
	unsigned version = header->gso_type == NET_GSO_TCPV4 ? 4 : 6;
	size_t ip_size = version == 4 ? NET_ETHERNET_SIZE : NET_ETHERNET_SIZE + NET_IPV6_SIZE;
	struct frame_layout layout;

	if (header->gso_type != NET_GSO_TCPV4 && header->gso_type != NET_GSO_TCPV6)
		return false;
	if (!header->gso_size || !(header->flags & NET_HEADER_NEEDS_CSUM))
		return false;
	if (size < NET_ETHERNET_SIZE + NET_IPV6_SIZE || size - ip_size > 65535)
		return false;
	set_ip_length(frame, version, size);
	frame_parse(&layout, frame, size);
	if (layout.version != version || !layout.payload)
		return false;
	if (version == 4)
		set_ipv4_checksum(frame);
	set_tcp_checksum(&layout, frame);
	return true;
}

bool offload_from_guest(const struct net_header *header, u8 *frame, size_t size)
{
	size_t start = header->csum_start, field = start + header->csum_offset;
	u16 sum;

	if (header->gso_type != NET_GSO_NONE)
		return complete_large(header, frame, size);
	if (!(header->flags & NET_HEADER_NEEDS_CSUM))
		return true;
	if (field + sizeof(sum) > size)
		return false;
	/* the field holds the sum of the pseudo header (virtio 1.2, 5.1.6.2) */
	sum = checksum_finish(checksum_add(0, frame + start, size - start));
	memcpy(frame + field, &sum, sizeof(sum));
	return true;
}

/* The value of the option in the header's options, or NULL. At an even offset only, where systems put it. */
static u8 *find_mss(u8 *frame, const struct frame_layout *layout)
{
	u8 *at = frame + layout->transport + NET_TCP_SIZE;
	const u8 *end = frame + layout->payload;

	while (end - at >= TCP_OPTION_MSS_SIZE && *at != TCP_OPTION_END) {
		if (*at == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (*at == TCP_OPTION_MSS)
			return at[1] == TCP_OPTION_MSS_SIZE && (at - frame - layout->transport) % 2 == 0 ? at + 2
													 : NULL;
		if (at[1] < 2 || at[1] > end - at)
			return NULL;
		at += at[1];
	}
	return NULL;
}

void offload_raise_mss(u8 *frame, size_t size, unsigned offloads, unsigned mss)
{
	struct frame_layout layout;
	u16 from, to, sum;
	u8 *option, *checksum;

	frame_parse(&layout, frame, size);
	if (!layout.payload || !(frame[layout.transport + TCP_FLAGS] & TCP_SYN) ||
	    !(offloads & (layout.version == 4 ? NET_OFFLOAD_TSO4 : NET_OFFLOAD_TSO6)))
		return;
	option = find_mss(frame, &layout);
	if (!option || frame_get16(option) >= mss)
		return;
	checksum = frame + layout.transport + TCP_CHECKSUM;
	memcpy(&from, option, sizeof(from));
	frame_put16(option, mss);
	memcpy(&to, option, sizeof(to));
	memcpy(&sum, checksum, sizeof(sum));
	sum = checksum_update(sum, from, to);
	memcpy(checksum, &sum, sizeof(sum));
}

/* Room for a frame of `size` bytes behind its header, which is filled in. NULL: lost. */
static u8 *begin(struct offload_sink *sink, const struct net_header *header, size_t size)
{
	u8 *at = sink->reserve(sink, sizeof(*header) + size);

	if (!at)
		return NULL;
	memcpy(at, header, sizeof(*header));
	return at + sizeof(*header);
}

static void finish(struct offload_sink *sink, size_t size)
{
	sink->commit(sink, sizeof(struct net_header) + size);
}

static unsigned send_whole(struct offload_sink *sink, const u8 *frame, size_t size, const struct net_header *header)
{
	u8 *to = begin(sink, header, size);

	if (!to)
		return 0;
	memcpy(to, frame, size);
	finish(sink, size);
	return 1;
}

/* The guest treats it as if it had come in pieces of `mss` (virtio 1.2, 5.1.6.4.1). */
static unsigned send_large(struct offload_sink *sink, const u8 *frame, const struct frame_layout *layout, unsigned mss)
{
	const struct net_header header = {
		.flags = NET_HEADER_NEEDS_CSUM,
		.gso_type = layout->version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6,
		.hdr_len = (u16)layout->payload,
		.gso_size = (u16)mss,
		.csum_start = (u16)layout->transport,
		.csum_offset = TCP_CHECKSUM,
	};
	u16 sum = checksum_fold(frame_pseudo_sum(layout, frame));
	u8 *to = begin(sink, &header, layout->end);

	if (!to)
		return 0;
	memcpy(to, frame, layout->end);
	memcpy(to + layout->transport + TCP_CHECKSUM, &sum, sizeof(sum));
	finish(sink, layout->end);
	return 1;
}

/* `to` holds the headers of the whole packet and the piece's data; `from` is where its data began. */
static void fix_tcp_piece(u8 *to, const struct frame_layout *whole, unsigned from, unsigned size, unsigned number)
{
	struct frame_layout layout = *whole;
	u8 *tcp = to + whole->transport, *ip = to + NET_ETHERNET_SIZE;

	layout.end = whole->payload + size;
	set_ip_length(to, whole->version, layout.end);
	frame_put32(tcp + TCP_SEQUENCE, frame_get32(tcp + TCP_SEQUENCE) + from - whole->payload);
	if (from + size < whole->end)
		tcp[TCP_FLAGS] &= (u8) ~(TCP_FIN | TCP_PSH);
	if (number)
		tcp[TCP_FLAGS] &= (u8)~TCP_CWR;
	if (whole->version == 4) {
		frame_put16(ip + IPV4_ID, frame_get16(ip + IPV4_ID) + number);
		set_ipv4_checksum(to);
	}
	set_tcp_checksum(&layout, to);
}

static unsigned send_tcp_pieces(struct offload_sink *sink, const u8 *frame, const struct frame_layout *layout,
				unsigned mss, const struct net_header *header)
{
	unsigned count = 0;

	for (unsigned at = layout->payload; at < layout->end; at += mss) {
		unsigned size = layout->end - at < mss ? layout->end - at : mss;
		u8 *to = begin(sink, header, layout->payload + size);

		if (!to)
			return count;
		memcpy(to, frame, layout->payload);
		memcpy(to + layout->payload, frame + at, size);
		fix_tcp_piece(to, layout, at, size, count);
		finish(sink, layout->payload + size);
		count++;
	}
	return count;
}

/* The sender may cut its own packets whatever they say (RFC 791, 3.2), and for the guest this is the sender. */
static unsigned send_ipv4_fragments(struct offload_sink *sink, const u8 *frame, const struct frame_layout *layout,
				    unsigned mtu)
{
	const struct net_header none = {0};
	unsigned header = layout->transport, room = (mtu - (header - NET_ETHERNET_SIZE)) & ~7U, count = 0;
	unsigned flags = frame_get16(frame + NET_ETHERNET_SIZE + IPV4_FRAGMENT) & ~IPV4_DF;

	for (unsigned at = header; at < layout->end; at += room) {
		bool last = layout->end - at <= room;
		unsigned size = last ? layout->end - at : room;
		u8 *to = begin(sink, &none, header + size);

		if (!to)
			return count;
		memcpy(to, frame, header);
		memcpy(to + header, frame + at, size);
		set_ip_length(to, 4, header + size);
		frame_put16(to + NET_ETHERNET_SIZE + IPV4_FRAGMENT, (flags + (at - header) / 8) | (last ? 0 : IPV4_MF));
		set_ipv4_checksum(to);
		finish(sink, header + size);
		count++;
	}
	return count;
}

/* A fragment header goes between the IPv6 header and what follows (RFC 8200, 4.5). */
static unsigned send_ipv6_fragments(struct offload_sink *sink, const u8 *frame, const struct frame_layout *layout,
				    unsigned mtu)
{
	const struct net_header none = {0};
	const unsigned header = NET_ETHERNET_SIZE + NET_IPV6_SIZE, headers = header + IPV6_FRAGMENT_SIZE;
	unsigned room = (mtu - (headers - NET_ETHERNET_SIZE)) & ~7U, count = 0;
	u32 id = sink->fragment_id++;

	for (unsigned at = header; at < layout->end; at += room) {
		bool last = layout->end - at <= room;
		unsigned size = last ? layout->end - at : room;
		u8 *to = begin(sink, &none, headers + size);

		if (!to)
			return count;
		memcpy(to, frame, header);
		to[NET_ETHERNET_SIZE + IPV6_NEXT] = IPV6_FRAGMENT;
		to[header] = (u8)layout->protocol;
		to[header + 1] = 0;
		frame_put16(to + header + 2, (at - header) | !last);
		frame_put32(to + header + 4, id);
		memcpy(to + headers, frame + at, size);
		set_ip_length(to, 6, headers + size);
		finish(sink, headers + size);
		count++;
	}
	return count;
}

static unsigned send_tcp(struct offload_sink *sink, const u8 *frame, const struct frame_layout *layout,
			 unsigned offloads, unsigned mtu, const struct net_header *header)
{
	unsigned headers = layout->payload - NET_ETHERNET_SIZE,
		 tso = layout->version == 4 ? NET_OFFLOAD_TSO4 : NET_OFFLOAD_TSO6;

	if (headers >= mtu)
		return 0;
	if ((offloads & tso) && (offloads & NET_OFFLOAD_CSUM))
		return send_large(sink, frame, layout, mtu - headers);
	return send_tcp_pieces(sink, frame, layout, mtu - headers, header);
}

unsigned offload_to_guest(struct offload_sink *sink, const u8 *frame, size_t size, unsigned offloads, unsigned mtu)
{
	struct net_header header = {0};
	struct frame_layout layout;

	frame_parse(&layout, frame, size);
	/* libslirp makes complete checksums, and nobody could have changed anything since */
	if (layout.version && !layout.fragment && (offloads & NET_OFFLOAD_CSUM))
		header.flags = NET_HEADER_DATA_VALID;
	if (!layout.version || layout.end - NET_ETHERNET_SIZE <= mtu)
		return send_whole(sink, frame, size, &header);
	if (layout.payload)
		return send_tcp(sink, frame, &layout, offloads, mtu, &header);
	return layout.version == 4 ? send_ipv4_fragments(sink, frame, &layout, mtu)
				   : send_ipv6_fragments(sink, frame, &layout, mtu);
}
