#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/checksum.h"
#include "net_frames.h"

#define ALL (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6)
#define MTU 1500

static u8 frame[NET_FRAME_MAX + 64]; /* a little more than fits */

/* --- checksums --------------------------------------------------------------------------------------------------- */

static void test_checksum(void **state)
{
	static const u8 example[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}; /* RFC 1071, 3 */
	u8 data[300], folded[2];
	u16 sum = checksum_fold(checksum_add(0, example, sizeof(example)));

	(void)state;
	memcpy(folded, &sum, sizeof(sum));
	assert_int_equal(folded[0] << 8 | folded[1], 0xddf2);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * i + 7);
	for (unsigned size = 0; size <= sizeof(data); size++)
		for (unsigned cut = 0; cut <= size; cut += 34) {
			sum = checksum_fold(checksum_add(checksum_add(0, data, cut), data + cut, size - cut));
			memcpy(folded, &sum, sizeof(sum));
			assert_int_equal(folded[0] << 8 | folded[1], plain_sum(0, data, size));
		}
	memset(frame, 0xff, sizeof(frame));
	assert_int_equal(checksum_fold(checksum_add(0, frame, sizeof(frame) & ~1ULL)), 0xffff);
}

static void test_checksum_never_zero(void **state)
{
	(void)state;
	assert_int_equal(checksum_finish(0xffff), 0xffff);
	assert_int_equal(checksum_finish(0), 0xffff);
	assert_int_equal(checksum_finish(1), 0xfffe);
}

static void test_checksum_update(void **state)
{
	u16 words[4] = {0x1234, 0xfff0, 0, 0xabcd};

	(void)state;
	for (unsigned from = 0; from < 0x10000; from += 255)
		for (unsigned to = 0; to < 0x10000; to += 257) {
			words[2] = (u16)from;
			u16 before = checksum_finish(checksum_add(0, words, sizeof(words)));

			words[2] = (u16)to;
			assert_int_equal(checksum_update(before, (u16)from, (u16)to),
					 checksum_finish(checksum_add(0, words, sizeof(words))));
		}
}

/* --- headers ----------------------------------------------------------------------------------------------------- */

static void test_parse(void **state)
{
	struct frame_layout layout;
	size_t size = make_frame(frame, 4, FRAME_TCP, (const u8 *)"\x01\x01\x01\x00", 4, 100);

	(void)state;
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.version, 4);
	assert_int_equal(layout.protocol, 6);
	assert_int_equal(layout.transport, 34);
	assert_int_equal(layout.payload, 58);
	assert_int_equal(layout.end, size);
	frame_parse(&layout, frame, size + 5); /* padding */
	assert_int_equal(layout.end, size);
	frame[20] = 0x20; /* more fragments */
	frame_parse(&layout, frame, size);
	assert_true(layout.fragment);
	assert_int_equal(layout.payload, 0);

	size = make_frame(frame, 6, FRAME_TCP, NULL, 0, 1);
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.version, 6);
	assert_int_equal(layout.transport, 54);
	assert_int_equal(layout.payload, 74);
}

/* Cut anywhere, in memory of that size: nothing behind it is read, and nothing is said of what is not there. */
static void test_parse_cut(void **state)
{
	(void)state;
	for (unsigned version = 4; version <= 6; version += 2) {
		size_t size = make_frame(frame, version, FRAME_TCP, NULL, 0, 10);

		for (size_t cut = 0; cut < size; cut++) {
			struct frame_layout layout;
			u8 *copy = malloc(cut ? cut : 1);

			memcpy(copy, frame, cut);
			frame_parse(&layout, copy, cut);
			assert_int_equal(layout.version, 0);
			free(copy);
		}
	}
}

static void test_parse_lies(void **state)
{
	struct frame_layout layout;
	size_t size = make_frame(frame, 4, FRAME_TCP, NULL, 0, 10);

	(void)state;
	frame[14] = 0x44; /* header of 16 bytes */
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.version, 0);
	frame[14] = 0x4f; /* header of 60 bytes, longer than the packet */
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.version, 0);
	frame[14] = 0x65; /* IPv6 behind the type of IPv4 */
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.version, 0);
	frame[14] = 0x45;
	frame[34 + 12] = 0x40; /* TCP header of 16 bytes */
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.version, 4);
	assert_int_equal(layout.payload, 0);
	frame[34 + 12] = 0xf0; /* of 60 bytes */
	frame_parse(&layout, frame, size);
	assert_int_equal(layout.payload, 0);
}

