#include "console/channel_internal.h"

#include "util/err.h"
#include "vm.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a client's descriptor is waited for: EPOLLPRI never comes, but with it hanging up is told. */
#define ALWAYS EPOLLPRI

static u32 used(const struct channel_ring *ring)
{
	return ring->head - ring->tail;
}

static bool is_socket(const struct channel *channel)
{
	return channel->choice.kind == CONSOLE_UNIX;
}

static void wait_for(struct channel *channel)
{
	u32 events = ALWAYS;

	if (!channel->data_polled)
		return;
	if (!channel->connected || (channel->hung_up && channel->stalled))
		events = 0;
	else if (used(&channel->output))
		events |= EPOLLOUT;
	if (events && !channel->stalled && !channel->input_ended)
		events |= EPOLLIN;
	poller_modify(channel->vm->poller, &channel->data, events);
}

/* --- clients come and go ------------------------------------------------------------------------------------------ */

static void disconnect(struct channel *channel)
{
	channel->connected = channel->input_ended = channel->hung_up = channel->stalled = false;
	if (is_socket(channel)) {
		poller_remove(channel->vm->poller, &channel->data);
		close(channel->data.fd);
		channel->data.fd = -1;
		channel->data_polled = false;
		poller_modify(channel->vm->poller, &channel->door, EPOLLIN);
	}
	wait_for(channel);
	/* a device may wait for room: now there is */
	vcpu_notify(channel->vm->vcpu);
}

/* Sends what is in the ring, without waiting. A device that found no room looks again only when it is told. */
static void send_output(struct channel *channel)
{
	struct channel_ring *ring = &channel->output;
	const bool was_full = console_channel_full(&channel->console);

	while (used(ring)) {
		const u32 at = ring->tail % CHANNEL_RING;
		const u32 size = used(ring) < CHANNEL_RING - at ? used(ring) : CHANNEL_RING - at;
		ssize_t n = is_socket(channel) ? send(channel->data.fd, ring->byte + at, size, MSG_NOSIGNAL)
					       : write(channel->data.fd, ring->byte + at, size);

		if (n > 0)
			ring->tail += (u32)n;
		else if (n < 0 && errno == EINTR)
			continue;
		else
			break; /* full, or gone: the poller tells */
	}
	if (was_full && !console_channel_full(&channel->console))
		vcpu_notify(channel->vm->vcpu);
}

/* Takes input while there is room; false: there will be no more from this client. */
static bool receive_input(struct channel *channel)
{
	ssize_t n;

	if (channel->input_at < channel->input_end) {
		channel->stalled = true;
		return true;
	}
	channel->stalled = false;
	n = is_socket(channel) ? recv(channel->data.fd, channel->input, CHANNEL_INPUT, 0)
			       : read(channel->data.fd, channel->input, CHANNEL_INPUT);
	if (n > 0) {
		channel->input_at = 0;
		channel->input_end = (u32)n;
		vcpu_notify(channel->vm->vcpu);
		return true;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void data_ready(struct poller_source *source, u32 events)
{
	struct channel *channel = source->opaque;

	if (events & (EPOLLHUP | EPOLLERR))
		channel->hung_up = true;
	if (events & EPOLLOUT)
		send_output(channel);
	if (((events & EPOLLIN) || channel->hung_up) && !channel->input_ended)
		channel->input_ended = !receive_input(channel);
	/* a client of a socket may have ended its own half alone; what came before the end is for the guest in any case
	 */
	if (channel->input_ended && (channel->hung_up || !is_socket(channel)))
		disconnect(channel);
	else
		wait_for(channel);
}

static void accept_client(struct channel *channel)
{
	struct err err = ERR_INIT;
	int fd = accept4(channel->door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	channel->data.fd = fd;
	channel->data.events = ALWAYS;
	if (poller_add(channel->vm->poller, &channel->data, &err) < 0) {
		warn("no client can use the %s: %s", channel->what, err.text);
		close(fd);
		channel->data.fd = -1;
		return;
	}
	channel->data_polled = channel->connected = true;
	poller_modify(channel->vm->poller, &channel->door, 0);
	wait_for(channel);
}

/* Somebody opened the terminal; he may have closed it already. */
static void look_at_pty(struct channel *channel)
{
	struct pollfd now = {.fd = channel->data.fd};
	char events[1024];

	while (read(channel->door.fd, events, sizeof(events)) > 0)
		;
	if (channel->connected || poll(&now, 1, 0) < 0 || (now.revents & POLLHUP))
		return;
	channel->connected = true;
	wait_for(channel);
}

static void door_ready(struct poller_source *source, u32 events)
{
	struct channel *channel = source->opaque;

	(void)events;
	if (is_socket(channel))
		accept_client(channel);
	else
		look_at_pty(channel);
}

/* --- the console ----------------------------------------------------------------------------------------------------
 */

static void write_file(struct channel *channel)
{
	send_output(channel);
	if (!used(&channel->output) || channel->failed)
		return;
	warn("the %s is not written to '%s' any more: %s", channel->what, channel->choice.path, strerror(errno));
	channel->failed = true;
	channel->connected = false; /* the rest is dropped */
}

static void flush(struct console *console)
{
	struct channel *channel = (struct channel *)console;

	if (!channel->connected)
		return;
	if (channel->choice.kind == CONSOLE_FILE) {
		write_file(channel);
		return;
	}
	if (channel->stalled && channel->input_at == channel->input_end)
		channel->stalled = false;
	send_output(channel);
	wait_for(channel);
}

static int attach(struct console *console, struct vm *vm, struct err *err)
{
	struct channel *channel = (struct channel *)console;

	channel->vm = vm;
	if (channel->door.fd < 0)
		return 0;
	if (poller_add(vm->poller, &channel->door, err) < 0)
		return -1;
	channel->door_polled = true;
	if (channel->data.fd < 0)
		return 0;
	if (poller_add(vm->poller, &channel->data, err) < 0)
		return -1;
	channel->data_polled = true;
	return 0;
}

struct channel *console_channel_create(const struct console_choice *choice, const char *what, struct mark *mark,
				       struct err *err)
{
	struct channel *channel = calloc(1, sizeof(*channel));

	if (!channel) {
		err_set(err, "out of memory");
		return NULL;
	}
	channel->console = (struct console){
		.put = console_channel_put,
		.get = console_channel_get,
		.flush = flush,
		.attach = attach,
		.full = console_channel_full,
	};
	channel->choice = *choice;
	channel->what = what;
	channel->mark = mark;
	channel->data = (struct poller_source){.fd = -1, .ready = data_ready, .opaque = channel};
	channel->door = (struct poller_source){.fd = -1, .events = EPOLLIN, .ready = door_ready, .opaque = channel};
	if (console_channel_open(channel, err) < 0) {
		console_channel_destroy(channel);
		return NULL;
	}
	return channel;
}

int console_channel_socket(const struct channel *channel)
{
	return is_socket(channel) ? channel->door.fd : -1;
}

struct console *console_channel_console(struct channel *channel)
{
	return &channel->console;
}

void console_channel_stop(struct channel *channel)
{
	flush(&channel->console);
	if (channel->data_polled)
		poller_remove(channel->vm->poller, &channel->data);
	if (channel->door_polled)
		poller_remove(channel->vm->poller, &channel->door);
	channel->data_polled = channel->door_polled = channel->connected = false;
}

void console_channel_destroy(struct channel *channel)
{
	if (!channel)
		return;
	if (channel->data.fd >= 0)
		close(channel->data.fd);
	if (channel->door.fd >= 0)
		close(channel->door.fd);
	free(channel);
}
