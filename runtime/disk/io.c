#include "disk/io_internal.h"

#include "util/err.h"

#include <stdlib.h>
#include <sys/epoll.h>

static void hand(struct io *io, struct io_task *task)
{
	io->handed++;
	io->engine->submit(io, task);
}

static void finish(struct io *io, struct io_task *task)
{
	while (task) {
		struct io_task *next = task->next;

		io->handed--;
		io->in_flight--;
		task->done(task);
		task = next;
	}
	while (io->waiting.first && io->handed < io->engine->room)
		hand(io, io_list_take(&io->waiting));
	io->engine->flush(io);
}

static void on_results(struct poller_source *source, u32 events)
{
	struct io *io = source->opaque;

	(void)events;
	finish(io, io->engine->reap(io, false));
}

static int start(struct io *io, const struct io_engine *engine, struct err *err)
{
	io->engine = engine;
	io->source = (struct poller_source){.fd = -1, .events = EPOLLIN, .ready = on_results, .opaque = io};
	if (engine->init(io, err) < 0)
		return -1;
	if (poller_add(io->poller, &io->source, err) < 0) {
		engine->release(io);
		return -1;
	}
	return 0;
}

struct io *io_create(enum io_kind kind, int fd, struct poller *poller, struct err *err)
{
	struct io *io = calloc(1, sizeof(*io));

	if (!io) {
		err_set(err, "out of memory");
		return NULL;
	}
	io->fd = fd;
	io->poller = poller;
	io_list_init(&io->waiting);
	if ((kind == IO_ANY || kind == IO_URING) && start(io, &io_engine_uring, err) == 0)
		return io;
	if ((kind == IO_ANY || kind == IO_THREADS) && start(io, &io_engine_threads, err) == 0)
		return io;
	if (kind == IO_ONE_THREAD && start(io, &io_engine_one_thread, err) == 0)
		return io;
	free(io);
	return NULL;
}

void io_destroy(struct io *io)
{
	if (!io)
		return;
	io_drain(io);
	poller_remove(io->poller, &io->source);
	io->engine->release(io);
	free(io);
}

enum io_kind io_kind(const struct io *io)
{
	return io->engine->kind;
}

void io_submit(struct io *io, struct io_task *task)
{
	io->in_flight++;
	if (io->handed < io->engine->room && !io->waiting.first)
		hand(io, task);
	else
		io_list_add(&io->waiting, task);
}

void io_flush(struct io *io)
{
	io->engine->flush(io);
}

void io_drain(struct io *io)
{
	io->engine->flush(io);
	while (io->in_flight)
		finish(io, io->engine->reap(io, true));
}
