#include "disk/io_internal.h"

#include "util/err.h"

#include <stdlib.h>
#include <sys/epoll.h>

static void finish(struct io *io, struct io_task *task)
{
	while (task) {
		struct io_task *next = task->next;

		io->in_flight--;
		task->done(task);
		task = next;
	}
}

static void on_results(struct poller_source *source, u32 events)
{
	struct io *io = source->opaque;

	(void)events;
	finish(io, io->engine->reap(io, false));
	io->engine->flush(io);
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
	io->watched = true;
	return 0;
}

struct io *io_create(enum io_kind kind, struct poller *poller, struct err *err)
{
	struct io *io = calloc(1, sizeof(*io));
	struct err why = ERR_INIT;

	if (!io) {
		err_set(err, "out of memory");
		return NULL;
	}
	io->poller = poller;
	if (kind != IO_THREADS && start(io, &io_engine_uring, &why) == 0)
		return io;
	if (kind != IO_URING && start(io, &io_engine_threads, &why) == 0)
		return io;
	err_set(err, "%s", why.text);
	free(io);
	return NULL;
}

void io_destroy(struct io *io)
{
	if (!io)
		return;
	io_drain(io);
	if (io->watched)
		poller_remove(io->poller, &io->source);
	io->engine->release(io);
	free(io);
}

void io_submit(struct io *io, struct io_task *task)
{
	io->in_flight++;
	io->engine->submit(io, task);
}

void io_flush(struct io *io)
{
	io->engine->flush(io);
}

void io_drain(struct io *io)
{
	io->engine->flush(io);
	while (io->in_flight) {
		finish(io, io->engine->reap(io, true));
		io->engine->flush(io);
	}
}