/* --- from the guest ---------------------------------------------------------------------------------------------- */

/* What a driver leaves in the field: the sum of the pseudo header. */
static void leave_partial(size_t size)
{
	plain_put16(frame_checksum(frame), plain_pseudo(frame, size));
}

static struct net_header partial_header(u8 gso_type, unsigned gso_size)
{
	u8 *transport = frame_transport(frame);

	return (struct net_header){
		.flags = NET_HEADER_NEEDS_CSUM,
		.gso_type = gso_type,
		.gso_size = (u16)gso_size,
		.csum_start = (u16)(transport - frame),
		.csum_offset = (u16)(frame_checksum(frame) - transport),
	};
}

static void test_completes_checksums(void **state)
{
	static const unsigned protocols[] = {FRAME_TCP, FRAME_UDP};

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned version = 4; version <= 6; version += 2)
			for (size_t payload = 0; payload < 70; payload++) {
				size_t size = make_frame(frame, version, protocols[i], NULL, 0, payload);
				struct net_header header = partial_header(NET_GSO_NONE, 0);

				seal_frame(frame, size);
				leave_partial(size);
				assert_true(offload_from_guest(&header, frame, size));
				assert_true(plain_check(frame, size));
			}
}

static void test_leaves_complete_ones(void **state)
{
	const struct net_header header = {0};
	size_t size = make_frame(frame, 4, FRAME_UDP, NULL, 0, 33);
	u8 copy[100];

	(void)state;
	memcpy(copy, frame, size);
	assert_true(offload_from_guest(&header, frame, size));
	assert_memory_equal(copy, frame, size);
}

/* The lengths and the IPv4 checksum are not there either, as some systems leave them. */
static void test_completes_large(void **state)
{
	(void)state;
	for (unsigned version = 4; version <= 6; version += 2) {
		size_t most = version == 4 ? 65535 - 40 : 65535 - 20;

		for (size_t payload = most - 3; payload <= most; payload++) {
			size_t size = make_frame(frame, version, FRAME_TCP, NULL, 0, payload);
			struct net_header header = partial_header(version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6, 1460);

			plain_put16(frame + 14 + (version == 4 ? 2 : 4), 0);
			assert_true(offload_from_guest(&header, frame, size));
			assert_true(plain_check(frame, size));
			assert_int_equal(frame_get16(frame + 14 + (version == 4 ? 2 : 4)),
					 size - (version == 4 ? 14 : 54));
		}
		/* a byte more does not fit the length */
		size_t size = make_frame(frame, version, FRAME_TCP, NULL, 0, most + 1);
		struct net_header header = partial_header(version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6, 1460);

		assert_false(offload_from_guest(&header, frame, size));
	}
}

static void test_lying_headers(void **state)
{
	size_t size = make_frame(frame, 4, FRAME_TCP, NULL, 0, 3000);
	const struct net_header good = partial_header(NET_GSO_TCPV4, 1460);
	struct net_header header = good;

	(void)state;
	assert_true(offload_from_guest(&header, frame, size));
	header.gso_size = 0;
	assert_false(offload_from_guest(&header, frame, size));
	header = good;
	header.flags = 0;
	assert_false(offload_from_guest(&header, frame, size));
	header = good;
	header.gso_type = NET_GSO_TCPV6;
	assert_false(offload_from_guest(&header, frame, size));
	for (unsigned type = 1; type < 256; type++)
		if (type != NET_GSO_TCPV4) {
			header.gso_type = (u8)type;
			assert_false(offload_from_guest(&header, frame, size));
		}
	header = good;
	assert_false(offload_from_guest(&header, frame, 14 + 20 + 19));
	assert_false(offload_from_guest(&header, frame, 0));
	frame[34 + 12] = 0x10; /* a TCP header of 4 bytes */
	assert_false(offload_from_guest(&header, frame, size));

	header = (struct net_header){.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 90, .csum_offset = 8};
	assert_true(offload_from_guest(&header, frame, 100));
	header.csum_offset = 9;
	assert_false(offload_from_guest(&header, frame, 100));
	header = (struct net_header){.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff};
	assert_false(offload_from_guest(&header, frame, 100));
	header = (struct net_header){.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 101};
	assert_false(offload_from_guest(&header, frame, 100));
	assert_false(offload_from_guest(&header, frame, 1));
}

