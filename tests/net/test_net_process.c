/*
 * The network process behind the back end's interface: what a card would send and receive, with a poller that the test
 * turns by hand. Loopback only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/net_frames.h"
#include "net/backend.h"
#include "net/options.h"
#include "poller.h"
#include "util/err.h"

#define PATIENCE_MS 20000

/* --- a poller ---------------------------------------------------------------------------------------------------- */

#define SOURCES_MAX 8

struct poller {
	struct poller_source *source[SOURCES_MAX];
	unsigned count;
};

int poller_add(struct poller *poller, struct poller_source *source, struct err *err)
{
	(void)err;
	assert_true(poller->count < SOURCES_MAX);
	poller->source[poller->count++] = source;
	return 0;
}

void poller_remove(struct poller *poller, struct poller_source *source)
{
	for (unsigned i = 0; i < poller->count; i++)
		if (poller->source[i] == source) {
			poller->source[i] = poller->source[--poller->count];
			return;
		}
	fail_msg("a source that was not added");
}

/* Waits until one of the sources is ready, and calls it. False: none was in time. */
static bool turn(struct poller *poller, int timeout_ms)
{
	struct pollfd polled[SOURCES_MAX];

	for (unsigned i = 0; i < poller->count; i++)
		polled[i] = (struct pollfd){.fd = poller->source[i]->fd, .events = POLLIN};
	if (poll(polled, poller->count, timeout_ms) <= 0)
		return false;
	for (unsigned i = 0; i < poller->count; i++)
		if (polled[i].revents) {
			poller->source[i]->ready(poller->source[i], POLLIN);
			break;
		}
	return true;
}

/* --- a card ------------------------------------------------------------------------------------------------------ */

struct card {
	struct net_config config;
	struct poller poller;
	struct net_backend *backend;
	unsigned lost;
	char *text;
};

static void on_ready(void *opaque)
{
	(void)opaque; /* who waits looks */
}

static void on_lost(void *opaque)
{
	((struct card *)opaque)->lost++;
}

static int try_open(struct card *card, const char *text, struct err *err)
{
	*card = (struct card){.text = strdup(text)};
	if (net_config_parse(&card->config, card->text, err) < 0)
		return -1;
	card->config.program = AVANT_NET;
	card->backend = net_user_open(&card->config, &card->poller, err);
	if (!card->backend)
		return -1;
	card->backend->ready = on_ready;
	card->backend->lost = on_lost;
	card->backend->opaque = card;
	return card->backend->ops->start(card->backend, err);
}

static void close_card(struct card *card)
{
	if (card->backend)
		card->backend->ops->close(card->backend);
	free(card->text);
}

static struct card *open_card(const char *text)
{
	struct card *card = malloc(sizeof(*card));
	struct err err = ERR_INIT;

	if (try_open(card, text, &err) < 0)
		fail_msg("'%s': %s", text, err.text);
	return card;
}

static void drop_card(struct card *card)
{
	close_card(card);
	free(card);
}

static void send_frame(struct card *card, const u8 *frame, size_t size, const struct net_header *header)
{
	const struct net_header none = {0};
	const struct iovec iov[2] = {{(void *)(header ? header : &none), sizeof(none)}, {(void *)frame, size}};

	assert_true(card->backend->ops->send(card->backend, iov, 2, (u32)(sizeof(none) + size)));
	card->backend->ops->flush(card->backend);
}

/* The next frame for the card. Returns its size; 0: none came. */
static size_t receive_frame(struct card *card, u8 *frame, struct net_header *header, int timeout_ms)
{
	const struct net_backend_ops *ops = card->backend->ops;
	const u8 *packet;
	u32 size;

	while (!(packet = ops->peek(card->backend, &size)))
		if (ops->wait(card->backend, true, false) && !turn(&card->poller, timeout_ms))
			return 0;
	memcpy(header, packet, sizeof(*header));
	memcpy(frame, packet + sizeof(*header), size - sizeof(*header));
	ops->consume(card->backend, size);
	ops->flush(card->backend);
	return size - sizeof(*header);
}

static u8 frame[NET_FRAME_MAX], answer[NET_FRAME_MAX];

#define GUEST_MAC "\x02\x41\x56\x41\x4e\x54"
#define HOST_MAC  "\x52\x55\x0a\x00\x02\x02"

/* Asks for 10.0.2.2, and lets the other side know who 10.0.2.15 is. */
static void send_arp(struct card *card)
{
	memcpy(frame,
	       "\xff\xff\xff\xff\xff\xff" GUEST_MAC "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" GUEST_MAC
	       "\x0a\x00\x02\x0f\x00\x00\x00\x00\x00\x00\x0a\x00\x02\x02",
	       42);
	send_frame(card, frame, 42, NULL);
}

