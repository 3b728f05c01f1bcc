/*
 * Disks behind an NBD server, through the asynchronous half of libnbd: requests are sent at once, the poller tells when
 * the socket has something. A connection that ends is not begun again: what is under way and all that follows fails.
 */
#include "disk/internal.h"

#include "disk/nbd_internal.h"
#include "disk/pieces.h"
#include "poller.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TRANSFER_MAX (32u << 20) /* bytes in one command, if the server does not say: what all can do */
#define RANGE_MAX    (1u << 30)  /* the same of commands without data; lengths have 32 bits */
#define ZEROS        (1u << 20)
#define BLOCK_MAX    (64u << 10) /* the largest that the protocol allows to demand */

/*
 * Whole blocks of so many bytes are zeroed by command, what is left of others by writing: QEMU (7.2) zeroes all of a
 * qcow2 cluster when asked for a part of one that is zero, and with it what is being written to the rest.
 */
#define ZERO_BLOCK (64u << 10)

/* A server that has not answered for so long, though asked, will never. */
#define PATIENCE_MS 120000

/* A request's way through the server, in as many commands as it takes, one after the other. */
struct nbd_op {
	struct nbd *nbd;
	struct disk_request *request;
	u64 done, length; /* bytes; of the command under way */
	u8 *copy;         /* of its data, if that is not in one piece */
	int error;
	bool finished;
	bool asked_for_zeros; /* the command is the one for it */
	struct nbd_op *next, **link;
};

struct nbd {
	struct disk disk;
	struct nbd_library library;
	struct nbd_handle *handle; /* NULL: lost */
	struct poller *poller;
	struct poller_source socket, timer;
	struct nbd_op *under_way;                 /* with the server */
	struct nbd_op *finished, **finished_last; /* commands whose requests are to go on */
	bool settling, timer_runs;
	u64 heard, patience;     /* ms: on the clock, when the server last said something, or was first asked */
	u32 block, transfer_max; /* bytes: all requests are multiples of the one, none is larger than the other */
	bool can_flush, can_trim, can_zero;
	u8 *zeros; /* for servers that cannot zero */
};

static struct nbd *nbd_of(struct disk *disk)
{
	return (struct nbd *)disk;
}

static u64 now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (u64)time.tv_sec * 1000 + (u64)time.tv_nsec / 1000000;
}

/* --- commands ----------------------------------------------------------------------------------------------------- */

/* The command is done, also if it could not be issued. Its request goes on later, outside of the library. */
static void op_finished(struct nbd_op *op, int error)
{
	struct nbd *nbd = op->nbd;

	op->finished = true;
	op->error = error;
	*op->link = op->next;
	if (op->next)
		op->next->link = op->link;
	op->next = NULL;
	*nbd->finished_last = op;
	nbd->finished_last = &op->next;
}

/* From within the library, which is locked. */
static int on_completion(void *opaque, int *error)
{
	op_finished(opaque, *error);
	return 1;
}

static void set_timer(struct nbd *nbd, u64 ms)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}};

	timerfd_settime(nbd->timer.fd, 0, &when, NULL);
	nbd->timer_runs = true;
}

/* The data of the command in one piece. NULL: out of memory. */
static u8 *op_data(struct nbd_op *op)
{
	const struct disk_request *request = op->request;
	struct iovec piece;

	if (pieces_cut(request->iov, request->iov_count, op->done, op->length, &piece, 1) &&
	    piece.iov_len == op->length)
		return piece.iov_base;
	op->copy = malloc(op->length);
	if (op->copy && request->op == DISK_WRITE)
		pieces_gather(request->iov, request->iov_count, op->done, op->copy, op->length);
	return op->copy;
}

static u8 *zeros(struct nbd *nbd)
{
	if (!nbd->zeros)
		nbd->zeros = calloc(1, ZEROS);
	return nbd->zeros;
}

static u64 least(u64 a, u64 b)
{
	return a < b ? a : b;
}