/* --- segment size ------------------------------------------------------------------------------------------------ */

static unsigned raised(unsigned version, const char *options, size_t options_size, size_t at, u8 flags,
		       unsigned offloads)
{
	size_t size = make_frame(frame, version, FRAME_TCP, (const u8 *)options, options_size, 0);

	frame_transport(frame)[13] = flags;
	seal_frame(frame, size);
	offload_raise_mss(frame, size, offloads, 32768);
	assert_true(plain_check(frame, size));
	return frame_get16(frame_transport(frame) + 20 + at);
}

#define MSS(value) "\x02\x04" value

static void test_raises_mss(void **state)
{
	(void)state;
	assert_int_equal(raised(4, MSS("\x05\xb4"), 4, 2, 0x02, ALL), 32768);
	assert_int_equal(raised(6, MSS("\x05\xa0"), 4, 2, 0x12, ALL), 32768);
	assert_int_equal(raised(4, "\x01\x01" MSS("\x05\xb4") "\x04\x02", 8, 4, 0x02, ALL), 32768);
	assert_int_equal(raised(4, "\x04\x02" MSS("\x05\xb4") "\x00\x00", 8, 4, 0x02, ALL), 32768);
}

static void test_leaves_mss(void **state)
{
	(void)state;
	assert_int_equal(raised(4, MSS("\x05\xb4"), 4, 2, 0x10, ALL), 1460); /* no SYN */
	assert_int_equal(raised(4, MSS("\x05\xb4"), 4, 2, 0x02, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO6), 1460);
	assert_int_equal(raised(6, MSS("\x05\xb4"), 4, 2, 0x02, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4), 1460);
	assert_int_equal(raised(4, MSS("\x90\x00"), 4, 2, 0x02, ALL), 0x9000);                     /* more already */
	assert_int_equal(raised(4, "\x01" MSS("\x05\xb4") "\x00\x00\x00", 8, 3, 0x02, ALL), 1460); /* odd */
	assert_int_equal(raised(4, "\x00\x00" MSS("\x05\xb4") "\x00\x00", 8, 4, 0x02, ALL), 1460); /* behind the end */
	assert_int_equal(raised(4, "\x03\x01" MSS("\x05\xb4") "\x00\x00", 8, 4, 0x02, ALL), 1460); /* length 1 */
	assert_int_equal(raised(4, "\x03\xff" MSS("\x05\xb4") "\x00\x00", 8, 4, 0x02, ALL), 1460); /* too long */
	assert_int_equal(raised(4, "\x02\x03\x05\xb4", 4, 2, 0x02, ALL), 1460);
	assert_int_equal(raised(4, "\x01\x01\x02\x04", 4, 2, 0x02, ALL), 0x0204); /* cut */
}

/* --- to the guest ------------------------------------------------------------------------------------------------ */

/* Keeps what it is given, each packet in memory of its size. */
struct keeper {
	struct offload_sink sink;
	u8 *packet[2000];
	size_t size[2000];
	unsigned count, most;
};

static u8 *keep_reserve(struct offload_sink *sink, size_t size)
{
	struct keeper *keeper = (struct keeper *)sink;

	if (keeper->count == keeper->most)
		return NULL;
	keeper->packet[keeper->count] = malloc(size);
	keeper->size[keeper->count] = size;
	return keeper->packet[keeper->count];
}

static void keep_commit(struct offload_sink *sink, size_t size)
{
	struct keeper *keeper = (struct keeper *)sink;

	assert_int_equal(size, keeper->size[keeper->count]);
	keeper->count++;
}

static struct keeper keeper;

static void send(size_t size, unsigned offloads, unsigned mtu)
{
	while (keeper.count)
		free(keeper.packet[--keeper.count]);
	keeper = (struct keeper){.sink = {.reserve = keep_reserve, .commit = keep_commit}, .most = 2000};

	unsigned sent = offload_to_guest(&keeper.sink, frame, size, offloads, mtu);

	assert_int_equal(sent, keeper.count);
}

static const struct net_header *header_of(unsigned i)
{
	return (const struct net_header *)keeper.packet[i];
}

static u8 *frame_of(unsigned i)
{
	return keeper.packet[i] + sizeof(struct net_header);
}

static size_t frame_size(unsigned i)
{
	return keeper.size[i] - sizeof(struct net_header);
}

