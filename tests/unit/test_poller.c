/* Waiting for descriptors: handlers are called for what is ready, and no wake-up is lost. */
#include "poller.h"

#include "cpu/vcpu.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SOURCES 100 /* more than one look takes */
#define ROUNDS  100000

/* As much of a VM as waking needs. */
struct machine {
	struct vm vm;
	struct vcpu vcpu;
	struct poller *poller;
};

static struct machine *machine_create(void)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err = ERR_INIT;

	m->vm.vcpu = &m->vcpu;
	m->vcpu.vm = &m->vm;
	m->vm.wake_fd = eventfd(0, EFD_NONBLOCK);
	m->vm.clock.vcpu = &m->vcpu;
	m->poller = m->vm.poller = poller_create(&m->vm, &err);
	assert_non_null(m->poller);
	return m;
}

static void machine_destroy(struct machine *m)
{
	poller_destroy(m->poller);
	close(m->vm.wake_fd);
	free(m);
}

/* An eventfd and how often it was ready. */
struct counter {
	struct poller_source source;
	u64 calls, sum;
	struct poller *poller;
	struct counter *remove; /* what its handler removes */
};

static void count(struct poller_source *source, u32 events)
{
	struct counter *counter = source->opaque;
	u64 value;

	assert_true(events & EPOLLIN);
	counter->calls++;
	if (read(source->fd, &value, sizeof(value)) == sizeof(value))
		__atomic_fetch_add(&counter->sum, value, __ATOMIC_SEQ_CST);
}

static void count_hang_up(struct poller_source *source, u32 events)
{
	struct counter *counter = source->opaque;

	assert_true(events & EPOLLHUP);
	counter->calls++;
}

static void count_and_remove(struct poller_source *source, u32 events)
{
	struct counter *counter = source->opaque;

	count(source, events);
	poller_remove(counter->poller, &counter->remove->source);
}

static void counter_add(struct machine *m, struct counter *counter)
{
	struct err err = ERR_INIT;

	*counter = (struct counter){
		.source = {.fd = eventfd(0, EFD_NONBLOCK), .events = EPOLLIN, .ready = count, .opaque = counter}};
	assert_int_equal(poller_add(m->poller, &counter->source, &err), 0);
}

static void counter_raise(struct counter *counter)
{
	u64 one = 1;

	assert_int_equal(write(counter->source.fd, &one, sizeof(one)), sizeof(one));
}

static void counter_release(struct machine *m, struct counter *counter)
{
	poller_remove(m->poller, &counter->source);
	close(counter->source.fd);
}

/* Waits until the waiter thread has told the vCPU. */
static void await_event(struct machine *m)
{
	while (!__atomic_load_n(&m->vcpu.event, __ATOMIC_SEQ_CST))
		usleep(100);
	__atomic_store_n(&m->vcpu.event, 0, __ATOMIC_SEQ_CST);
}

static void test_many(void **state)
{
	static struct counter counters[SOURCES];
	struct machine *m = machine_create();

	(void)state;
	for (int i = 0; i < SOURCES; i++)
		counter_add(m, &counters[i]);
	for (int i = 0; i < SOURCES; i++)
		counter_raise(&counters[i]);
	await_event(m);
	poller_run(m->poller);
	for (int i = 0; i < SOURCES; i++) {
		assert_int_equal(counters[i].sum, 1);
		counter_release(m, &counters[i]);
	}
	machine_destroy(m);
}

static void test_modify(void **state)
{
	struct machine *m = machine_create();
	struct counter counter;

	(void)state;
	counter_add(m, &counter);
	poller_modify(m->poller, &counter.source, 0);
	counter_raise(&counter);
	usleep(20000);
	assert_int_equal(m->vcpu.event, 0);
	poller_modify(m->poller, &counter.source, EPOLLIN);
	await_event(m);
	poller_run(m->poller);
	assert_int_equal(counter.calls, 1);
	counter_release(m, &counter);
	machine_destroy(m);
}

