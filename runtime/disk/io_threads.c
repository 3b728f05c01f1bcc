/* File operations by a few threads: works everywhere. */
#include "disk/io_internal.h"

#include "util/err.h"
#include "util/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define THREADS 4 /* reads of a guest that wait for the host's disk at one time */

struct pool {
	int fd;
	pthread_mutex_t mutex;
	pthread_cond_t wanted;
	struct io_list todo, done;
	pthread_t thread[THREADS];
	unsigned started;
	bool ends;
	int event; /* polls readable while `done` is not empty */
};

static s64 discard(int fd, u64 offset, u64 length)
{
	u64 range[2] = {offset, length};

	return ioctl(fd, BLKDISCARD, range);
}

static s64 perform(int fd, const struct io_task *task)
{
	s64 n = -1;

	do {
		switch (task->op) {
		case IO_READ:
			n = preadv(fd, task->iov, (int)task->iov_count, (off_t)task->offset);
			break;
		case IO_WRITE:
			n = pwritev(fd, task->iov, (int)task->iov_count, (off_t)task->offset);
			break;
		case IO_SYNC:
			n = fdatasync(fd);
			break;
		case IO_ALLOCATE:
			n = fallocate(fd, task->mode, (off_t)task->offset, (off_t)task->length);
			break;
		case IO_DISCARD:
			n = discard(fd, task->offset, task->length);
			break;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void *work(void *opaque)
{
	struct pool *pool = opaque;
	u64 one = 1;

	pthread_mutex_lock(&pool->mutex);
	for (;;) {
		while (!pool->todo.first && !pool->ends)
			pthread_cond_wait(&pool->wanted, &pool->mutex);
		if (!pool->todo.first)
			break;
		struct io_task *task = io_list_take(&pool->todo);

		pthread_mutex_unlock(&pool->mutex);
		task->result = perform(pool->fd, task);
		pthread_mutex_lock(&pool->mutex);
		io_list_add(&pool->done, task);
		if (write(pool->event, &one, sizeof(one)) < 0)
			BUG("an eventfd does not count: %s", strerror(errno));
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

static void threads_release(struct io *io)
{
	struct pool *pool = io->state;

	pthread_mutex_lock(&pool->mutex);
	pool->ends = true;
	pthread_cond_broadcast(&pool->wanted);
	pthread_mutex_unlock(&pool->mutex);
	for (unsigned i = 0; i < pool->started; i++)
		pthread_join(pool->thread[i], NULL);
	if (pool->event >= 0)
		close(pool->event);
	pthread_cond_destroy(&pool->wanted);
	pthread_mutex_destroy(&pool->mutex);
	free(pool);
}

/* All now: later the process may not be allowed to. */
static int start_threads(struct pool *pool, unsigned count, struct err *err)
{
	for (; pool->started < count; pool->started++) {
		if (thread_start(&pool->thread[pool->started], work, pool, err) < 0)
			return -1;
	}
	return 0;
}

static int init(struct io *io, unsigned threads, struct err *err)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return err_set(err, "out of memory");
	pool->fd = io->fd;
	io_list_init(&pool->todo);
	io_list_init(&pool->done);
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	io->state = pool;
	pool->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->event < 0)
		err_set(err, "cannot create an eventfd: %s", strerror(errno));
	if (pool->event < 0 || start_threads(pool, threads, err) < 0) {
		threads_release(io);
		return -1;
	}
	io->source.fd = pool->event;
	return 0;
}

static int threads_init(struct io *io, struct err *err)
{
	return init(io, THREADS, err);
}

static int one_thread_init(struct io *io, struct err *err)
{
	return init(io, 1, err);
}

static void threads_submit(struct io *io, struct io_task *task)
{
	struct pool *pool = io->state;

	pthread_mutex_lock(&pool->mutex);
	io_list_add(&pool->todo, task);
	pthread_cond_signal(&pool->wanted);
	pthread_mutex_unlock(&pool->mutex);
}

static void threads_flush(struct io *io)
{
	(void)io;
}

static struct io_task *threads_reap(struct io *io, bool wait)
{
	struct pool *pool = io->state;
	struct pollfd event = {.fd = pool->event, .events = POLLIN};
	struct io_task *done;
	u64 count;

	while (wait && poll(&event, 1, -1) < 0)
		;
	pthread_mutex_lock(&pool->mutex);
	if (read(pool->event, &count, sizeof(count)) < 0)
		count = 0; /* nothing since the last time */
	done = pool->done.first;
	io_list_init(&pool->done);
	pthread_mutex_unlock(&pool->mutex);
	return done;
}

const struct io_engine io_engine_threads = {
	.kind = IO_THREADS,
	.room = UINT32_MAX,
	.init = threads_init,
	.release = threads_release,
	.submit = threads_submit,
	.flush = threads_flush,
	.reap = threads_reap,
};

const struct io_engine io_engine_one_thread = {
	.kind = IO_ONE_THREAD,
	.room = UINT32_MAX,
	.init = one_thread_init,
	.release = threads_release,
	.submit = threads_submit,
	.flush = threads_flush,
	.reap = threads_reap,
};
