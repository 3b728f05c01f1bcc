/*
 * Two epoll sets. The inner one holds the sources; the outer one holds the inner, and is what the waiter thread waits
 * for. The inner set is in the outer one as a one-shot: the thread wakes the vCPU once, and not again before the
 * handlers have run. While the vCPU sleeps it waits for the inner set itself and the outer one is disarmed: no thread
 * wakes in vain.
 */
#include "poller.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/err.h"
#include "util/thread.h"
#include "vm.h"

#define BATCH 32 /* sources in one look */

struct poller {
	struct vm *vm;
	int inner, outer, quit;
	pthread_t thread;
	bool started;
	bool parked;                     /* the vCPU sleeps or is about to: the thread is not to be woken */
	bool armed;                      /* atomic: the thread will be woken by the next event */
	struct epoll_event batch[BATCH]; /* of the look under way */
	int batch_at, batch_count;
};

static void arm(struct poller *poller)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = poller->inner};

	__atomic_store_n(&poller->armed, true, __ATOMIC_SEQ_CST);
	epoll_ctl(poller->outer, EPOLL_CTL_MOD, poller->inner, &event);
}

static void *wait_for_sources(void *opaque)
{
	struct poller *poller = opaque;
	struct epoll_event event;

	for (;;) {
		int n = epoll_wait(poller->outer, &event, 1, -1);

		if (n < 0 && errno != EINTR)
			return NULL;
		if (n <= 0)
			continue;
		if (event.data.fd == poller->quit)
			return NULL;
		/* first this, then the wake-up: whoever runs the handlers because of it arms again */
		__atomic_store_n(&poller->armed, false, __ATOMIC_SEQ_CST);
		vm_wake(poller->vm);
	}
}

static int create_sets(struct poller *poller, struct err *err)
{
	struct epoll_event inner = {0}, quit = {.events = EPOLLIN};

	poller->inner = epoll_create1(EPOLL_CLOEXEC);
	poller->outer = epoll_create1(EPOLL_CLOEXEC);
	poller->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	inner.data.fd = poller->inner;
	quit.data.fd = poller->quit;
	if (poller->inner < 0 || poller->outer < 0 || poller->quit < 0 ||
	    epoll_ctl(poller->outer, EPOLL_CTL_ADD, poller->inner, &inner) < 0 ||
	    epoll_ctl(poller->outer, EPOLL_CTL_ADD, poller->quit, &quit) < 0)
		return err_set(err, "cannot prepare waiting for files: %s", strerror(errno));
	return 0;
}

static int start(struct poller *poller, struct err *err)
{
	if (thread_start(&poller->thread, wait_for_sources, poller, err) < 0)
		return -1;
	poller->started = true;
	arm(poller);
	return 0;
}

struct poller *poller_create(struct vm *vm, struct err *err)
{
	struct poller *poller = calloc(1, sizeof(*poller));

	if (!poller) {
		err_set(err, "out of memory");
		return NULL;
	}
	poller->vm = vm;
	poller->inner = poller->outer = poller->quit = -1;
	if (create_sets(poller, err) < 0 || start(poller, err) < 0) {
		poller_destroy(poller);
		return NULL;
	}
	return poller;
}

void poller_destroy(struct poller *poller)
{
	u64 one = 1;

	if (!poller)
		return;
	if (poller->started && write(poller->quit, &one, sizeof(one)) == sizeof(one))
		pthread_join(poller->thread, NULL);
	if (poller->inner >= 0)
		close(poller->inner);
	if (poller->outer >= 0)
		close(poller->outer);
	if (poller->quit >= 0)
		close(poller->quit);
	free(poller);
}

/*
 * Hanging up is reported whether one asks for it or not: what is not waited for at all must at least not stay ready for
 * ever, hence edge-triggered, and handle() drops that one event.
 */
static u32 wanted(u32 events)
{
	return events ? events : EPOLLET;
}

int poller_add(struct poller *poller, struct poller_source *source, struct err *err)
{
	struct epoll_event event = {.events = wanted(source->events), .data.ptr = source};

	if (epoll_ctl(poller->inner, EPOLL_CTL_ADD, source->fd, &event) < 0)
		return err_set(err, "cannot wait for a file: %s", strerror(errno));
	return 0;
}

void poller_modify(struct poller *poller, struct poller_source *source, u32 events)
{
	struct epoll_event event = {.events = wanted(events), .data.ptr = source};

	if (events == source->events)
		return;
	source->events = events;
	if (epoll_ctl(poller->inner, EPOLL_CTL_MOD, source->fd, &event) < 0)
		BUG("a source that was not added: %s", strerror(errno));
}

void poller_remove(struct poller *poller, struct poller_source *source)
{
	epoll_ctl(poller->inner, EPOLL_CTL_DEL, source->fd, NULL);
	/* it may be ready in the look that this is called from */
	for (int i = poller->batch_at; i < poller->batch_count; i++) {
		if (poller->batch[i].data.ptr == source)
			poller->batch[i].data.ptr = NULL;
	}
}

/* An earlier handler of the batch may have changed what this source waits for, or removed it. */
static void handle(const struct epoll_event *event)
{
	struct poller_source *source = event->data.ptr;
	u32 events = source ? event->events & (source->events | EPOLLERR | EPOLLHUP) : 0;

	if (events && source->events)
		source->ready(source, events);
}

void poller_run(struct poller *poller)
{
	/* armed: the thread has seen nothing yet; if it is about to, it will say so */
	if (!poller->parked && __atomic_load_n(&poller->armed, __ATOMIC_SEQ_CST))
		return;
	do {
		poller->batch_count = epoll_wait(poller->inner, poller->batch, BATCH, 0);
		for (poller->batch_at = 0; poller->batch_at < poller->batch_count;)
			handle(&poller->batch[poller->batch_at++]);
	} while (poller->batch_count == BATCH);
	poller->batch_at = poller->batch_count = 0;
	if (!poller->parked && !__atomic_load_n(&poller->armed, __ATOMIC_SEQ_CST))
		arm(poller);
}

void poller_park(struct poller *poller)
{
	struct epoll_event nothing = {.data.fd = poller->inner};

	if (poller->parked)
		return;
	poller->parked = true;
	__atomic_store_n(&poller->armed, false, __ATOMIC_SEQ_CST);
	epoll_ctl(poller->outer, EPOLL_CTL_MOD, poller->inner, &nothing);
}

void poller_unpark(struct poller *poller)
{
	if (!poller->parked)
		return;
	poller->parked = false;
	arm(poller);
}

int poller_fd(const struct poller *poller)
{
	return poller->inner;
}
