/* File operations by io_uring: one system call for a batch, no threads of ours. */
#include "disk/io_internal.h"

#include "util/err.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRIES 256

struct uring {
	struct io_uring ring;
	int event;
	unsigned queued; /* not yet sent off */
};

static void uring_release(struct io *io)
{
	struct uring *uring = io->state;

	io_uring_queue_exit(&uring->ring);
	close(uring->event);
	free(uring);
}

static int uring_init(struct io *io, struct err *err)
{
	struct uring *uring = calloc(1, sizeof(*uring));
	int error;

	if (!uring)
		return err_set(err, "out of memory");
	error = io_uring_queue_init(ENTRIES, &uring->ring, 0);
	if (error < 0) {
		free(uring);
		return err_set(err, "cannot set up io_uring: %s", strerror(-error));
	}
	io->state = uring;
	uring->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = uring->event < 0 ? -errno : io_uring_register_eventfd(&uring->ring, uring->event);
	/* without NODROP results could get lost when more are under way than fit */
	if (error < 0 || !(uring->ring.features & IORING_FEAT_NODROP)) {
		uring_release(io);
		return err_set(err, "cannot use io_uring: %s", error < 0 ? strerror(-error) : "the kernel is too old");
	}
	io->source.fd = uring->event;
	return 0;
}

static void send_off(struct uring *uring)
{
	while (uring->queued) {
		int n = io_uring_submit(&uring->ring);

		if (n >= 0)
			uring->queued -= (unsigned)n;
		else if (n != -EINTR && n != -EAGAIN && n != -EBUSY)
			BUG("io_uring takes no requests: %s", strerror(-n));
		if (n == -EAGAIN || n == -EBUSY)
			break; /* out of memory for now, or results are to be taken first: the next flush tries again */
	}
}

static void uring_flush(struct io *io)
{
	send_off(io->state);
}

static struct io_uring_sqe *get_entry(struct uring *uring)
{
	struct io_uring_sqe *entry;

	while (!(entry = io_uring_get_sqe(&uring->ring)))
		send_off(uring);
	return entry;
}

static void uring_submit(struct io *io, struct io_task *task)
{
	struct uring *uring = io->state;
	struct io_uring_sqe *entry = get_entry(uring);

	switch (task->op) {
	case IO_READ:
		io_uring_prep_readv(entry, task->fd, task->iov, task->iov_count, task->offset);
		break;
	case IO_WRITE:
		io_uring_prep_writev(entry, task->fd, task->iov, task->iov_count, task->offset);
		break;
	case IO_SYNC:
		io_uring_prep_fsync(entry, task->fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_ALLOCATE:
		io_uring_prep_fallocate(entry, task->fd, task->mode, (off_t)task->offset, (off_t)task->length);
		break;
	}
	io_uring_sqe_set_data(entry, task);
	uring->queued++;
}

static struct io_task *uring_reap(struct io *io, bool wait)
{
	struct uring *uring = io->state;
	struct io_task *first = NULL, **last = &first;
	struct io_uring_cqe *result;
	u64 count;

	if (wait)
		while (io_uring_wait_cqe(&uring->ring, &result) == -EINTR)
			;
	/* first the eventfd, then the results: one that comes in between is announced once more */
	if (read(uring->event, &count, sizeof(count)) < 0)
		count = 0;
	while (io_uring_peek_cqe(&uring->ring, &result) == 0) {
		struct io_task *task = io_uring_cqe_get_data(result);

		task->result = result->res;
		task->next = NULL;
		*last = task;
		last = &task->next;
		io_uring_cqe_seen(&uring->ring, result);
	}
	return first;
}

const struct io_engine io_engine_uring = {
	.init = uring_init,
	.release = uring_release,
	.submit = uring_submit,
	.flush = uring_flush,
	.reap = uring_reap,
};