/* Whoever waits for nothing is not told that the other end has gone, and nobody turns in circles over it. */
static void test_hung_up(void **state)
{
	struct machine *m = machine_create();
	struct counter counter = {.source = {.events = EPOLLIN, .ready = count_hang_up, .opaque = &counter}};
	struct err err = ERR_INIT;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	counter.source.fd = ends[0];
	assert_int_equal(poller_add(m->poller, &counter.source, &err), 0);
	poller_modify(m->poller, &counter.source, 0);
	close(ends[1]);
	for (int i = 0; i < 3; i++) { /* the one event that may still come is dropped */
		usleep(10000);
		__atomic_store_n(&m->vcpu.event, 0, __ATOMIC_SEQ_CST);
		poller_run(m->poller);
	}
	usleep(20000);
	assert_int_equal(m->vcpu.event, 0);
	assert_int_equal(counter.calls, 0);
	poller_modify(m->poller, &counter.source, EPOLLIN);
	await_event(m);
	poller_run(m->poller);
	assert_int_equal(counter.calls, 1);
	counter_release(m, &counter);
	machine_destroy(m);
}

static void test_regular_file(void **state)
{
	struct machine *m = machine_create();
	FILE *file = tmpfile();
	struct poller_source source = {.fd = fileno(file), .events = EPOLLIN};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(poller_add(m->poller, &source, &err), -1);
	assert_non_null(strstr(err.text, "cannot wait for a file"));
	fclose(file);
	machine_destroy(m);
}

/* Whichever of the two comes first removes the other one, which was ready as well. */
static void test_remove_in_handler(void **state)
{
	struct machine *m = machine_create();
	struct counter pair[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		counter_add(m, &pair[i]);
		pair[i].source.ready = count_and_remove;
		pair[i].poller = m->poller;
		pair[i].remove = &pair[1 - i];
	}
	poller_park(m->poller);
	counter_raise(&pair[0]);
	counter_raise(&pair[1]);
	poller_run(m->poller);
	assert_int_equal(pair[0].calls + pair[1].calls, 1);
	counter_release(m, &pair[0]);
	counter_release(m, &pair[1]);
	machine_destroy(m);
}

/* While the vCPU sleeps, its own descriptor tells it, and nobody else does. */
static void test_park(void **state)
{
	struct machine *m = machine_create();
	struct counter counter;

	(void)state;
	counter_add(m, &counter);
	poller_park(m->poller);
	counter_raise(&counter);
	vm_sleep(&m->vm);
	usleep(20000);
	assert_int_equal(m->vcpu.event, 0);
	poller_run(m->poller);
	assert_int_equal(counter.calls, 1);
	counter_raise(&counter);
	poller_unpark(m->poller);
	await_event(m);
	poller_run(m->poller);
	assert_int_equal(counter.calls, 2);
	counter_release(m, &counter);
	machine_destroy(m);
}

static void *raise_often(void *opaque)
{
	struct counter *counter = opaque;

	for (u64 i = 0; i < ROUNDS; i++) {
		counter_raise(counter);
		/* one at a time: a lost one is not made up for by the next */
		while (__atomic_load_n(&counter->sum, __ATOMIC_SEQ_CST) <= i)
			sched_yield();
	}
	return NULL;
}

/* A vCPU that halts and runs by turns sees every event of another thread, without a time limit that would hide a lost
 * one. */
static void test_no_lost_wakeup(void **state)
{
	struct machine *m = machine_create();
	struct counter counter;
	pthread_t thread;
	unsigned round = 0;

	(void)state;
	m->vm.clock.timers = NULL;
	counter_add(m, &counter);
	assert_int_equal(pthread_create(&thread, NULL, raise_often, &counter), 0);
	while (counter.sum < ROUNDS) {
		if (round++ % 2) {
			await_event(m);
		} else {
			vm_sleep(&m->vm);
			__atomic_store_n(&m->vcpu.event, 0, __ATOMIC_SEQ_CST);
		}
		poller_run(m->poller);
		poller_unpark(m->poller);
	}
	assert_int_equal(counter.sum, ROUNDS);
	pthread_join(thread, NULL);
	counter_release(m, &counter);
	machine_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_modify),
		cmocka_unit_test(test_hung_up),
		cmocka_unit_test(test_regular_file),
		cmocka_unit_test(test_remove_in_handler),
		cmocka_unit_test(test_park),
		cmocka_unit_test(test_no_lost_wakeup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
