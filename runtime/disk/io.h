/*
 * Operations on one open file that may block, off the vCPU's thread: by io_uring, or by a few threads where the host
 * forbids that. Results are announced through the poller.
 */
#ifndef AVANT_DISK_IO_H
#define AVANT_DISK_IO_H

#include <sys/uio.h>

#include "util/types.h"

struct err;
struct io;
struct poller;

enum io_op {
	IO_READ,
	IO_WRITE,
	IO_SYNC,     /* fdatasync */
	IO_ALLOCATE, /* fallocate with `mode` */
	IO_DISCARD,  /* of a block device; by threads only */
};

/* The caller's until done() is called, once, on the vCPU's thread. */
struct io_task {
	enum io_op op;
	int mode;
	u64 offset, length;
	const struct iovec *iov; /* at most IOV_MAX */
	unsigned iov_count;
	s64 result; /* bytes, or a negative errno value */
	void (*done)(struct io_task *task);
	void *opaque;
	struct io_task *next; /* the engine's */
};

enum io_kind { IO_ANY, IO_URING, IO_THREADS, IO_ONE_THREAD };

/*
 * NULL with a message in err. The file stays the caller's, and must stay open. All threads and rings are there when
 * this returns: a sandbox may follow.
 */
struct io *io_create(enum io_kind kind, int fd, struct poller *poller, struct err *err);
/* Waits for what is under way. */
void io_destroy(struct io *io);
/* The way that was chosen. */
enum io_kind io_kind(const struct io *io);

/* Queues a task; io_flush() sends off what is queued. */
void io_submit(struct io *io, struct io_task *task);
void io_flush(struct io *io);

/* Waits until all tasks are done, including those that done() submits. */
void io_drain(struct io *io);

#endif