static s64 transfer(struct nbd_op *op, u64 offset)
{
	const struct nbd_library *library = &op->nbd->library;
	const nbd_completion_callback completion = {.callback = on_completion, .user_data = op};
	u8 *data;

	op->length = least(op->request->length - op->done, op->nbd->transfer_max);
	data = op_data(op);
	if (!data)
		return -1;
	if (op->request->op == DISK_READ)
		return library->aio_pread(op->nbd->handle, data, op->length, offset, completion, 0);
	return library->aio_pwrite(op->nbd->handle, data, op->length, offset, completion, 0);
}

static s64 zero(struct nbd_op *op, u64 offset)
{
	struct nbd *nbd = op->nbd;
	const nbd_completion_callback completion = {.callback = on_completion, .user_data = op};
	const u64 left = op->request->length - op->done;
	const u64 to_block = -offset % ZERO_BLOCK; /* bytes before the next one begins */

	op->asked_for_zeros = nbd->can_zero && to_block == 0 && left >= ZERO_BLOCK;
	if (op->asked_for_zeros) {
		op->length = least(left - left % ZERO_BLOCK, RANGE_MAX);
		return nbd->library.aio_zero(nbd->handle, op->length, offset, completion,
					     op->request->unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
	}
	op->length = least(least(left, ZEROS), nbd->transfer_max);
	if (nbd->can_zero && to_block)
		op->length = least(op->length, to_block);
	return zeros(nbd) ? nbd->library.aio_pwrite(nbd->handle, zeros(nbd), op->length, offset, completion, 0) : -1;
}

static s64 issue(struct nbd_op *op)
{
	struct nbd *nbd = op->nbd;
	const nbd_completion_callback completion = {.callback = on_completion, .user_data = op};
	const u64 offset = op->request->offset + op->done;

	switch (op->request->op) {
	case DISK_READ:
	case DISK_WRITE:
		return transfer(op, offset);
	case DISK_FLUSH:
		op->length = 0;
		return nbd->library.aio_flush(nbd->handle, completion, 0);
	case DISK_DISCARD:
		op->length = least(op->request->length - op->done, RANGE_MAX);
		return nbd->library.aio_trim(nbd->handle, op->length, offset, completion, 0);
	case DISK_WRITE_ZEROES:
		return zero(op, offset);
	}
	return -1;
}

/* Sends the next command off. */
static void op_step(struct nbd_op *op)
{
	struct nbd *nbd = op->nbd;

	if (!nbd->under_way)
		nbd->heard = now_ms(); /* from here on it is silent */
	if (!nbd->timer_runs)
		set_timer(nbd, nbd->patience);
	op->finished = false;
	op->link = &nbd->under_way;
	op->next = nbd->under_way;
	if (op->next)
		op->next->link = &op->next;
	nbd->under_way = op;
	if (!nbd->handle)
		op_finished(op, EIO);
	else if (issue(op) < 0 && !op->finished)
		op_finished(op, EIO);
}

static void op_end(struct nbd_op *op, int error)
{
	struct nbd *nbd = op->nbd;
	struct disk_request *request = op->request;

	free(op);
	if (nbd->handle)
		disk_done(&nbd->disk, request, error);
	else
		request->done(request, error ? EIO : 0); /* has been told */
}

/* A command has ended, and so has the request, or there is another one to be sent. */
static void op_continue(struct nbd_op *op)
{
	const struct disk_request *request = op->request;

	if (!op->error && op->copy && request->op == DISK_READ)
		pieces_scatter(request->iov, request->iov_count, op->done, op->copy, op->length);
	free(op->copy);
	op->copy = NULL;
	if (op->asked_for_zeros && (op->error == EOPNOTSUPP || op->error == EINVAL)) {
		op->nbd->can_zero = false; /* whatever it offered */
		op_step(op);
		return;
	}
	op->done += op->length;
	if (op->error || op->done >= request->length)
		op_end(op, op->error);
	else
		op_step(op);
}

/* --- the connection ----------------------------------------------------------------------------------------------- */

static void unwatch(struct nbd *nbd)
{
	poller_remove(nbd->poller, &nbd->socket);
	close(nbd->socket.fd);
}

/* No command comes back after this. */
static void lose(struct nbd *nbd, const char *reason)
{
	warn("disk '%s': the connection is lost, nothing is read or written any more: %s", nbd->disk.path, reason);
	unwatch(nbd);
	nbd->library.close(nbd->handle);
	nbd->handle = NULL;
	while (nbd->under_way)
		op_finished(nbd->under_way, EIO);
}

/* After each call of the library that may have done something: waits for what it waits for, requests go on. */
static void settle(struct nbd *nbd)
{
	struct nbd_op *op;
	u32 events;

	if (nbd->settling)
		return; /* called from done() */
	nbd->settling = true;
	if (nbd->handle && nbd_has_ended(&nbd->library, nbd->handle))
		lose(nbd, nbd_reason(&nbd->library));
	while ((op = nbd->finished)) {
		nbd->finished = op->next;
		if (!nbd->finished)
			nbd->finished_last = &nbd->finished;
		op_continue(op);
	}
	nbd->settling = false;
	if (!nbd->handle)
		return;
	events = (u32)nbd_events(&nbd->library, nbd->handle); /* POLLIN is EPOLLIN, POLLOUT is EPOLLOUT */
	if (events != nbd->socket.events)
		poller_modify(nbd->poller, &nbd->socket, events);
}

static void notify(struct nbd *nbd, short events)
{
	if (!nbd->handle)
		return;
	nbd->heard = now_ms();
	nbd_notify(&nbd->library, nbd->handle, events);
	settle(nbd);
}

static void on_socket(struct poller_source *source, u32 events)
{
	notify(source->opaque, (short)events);
}

/* How long the server may still be silent, in ms. */
static u64 patience_left(const struct nbd *nbd)
{
	const u64 silence = now_ms() - nbd->heard;

	return silence < nbd->patience ? nbd->patience - silence : 0;
}

static void check_patience(struct nbd *nbd)
{
	const u64 left = patience_left(nbd);

	nbd->timer_runs = false;
	if (!nbd->under_way || !nbd->handle)
		return;
	if (left) {
		set_timer(nbd, left);
		return;
	}
	lose(nbd, "the server does not answer");
	settle(nbd);
}

static void on_timer(struct poller_source *source, u32 events)
{
	u64 count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) == sizeof(count))
		check_patience(source->opaque);
}