static void expect_arp(struct card *card)
{
	struct net_header header;

	send_arp(card);
	assert_true(receive_frame(card, answer, &header, PATIENCE_MS) >= 42);
	assert_memory_equal(answer, GUEST_MAC HOST_MAC "\x08\x06", 14);
	assert_memory_equal(answer + 20, "\x00\x02" HOST_MAC "\x0a\x00\x02\x02", 12);
}

static void test_arp(void **state)
{
	struct card *card = open_card("user");

	(void)state;
	expect_arp(card);
	drop_card(card);
}

/* --- DHCP -------------------------------------------------------------------------------------------------------- */

static const u8 *find_option(const u8 *options, const u8 *end, u8 kind, size_t *size)
{
	while (options < end && *options != 255) {
		if (*options == kind) {
			*size = options[1];
			return options + 2;
		}
		options += *options ? options[1] + 2 : 1;
	}
	return NULL;
}

static size_t make_discover(void)
{
	size_t size = make_frame(frame, 4, FRAME_UDP, NULL, 0, 300);
	u8 *ip = frame + 14, *bootp = frame + 42;

	memcpy(frame, "\xff\xff\xff\xff\xff\xff" GUEST_MAC, 12);
	memcpy(ip + 12, "\x00\x00\x00\x00\xff\xff\xff\xff", 8);
	memcpy(ip + 20, "\x00\x44\x00\x43", 4);
	memset(bootp, 0, 300);
	memcpy(bootp, "\x01\x01\x06\x00\x12\x34\x56\x78", 8);
	memcpy(bootp + 28, GUEST_MAC, 6);
	memcpy(bootp + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
	seal_frame(frame, size);
	return size;
}

static void test_dhcp(void **state)
{
	struct card *card = open_card("user,net=192.168.7.0/24,hostname=a-guest,mtu=1400");
	struct net_header header;
	size_t size, length = 0;
	const u8 *option;

	(void)state;
	send_frame(card, frame, make_discover(), NULL);
	size = receive_frame(card, answer, &header, PATIENCE_MS);
	assert_true(size > 282);
	assert_true(plain_check(answer, size));
	assert_memory_equal(answer + 42 + 16, "\xc0\xa8\x07\x0f", 4); /* yours */
	option = find_option(answer + 282, answer + size, 3, &length);
	assert_memory_equal(option, "\xc0\xa8\x07\x02", 4);
	option = find_option(answer + 282, answer + size, 6, &length);
	assert_memory_equal(option, "\xc0\xa8\x07\x03", 4);
	option = find_option(answer + 282, answer + size, 12, &length);
	assert_int_equal(length, 7);
	assert_memory_equal(option, "a-guest", 7);
	drop_card(card);
}

/* --- packets to and from the host's sockets ---------------------------------------------------------------------- */

static int bound_socket(int type, u16 *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

/* A datagram of the guest's to a port of the host's, with the checksum left to the card. */
static void send_datagram(struct card *card, u16 port, size_t payload)
{
	size_t size = make_frame(frame, 4, FRAME_UDP, NULL, 0, payload);
	struct net_header header = {.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};

	memcpy(frame, HOST_MAC GUEST_MAC, 12);
	memcpy(frame + 26, "\x0a\x00\x02\x0f\x0a\x00\x02\x02", 8);
	plain_put16(frame + 36, port);
	seal_frame(frame, size);
	plain_put16(frame + 40, plain_pseudo(frame, size));
	send_frame(card, frame, size, &header);
}

static void exchange_datagrams(struct card *card, size_t size)
{
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	struct net_header header;
	static u8 data[60000];
	size_t done = 0;
	u16 port;
	int fd = bound_socket(SOCK_DGRAM, &port);

	send_datagram(card, port, size);
	assert_int_equal(recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &length), size);
	assert_memory_equal(data, frame + 42, size);
	assert_int_equal(sendto(fd, data, size, 0, (struct sockaddr *)&from, length), size);
	/* UDP header and data come back, in one frame or cut into fragments of at most the MTU */
	while (done < size + 8) {
		size_t got = receive_frame(card, answer, &header, PATIENCE_MS);

		assert_true(got > 34 && got - 14 <= 1500);
		assert_int_equal(frame_get16(answer + 20) & 0x1fff, done / 8);
		memcpy(data + done, answer + 34, got - 34);
		done += got - 34;
	}
	assert_int_equal(done, size + 8);
	assert_memory_equal(data + 8, frame + 42, size);
	close(fd);
}

static void test_datagrams(void **state)
{
	struct card *card = open_card("user");

	(void)state;
	card->backend->ops->set_offloads(card->backend, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	expect_arp(card);
	exchange_datagrams(card, 1);
	exchange_datagrams(card, 1472);
	exchange_datagrams(card, 1473);
	exchange_datagrams(card, 50000);
	drop_card(card);
}

static void test_restricted(void **state)
{
	struct card *card = open_card("user,restrict");
	struct net_header header;
	struct pollfd polled = {.events = POLLIN};
	u16 port;
	int fd = bound_socket(SOCK_DGRAM, &port);

	(void)state;
	expect_arp(card);
	send_datagram(card, port, 10);
	expect_arp(card); /* the datagram was looked at before */
	polled.fd = fd;
	assert_int_equal(poll(&polled, 1, 0), 0);
	assert_int_equal(receive_frame(card, answer, &header, 0), 0);
	close(fd);
	drop_card(card);
}

/* More than the channel holds: nothing is lost while nobody takes it, and the host's sockets are not read. */
static void test_slow_card(void **state)
{
	struct card *card = open_card("user");
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	struct net_header header;
	static u8 data[1000];
	unsigned count = 0;
	u16 port;
	int fd = bound_socket(SOCK_DGRAM, &port);

	(void)state;
	expect_arp(card);
	send_datagram(card, port, 10);
	assert_int_equal(recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &length), 10);
	for (u32 i = 0; i < 3000; i++) {
		memcpy(data, &i, sizeof(i));
		sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&from, length);
		if (i % 16 == 15)
			usleep(1000); /* the host drops what its socket has no room for */
	}
	while (receive_frame(card, answer, &header, 500)) {
		u32 number;

		memcpy(&number, answer + 42, sizeof(number));
		assert_true(number >= count);
		count = number + 1;
	}
	assert_true(count > 1000); /* the channel alone holds fewer */
	close(fd);
	drop_card(card);
}

