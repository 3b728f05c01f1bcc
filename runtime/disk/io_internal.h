/* What the two ways of doing file operations in the background have in common. */
#ifndef AVANT_DISK_IO_INTERNAL_H
#define AVANT_DISK_IO_INTERNAL_H

#include "disk/io.h"
#include "poller.h"

struct io_engine {
	/* Puts the descriptor that polls readable when results are there into io->source.fd. 0, or -1 with a message in
	 * err. */
	int (*init)(struct io *io, struct err *err);
	void (*release)(struct io *io);
	void (*submit)(struct io *io, struct io_task *task);
	void (*flush)(struct io *io);
	/* Sets `result` of finished tasks and returns them as a list; waits for at least one if `wait`. */
	struct io_task *(*reap)(struct io *io, bool wait);
};

struct io {
	const struct io_engine *engine;
	struct poller *poller;
	struct poller_source source;
	bool watched;
	unsigned in_flight;
	void *state; /* the engine's */
};

extern const struct io_engine io_engine_uring, io_engine_threads;

#endif
