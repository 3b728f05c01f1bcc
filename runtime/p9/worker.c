#include "p9/worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "poller.h"
#include "util/err.h"
#include "util/thread.h"

/* What the two threads write to memory is ordered by the eventfds. */
struct p9_worker {
	struct p9_server *server;
	struct poller *poller;
	struct poller_source finished; /* its descriptor: an eventfd, readable when a request has been answered */
	void (*done)(void *opaque, s64 size);
	void *opaque;
	int start; /* an eventfd that the thread waits for */
	bool quit, listening, running;
	pthread_t thread;
	struct p9_request request;
	s64 size;
};

static void signal_event(int fd)
{
	const u64 one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		BUG("an eventfd cannot be written to: %s", strerror(errno));
}

static bool take_event(int fd)
{
	u64 count;

	return TEMP_FAILURE_RETRY(read(fd, &count, sizeof(count))) == sizeof(count);
}

static void *work(void *opaque)
{
	struct p9_worker *worker = opaque;

	while (take_event(worker->start) && !worker->quit) {
		worker->size = p9_handle(worker->server, &worker->request, true);
		signal_event(worker->finished.fd);
	}
	return NULL;
}

static void on_finished(struct poller_source *source, u32 events)
{
	struct p9_worker *worker = source->opaque;

	(void)events;
	if (take_event(source->fd))
		worker->done(worker->opaque, worker->size);
}

static int start_thread(struct p9_worker *worker, struct err *err)
{
	if (thread_start(&worker->thread, work, worker, err) < 0)
		return -1;
	worker->running = true;
	return 0;
}

static int build(struct p9_worker *worker, struct err *err)
{
	worker->start = eventfd(0, EFD_CLOEXEC);
	worker->finished.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->start < 0 || worker->finished.fd < 0)
		return err_set(err, "cannot create an eventfd: %s", strerror(errno));
	if (poller_add(worker->poller, &worker->finished, err) < 0)
		return -1;
	worker->listening = true;
	return start_thread(worker, err);
}

struct p9_worker *p9_worker_create(struct p9_server *server, struct poller *poller,
				   void (*done)(void *opaque, s64 size), void *opaque, struct err *err)
{
	struct p9_worker *worker = calloc(1, sizeof(*worker));

	if (!worker) {
		err_set(err, "out of memory");
		return NULL;
	}
	worker->server = server;
	worker->poller = poller;
	worker->done = done;
	worker->opaque = opaque;
	worker->start = -1;
	worker->finished = (struct poller_source){.fd = -1, .events = EPOLLIN, .ready = on_finished, .opaque = worker};
	if (build(worker, err) < 0) {
		p9_worker_destroy(worker);
		return NULL;
	}
	return worker;
}

void p9_worker_destroy(struct p9_worker *worker)
{
	if (worker->running) {
		worker->quit = true;
		signal_event(worker->start);
		pthread_join(worker->thread, NULL);
	}
	if (worker->listening)
		poller_remove(worker->poller, &worker->finished);
	if (worker->start >= 0)
		close(worker->start);
	if (worker->finished.fd >= 0)
		close(worker->finished.fd);
	free(worker);
}

void p9_worker_start(struct p9_worker *worker, const struct p9_request *request)
{
	worker->request = *request;
	signal_event(worker->start);
}

void p9_worker_drop(struct p9_worker *worker)
{
	struct pollfd finished = {.fd = worker->finished.fd, .events = POLLIN};

	while (!take_event(finished.fd))
		poll(&finished, 1, -1);
}
