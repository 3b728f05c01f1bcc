/* The network card, in front of a back end that keeps what it is given and has what it is told to have. */
#include "test_virtio_machine.h"

#include "net/backend.h"
#include "net/offload.h"
#include "net/options.h"

#define F_CSUM          BIT(0)
#define F_GUEST_CSUM    BIT(1)
#define F_MTU           BIT(3)
#define F_MAC           BIT(5)
#define F_GUEST_TSO4    BIT(7)
#define F_GUEST_TSO6    BIT(8)
#define F_MRG_RXBUF     BIT(15)
#define F_STATUS        BIT(16)
#define F_CTRL_VQ       BIT(17)
#define F_CTRL_RX       BIT(18)
#define F_CTRL_MAC_ADDR BIT(23)
#define F_OFFLOADS      (F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6)

enum { RECEIVE, SEND, CONTROL };

#define HEADER_SIZE 12u
#define MAC         "\x02\x00\x00\x00\x00\x01"
#define OTHER       "\x02\x00\x00\x00\x00\x02"
#define BROADCAST   "\xff\xff\xff\xff\xff\xff"
#define GROUP       "\x01\x00\x5e\x00\x00\x01"
#define GROUP2      "\x01\x00\x5e\x00\x00\x02"

/* --- the back end ------------------------------------------------------------------------------------------------ */

#define PACKETS_MAX 64

static struct fake {
	struct net_backend backend;
	u8 sent[NET_PACKET_MAX + 1];
	u32 sent_size;
	unsigned sent_count, room; /* packets taken; and that will be taken */
	u8 packet[PACKETS_MAX][70000];
	u32 size[PACKETS_MAX];
	unsigned first, count;
	u32 offloads;
	unsigned flushes;
	bool waits_for_packets, waits_for_room, closed;
} fake;

static bool fake_send(struct net_backend *backend, const struct iovec *iov, unsigned count, u32 size)
{
	u32 done = 0;

	assert_ptr_equal(backend, &fake.backend);
	assert_false(vm->vcpu->fpu_loaded);
	assert_true(size <= NET_PACKET_MAX);
	if (fake.sent_count == fake.room)
		return false;
	for (unsigned i = 0; i < count; i++) {
		memcpy(fake.sent + done, iov[i].iov_base, iov[i].iov_len);
		done += (u32)iov[i].iov_len;
	}
	assert_int_equal(done, size);
	fake.sent_size = size;
	fake.sent_count++;
	return true;
}

static const u8 *fake_peek(struct net_backend *backend, u32 *size)
{
	assert_ptr_equal(backend, &fake.backend);
	if (fake.first == fake.count)
		return NULL;
	*size = fake.size[fake.first];
	return fake.packet[fake.first];
}

static void fake_consume(struct net_backend *backend, u32 size)
{
	(void)backend;
	assert_int_equal(size, fake.size[fake.first]);
	fake.first++;
}

static void fake_flush(struct net_backend *backend)
{
	(void)backend;
	fake.flushes++;
}

static bool fake_wait(struct net_backend *backend, bool packets, bool room)
{
	(void)backend;
	fake.waits_for_packets = packets;
	fake.waits_for_room = room;
	return !(packets && fake.first < fake.count) && !(room && fake.sent_count < fake.room);
}

static void fake_set_offloads(struct net_backend *backend, u32 offloads)
{
	(void)backend;
	fake.offloads = offloads;
}

static int fake_start(struct net_backend *backend, struct err *err)
{
	(void)backend;
	return err_set(err, "no start today");
}

static void fake_close(struct net_backend *backend)
{
	(void)backend;
	fake.closed = true;
}

struct net_backend *net_user_open(const struct net_config *config, struct poller *poller, struct err *err)
{
	static const struct net_backend_ops ops = {
		.send = fake_send,
		.peek = fake_peek,
		.consume = fake_consume,
		.flush = fake_flush,
		.wait = fake_wait,
		.set_offloads = fake_set_offloads,
		.start = fake_start,
		.close = fake_close,
	};

	(void)poller;
	if (config->restricted) {
		err_set(err, "no network today");
		return NULL;
	}
	fake.backend.ops = &ops;
	return &fake.backend;
}

/* A packet for the guest: a frame to `destination` of `size` bytes. */
static void add_packet(const char *destination, u32 size, struct net_header header)
{
	u8 *packet = fake.packet[fake.count];

	assert_true(fake.count < PACKETS_MAX && size >= 14 && size + HEADER_SIZE <= sizeof(fake.packet[0]));
	memcpy(packet, &header, sizeof(header));
	for (u32 i = 0; i < size; i++)
		packet[HEADER_SIZE + i] = (u8)(i * 7 + fake.count);
	memcpy(packet + HEADER_SIZE, destination, 6);
	fake.size[fake.count++] = HEADER_SIZE + size;
}

