/*
 * Raw files and block devices. What the host's page cache holds is read at once; what would wait is done in the
 * background (io.h). Writes go to the page cache at once, too: that is a copy, and a guest's journal waits for each of
 * them. No file is mapped: one that shrinks while it is used gives errors, not signals.
 */
#include "disk/internal.h"

#include "disk/io.h"
#include "disk/pieces.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Larger writes are done in the background: the copy alone would stop the guest for too long. */
#define WRITE_AT_ONCE (256u << 10)

/*
 * A write to the page cache may wait nevertheless: the host throttles writers, or its journal is busy. After one that
 * took SLOW or more nanoseconds, writes are done in the background for SLOW_FACTOR times as long: at most 3 % of the
 * time are waited away.
 */
#define SLOW        4000000ull
#define SLOW_FACTOR 32

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
	struct io *discards; /* of a block device: what io_uring cannot do; or NULL */
	struct raw_op *unused;
	int fd, lock_fd; /* the latter -1: no locks are held */
	bool is_file;
	bool no_punch, no_zero_range; /* the file system has said so */
	u64 end;                      /* where the file ends; what was once cut off is not trusted to come back */
	bool looked;                  /* for its end, in this batch */
	unsigned writes;              /* of all kinds, in the background: they may hold the file's lock */
	u64 at_once_from;             /* on the clock: writes are done at once (again) */
	int lost;                     /* what a flush failed with, and so do all later ones */
};

static const u8 zero_bytes[ZEROS];

static struct raw *raw_of(struct disk *disk)
{
	return (struct raw *)disk;
}

static u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (u64)time.tv_sec * 1000000000 + (u64)time.tv_nsec;
}

static bool is_write(const struct disk_request *request)
{
	return request->op != DISK_READ && request->op != DISK_FLUSH;
}

/* --- a file that shrinks ------------------------------------------------------------------------------------------ */

static void look_for_end(struct raw *raw)
{
	struct stat status;

	if (!raw->is_file || fstat(raw->fd, &status) < 0 || (u64)status.st_size >= raw->end)
		return;
	warn("disk '%s': the file has been cut off at %lld of %llu bytes", raw->disk.path, (long long)status.st_size,
	     (unsigned long long)raw->disk.size);
	raw->end = (u64)status.st_size;
}

/*
 * Does the request end within the file? A write would make the file longer again, and what was lost before it would
 * read as zeros: so it is refused. Reads need no look: they tell where the file ends.
 */
static bool is_there(struct raw *raw, const struct disk_request *request)
{
	if (request->op == DISK_FLUSH)
		return true;
	if (is_write(request) && !(raw->disk.batch && raw->looked)) {
		look_for_end(raw);
		raw->looked = true;
	}
	return request->offset + request->length <= raw->end;
}

/* --- in the background -------------------------------------------------------------------------------------------- */

static struct raw_op *op_get(struct raw *raw, struct disk_request *request)
{
	struct raw_op *op = raw->unused;

	if (op)
		raw->unused = op->next;
	else
		op = calloc(1, sizeof(*op));
	if (!op)
		return NULL;
	op->raw = raw;
	op->request = request;
	op->done = 0;
	op->zeros = false;
	raw->writes += is_write(request);
	return op;
}

static void op_finish(struct raw_op *op, int error)
{
	struct raw *raw = op->raw;
	struct disk_request *request = op->request;

	raw->writes -= is_write(request);
	op->next = raw->unused;
	raw->unused = op;
	disk_done(&raw->disk, request, error);
}

static unsigned zero_pieces(u64 left, struct iovec *pieces)
{
	unsigned count = 0;

	for (; left && count < ZERO_PARTS; count++) {
		u64 size = left < ZEROS ? left : ZEROS;

		pieces[count] = (struct iovec){.iov_base = (void *)zero_bytes, .iov_len = size};
		left -= size;
	}
	return count;
}

/* The pieces of memory that the next step is about. False: out of memory. */
static bool set_pieces(struct raw_op *op)
{
	const struct disk_request *request = op->request;
	struct io_task *task = &op->task;

	if (!op->zeros && op->done == 0 && request->iov_count <= IOV_MAX) {
		task->iov = request->iov;
		task->iov_count = request->iov_count;
		return true;
	}
	if (!op->iov)
		op->iov = malloc(IOV_MAX * sizeof(*op->iov));
	task->iov = op->iov;
	if (!op->iov)
		return false;
	if (op->zeros)
		task->iov_count = zero_pieces(task->length, op->iov);
	else
		task->iov_count =
			pieces_cut(request->iov, request->iov_count, op->done, task->length, op->iov, IOV_MAX);
	return true;
}

/*
 * How space is freed or zeroed: 0 if there is no way. What is discarded, or zeroed by somebody who wants the space
 * freed, becomes a hole.
 */
static int allocate_mode(const struct raw *raw, const struct disk_request *request)
{
	const bool zeroes = request->op == DISK_WRITE_ZEROES;

	if ((!zeroes || request->unmap) && !raw->no_punch)
		return FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
	if (zeroes && !raw->no_zero_range)
		return FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE;
	return 0;
}

