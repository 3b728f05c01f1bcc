#include "ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/thread.h"
#include "vm.h"

/* Linux 5.14 and 6.1, newer than some headers. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define REQUESTS 32 /* more are forgotten */

enum action { TOUCH, TOUCH_DOWN, COLLAPSE };

struct request {
	u8 *at;
	u64 length;
	enum action action;
};

struct ahead {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wanted;
	struct request request[REQUESTS];
	unsigned first, count;
	bool ends;
};

/* How much of guest memory is ready beyond what has been used: between this and twice as much. */
#define STEP_LEAST (2 * AHEAD_PAGE)
#define STEP_MOST  (16 * AHEAD_PAGE)

static u64 step(const struct ram *ram)
{
	u64 size = ram->size / 64 / AHEAD_PAGE * AHEAD_PAGE;

	return size < STEP_LEAST ? STEP_LEAST : size > STEP_MOST ? STEP_MOST : size;
}

/* All pages at once: the call waits for all processors, whatever it has to do. */
static void collapse(u8 *at, u64 length)
{
	/* where there is nothing at all, nothing is made of it; others may be writing */
	for (u64 offset = 0; offset < length; offset += AHEAD_PAGE)
		__atomic_fetch_or(at + offset, 0, __ATOMIC_RELAXED);
	madvise(at, length, MADV_COLLAPSE);
}

/* One page after the other, so that it ends soon if it has to. */
static void touch(const struct ahead *ahead, u8 *at, u64 length, bool down)
{
	for (u64 done = 0; done < length && !__atomic_load_n(&ahead->ends, __ATOMIC_RELAXED); done += AHEAD_PAGE)
		madvise(down ? at + length - AHEAD_PAGE - done : at + done, AHEAD_PAGE, MADV_POPULATE_WRITE);
}

static void *work(void *opaque)
{
	struct ahead *ahead = opaque;

	pthread_mutex_lock(&ahead->mutex);
	for (;;) {
		while (!ahead->count && !ahead->ends)
			pthread_cond_wait(&ahead->wanted, &ahead->mutex);
		if (ahead->ends)
			break;
		struct request request = ahead->request[ahead->first];

		ahead->first = (ahead->first + 1) % REQUESTS;
		ahead->count--;
		pthread_mutex_unlock(&ahead->mutex);
		if (request.action == COLLAPSE)
			collapse(request.at, request.length);
		else
			touch(ahead, request.at, request.length, request.action == TOUCH_DOWN);
		pthread_mutex_lock(&ahead->mutex);
	}
	pthread_mutex_unlock(&ahead->mutex);
	return NULL;
}

static void ask(struct ahead *ahead, struct request request)
{
	pthread_mutex_lock(&ahead->mutex);
	if (ahead->count < REQUESTS) {
		ahead->request[(ahead->first + ahead->count++) % REQUESTS] = request;
		pthread_cond_signal(&ahead->wanted);
	}
	pthread_mutex_unlock(&ahead->mutex);
}

void ahead_touch(struct ahead *ahead, u8 *at, u64 length)
{
	if (ahead && length)
		ask(ahead, (struct request){at, length, TOUCH});
}

void ahead_collapse(struct ahead *ahead, u8 *at, u64 length)
{
	if (ahead)
		ask(ahead, (struct request){at, length, COLLAPSE});
	else
		collapse(at, length);
}

/* Linux keeps its descriptions of all page frames, a 64th of memory, at the end; from there on it goes downwards at
 * first. */
static void touch_end(struct vm *vm)
{
	const struct ram *ram = &vm->ram;
	u64 length = align_up(ram->size / 64, AHEAD_PAGE) + step(ram);

	if (length < ram->size / 2)
		ask(vm->ahead, (struct request){ram->host + ram->size - length, length, TOUCH_DOWN});
}

struct ahead *ahead_create(struct vm *vm)
{
	struct err err = ERR_INIT;
	struct ahead *ahead;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return NULL;
	ahead = calloc(1, sizeof(*ahead));
	if (!ahead)
		return NULL;
	pthread_mutex_init(&ahead->mutex, NULL);
	pthread_cond_init(&ahead->wanted, NULL);
	if (thread_start(&ahead->thread, work, ahead, &err) < 0) {
		free(ahead);
		return NULL;
	}
	vm->ahead = ahead;
	touch_end(vm);
	return ahead;
}

void ahead_destroy(struct ahead *ahead)
{
	if (!ahead)
		return;
	pthread_mutex_lock(&ahead->mutex);
	__atomic_store_n(&ahead->ends, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&ahead->wanted);
	pthread_mutex_unlock(&ahead->mutex);
	pthread_join(ahead->thread, NULL);
	pthread_cond_destroy(&ahead->wanted);
	pthread_mutex_destroy(&ahead->mutex);
	free(ahead);
}

void ahead_boot(struct vm *vm, u64 kernel_end)
{
	struct ram *ram = &vm->ram;

	/* where there is memory above 4 GiB, it is used first */
	ram->ready = ram->host + (ram->low < ram->size ? ram->low : align_up(kernel_end, AHEAD_PAGE));
	ahead_go_on(vm);
}

void ahead_go_on(struct vm *vm)
{
	struct ram *ram = &vm->ram;
	u64 left = (u64)(ram->host + ram->size - ram->ready), length = step(ram) < left ? step(ram) : left;

	ram->ahead_due = false;
	if (!vm->ahead || !length)
		return;
	ahead_touch(vm->ahead, ram->ready, length);
	ram->watch = ram->ready;
	ram->watch_length = length;
	ram->ready += length;
}