static void bring(const char *destination, u32 size)
{
	add_packet(destination, size, (struct net_header){0});
	fake.backend.ready(fake.backend.opaque);
}

/* --- the machine ------------------------------------------------------------------------------------------------- */

static void build_with(const char *keys, u64 features)
{
	static struct net_config config;

	machine_build();
	memset(&fake, 0, sizeof(fake));
	fake.room = 1000;
	assert_int_equal(net_config_parse(&config, keys, NULL), 0);
	assert_int_equal(virtio_net_create(vm, &config, NULL), 0);
	device = vm->virtio;
	become_master();
	if (features)
		start_driver(features);
}

static int setup(void **state)
{
	(void)state;
	build_with("user,mac=02:00:00:00:00:01",
		   F_MAC | F_STATUS | F_MRG_RXBUF | F_CSUM | F_OFFLOADS | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC_ADDR);
	return 0;
}

/* Without a feature that could be left out. */
static int setup_plain(void **state)
{
	(void)state;
	build_with("user,mac=02:00:00:00:00:01", F_MAC);
	return 0;
}

static int setup_without_driver(void **state)
{
	(void)state;
	build_with("user,mtu=9000", 0);
	return 0;
}

static int teardown(void **state)
{
	virtio_teardown(state);
	assert_true(fake.closed);
	return 0;
}

static void put(unsigned queue, unsigned n, u64 address, u32 length, u16 flags, u16 next)
{
	descriptor_at(QUEUE_AREA(queue) + DESCRIPTORS, n, address, length, flags, next);
}

static void make_available(unsigned queue, u16 head)
{
	u16 *available = guest(QUEUE_AREA(queue) + AVAILABLE);

	available[2 + available[1] % queue_size] = head;
	available[1]++;
}

static u16 used_of(unsigned queue)
{
	return ((u16 *)guest(QUEUE_AREA(queue) + USED))[1];
}

static const u32 *entry_of(unsigned queue, unsigned n)
{
	return guest(QUEUE_AREA(queue) + USED + 4 + 8 * (u64)(n % queue_size));
}

static void kick_queue(unsigned queue)
{
	set(NOTIFY + 4 * queue, 2, queue);
}

#define BUFFER(n) (DATA + 0x20000ULL * (n))

/* Receive buffer n, in two pieces if it has more than 100 bytes. */
static void offer_buffer(u16 n, u32 size)
{
	memset(guest(BUFFER(n)), 0xee, size);
	if (size > 100) {
		put(RECEIVE, 2u * n, BUFFER(n), 100, DESC_WRITE | DESC_NEXT, (u16)(2 * n + 1));
		put(RECEIVE, 2u * n + 1, BUFFER(n) + 100, size - 100, DESC_WRITE, 0);
	} else {
		put(RECEIVE, 2u * n, BUFFER(n), size, DESC_WRITE, 0);
	}
	make_available(RECEIVE, (u16)(2 * n));
}

static unsigned num_buffers(unsigned n)
{
	u16 buffers;

	memcpy(&buffers, (u8 *)guest(BUFFER(n)) + 10, 2);
	return buffers;
}

/* --- the device as such ------------------------------------------------------------------------------------------ */

static void config_describes_the_card(void **state)
{
	(void)state;
	assert_int_equal(get(CONFIG, 4), 0x41564102);
	assert_int_equal(get(CONFIG + 4, 2), 0x544e);
	assert_int_equal(get(CONFIG + 6, 2), 1);
	assert_int_equal(get(CONFIG + 8, 2), 1);
	assert_int_equal(get(CONFIG + 10, 2), 9000);
	assert_true(device->offered & F_MTU);
	assert_true(device->offered & F_MRG_RXBUF);
}

static void mtu_is_offered_only_if_set(void **state)
{
	(void)state;
	assert_false(device->offered & F_MTU);
}

static void errors_are_reported(void **state)
{
	struct net_config config;
	struct err err = ERR_INIT;

	(void)state;
	net_config_parse(&config, "user,restrict", &err);
	assert_int_equal(virtio_net_create(vm, &config, &err), -1);
	assert_string_equal(err.text, "no network today");
	assert_int_equal(virtio_net_start(vm, &err), -1);
	assert_string_equal(err.text, "no start today");
}