static void op_done(struct io_task *task);

/* Sends the next step off. */
static void op_step(struct raw_op *op)
{
	const struct disk_request *request = op->request;
	struct raw *raw = op->raw;
	struct io_task *task = &op->task;
	struct io *io = raw->io;

	*task = (struct io_task){
		.offset = request->offset + op->done,
		.length = request->length - op->done,
		.done = op_done,
		.opaque = op,
	};
	if (request->op == DISK_FLUSH) {
		task->op = IO_SYNC;
	} else if (request->op == DISK_DISCARD && raw->discards) {
		task->op = IO_DISCARD;
		io = raw->discards;
	} else if (request->op == DISK_READ || request->op == DISK_WRITE || op->zeros) {
		task->op = request->op == DISK_READ ? IO_READ : IO_WRITE;
		if (!set_pieces(op)) {
			op_finish(op, ENOMEM);
			return;
		}
	} else {
		task->op = IO_ALLOCATE;
		task->mode = allocate_mode(raw, request);
	}
	io_submit(io, task);
}

/* Freeing is a wish; zeros can be written. */
static void op_without_allocate(struct raw_op *op)
{
	if (op->request->op == DISK_DISCARD) {
		op_finish(op, 0);
		return;
	}
	op->zeros = true;
	op_step(op);
}

static void op_start(struct raw_op *op)
{
	const struct disk_request *request = op->request;
	const bool space = request->op == DISK_DISCARD || request->op == DISK_WRITE_ZEROES;

	if (space && !(request->op == DISK_DISCARD && op->raw->discards) && !allocate_mode(op->raw, request))
		op_without_allocate(op);
	else
		op_step(op);
}

static bool is_unsupported(s64 result)
{
	return result == -EOPNOTSUPP || result == -ENOSYS || result == -ENOTTY;
}

/* The file system has no such operation, or not for this range (-EINVAL): is there another way? */
static void op_not_allocated(struct raw_op *op, s64 result)
{
	struct raw *raw = op->raw;

	if (!is_unsupported(result)) {
		op_without_allocate(op);
		return;
	}
	if (op->task.mode & FALLOC_FL_PUNCH_HOLE)
		raw->no_punch = true;
	else
		raw->no_zero_range = true;
	op_start(op);
}

/*
 * The host's kernel tells an error of writing back once, and takes the pages for clean afterwards: a later flush would
 * succeed, and what was lost would seem safe. So once lost, always lost.
 */
static void flush_done(struct raw_op *op, s64 result)
{
	struct raw *raw = op->raw;

	if (result < 0 && !raw->lost) {
		raw->lost = (int)-result;
		warn("disk '%s': written data may be lost (%s): flushes will fail from now on", raw->disk.path,
		     strerror(raw->lost));
	}
	op_finish(op, raw->lost);
}

static void op_done(struct io_task *task)
{
	struct raw_op *op = task->opaque;
	const struct disk_request *request = op->request;
	const s64 result = task->result;

	if (result == -EINTR || result == -EAGAIN) {
		op_step(op);
	} else if (task->op == IO_SYNC) {
		flush_done(op, result);
	} else if (task->op == IO_ALLOCATE && (is_unsupported(result) || result == -EINVAL)) {
		op_not_allocated(op, result);
	} else if (task->op == IO_DISCARD && (is_unsupported(result) || result == -EINVAL)) {
		op_finish(op, 0);
	} else if (result < 0) {
		op_finish(op, (int)-result);
	} else if (task->op == IO_ALLOCATE || task->op == IO_DISCARD) {
		op_finish(op, 0);
	} else if (result == 0) {
		look_for_end(op->raw);
		op_finish(op, EIO);
	} else {
		op->done += (u64)result;
		if (op->done >= request->length)
			op_finish(op, 0);
		else
			op_step(op);
	}
}

/* --- at once ------------------------------------------------------------------------------------------------------ */

void raw_was_slow(struct disk *disk, u64 ns)
{
	raw_of(disk)->at_once_from = now() + ns * SLOW_FACTOR;
}

/* The number of bytes written, 0 if it is to be done in the background, -1 with errno. */
static ssize_t write_at_once(struct raw *raw, const struct disk_request *request)
{
	u64 start, took;
	ssize_t n;

	if (request->length > WRITE_AT_ONCE || raw->writes)
		return 0; /* it would wait for what is under way */
	start = now();
	if (start < raw->at_once_from)
		return 0;
	n = pwritev(raw->fd, request->iov, (int)request->iov_count, (off_t)request->offset);
	took = now() - start;
	if (took >= SLOW)
		raw_was_slow(&raw->disk, took);
	return n;
}

/* As much as can be done without waiting; the number of bytes, or a negative errno value. */
static s64 at_once(struct raw *raw, const struct disk_request *request)
{
	ssize_t n = 0;

	if (request->iov_count > IOV_MAX)
		return 0;
	if (request->op == DISK_READ)
		n = preadv2(raw->fd, request->iov, (int)request->iov_count, (off_t)request->offset, RWF_NOWAIT);
	else if (request->op == DISK_WRITE)
		n = write_at_once(raw, request);
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EOPNOTSUPP || errno == EINTR ? 0 : -errno;
}

