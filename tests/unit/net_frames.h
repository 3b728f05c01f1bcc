/* Frames for tests, and a plain reading of what they must be: nothing of it is shared with what is tested. */
#ifndef AVANT_TESTS_NET_FRAMES_H
#define AVANT_TESTS_NET_FRAMES_H

#include <string.h>

#include "net/offload.h"

/* The sum of 16-bit words in network order, as RFC 1071 describes it. */
static inline u32 plain_sum(u32 sum, const u8 *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		sum += i % 2 ? data[i] : (u32)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline u32 plain_pseudo(const u8 *frame, size_t size)
{
	const u8 *ip = frame + 14;
	size_t header = frame[12] == 0x08 ? (ip[0] & 15U) * 4 : 40, length = size - 14 - header;
	u8 rest[4] = {0, frame[12] == 0x08 ? ip[9] : ip[6], (u8)(length >> 8), (u8)length};
	u32 sum = frame[12] == 0x08 ? plain_sum(0, ip + 12, 8) : plain_sum(0, ip + 8, 32);

	return plain_sum(sum, rest, sizeof(rest));
}

/* Is the checksum of the TCP or UDP packet right, and that of the IPv4 header? The frame ends with the packet. */
static inline bool plain_check(const u8 *frame, size_t size)
{
	const u8 *ip = frame + 14;
	size_t header = frame[12] == 0x08 ? (ip[0] & 15U) * 4 : 40;

	if (frame[12] == 0x08 && plain_sum(0, ip, header) != 0xffff)
		return false;
	return plain_sum(plain_pseudo(frame, size), ip + header, size - 14 - header) == 0xffff;
}

static inline void plain_put16(u8 *at, u32 value)
{
	at[0] = (u8)(value >> 8);
	at[1] = (u8)value;
}

#define FRAME_TCP      6
#define FRAME_UDP      17
#define FRAME_SEQUENCE 0xfffffe00U /* wraps soon */

/*
 * An IPv4 or IPv6 packet of TCP (20 bytes of header and `options` of TCP options) or UDP with `payload` bytes behind
 * it, without checksums. Returns the size of the frame.
 */
static inline size_t make_frame(u8 *frame, unsigned version, unsigned protocol, const u8 *options, size_t options_size,
				size_t payload)
{
	size_t ip_header = version == 4 ? 20 : 40;
	size_t header = protocol == FRAME_TCP ? 20 + options_size : 8, size = 14 + ip_header + header + payload;
	u8 *ip = frame + 14, *transport = ip + ip_header;

	memset(frame, 0, size);
	memcpy(frame, "\x02\x41\x56\x41\x4e\x54\x52\x55\x0a\x00\x02\x02", 12);
	plain_put16(frame + 12, version == 4 ? 0x0800 : 0x86dd);
	if (version == 4) {
		memcpy(ip, "\x45\x00\x00\x00\xff\xfe\x40\x00\x40\x00\x00\x00\x0a\x00\x02\x02\x0a\x00\x02\x0f", 20);
		plain_put16(ip + 2, (u32)(size - 14));
		ip[9] = (u8)protocol;
	} else {
		ip[0] = 0x60;
		plain_put16(ip + 4, (u32)(size - 14 - 40));
		ip[6] = (u8)protocol;
		ip[7] = 64;
		memcpy(ip + 8,
		       "\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\xfe\xc0\0\0\0\0\0\0\0\x41\x56\xff\xfe\x41\x4e\x54", 32);
	}
	plain_put16(transport, 5555);
	plain_put16(transport + 2, 33333);
	if (protocol == FRAME_TCP) {
		plain_put16(transport + 4, FRAME_SEQUENCE >> 16);
		plain_put16(transport + 6, FRAME_SEQUENCE & 0xffff);
		transport[12] = (u8)(header / 4 << 4);
		transport[13] = 0x10; /* ACK */
		if (options_size)
			memcpy(transport + 20, options, options_size);
	} else {
		plain_put16(transport + 4, (u32)(8 + payload));
	}
	for (size_t i = 0; i < payload; i++)
		transport[header + i] = (u8)(i * 31 + i / 251);
	return size;
}

static inline u8 *frame_transport(u8 *frame)
{
	return frame + 14 + (frame[12] == 0x08 ? 20 : 40);
}

static inline u8 *frame_checksum(u8 *frame)
{
	bool tcp = frame[frame[12] == 0x08 ? 14 + 9 : 14 + 6] == FRAME_TCP;

	return frame_transport(frame) + (tcp ? 16 : 6);
}

/* Fills in the checksums. */
static inline void seal_frame(u8 *frame, size_t size)
{
	u8 *ip = frame + 14, *transport = frame_transport(frame), *field = frame_checksum(frame);
	u32 sum;

	if (frame[12] == 0x08) {
		plain_put16(ip + 10, 0);
		plain_put16(ip + 10, ~plain_sum(0, ip, 20) & 0xffff);
	}
	plain_put16(field, 0);
	sum = plain_sum(plain_pseudo(frame, size), transport, size - (size_t)(transport - frame));
	plain_put16(field, ~sum & 0xffff);
}

#endif