static void test_small_as_they_are(void **state)
{
	const struct net_header none = {0}, valid = {.flags = NET_HEADER_DATA_VALID};
	size_t size = make_frame(frame, 4, FRAME_TCP, NULL, 0, MTU - 40);

	(void)state;
	seal_frame(frame, size);
	send(size, ALL, MTU);
	assert_int_equal(keeper.count, 1);
	assert_memory_equal(header_of(0), &valid, sizeof(valid));
	assert_memory_equal(frame_of(0), frame, size);
	assert_int_equal(frame_size(0), size);
	send(size, 0, MTU);
	assert_memory_equal(header_of(0), &none, sizeof(none));
	memset(frame, 0, 64);
	frame[12] = 8, frame[13] = 6; /* ARP, padded */
	send(64, ALL, MTU);
	assert_memory_equal(header_of(0), &none, sizeof(none));
	assert_int_equal(frame_size(0), 64);
	send(3, ALL, MTU);
	assert_int_equal(frame_size(0), 3);
}

static void check_large(unsigned version, size_t payload)
{
	size_t ip = version == 4 ? 20 : 40, size = make_frame(frame, version, FRAME_TCP, NULL, 0, payload);
	const struct net_header *header;

	seal_frame(frame, size);
	send(size, ALL, MTU);
	assert_int_equal(keeper.count, 1);
	assert_int_equal(frame_size(0), size);
	header = header_of(0);
	assert_int_equal(header->flags, NET_HEADER_NEEDS_CSUM);
	assert_int_equal(header->gso_type, version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6);
	assert_int_equal(header->gso_size, MTU - ip - 20);
	assert_int_equal(header->hdr_len, 14 + ip + 20);
	assert_int_equal(header->csum_start, 14 + ip);
	assert_int_equal(header->csum_offset, 16);
	assert_int_equal(frame_get16(frame_checksum(frame_of(0))), plain_pseudo(frame, size));
	/* completed as the guest's own card would, it is what was sent */
	assert_true(offload_from_guest(header, frame_of(0), size));
	assert_true(plain_check(frame_of(0), size));
}

static void test_large_in_one(void **state)
{
	(void)state;
	check_large(4, MTU - 39);
	check_large(4, 32768);
	check_large(6, MTU - 59);
	check_large(6, 65515);
}

/* All pieces together are the packet, and each is a good one. */
static void check_pieces(unsigned version, size_t payload, unsigned mtu, unsigned offloads, u8 flags)
{
	size_t headers = (version == 4 ? 34 : 54) + 20 + 4, done = 0;
	size_t size = make_frame(frame, version, FRAME_TCP, (const u8 *)"\x01\x01\x01\x01", 4, payload);

	frame_transport(frame)[13] = flags;
	seal_frame(frame, size);
	send(size, offloads, mtu);
	for (unsigned i = 0; i < keeper.count; i++) {
		u8 *piece = frame_of(i), *tcp = frame_transport(piece);
		size_t piece_size = frame_size(i) - headers;
		u8 expected = flags;

		assert_true(frame_size(i) - 14 <= mtu);
		assert_true(plain_check(piece, frame_size(i)));
		assert_int_equal(frame_get16(piece + 14 + (version == 4 ? 2 : 4)),
				 frame_size(i) - (version == 4 ? 14 : 54));
		assert_int_equal(frame_get32(tcp + 4), (u32)(FRAME_SEQUENCE + done));
		if (i)
			expected &= 0x7f;
		if (i + 1 < keeper.count)
			expected &= 0xf6;
		assert_int_equal(tcp[13], expected);
		assert_memory_equal(piece + headers, frame + headers + done, piece_size);
		if (version == 4)
			assert_int_equal(frame_get16(piece + 18), (u16)(0xfffe + i));
		done += piece_size;
	}
	assert_int_equal(done, payload);
}

static void test_large_in_pieces(void **state)
{
	(void)state;
	check_pieces(4, 32768, MTU, NET_OFFLOAD_CSUM, 0x99);
	check_pieces(4, MTU - 43, MTU, 0, 0x18);
	check_pieces(4, (MTU - 44) * 3, MTU, 0, 0x11);
	check_pieces(6, 40000, MTU, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4, 0x18);
	check_pieces(6, 9000, 1280, 0, 0x10);
	/* a driver that takes long packets but no partial checksums was not offered that */
	check_pieces(4, 3000, MTU, NET_OFFLOAD_TSO4, 0x10);
}