/* --- the disk ----------------------------------------------------------------------------------------------------- */

/* Nothing is to be sent for this request. */
static bool is_nothing(const struct nbd *nbd, const struct disk_request *request)
{
	if (request->op == DISK_FLUSH)
		return !nbd->can_flush; /* the server keeps no writes back, then */
	return request->length == 0 || (request->op == DISK_DISCARD && !nbd->can_trim);
}

static void nbd_submit(struct disk *disk, struct disk_request *request)
{
	struct nbd *nbd = nbd_of(disk);
	struct nbd_op *op;

	if (!nbd->handle) {
		request->done(request, EIO);
		return;
	}
	if (is_nothing(nbd, request)) {
		disk_done(disk, request, 0);
		return;
	}
	op = calloc(1, sizeof(*op));
	if (!op) {
		disk_done(disk, request, ENOMEM);
		return;
	}
	op->nbd = nbd;
	op->request = request;
	op_step(op);
	settle(nbd);
}

static void nbd_drain(struct disk *disk)
{
	struct nbd *nbd = nbd_of(disk);

	settle(nbd);
	while (nbd->handle && nbd->under_way) {
		struct pollfd socket = {.fd = nbd->socket.fd, .events = nbd_events(&nbd->library, nbd->handle)};
		int n = poll(&socket, 1, (int)patience_left(nbd));

		if (n > 0)
			notify(nbd, socket.revents);
		else if (n == 0)
			check_patience(nbd);
	}
}

static void nbd_close_disk(struct disk *disk)
{
	struct nbd *nbd = nbd_of(disk);

	if (nbd->handle) {
		unwatch(nbd);
		nbd_disconnect(&nbd->library, nbd->handle);
	}
	poller_remove(nbd->poller, &nbd->timer);
	close(nbd->timer.fd);
	free(nbd->zeros);
	free(nbd);
}