/* --- forwards ---------------------------------------------------------------------------------------------------- */

static void test_forward(void **state)
{
	char text[128];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct net_header header;
	struct card *card;
	u16 port;
	size_t size;
	int fd = bound_socket(SOCK_STREAM, &port);

	(void)state;
	close(fd); /* it was free a moment ago */
	snprintf(text, sizeof(text), "user,restrict,hostfwd=tcp::%u-10.0.2.15:22", port);
	card = open_card(text);
	expect_arp(card);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	to.sin_port = htons(port);
	connect(fd, (struct sockaddr *)&to, sizeof(to));
	size = receive_frame(card, answer, &header, PATIENCE_MS);
	assert_true(size >= 54);
	assert_true(plain_check(answer, size));
	assert_int_equal(answer[23], 6);
	assert_memory_equal(answer + 30, "\x0a\x00\x02\x0f", 4);
	assert_int_equal(frame_get16(answer + 36), 22);
	assert_int_equal(answer[47], 0x02); /* SYN */
	close(fd);
	drop_card(card);
}

static void test_udp_forward(void **state)
{
	char text[128];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct net_header header;
	struct card *card;
	u16 port;
	size_t size;
	int fd = bound_socket(SOCK_DGRAM, &port);

	(void)state;
	close(fd);
	snprintf(text, sizeof(text), "user,restrict,hostfwd=udp::%u-10.0.2.15:53", port);
	card = open_card(text);
	expect_arp(card);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	to.sin_port = htons(port);
	assert_int_equal(sendto(fd, "query", 5, 0, (struct sockaddr *)&to, sizeof(to)), 5);
	size = receive_frame(card, answer, &header, PATIENCE_MS);
	assert_int_equal(size, 42 + 5);
	assert_true(plain_check(answer, size));
	assert_memory_equal(answer + 30, "\x0a\x00\x02\x0f", 4);
	assert_int_equal(frame_get16(answer + 36), 53);
	assert_memory_equal(answer + 42, "query", 5);
	close(fd);
	drop_card(card);
}

static void expect_refusal(const char *text, const char *message)
{
	struct card card;
	struct err err = ERR_INIT;

	assert_int_equal(try_open(&card, text, &err), -1);
	assert_string_equal(err.text, message);
	close_card(&card);
}

static void test_forward_in_use(void **state)
{
	char text[128], message[128];
	u16 port;
	int fd = bound_socket(SOCK_STREAM, &port);

	(void)state;
	assert_int_equal(listen(fd, 1), 0);
	snprintf(text, sizeof(text), "user,hostfwd=tcp:127.0.0.1:%u-:22", port);
	snprintf(message, sizeof(message), "cannot forward 127.0.0.1:%u: address in use", port);
	expect_refusal(text, message);
	close(fd);
	fd = bound_socket(SOCK_DGRAM, &port);
	snprintf(text, sizeof(text), "user,hostfwd=udp:127.0.0.1:%u-:22", port);
	snprintf(message, sizeof(message), "cannot forward 127.0.0.1:%u: address in use", port);
	expect_refusal(text, message);
	close(fd);
	expect_refusal("user,hostfwd=tcp:192.0.2.1:1234-:22",
		       "cannot forward 192.0.2.1:1234: Cannot assign requested address");
}

