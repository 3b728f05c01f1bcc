/*
 * Raw files and block devices. What the host's page cache holds is read at once; what would wait is done in the
 * background (io.h). Writes go to the page cache at once, too: that is a copy, and a guest's journal waits for each of
 * them. No file is mapped: one that shrinks while it is used gives errors, not signals.
 */
#include "disk/internal.h"

#include "disk/io.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger writes are done in the background: the copy alone would stop the guest for too long. */
#define WRITE_AT_ONCE (256u << 10)

#define ZEROS      (64u << 10)
#define ZERO_PARTS 64 /* one write of zeros: 4 MiB */

/* A request's way through the engine, in as many steps as it takes. */
struct raw_op {
	struct io_task task;
	struct raw *raw;
	struct disk_request *request;
	u64 done;            /* bytes of the request */
	bool zeros;          /* by writing: the host's file system has no other way */
	struct iovec *iov;   /* IOV_MAX of them, or NULL until needed */
	struct raw_op *next; /* while unused */
};

struct raw {
	struct disk disk;
	struct io *io;
	struct raw_op *unused;
	int fd;
};

static const u8 zero_bytes[ZEROS];

static struct raw *raw_of(struct disk *disk)
{
	return (struct raw *)disk;
}

static struct raw_op *op_get(struct raw *raw, struct disk_request *request)
{
	struct raw_op *op = raw->unused;

	if (op)
		raw->unused = op->next;
	else
		op = calloc(1, sizeof(*op));
	if (op && !op->iov)
		op->iov = malloc(IOV_MAX * sizeof(*op->iov));
	if (!op || !op->iov) {
		free(op);
		return NULL;
	}
	op->raw = raw;
	op->request = request;
	op->done = 0;
	op->zeros = false;
	return op;
}

static void op_finish(struct raw_op *op, int error)
{
	struct raw *raw = op->raw;
	struct disk_request *request = op->request;

	op->next = raw->unused;
	raw->unused = op;
	disk_done(&raw->disk, request, error);
}

/* What is left of the request's pieces; at most IOV_MAX of them. */
static unsigned rest_of(const struct disk_request *request, u64 done, struct iovec *rest)
{
	unsigned count = 0;

	for (unsigned i = 0; i < request->iov_count && count < IOV_MAX; i++) {
		const struct iovec *piece = &request->iov[i];

		if (done >= piece->iov_len) {
			done -= piece->iov_len;
			continue;
		}
		rest[count++] =
			(struct iovec){.iov_base = (u8 *)piece->iov_base + done, .iov_len = piece->iov_len - done};
		done = 0;
	}
	return count;
}

static unsigned zero_pieces(u64 left, struct iovec *rest)
{
	unsigned count = 0;

	for (; left && count < ZERO_PARTS; count++) {
		u64 size = left < ZEROS ? left : ZEROS;

		rest[count] = (struct iovec){.iov_base = (void *)zero_bytes, .iov_len = size};
		left -= size;
	}
	return count;
}