static void test_ipv4_fragments(void **state)
{
	size_t size = make_frame(frame, 4, FRAME_UDP, NULL, 0, 9000), done = 0;
	u8 whole[10000];

	(void)state;
	seal_frame(frame, size);
	send(size, ALL, MTU);
	assert_true(keeper.count > 6);
	for (unsigned i = 0; i < keeper.count; i++) {
		u8 *ip = frame_of(i) + 14;
		size_t length = frame_size(i) - 34;

		assert_true(frame_size(i) - 14 <= MTU);
		assert_int_equal(header_of(i)->flags, 0);
		assert_int_equal(plain_sum(0, ip, 20), 0xffff);
		assert_int_equal(frame_get16(ip + 2), frame_size(i) - 14);
		assert_int_equal(frame_get16(ip + 4), 0xfffe);
		assert_int_equal(frame_get16(ip + 6), done / 8 | (i + 1 < keeper.count ? 0x2000 : 0));
		memcpy(whole + done, frame_of(i) + 34, length);
		done += length;
	}
	assert_int_equal(done, size - 34);
	assert_memory_equal(whole, frame + 34, done);
}

/* A fragment that is cut again keeps its place in the packet, and that more follow. */
static void test_ipv4_fragment_of_fragment(void **state)
{
	size_t size = make_frame(frame, 4, FRAME_UDP, NULL, 0, 4000);

	(void)state;
	frame_put16(frame + 20, 0x2000 | 100);
	send(size, 0, MTU);
	assert_int_equal(keeper.count, 3);
	assert_int_equal(frame_get16(frame_of(0) + 20), 0x2000 | 100);
	assert_int_equal(frame_get16(frame_of(1) + 20), 0x2000 | (100 + 1480 / 8));
	assert_int_equal(frame_get16(frame_of(2) + 20), 0x2000 | (100 + 2960 / 8));
}

static void test_ipv6_fragments(void **state)
{
	size_t size = make_frame(frame, 6, FRAME_UDP, NULL, 0, 5000), done = 0;
	u8 whole[6000];

	(void)state;
	keeper.sink.fragment_id = 0;
	send(size, ALL, MTU);
	for (unsigned i = 0; i < keeper.count; i++) {
		u8 *ip = frame_of(i) + 14;
		size_t length = frame_size(i) - 62;

		assert_true(frame_size(i) - 14 <= MTU);
		assert_int_equal(frame_get16(ip + 4), length + 8);
		assert_int_equal(ip[6], 44);
		assert_int_equal(ip[40], 17);
		assert_int_equal(frame_get16(ip + 42), done | (i + 1 < keeper.count));
		assert_int_equal(frame_get32(ip + 44), 0);
		memcpy(whole + done, frame_of(i) + 62, length);
		done += length;
	}
	assert_int_equal(done, size - 54);
	assert_memory_equal(whole, frame + 54, done);
	offload_to_guest(&keeper.sink, frame, size, 0, MTU);
	assert_int_equal(frame_get32(frame_of(keeper.count - 1) + 14 + 44), 1); /* another packet */
}

static void test_no_room(void **state)
{
	size_t size = make_frame(frame, 4, FRAME_TCP, NULL, 0, 10000);

	(void)state;
	send(100, 0, MTU);
	keeper.most = 3;
	assert_int_equal(offload_to_guest(&keeper.sink, frame, size, 0, MTU), 2);
	assert_int_equal(offload_to_guest(&keeper.sink, frame, size, ALL, MTU), 0);
	assert_int_equal(offload_to_guest(&keeper.sink, frame, 100, ALL, MTU), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_checksum_never_zero),
		cmocka_unit_test(test_checksum_update),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_cut),
		cmocka_unit_test(test_parse_lies),
		cmocka_unit_test(test_completes_checksums),
		cmocka_unit_test(test_leaves_complete_ones),
		cmocka_unit_test(test_completes_large),
		cmocka_unit_test(test_lying_headers),
		cmocka_unit_test(test_raises_mss),
		cmocka_unit_test(test_leaves_mss),
		cmocka_unit_test(test_small_as_they_are),
		cmocka_unit_test(test_large_in_one),
		cmocka_unit_test(test_large_in_pieces),
		cmocka_unit_test(test_ipv4_fragments),
		cmocka_unit_test(test_ipv4_fragment_of_fragment),
		cmocka_unit_test(test_ipv6_fragments),
		cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