static void raw_submit(struct disk *disk, struct disk_request *request)
{
	struct raw *raw = raw_of(disk);
	struct raw_op *op;
	s64 done;

	if (request->op == DISK_FLUSH ? disk->readonly : request->length == 0) {
		disk_done(disk, request, 0);
		return;
	}
	if (!is_there(raw, request)) {
		disk_done(disk, request, EIO);
		return;
	}
	done = at_once(raw, request);
	if (done < 0 || (request->op != DISK_FLUSH && (u64)done == request->length)) {
		disk_done(disk, request, done < 0 ? (int)-done : 0);
		return;
	}
	op = op_get(raw, request);
	if (!op) {
		disk_done(disk, request, ENOMEM);
		return;
	}
	op->done = (u64)done;
	op_start(op);
	if (!disk->batch)
		io_flush(raw->io);
}

static void raw_end_batch(struct disk *disk)
{
	struct raw *raw = raw_of(disk);

	raw->looked = false;
	io_flush(raw->io);
}

static void raw_drain(struct disk *disk)
{
	struct raw *raw = raw_of(disk);

	if (raw->discards)
		io_drain(raw->discards);
	io_drain(raw->io);
}

static void close_files(int fd, int lock_fd)
{
	close(fd);
	if (lock_fd >= 0)
		close(lock_fd);
}

static void raw_close(struct disk *disk)
{
	struct raw *raw = raw_of(disk);

	io_destroy(raw->discards);
	io_destroy(raw->io);
	while (raw->unused) {
		struct raw_op *op = raw->unused;

		raw->unused = op->next;
		free(op->iov);
		free(op);
	}
	close_files(raw->fd, raw->lock_fd);
	free(raw);
}

static const struct disk_ops raw_ops = {
	.submit = raw_submit,
	.drain = raw_drain,
	.close = raw_close,
	.end_batch = raw_end_batch,
};

/* --- opening ------------------------------------------------------------------------------------------------------ */

static int create_engines(struct raw *raw, enum io_kind kind, struct poller *poller, struct err *err)
{
	raw->io = io_create(kind, raw->fd, poller, err);
	if (!raw->io)
		return -1;
	if (!raw->is_file && !raw->disk.readonly) {
		raw->discards = io_create(IO_ONE_THREAD, raw->fd, poller, err);
		if (!raw->discards)
			return -1;
	}
	return 0;
}

struct disk *raw_open_fd(int fd, int lock_fd, const char *path, enum io_kind kind, bool readonly, struct poller *poller,
			 struct err *err)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	struct err why = ERR_INIT;
	struct stat status;
	off_t size = -1;

	if (!raw) {
		err_set(err, "out of memory for disk '%s'", path);
		close_files(fd, lock_fd);
		return NULL;
	}
	raw->fd = fd;
	raw->lock_fd = lock_fd;
	raw->disk = (struct disk){.ops = &raw_ops, .path = path, .readonly = readonly, .can_discard = !readonly};
	if (fstat(fd, &status) == 0 && (size = lseek(fd, 0, SEEK_END)) >= 0) {
		raw->is_file = S_ISREG(status.st_mode);
		raw->disk.size = raw->end = (u64)size;
		if (create_engines(raw, kind, poller, &why) == 0)
			return &raw->disk;
	} else {
		err_set(&why, "%s", strerror(errno));
	}
	err_set(err, "cannot use disk '%s': %s", path, why.text);
	raw_close(&raw->disk);
	return NULL;
}

/* Is it a file or a block device that can be a disk? 0, or -1 with a message. */
static int check(int fd, const char *path, struct err *err)
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
	return 0;
}

static int open_file(const struct disk_config *config, bool writer, struct err *err)
{
	/* without O_NONBLOCK a FIFO would wait for its other end */
	int fd, flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (writer ? O_RDWR : O_RDONLY);

	/*
	 * No matter for files. A block device that the host has mounted is refused so (open(2)); and discarding drops
	 * what its page cache holds only for whom it is opened exclusively.
	 */
	if (writer && !config->locked_elsewhere)
		flags |= O_EXCL;
	fd = open(config->path, flags);
	if (fd < 0 && errno == EBUSY)
		err_set(err, "disk '%s' is in use", config->path);
	else if (fd < 0)
		err_set(err, "cannot open disk '%s'%s: %s", config->path, writer ? " for writing" : "",
			strerror(errno));
	return fd;
}

struct disk *raw_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	const bool writer = !config->readonly && !config->snapshot;
	int fd = open_file(config, writer, err), lock_fd = -1;

	if (fd < 0)
		return NULL;
	if (check(fd, config->path, err) < 0 ||
	    (!config->locked_elsewhere && (lock_fd = disk_lock(fd, config->path, writer, err)) < 0)) {
		close(fd);
		return NULL;
	}
	return raw_open_fd(fd, lock_fd, config->path, IO_ANY, !writer, poller, err);
}

struct io *raw_io(const struct disk *disk)
{
	return ((const struct raw *)disk)->io;
}
