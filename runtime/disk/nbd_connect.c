/* The connection to an NBD server: how it begins and ends, and how it is kept going in between. */
#include "disk/nbd_internal.h"

#include "util/err.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define CONNECT_MS    30000
#define DISCONNECT_MS 1000

/* A host that does not acknowledge is dead after 30 s, also while nothing is to be said. */
#define TCP_DEAD_MS 30000

const char *nbd_reason(const struct nbd_library *library)
{
	const char *text = library->get_error(), *colon;

	if (!text)
		return "the server has closed it";
	colon = strstr(text, ": ");
	return strncmp(text, "nbd_", 4) == 0 && colon ? colon + 2 : text;
}

short nbd_events(const struct nbd_library *library, struct nbd_handle *handle)
{
	const unsigned direction = library->aio_get_direction(handle);

	return (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
		       (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

bool nbd_has_ended(const struct nbd_library *library, struct nbd_handle *handle)
{
	return library->aio_is_dead(handle) || library->aio_is_closed(handle);
}

bool nbd_notify(const struct nbd_library *library, struct nbd_handle *handle, short events)
{
	const short wanted = nbd_events(library, handle);
	int result = 0;

	/* the library finds out what an error is when it reads or writes */
	if (events & (POLLERR | POLLHUP | POLLNVAL))
		events |= wanted;
	if (events & wanted & POLLIN)
		result = library->aio_notify_read(handle);
	else if (events & wanted & POLLOUT)
		result = library->aio_notify_write(handle);
	return result == 0 && !nbd_has_ended(library, handle);
}

static u64 now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (u64)time.tv_sec * 1000 + (u64)time.tv_nsec / 1000000;
}

/* Waits for the socket once. False with errno: nothing happened until then, or poll fails. */
static bool wait_until(const struct nbd_library *library, struct nbd_handle *handle, u64 deadline, short *events)
{
	for (;;) {
		const u64 now = now_ms();
		struct pollfd socket = {.fd = library->aio_get_fd(handle), .events = nbd_events(library, handle)};
		int n = poll(&socket, 1, deadline > now ? (int)(deadline - now) : 0);

		*events = socket.revents;
		if (n > 0)
			return true;
		if (n == 0)
			errno = ETIMEDOUT;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

/* Options that other kinds of sockets do not have: no matter. */
static void watch_host(int fd)
{
	const int on = 1, idle = 10, interval = 5, count = 4;
	const unsigned dead = TCP_DEAD_MS;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
}

/* True when the server is ready for requests. */
static bool handshake(const struct nbd_library *library, struct nbd_handle *handle, const char *uri, struct err *err)
{
	const u64 deadline = now_ms() + CONNECT_MS;
	short events;

	if (library->aio_connect_uri(handle, uri) < 0) {
		err_set(err, "cannot connect to '%s': %s", uri, nbd_reason(library));
		return false;
	}
	while (!library->aio_is_ready(handle)) {
		if (!wait_until(library, handle, deadline, &events)) {
			err_set(err, "cannot connect to '%s': %s", uri, strerror(errno));
			return false;
		}
		if (!nbd_notify(library, handle, events)) {
			err_set(err, "cannot connect to '%s': %s", uri, nbd_reason(library));
			return false;
		}
	}
	return true;
}

struct nbd_handle *nbd_connect(const struct nbd_library *library, const char *uri, struct err *err)
{
	struct nbd_handle *handle = library->create();

	if (!handle) {
		err_set(err, "cannot connect to '%s': %s", uri, nbd_reason(library));
		return NULL;
	}
	/* whoever gives the URI may name files with keys; buffers are only used when they were filled */
	library->set_uri_allow_local_file(handle, true);
	library->set_pread_initialize(handle, false);
	if (handshake(library, handle, uri, err)) {
		watch_host(library->aio_get_fd(handle));
		return handle;
	}
	library->close(handle);
	return NULL;
}

void nbd_disconnect(const struct nbd_library *library, struct nbd_handle *handle)
{
	const u64 deadline = now_ms() + DISCONNECT_MS;
	bool alive = library->aio_disconnect(handle, 0) == 0;
	short events;

	while (alive && (nbd_events(library, handle) & POLLOUT))
		alive = wait_until(library, handle, deadline, &events) && nbd_notify(library, handle, events);
	library->close(handle);
}