/* --- how it ends ------------------------------------------------------------------------------------------------- */

/* The only child of this process. */
static pid_t child(void)
{
	char path[64], text[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)syscall(SYS_gettid));
	file = fopen(path, "r");
	if (!file || !fgets(text, sizeof(text), file))
		fail_msg("no child");
	fclose(file);
	return (pid_t)atoi(text);
}

/* The card is told once; what it sends from then on goes nowhere. */
static void test_killed(void **state)
{
	struct card *card = open_card("user");

	(void)state;
	expect_arp(card);
	kill(child(), SIGKILL);
	while (!card->lost && turn(&card->poller, PATIENCE_MS))
		;
	assert_int_equal(card->lost, 1);
	for (int i = 0; i < 100000; i++)
		send_arp(card);
	assert_true(card->backend->ops->wait(card->backend, true, true));
	assert_false(turn(&card->poller, 0));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
	drop_card(card);
}

static void test_closed(void **state)
{
	struct card *card = open_card("user");

	(void)state;
	drop_card(card);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/*
 * A VMM that is killed leaves no process behind. The write end of the pipe is in the VMM, and in the network process if
 * that keeps what it was not given; so the pipe's end says that both are gone, or that the latter has closed it: the
 * process must be looked for by number as well.
 */
static void test_vmm_killed(void **state)
{
	pid_t vmm, process;
	int report[2], status;

	(void)state;
	assert_int_equal(pipe(report), 0);
	vmm = fork();
	if (vmm == 0) {
		open_card("user");
		process = child();
		if (write(report[1], &process, sizeof(process)) != sizeof(process))
			_exit(1);
		pause();
	}
	assert_int_equal(read(report[0], &process, sizeof(process)), sizeof(process));
	assert_int_equal(kill(process, 0), 0);
	kill(vmm, SIGKILL);
	assert_int_equal(waitpid(vmm, &status, 0), vmm);
	for (int i = 0; i < PATIENCE_MS / 10 && kill(process, 0) == 0; i++) {
		char path[64], text[512] = "";
		FILE *file;

		/* nobody may be there to reap it; a zombie is gone, too */
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)process);
		file = fopen(path, "r");
		if (!file || !fgets(text, sizeof(text), file) || strstr(text, ") Z")) {
			process = 0;
			if (file)
				fclose(file);
			break;
		}
		fclose(file);
		usleep(10000);
	}
	assert_true(!process || kill(process, 0) < 0);
	close(report[0]);
	close(report[1]);
}

/* A process that does not keep to the rules (rogue.c) is ended, and the card told. */
static void expect_end(const char *how)
{
	struct card *card = malloc(sizeof(*card));
	struct err err = ERR_INIT;
	char text[64];
	u32 size;

	snprintf(text, sizeof(text), "user,hostname=%s", how);
	*card = (struct card){.text = strdup(text)};
	assert_int_equal(net_config_parse(&card->config, card->text, &err), 0);
	card->config.program = ROGUE;
	card->backend = net_user_open(&card->config, &card->poller, &err);
	assert_non_null(card->backend);
	card->backend->lost = on_lost;
	card->backend->ready = on_ready;
	card->backend->opaque = card;
	assert_int_equal(card->backend->ops->start(card->backend, &err), 0);
	while (!card->lost) {
		assert_null(card->backend->ops->peek(card->backend, &size));
		if (card->backend->ops->wait(card->backend, true, false))
			assert_true(turn(&card->poller, PATIENCE_MS));
	}
	assert_int_equal(card->lost, 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	drop_card(card);
}

static void test_rogues(void **state)
{
	(void)state;
	expect_end("head");
	expect_end("size");
	expect_end("short");
	expect_end("exits");
	expect_end("call");
}

static void test_program_missing(void **state)
{
	struct net_config config;
	struct poller poller = {0};
	struct err err = ERR_INIT;

	(void)state;
	net_config_parse(&config, "user", &err);
	config.program = "/nonexistent/avant-net";
	assert_null(net_user_open(&config, &poller, &err));
	assert_string_equal(err.text, "cannot run '/nonexistent/avant-net': No such file or directory");
	config.program = "/bin/true";
	struct net_backend *backend = net_user_open(&config, &poller, &err);

	assert_non_null(backend);
	assert_int_equal(backend->ops->start(backend, &err), -1);
	assert_string_equal(err.text, "the network process ended at once");
	backend->ops->close(backend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp),
		cmocka_unit_test(test_dhcp),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_restricted),
		cmocka_unit_test(test_slow_card),
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_udp_forward),
		cmocka_unit_test(test_forward_in_use),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_vmm_killed),
		cmocka_unit_test(test_rogues),
		cmocka_unit_test(test_program_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