static const struct disk_ops nbd_ops = {
	.submit = nbd_submit,
	.drain = nbd_drain,
	.close = nbd_close_disk,
};

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* What the server offers. 0, or -1 with a message. */
static int describe(struct nbd *nbd, const struct disk_config *config, struct err *err)
{
	const struct nbd_library *library = &nbd->library;
	const s64 size = library->get_size(nbd->handle);
	const s64 smallest = library->get_block_size(nbd->handle, LIBNBD_SIZE_MINIMUM);
	const s64 largest = library->get_block_size(nbd->handle, LIBNBD_SIZE_MAXIMUM);
	const bool writer = !config->readonly && !config->snapshot;

	if (size < 0)
		return err_set(err, "cannot tell the size of disk '%s': %s", config->path, nbd_reason(library));
	if (size % DISK_SECTOR)
		return err_set(err, "the size of disk '%s' is not a multiple of %d bytes: %lld", config->path,
			       DISK_SECTOR, (long long)size);
	if (writer && library->is_read_only(nbd->handle) != 0)
		return err_set(err, "disk '%s' can only be read: use 'readonly' or 'snapshot'", config->path);
	nbd->can_flush = writer && library->can_flush(nbd->handle) == 1;
	nbd->can_trim = writer && library->can_trim(nbd->handle) == 1;
	nbd->can_zero = writer && library->can_zero(nbd->handle) == 1;
	nbd->block = smallest > DISK_SECTOR ? (u32)smallest : DISK_SECTOR;
	if (nbd->block & (nbd->block - 1) || nbd->block > BLOCK_MAX || (largest > 0 && largest < nbd->block))
		return err_set(err, "disk '%s' is of blocks of %lld to %lld bytes, which makes no sense", config->path,
			       (long long)smallest, (long long)largest);
	nbd->transfer_max =
		largest > 0 && largest < TRANSFER_MAX ? (u32)largest - (u32)largest % nbd->block : TRANSFER_MAX;
	nbd->disk = (struct disk){
		.ops = &nbd_ops,
		.path = config->path,
		.size = (u64)size,
		.readonly = !writer,
		.can_discard = nbd->can_trim,
	};
	return 0;
}

/* Puts a source under the poller's eyes; it takes the descriptor, also if this fails. */
static int add_source(struct nbd *nbd, struct poller_source *source, int fd,
		      void (*ready)(struct poller_source *source, u32 events), struct err *err)
{
	*source = (struct poller_source){.fd = fd, .events = EPOLLIN, .ready = ready, .opaque = nbd};
	if (fd < 0)
		return err_set(err, "cannot watch disk '%s': %s", nbd->disk.path, strerror(errno));
	if (poller_add(nbd->poller, source, err) == 0)
		return 0;
	close(fd);
	return -1;
}

static int watch(struct nbd *nbd, struct err *err)
{
	/* another descriptor of the socket: the library closes its own when it likes */
	int fd = fcntl(nbd->library.aio_get_fd(nbd->handle), F_DUPFD_CLOEXEC, 0);

	if (add_source(nbd, &nbd->socket, fd, on_socket, err) < 0)
		return -1;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (add_source(nbd, &nbd->timer, fd, on_timer, err) == 0)
		return 0;
	unwatch(nbd);
	return -1;
}

struct disk *nbd_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	struct nbd *nbd = calloc(1, sizeof(*nbd));

	if (!nbd) {
		err_set(err, "out of memory for disk '%s'", config->path);
		return NULL;
	}
	nbd->poller = poller;
	nbd->patience = PATIENCE_MS;
	nbd->finished_last = &nbd->finished;
	if (nbd_library_load(&nbd->library, err) < 0 ||
	    !(nbd->handle = nbd_connect(&nbd->library, config->path, err))) {
		free(nbd);
		return NULL;
	}
	if (describe(nbd, config, err) < 0 || watch(nbd, err) < 0) {
		nbd->library.close(nbd->handle);
		free(nbd);
		return NULL;
	}
	return nbd->block > DISK_SECTOR ? align_open(&nbd->disk, nbd->block, err) : &nbd->disk;
}

void nbd_set_patience(struct disk *disk, u64 ms)
{
	nbd_of(disk)->patience = ms;
}
