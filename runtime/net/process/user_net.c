/* libslirp between the channel and the host's sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "net/offload.h"
#include "net/process/process.h"

#define MSS_RAISED   32768       /* libslirp makes no longer segments */
#define OVERFLOW_MAX (16U << 20) /* bytes that wait for room in the channel; what comes then is lost */
#define SLIRP_IDLE   1000        /* ms; what libslirp asks for when it waits for nothing */
#define NS_PER_MS    1000000

/* A timer of libslirp's. */
struct user_timer {
	struct user_timer *next;
	SlirpTimerId id;
	void *opaque;
	s64 due_ms; /* 0: not set */
};

/* A packet for the guest that found no room. */
struct overflow {
	struct overflow *next;
	u32 size;
	u8 packet[];
};

struct user_net {
	Slirp *slirp;
	struct channel *channel;
	struct offload_sink sink;
	unsigned mtu;
	struct user_timer *timers;
	struct pollfd *polled;
	unsigned polled_count, polled_room;
	struct overflow *first, **last; /* in order; nothing is sent past them */
	struct overflow *reserved;
	u32 waiting_bytes;
	bool broken; /* the VMM wrote nonsense, or there is no memory */
};

static s64 now_ns(void *opaque)
{
	struct timespec now;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (s64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct user_net *net_of(struct offload_sink *sink)
{
	return (struct user_net *)((u8 *)sink - offsetof(struct user_net, sink));
}

static u8 *reserve_overflow(struct user_net *net, u32 size)
{
	if (net->waiting_bytes + size > OVERFLOW_MAX)
		return NULL;
	net->reserved = malloc(sizeof(*net->reserved) + size);
	if (!net->reserved)
		return NULL;
	*net->reserved = (struct overflow){.size = size};
	return net->reserved->packet;
}

static u8 *sink_reserve(struct offload_sink *sink, size_t size)
{
	struct user_net *net = net_of(sink);
	u8 *room;

	if (size > CHANNEL_PACKET_MAX)
		return NULL;
	room = net->first ? NULL : channel_reserve(net->channel, (u32)size);
	return room ? room : reserve_overflow(net, (u32)size);
}

static void sink_commit(struct offload_sink *sink, size_t size)
{
	struct user_net *net = net_of(sink);

	if (!net->reserved) {
		channel_commit(net->channel, (u32)size);
		return;
	}
	net->waiting_bytes += net->reserved->size;
	*net->last = net->reserved;
	net->last = &net->reserved->next;
	net->reserved = NULL;
}

/* Moves what waited into the channel. */
static void drain_overflow(struct user_net *net)
{
	while (net->first) {
		struct overflow *packet = net->first;
		u8 *room = channel_reserve(net->channel, packet->size);

		if (!room)
			return;
		memcpy(room, packet->packet, packet->size);
		channel_commit(net->channel, packet->size);
		net->waiting_bytes -= packet->size;
		net->first = packet->next;
		if (!net->first)
			net->last = &net->first;
		free(packet);
	}
}

static ssize_t send_packet(const void *frame, size_t size, void *opaque)
{
	struct user_net *net = opaque;

	offload_to_guest(&net->sink, frame, size, channel_offloads(net->channel), net->mtu);
	return (ssize_t)size;
}

/* What a guest did wrong is its own concern: a message for each would let it fill the user's terminal. */
static void guest_error(const char *text, void *opaque)
{
	(void)text, (void)opaque;
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user_net *net = opaque;
	struct user_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		abort(); /* as libslirp does without memory */
	*timer = (struct user_timer){.next = net->timers, .id = id, .opaque = cb_opaque};
	net->timers = timer;
	return timer;
}

static void timer_free(void *which, void *opaque)
{
	struct user_net *net = opaque;
	struct user_timer **at = &net->timers;

	while (*at != which)
		at = &(*at)->next;
	*at = (*at)->next;
	free(which);
}

static void timer_mod(void *which, s64 due_ms, void *opaque)
{
	(void)opaque;
	((struct user_timer *)which)->due_ms = due_ms;
}

static void run_timers(struct user_net *net)
{
	s64 now_ms = now_ns(NULL) / NS_PER_MS;

	for (struct user_timer *timer = net->timers, *next; timer; timer = next) {
		next = timer->next;
		if (!timer->due_ms || timer->due_ms > now_ms)
			continue;
		timer->due_ms = 0;
		slirp_handle_timer(net->slirp, timer->id, timer->opaque);
	}
}

/* The descriptors are looked up anew for each poll(). */
static void poll_fd(int fd, void *opaque)
{
	(void)fd, (void)opaque;
}

/* Everything is done in one thread, which looks again anyhow. */
static void notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = now_ns,
	.timer_new_opaque = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = poll_fd,
	.unregister_poll_fd = poll_fd,
	.notify = notify,
};

static struct in_addr host_number(const struct net_config *config, u32 number)
{
	return (struct in_addr){.s_addr = config->network.s_addr | htonl(number)};
}

static Slirp *create_slirp(struct user_net *net, const struct net_config *config)
{
	SlirpConfig slirp = {
		.version = 4,
		.restricted = config->restricted,
		.in_enabled = true,
		.vnetwork = config->network,
		.vnetmask = config->netmask,
		.vhost = host_number(config, 2),
		.vnameserver = host_number(config, 3),
		.vdhcp_start = host_number(config, 15),
		.in6_enabled = true,
		.vprefix_len = 64,
		.vhostname = config->hostname[0] ? config->hostname : NULL,
		/* the largest: packets are cut to size, if they must be, on the way to the guest */
		.if_mtu = NET_MTU_MAX,
		.if_mru = NET_MTU_MAX,
	};

	inet_pton(AF_INET6, "fec0::", &slirp.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &slirp.vhost6);
	inet_pton(AF_INET6, "fec0::3", &slirp.vnameserver6);
	return slirp_new(&slirp, &callbacks, net);
}

static int add_forward(struct user_net *net, const struct net_forward *forward, struct err *err)
{
	char text[NET_ADDRESS_TEXT_MAX];
	int flags = forward->udp ? SLIRP_HOSTFWD_UDP : 0;

	if (forward->host.any.sa_family == AF_INET6)
		flags |= SLIRP_HOSTFWD_V6ONLY;
	if (slirp_add_hostxfwd(net->slirp, &forward->host.any, net_address_size(&forward->host), &forward->guest.any,
			       net_address_size(&forward->guest), flags) == 0)
		return 0;
	return err_set(err, "cannot forward %s: %s", net_address_format(&forward->host, text),
		       errno == EADDRINUSE ? "address in use" : strerror(errno));
}

struct user_net *user_net_create(const struct net_config *config, struct channel *channel, struct err *err)
{
	struct user_net *net = calloc(1, sizeof(*net));

	if (!net) {
		err_set(err, "out of memory for the network");
		return NULL;
	}
	/* buffers of 64 KiB come and go: keep them */
	mallopt(M_TRIM_THRESHOLD, 16 << 20);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	net->channel = channel;
	net->mtu = config->mtu;
	net->last = &net->first;
	net->sink = (struct offload_sink){.reserve = sink_reserve, .commit = sink_commit};
	net->slirp = create_slirp(net, config);
	if (!net->slirp) {
		err_set(err, "libslirp refuses the network");
		free(net);
		return NULL;
	}
	for (unsigned i = 0; i < config->forward_count; i++)
		if (add_forward(net, &config->forwards[i], err) < 0) {
			slirp_cleanup(net->slirp);
			free(net);
			return NULL;
		}
	return net;
}

/* One packet of the guest's: a header and a frame, both of its making. */
static void take_packet(struct user_net *net, u8 *packet, u32 size)
{
	u8 *frame = packet + sizeof(struct net_header);
	struct net_header header;
	u32 frame_size = size - (u32)sizeof(header);

	if (size < sizeof(header) + NET_ETHERNET_SIZE)
		return;
	memcpy(&header, packet, sizeof(header));
	if (!offload_from_guest(&header, frame, frame_size))
		return;
	offload_raise_mss(frame, frame_size, channel_offloads(net->channel), MSS_RAISED);
	slirp_input(net->slirp, frame, (int)frame_size);
}

static void take_packets(struct user_net *net)
{
	u32 size;
	u8 *packet;

	while ((packet = channel_peek(net->channel, &size, &net->broken))) {
		take_packet(net, packet, size);
		channel_consume(net->channel, size);
		channel_flush(net->channel);
	}
}

/* Appends a descriptor to those that are waited for; its number, which is what libslirp calls it by. */
static int add_poll(int fd, int events, void *opaque)
{
	struct user_net *net = opaque;
	short wanted = 0;

	if (net->polled_count == net->polled_room) {
		unsigned room = net->polled_room ? net->polled_room * 2 : 64;
		struct pollfd *polled = realloc(net->polled, room * sizeof(*polled));

		if (!polled)
			abort();
		net->polled = polled;
		net->polled_room = room;
	}
	if (events & SLIRP_POLL_IN)
		wanted |= POLLIN;
	if (events & SLIRP_POLL_OUT)
		wanted |= POLLOUT;
	if (events & SLIRP_POLL_PRI)
		wanted |= POLLPRI;
	net->polled[net->polled_count] = (struct pollfd){.fd = fd, .events = wanted};
	return (int)net->polled_count++;
}

static int get_events(int number, void *opaque)
{
	const struct user_net *net = opaque;
	short found = net->polled[number].revents;
	int events = 0;

	if (found & POLLIN)
		events |= SLIRP_POLL_IN;
	if (found & POLLOUT)
		events |= SLIRP_POLL_OUT;
	if (found & POLLPRI)
		events |= SLIRP_POLL_PRI;
	if (found & POLLERR)
		events |= SLIRP_POLL_ERR;
	if (found & POLLHUP)
		events |= SLIRP_POLL_HUP;
	return events;
}

/* ms until something is due, or -1. */
static int until_due(const struct user_net *net, u32 slirp_ms)
{
	s64 now_ms = now_ns(NULL) / NS_PER_MS, wait = slirp_ms >= SLIRP_IDLE ? -1 : (s64)slirp_ms;

	for (const struct user_timer *timer = net->timers; timer; timer = timer->next) {
		s64 left = timer->due_ms > now_ms ? timer->due_ms - now_ms : 0;

		if (timer->due_ms && (wait < 0 || left < wait))
			wait = left;
	}
	return wait > 60000 ? 60000 : (int)wait;
}

/*
 * One round: sleep until something happens, then do it. While packets wait for room in the channel, the host's sockets
 * are left alone: their senders wait, too.
 */
static bool run_once(struct user_net *net, int control)
{
	bool blocked = net->first != NULL;
	u32 slirp_ms = UINT32_MAX;
	int found, wait_ms;

	net->polled_count = 0;
	add_poll(control, SLIRP_POLL_IN, net);
	add_poll(net->channel->wake_me, SLIRP_POLL_IN, net);
	if (!blocked)
		slirp_pollfds_fill(net->slirp, &slirp_ms, add_poll, net);
	wait_ms = until_due(net, slirp_ms);
	if (!channel_wait(net->channel, true, blocked))
		wait_ms = 0;
	found = poll(net->polled, net->polled_count, wait_ms);
	if (found < 0 && errno != EINTR)
		return false;
	if (found > 0 && net->polled[0].revents)
		return false;
	if (found > 0 && net->polled[1].revents)
		channel_woken(net->channel);
	drain_overflow(net);
	/* first of all: this is where libslirp looks at the clock */
	slirp_pollfds_poll(net->slirp, blocked || found < 0, get_events, net);
	take_packets(net);
	run_timers(net);
	channel_flush(net->channel);
	return !net->broken;
}

void user_net_run(struct user_net *net, int control)
{
	while (run_once(net, control))
		;
}
