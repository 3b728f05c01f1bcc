/*
 * A thread for requests that wait: for a disk, for another machine. One at a time, and the server is nobody else's
 * meanwhile: the guest runs on, its other requests stay in the ring.
 */
#ifndef AVANT_P9_WORKER_H
#define AVANT_P9_WORKER_H

#include "p9/p9.h"

struct err;
struct p9_worker;
struct poller;

/*
 * Starts the thread. done() is called on the vCPU's thread with what p9_handle() gave. NULL with a message in err. All
 * must outlive the worker.
 */
struct p9_worker *p9_worker_create(struct p9_server *server, struct poller *poller,
				   void (*done)(void *opaque, s64 size), void *opaque, struct err *err);
/* None may be under way. */
void p9_worker_destroy(struct p9_worker *worker);

/* Answers the request, with what it points to, which must stay until done() is called. None may be under way. */
void p9_worker_start(struct p9_worker *worker, const struct p9_request *request);

/* Waits for the request under way. done() will not be called. */
void p9_worker_drop(struct p9_worker *worker);

#endif
