#include "net/frame.h"

#include "net/checksum.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define IPV4_SIZE      20
#define IPV4_FRAGMENT  0x3fff /* offset, and "more fragments" (RFC 791, 3.1) */

static bool parse_ipv4(struct frame_layout *layout, const u8 *ip, size_t size)
{
	unsigned header, total;

	if (size < IPV4_SIZE || ip[0] >> 4 != 4)
		return false;
	header = (ip[0] & 15) * 4;
	total = frame_get16(ip + 2);
	if (header < IPV4_SIZE || total < header || total > size)
		return false;
	layout->version = 4;
	layout->protocol = ip[9];
	layout->transport = NET_ETHERNET_SIZE + header;
	layout->end = NET_ETHERNET_SIZE + total;
	layout->fragment = frame_get16(ip + 6) & IPV4_FRAGMENT;
	return true;
}

static bool parse_ipv6(struct frame_layout *layout, const u8 *ip, size_t size)
{
	unsigned total;

	if (size < NET_IPV6_SIZE || ip[0] >> 4 != 6)
		return false;
	total = NET_IPV6_SIZE + frame_get16(ip + 4);
	if (total > size)
		return false;
	layout->version = 6;
	layout->protocol = ip[6];
	layout->transport = NET_ETHERNET_SIZE + NET_IPV6_SIZE;
	layout->end = NET_ETHERNET_SIZE + total;
	return true;
}

static void parse_tcp(struct frame_layout *layout, const u8 *frame)
{
	unsigned room = layout->end - layout->transport, header;

	if (room < NET_TCP_SIZE)
		return;
	header = (frame[layout->transport + 12] >> 4) * 4U;
	if (header >= NET_TCP_SIZE && header <= room)
		layout->payload = layout->transport + header;
}

void frame_parse(struct frame_layout *layout, const u8 *frame, size_t size)
{
	const u8 *ip = frame + NET_ETHERNET_SIZE;
	bool good = false;

	*layout = (struct frame_layout){.version = 0};
	if (size < NET_ETHERNET_SIZE)
		return;
	size -= NET_ETHERNET_SIZE;
	switch (frame_get16(frame + 12)) {
	case ETHERTYPE_IPV4:
		good = parse_ipv4(layout, ip, size);
		break;
	case ETHERTYPE_IPV6:
		good = parse_ipv6(layout, ip, size);
		break;
	}
	if (good && layout->protocol == NET_PROTOCOL_TCP && !layout->fragment)
		parse_tcp(layout, frame);
}

/* RFC 9293, 3.1 and RFC 8200, 8.1: addresses, protocol, length. The order of words does not matter to a sum. */
u64 frame_pseudo_sum(const struct frame_layout *layout, const u8 *frame)
{
	const u8 *ip = frame + NET_ETHERNET_SIZE;
	u8 rest[4];
	u64 sum;

	frame_put16(rest, layout->protocol);
	frame_put16(rest + 2, layout->end - layout->transport);
	sum = layout->version == 4 ? checksum_add(0, ip + 12, 8) : checksum_add(0, ip + 8, 32);
	return checksum_add(sum, rest, sizeof(rest));
}
