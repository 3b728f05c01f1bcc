/*
 * File operations by io_uring: one system call for a batch, no threads of ours. A ring escapes seccomp, so before use
 * it is restricted to what is needed here.
 */
#include "disk/io_internal.h"

#include "util/err.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* There is room for twice as many results, so none is ever held back (io_engine.room). */
#define ENTRIES 256

static void uring_release(struct io *io)
{
	io_uring_queue_exit(io->state);
	free(io->state);
}

/* Only these operations, and nothing more is registered. 0 or a negative errno value. */
static int restrict_ring(struct io_uring *ring)
{
	static const u8 allowed[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
	struct io_uring_restriction rules[ARRAY_SIZE(allowed)] = {0};
	int error;

	for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = allowed[i];
	}
	/* liburing 2.3 as Debian 12 has it declares functions for these two, but does not export them */
	error = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules, ARRAY_SIZE(rules));
	return error ? error : io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int uring_init(struct io *io, struct err *err)
{
	struct io_uring *ring = calloc(1, sizeof(*ring));
	int error;

	if (!ring)
		return err_set(err, "out of memory");
	error = io_uring_queue_init(ENTRIES, ring, IORING_SETUP_R_DISABLED);
	if (error < 0) {
		free(ring);
		return err_set(err, "cannot set up io_uring: %s", strerror(-error));
	}
	io->state = ring;
	error = restrict_ring(ring);
	if (error < 0) {
		uring_release(io);
		return err_set(err, "cannot set up io_uring: %s", strerror(-error));
	}
	io->source.fd = ring->ring_fd; /* readable while there are results */
	return 0;
}

static void send_off(struct io *io)
{
	static const struct timespec a_moment = {.tv_nsec = 1000000};
	struct io_uring *ring = io->state;

	while (io_uring_sq_ready(ring)) {
		int n = io_uring_submit(ring);

		io->calls++;
		if (n == -EAGAIN || n == -EBUSY) /* the host is out of memory for now */
			nanosleep(&a_moment, NULL);
		else if (n < 0 && n != -EINTR)
			BUG("io_uring takes no requests: %s", strerror(-n));
	}
}

static void uring_flush(struct io *io)
{
	send_off(io);
}

static void uring_submit(struct io *io, struct io_task *task)
{
	struct io_uring *ring = io->state;
	struct io_uring_sqe *entry = io_uring_get_sqe(ring);

	if (!entry) {
		send_off(io);
		entry = io_uring_get_sqe(ring);
	}
	switch (task->op) {
	case IO_READ:
		io_uring_prep_readv(entry, io->fd, task->iov, task->iov_count, task->offset);
		break;
	case IO_WRITE:
		io_uring_prep_writev(entry, io->fd, task->iov, task->iov_count, task->offset);
		break;
	case IO_SYNC:
		io_uring_prep_fsync(entry, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_ALLOCATE:
		io_uring_prep_fallocate(entry, io->fd, task->mode, (off_t)task->offset, (off_t)task->length);
		break;
	case IO_DISCARD:
		BUG("io_uring cannot discard");
	}
	io_uring_sqe_set_data(entry, task);
}

static struct io_task *uring_reap(struct io *io, bool wait)
{
	struct io_uring *ring = io->state;
	struct io_uring_cqe *result;
	struct io_list done;

	io_list_init(&done);
	if (wait)
		while (io_uring_wait_cqe(ring, &result) == -EINTR)
			;
	while (io_uring_peek_cqe(ring, &result) == 0) {
		struct io_task *task = io_uring_cqe_get_data(result);

		task->result = result->res;
		io_list_add(&done, task);
		io_uring_cqe_seen(ring, result);
	}
	return done.first;
}

const struct io_engine io_engine_uring = {
	.kind = IO_URING,
	.room = ENTRIES,
	.init = uring_init,
	.release = uring_release,
	.submit = uring_submit,
	.flush = uring_flush,
	.reap = uring_reap,
};