static void driver_decides_about_offloads(void **state)
{
	(void)state;
	assert_int_equal(fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6);
	set_status(0);
	assert_int_equal(fake.offloads, 0);
	start_driver(F_GUEST_CSUM | F_GUEST_TSO6);
	assert_int_equal(fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO6);
}

/* Nobody is there to take them, and the sender must not wait. */
static void packets_without_driver_are_lost(void **state)
{
	(void)state;
	bring(MAC, 100);
	bring(MAC, 100);
	assert_int_equal(fake.first, 2);
	assert_true(fake.waits_for_packets);
	start_driver(F_MAC);
	offer_buffer(0, 1600);
	kick_queue(RECEIVE);
	assert_int_equal(used_of(RECEIVE), 0);
}

/* --- receiving --------------------------------------------------------------------------------------------------- */

static void packet_in_one_buffer(void **state)
{
	(void)state;
	offer_buffer(0, 1600);
	bring(MAC, 500);
	assert_int_equal(used_of(RECEIVE), 1);
	assert_int_equal(entry_of(RECEIVE, 0)[0], 0);
	assert_int_equal(entry_of(RECEIVE, 0)[1], 512);
	assert_int_equal(num_buffers(0), 1);
	assert_memory_equal((u8 *)guest(BUFFER(0)) + HEADER_SIZE, fake.packet[0] + HEADER_SIZE, 500);
	assert_int_equal(((u8 *)guest(BUFFER(0)))[512], 0xee);
	assert_int_equal(fake.first, 1);
}

static void packet_in_many_buffers(void **state)
{
	u32 done = 0;
	static u8 whole[70000];

	(void)state;
	queue_size = 8;
	offer_buffer(0, 1000);
	offer_buffer(1, 50);
	offer_buffer(2, 40000);
	offer_buffer(3, 40000);
	add_packet(MAC, 60000, (struct net_header){.gso_type = NET_GSO_TCPV4, .gso_size = 1460, .flags = 1});
	fake.backend.ready(fake.backend.opaque);
	assert_int_equal(used_of(RECEIVE), 4);
	for (unsigned i = 0; i < 4; i++) {
		u32 size = entry_of(RECEIVE, i)[1];

		assert_int_equal(entry_of(RECEIVE, i)[0], 2 * i);
		memcpy(whole + done, guest(BUFFER(i)), size);
		done += size;
	}
	assert_int_equal(done, 60012);
	assert_int_equal(num_buffers(0), 4);
	assert_memory_equal(whole, fake.packet[0], 10);
	assert_memory_equal(whole + 12, fake.packet[0] + 12, 60000);
}

/* It stays where it is; nothing of the ring is used up meanwhile. */
static void packet_waits_for_buffers(void **state)
{
	(void)state;
	bring(MAC, 3000);
	assert_int_equal(fake.first, 0);
	assert_false(fake.waits_for_packets);
	offer_buffer(0, 1000);
	kick_queue(RECEIVE);
	offer_buffer(1, 1000);
	kick_queue(RECEIVE);
	assert_int_equal(used_of(RECEIVE), 0);
	assert_int_equal(fake.first, 0);
	/* packets behind it wait as well */
	bring(MAC, 100);
	assert_int_equal(used_of(RECEIVE), 0);
	offer_buffer(2, 1012);
	kick_queue(RECEIVE);
	assert_int_equal(used_of(RECEIVE), 3);
	assert_int_equal(num_buffers(0), 3);
	assert_int_equal(entry_of(RECEIVE, 2)[1], 1012);
	assert_int_equal(fake.first, 1);
	offer_buffer(3, 1000);
	kick_queue(RECEIVE);
	assert_int_equal(used_of(RECEIVE), 4);
	assert_int_equal(fake.first, 2);
	assert_true(fake.waits_for_packets);
}

static void packet_longer_than_its_buffer_is_lost(void **state)
{
	(void)state;
	offer_buffer(0, 1000);
	bring(MAC, 989);
	assert_int_equal(used_of(RECEIVE), 0);
	assert_int_equal(fake.first, 1);
	bring(MAC, 988);
	assert_int_equal(used_of(RECEIVE), 1);
	assert_int_equal(entry_of(RECEIVE, 0)[1], 1000);
	assert_int_equal(num_buffers(0), 1);
}

static void buffer_without_room_for_a_header_breaks(void **state)
{
	(void)state;
	offer_buffer(0, 11);
	bring(MAC, 100);
	assert_true(is_broken());
	assert_int_equal(used_of(RECEIVE), 0);
}