static int allocate_mode(const struct disk_request *request)
{
	const bool keep = request->op == DISK_WRITE_ZEROES && !request->unmap;

	return FALLOC_FL_KEEP_SIZE | (keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
}

static void op_done(struct io_task *task);

/* Sends the next step off. */
static void op_step(struct raw_op *op)
{
	const struct disk_request *request = op->request;
	struct io_task *task = &op->task;

	*task = (struct io_task){.fd = op->raw->fd,
				 .offset = request->offset + op->done,
				 .length = request->length - op->done,
				 .iov = op->iov,
				 .done = op_done,
				 .opaque = op};
	if (request->op == DISK_FLUSH) {
		task->op = IO_SYNC;
	} else if (request->op == DISK_READ || request->op == DISK_WRITE) {
		task->op = request->op == DISK_READ ? IO_READ : IO_WRITE;
		task->iov_count = rest_of(request, op->done, op->iov);
	} else if (op->zeros) {
		task->op = IO_WRITE;
		task->iov_count = zero_pieces(request->length - op->done, op->iov);
	} else {
		task->op = IO_ALLOCATE;
		task->mode = allocate_mode(request);
	}
	io_submit(op->raw->io, task);
}

/* A file system that cannot free or zero a range: freeing is a wish, zeros can be written. */
static void not_supported(struct raw_op *op)
{
	if (op->request->op == DISK_DISCARD) {
		op_finish(op, 0);
		return;
	}
	op->zeros = true;
	op_step(op);
}

static void op_done(struct io_task *task)
{
	struct raw_op *op = task->opaque;
	const struct disk_request *request = op->request;
	const s64 result = task->result;

	if (result == -EINTR || result == -EAGAIN) {
		op_step(op);
	} else if (task->op == IO_ALLOCATE && (result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL)) {
		not_supported(op);
	} else if (result < 0) {
		op_finish(op, (int)-result);
	} else if (task->op == IO_SYNC || task->op == IO_ALLOCATE) {
		op_finish(op, 0);
	} else if (result == 0) {
		op_finish(op, EIO); /* the file ends here: it has shrunk */
	} else {
		op->done += (u64)result;
		if (op->done >= request->length)
			op_finish(op, 0);
		else
			op_step(op);
	}
}

/* As much as can be done without waiting; the number of bytes, or a negative errno value. */
static s64 at_once(struct raw *raw, const struct disk_request *request)
{
	ssize_t n = -1;

	if (request->iov_count > IOV_MAX)
		return 0;
	errno = EAGAIN;
	if (request->op == DISK_READ)
		n = preadv2(raw->fd, request->iov, (int)request->iov_count, (off_t)request->offset, RWF_NOWAIT);
	else if (request->op == DISK_WRITE && request->length <= WRITE_AT_ONCE)
		n = pwritev(raw->fd, request->iov, (int)request->iov_count, (off_t)request->offset);
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EOPNOTSUPP || errno == EINTR ? 0 : -errno;
}

static void raw_submit(struct disk *disk, struct disk_request *request)
{
	struct raw *raw = raw_of(disk);
	struct raw_op *op;
	s64 done = 0;

	if (request->op == DISK_FLUSH && disk->readonly) {
		disk_done(disk, request, 0);
		return;
	}
	if (request->op == DISK_READ || request->op == DISK_WRITE)
		done = at_once(raw, request);
	if (done < 0) {
		disk_done(disk, request, (int)-done);
		return;
	}
	if ((u64)done == request->length && request->op != DISK_FLUSH) {
		disk_done(disk, request, 0);
		return;
	}
	op = op_get(raw, request);
	if (!op) {
		disk_done(disk, request, ENOMEM);
		return;
	}
	op->done = (u64)done;
	op_step(op);
	if (!disk->batch)
		io_flush(raw->io);
}

static void raw_end_batch(struct disk *disk)
{
	io_flush(raw_of(disk)->io);
}

static void raw_drain(struct disk *disk)
{
	io_drain(raw_of(disk)->io);
}

static void raw_close(struct disk *disk)
{
	struct raw *raw = raw_of(disk);

	io_destroy(raw->io);
	while (raw->unused) {
		struct raw_op *op = raw->unused;

		raw->unused = op->next;
		free(op->iov);
		free(op);
	}
	close(raw->fd);
	free(raw);
}

static const struct disk_ops raw_ops = {
	.submit = raw_submit,
	.drain = raw_drain,
	.close = raw_close,
	.end_batch = raw_end_batch,
};

struct disk *raw_open_fd(int fd, const char *path, u64 size, bool readonly, struct poller *poller, struct err *err)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	struct err why = ERR_INIT;

	if (!raw) {
		err_set(err, "out of memory for disk '%s'", path);
		close(fd);
		return NULL;
	}
	raw->fd = fd;
	raw->disk = (struct disk){
		.ops = &raw_ops, .path = path, .size = size, .readonly = readonly, .can_discard = !readonly};
	raw->io = io_create(IO_ANY, poller, &why);
	if (!raw->io) {
		err_set(err, "cannot use disk '%s': %s", path, why.text);
		close(fd);
		free(raw);
		return NULL;
	}
	return &raw->disk;
}

/* Its size in bytes, or -1 with a message: it is neither a file nor a block device. */
static off_t size_of(int fd, const char *path, struct err *err)
{
	struct stat status;
	off_t size;

	if (fstat(fd, &status) < 0)
		return err_set(err, "cannot use disk '%s': %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return err_set(err, "disk '%s' is neither a file nor a block device", path);
	size = lseek(fd, 0, SEEK_END);
	if (size < 0)
		return err_set(err, "cannot tell the size of disk '%s': %s", path, strerror(errno));
	if (size % DISK_SECTOR)
		return err_set(err, "the size of disk '%s' is not a multiple of %d bytes: %lld", path, DISK_SECTOR,
			       (long long)size);
	return size;
}

struct disk *raw_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	const bool writer = !config->readonly && !config->snapshot;
	/* without O_NONBLOCK a FIFO would wait for its other end */
	int fd = open(config->path, (writer ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	off_t size;

	if (fd < 0) {
		err_set(err, "cannot open disk '%s'%s: %s", config->path, writer ? " for writing" : "",
			strerror(errno));
		return NULL;
	}
	size = size_of(fd, config->path, err);
	if (size < 0 || (!config->locked_elsewhere && disk_lock(fd, config->path, writer, err) < 0)) {
		close(fd);
		return NULL;
	}
	return raw_open_fd(fd, config->path, (u64)size, !writer, poller, err);
}
