/* What the two ways of doing file operations in the background have in common. */
#ifndef AVANT_DISK_IO_INTERNAL_H
#define AVANT_DISK_IO_INTERNAL_H

#include "disk/io.h"
#include "poller.h"

struct io_engine {
	enum io_kind kind;
	unsigned room; /* tasks that it takes at a time */
	/* Puts the descriptor that polls readable when results are there into io->source.fd. 0, or -1 with a message in
	 * err. */
	int (*init)(struct io *io, struct err *err);
	void (*release)(struct io *io);
	void (*submit)(struct io *io, struct io_task *task);
	void (*flush)(struct io *io);
	/* Sets `result` of finished tasks and returns them as a list; waits for at least one if `wait`. */
	struct io_task *(*reap)(struct io *io, bool wait);
};

struct io_list {
	struct io_task *first, **last;
};

struct io {
	const struct io_engine *engine;
	struct poller *poller;
	struct poller_source source;
	int fd;
	unsigned in_flight, handed; /* not done; of these, with the engine */
	struct io_list waiting;     /* for room in the engine */
	u64 calls;                  /* of the host, to send tasks off */
	void *state;                /* the engine's */
};

static inline void io_list_init(struct io_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static inline void io_list_add(struct io_list *list, struct io_task *task)
{
	task->next = NULL;
	*list->last = task;
	list->last = &task->next;
}

/* The list must not be empty. */
static inline struct io_task *io_list_take(struct io_list *list)
{
	struct io_task *task = list->first;

	list->first = task->next;
	if (!list->first)
		list->last = &list->first;
	return task;
}

extern const struct io_engine io_engine_uring, io_engine_threads, io_engine_one_thread;

#endif