/* What the back end made for another driver, or out of malice. */
static void headers_that_were_not_agreed_on_are_lost(void **state)
{
	static const struct net_header headers[] = {{.flags = 1},    {.flags = 2},    {.gso_type = 1, .gso_size = 9},
						    {.gso_type = 4}, {.gso_type = 3}, {.gso_type = 0x81}};

	(void)state;
	offer_buffer(0, 1600);
	for (unsigned i = 0; i < ARRAY_SIZE(headers); i++) {
		add_packet(MAC, 100, headers[i]);
		fake.backend.ready(fake.backend.opaque);
		assert_int_equal(fake.first, i + 1);
	}
	assert_int_equal(used_of(RECEIVE), 0);
	fake.size[fake.count++] = HEADER_SIZE + 13; /* shorter than an Ethernet header */
	fake.backend.ready(fake.backend.opaque);
	assert_int_equal(used_of(RECEIVE), 0);
	assert_int_equal(fake.first, fake.count);
	bring(MAC, 100);
	assert_int_equal(used_of(RECEIVE), 1);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static void send_packet(u16 head, u32 size)
{
	u8 *at = guest(DATA);

	for (u32 i = 0; i < size; i++)
		at[i] = (u8)(i * 3 + head);
	put(SEND, head, DATA, size / 3, DESC_NEXT, (u16)(head + 1));
	put(SEND, head + 1u, DATA + size / 3, size - size / 3, 0, 0);
	make_available(SEND, head);
	kick_queue(SEND);
}

static void packets_are_sent(void **state)
{
	(void)state;
	send_packet(0, 100);
	assert_int_equal(fake.sent_count, 1);
	assert_int_equal(fake.sent_size, 100);
	assert_memory_equal(fake.sent, guest(DATA), 100);
	assert_int_equal(used_of(SEND), 1);
	assert_int_equal(entry_of(SEND, 0)[1], 0);
	assert_true(fake.flushes > 0);
	send_packet(2, NET_PACKET_MAX);
	assert_int_equal(fake.sent_size, NET_PACKET_MAX);
	assert_memory_equal(fake.sent, guest(DATA), NET_PACKET_MAX);
}

static void packets_that_are_too_long_are_lost(void **state)
{
	(void)state;
	send_packet(0, NET_PACKET_MAX + 1);
	assert_int_equal(fake.sent_count, 0);
	assert_int_equal(used_of(SEND), 1);
	assert_false(is_broken());
}

static void packets_wait_for_room(void **state)
{
	(void)state;
	fake.room = 1;
	send_packet(0, 100);
	send_packet(2, 200);
	send_packet(4, 300);
	assert_int_equal(fake.sent_count, 1);
	assert_int_equal(used_of(SEND), 1);
	assert_true(fake.waits_for_room);
	fake.room = 2;
	fake.backend.ready(fake.backend.opaque);
	assert_int_equal(fake.sent_size, 200);
	assert_int_equal(used_of(SEND), 2);
	fake.room = 100;
	fake.backend.ready(fake.backend.opaque);
	assert_int_equal(fake.sent_size, 300);
	assert_int_equal(used_of(SEND), 3);
	assert_false(fake.waits_for_room);
}

static void link_goes_down(void **state)
{
	(void)state;
	assert_int_equal(get(CONFIG + 6, 2), 1);
	fake.backend.lost(fake.backend.opaque);
	assert_int_equal(get(CONFIG + 6, 2), 0);
	assert_true(get(ISR, 1) & ISR_CONFIG);
	assert_false(is_broken());
}

/* --- the control queue ------------------------------------------------------------------------------------------- */

/* Returns the answer; -1: none. */
static int command(const void *data, u32 size)
{
	u8 *answer = guest(DATA + 0x8000);
	const u16 before = used_of(CONTROL);

	*answer = 0xee;
	memcpy(guest(DATA), data, size);
	put(CONTROL, 0, DATA, size, DESC_NEXT, 1);
	put(CONTROL, 1, DATA + 0x8000, 1, DESC_WRITE, 0);
	make_available(CONTROL, 0);
	kick_queue(CONTROL);
	return used_of(CONTROL) == (u16)(before + 1) ? *answer : -1;
}

/* Does a frame to the address get through? */
static bool passes(const char *destination)
{
	const u16 before = used_of(RECEIVE);

	offer_buffer(0, 1600);
	bring(destination, 100);
	if (used_of(RECEIVE) != before)
		return true;
	bring(BROADCAST, 100); /* uses up the buffer */
	assert_int_equal(used_of(RECEIVE), (u16)(before + 1));
	return false;
}

#define COMMAND(text) command(text, sizeof(text) - 1)

static void filter_passes_all_at_first(void **state)
{
	(void)state;
	assert_true(passes(MAC) && passes(OTHER) && passes(GROUP) && passes(BROADCAST));
}

static void filter_by_address(void **state)
{
	(void)state;
	assert_int_equal(COMMAND("\0\0\0"), 0); /* not promiscuous */
	assert_true(passes(MAC) && passes(BROADCAST));
	assert_false(passes(OTHER));
	assert_false(passes(GROUP));
	assert_int_equal(COMMAND("\0\1\1"), 0); /* all multicast */
	assert_true(passes(GROUP));
	assert_false(passes(OTHER));
	assert_int_equal(COMMAND("\0\1\0"), 0);
	assert_false(passes(GROUP));
	assert_int_equal(COMMAND("\0\0\1"), 0); /* promiscuous */
	assert_true(passes(OTHER) && passes(GROUP));
}

static void filter_by_table(void **state)
{
	u8 many[2 + 4 + 65 * 6 + 4] = {1, 0, 65};

	(void)state;
	assert_int_equal(COMMAND("\1\0\1\0\0\0" OTHER "\1\0\0\0" GROUP), 0);
	assert_true(passes(MAC) && passes(OTHER) && passes(GROUP));
	assert_false(passes(GROUP2));
	assert_int_equal(COMMAND("\1\0\0\0\0\0\0\0\0\0"), 0);
	assert_false(passes(OTHER));
	assert_false(passes(GROUP));
	assert_int_equal(command(many, sizeof(many)), 0); /* more than are kept: all */
	assert_true(passes(OTHER));
	assert_false(passes(GROUP));
}

static void address_can_be_changed(void **state)
{
	(void)state;
	assert_int_equal(COMMAND("\1\1" OTHER), 0);
	assert_true(passes(OTHER));
	assert_false(passes(MAC));
	assert_int_equal(get(CONFIG + 5, 1), 2);
}

static void bad_commands_fail(void **state)
{
	(void)state;
	assert_int_equal(COMMAND("\0"), 1);
	assert_int_equal(COMMAND("\0\0"), 1);
	assert_int_equal(COMMAND("\0\2\1"), 1);
	assert_int_equal(COMMAND("\2\0\1\1"), 1);
	assert_int_equal(COMMAND("\1\1\2\0\0\0\0"), 1);
	assert_int_equal(COMMAND("\1\0\1\0\0\0" OTHER), 1);         /* no second table */
	assert_int_equal(COMMAND("\1\0\2\0\0\0" OTHER), 1);         /* cut */
	assert_int_equal(COMMAND("\1\0\xff\xff\xff\xff" OTHER), 1); /* lies */
	assert_int_equal(COMMAND("\1\0\0\0\0\0\xff\xff\xff\xff"), 1);
	assert_false(is_broken());
}

static void reset_forgets_the_filter(void **state)
{
	(void)state;
	assert_int_equal(COMMAND("\0\0\0"), 0);
	set_status(0);
	memset(guest(QUEUE_AREA(0)), 0, 3 * 0x10000);
	start_driver(F_MAC | F_MRG_RXBUF | F_CTRL_VQ | F_CTRL_RX);
	assert_true(passes(OTHER));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(config_describes_the_card, setup_without_driver, teardown),
		cmocka_unit_test_setup_teardown(mtu_is_offered_only_if_set, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(errors_are_reported, setup, teardown),
		cmocka_unit_test_setup_teardown(driver_decides_about_offloads, setup, teardown),
		cmocka_unit_test_setup_teardown(packets_without_driver_are_lost, setup_without_driver, teardown),
		cmocka_unit_test_setup_teardown(packet_in_one_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(packet_in_many_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(packet_waits_for_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(packet_longer_than_its_buffer_is_lost, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(buffer_without_room_for_a_header_breaks, setup, teardown),
		cmocka_unit_test_setup_teardown(headers_that_were_not_agreed_on_are_lost, setup_plain, teardown),
		cmocka_unit_test_setup_teardown(packets_are_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(packets_that_are_too_long_are_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(packets_wait_for_room, setup, teardown),
		cmocka_unit_test_setup_teardown(link_goes_down, setup, teardown),
		cmocka_unit_test_setup_teardown(filter_passes_all_at_first, setup, teardown),
		cmocka_unit_test_setup_teardown(filter_by_address, setup, teardown),
		cmocka_unit_test_setup_teardown(filter_by_table, setup, teardown),
		cmocka_unit_test_setup_teardown(address_can_be_changed, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_commands_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_the_filter, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
