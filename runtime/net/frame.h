/*
 * Ethernet frames, and the header in front of them that virtio-net and its back ends exchange (virtio 1.2, 5.1.6).
 */
#ifndef AVANT_NET_FRAME_H
#define AVANT_NET_FRAME_H

#include "util/types.h"

/* Little-endian. */
struct net_header {
	u8 flags, gso_type;
	u16 hdr_len, gso_size, csum_start, csum_offset;
	u16 num_buffers; /* to the guest only */
} __attribute__((packed));

#define NET_HEADER_NEEDS_CSUM BIT(0) /* csum_start and csum_offset say what is missing */
#define NET_HEADER_DATA_VALID BIT(1) /* the checksum has been looked at */
#define NET_GSO_NONE          0
#define NET_GSO_TCPV4         1
#define NET_GSO_TCPV6         4

#define NET_ETHERNET_SIZE 14
#define NET_IPV6_SIZE     40
#define NET_UDP_SIZE      8
#define NET_TCP_SIZE      20
/* Ethernet header and the largest IP packet: nothing longer is carried. */
#define NET_FRAME_MAX     (NET_ETHERNET_SIZE + 65535 + NET_IPV6_SIZE)

#define NET_PROTOCOL_TCP 6
#define NET_PROTOCOL_UDP 17

/* Where things are in a frame. What the frame's headers say was checked against its size. */
struct frame_layout {
	unsigned version;   /* 4 or 6; 0: not IP, or a broken header, and nothing below counts */
	unsigned protocol;  /* of what is at `transport` */
	unsigned transport; /* byte behind the IP header, extension headers of IPv6 excluded */
	unsigned payload;   /* TCP: byte behind its header; 0: not TCP, a fragment, or a broken header */
	unsigned end;       /* byte behind the IP packet; the frame may be longer */
	bool fragment;      /* of an IPv4 packet */
};

void frame_parse(struct frame_layout *layout, const u8 *frame, size_t size);

/* Sum of the pseudo header for what is in [transport, end) of the frame; not complemented. */
u64 frame_pseudo_sum(const struct frame_layout *layout, const u8 *frame);

static inline u16 frame_get16(const u8 *at)
{
	return (u16)(at[0] << 8 | at[1]);
}

static inline u32 frame_get32(const u8 *at)
{
	return (u32)frame_get16(at) << 16 | frame_get16(at + 2);
}

static inline void frame_put16(u8 *at, unsigned value)
{
	at[0] = (u8)(value >> 8);
	at[1] = (u8)value;
}

static inline void frame_put32(u8 *at, u32 value)
{
	frame_put16(at, value >> 16);
	frame_put16(at + 2, value & 0xffff);
}

#endif
