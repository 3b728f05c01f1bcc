/*
 * Waits for file descriptors on behalf of the vCPU's thread: while the guest runs, a waiter thread does, and tells the
 * vCPU; while the guest is halted, vm_sleep() does. Handlers run on the vCPU's thread, between two guest instructions,
 * with the vector state put away: anything goes in them but blocking.
 */
#ifndef AVANT_POLLER_H
#define AVANT_POLLER_H

#include "util/types.h"

struct err;
struct poller;
struct vm;

struct poller_source {
	int fd;
	u32 events; /* EPOLLIN, EPOLLOUT; 0: nothing is reported for now, not even that the other end hung up */
	/* Called with what is ready; the source stays armed until poller_remove(): drain the descriptor or it is called
	 * again. */
	void (*ready)(struct poller_source *source, u32 events);
	void *opaque;
};

/* With its thread. NULL with a message in err. */
struct poller *poller_create(struct vm *vm, struct err *err);
void poller_destroy(struct poller *poller);

/* The source is the caller's and must stay until poller_remove(). 0, or -1 with a message in err. vCPU's thread. */
int poller_add(struct poller *poller, struct poller_source *source, struct err *err);
/* Changes source->events, also to 0. */
void poller_modify(struct poller *poller, struct poller_source *source, u32 events);
/* Also from within a handler. Its handler is not called any more when this has returned. */
void poller_remove(struct poller *poller, struct poller_source *source);

/* Calls the handlers of what is ready, without waiting. Called by the loop when the vCPU was notified. */
void poller_run(struct poller *poller);

/*
 * The vCPU goes to sleep and waits for poller_fd() itself, which polls readable when something is ready; the thread is
 * left alone until poller_unpark(), before the guest runs again.
 */
void poller_park(struct poller *poller);
void poller_unpark(struct poller *poller);
int poller_fd(const struct poller *poller);

#endif
