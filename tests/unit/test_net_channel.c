#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net/channel.h"
#include "util/err.h"

struct ends {
	int memory, wake[2];
	struct channel vmm, process;
	u8 *raw; /* the memory, as a hostile end would map it */
};

static int set_up(void **state)
{
	struct ends *ends = calloc(1, sizeof(*ends));
	struct err err = ERR_INIT;

	ends->memory = channel_memory_create(&err);
	ends->wake[0] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ends->wake[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ends->memory < 0 ||
	    channel_open(&ends->vmm, CHANNEL_VMM, ends->memory, ends->wake[1], ends->wake[0], &err) < 0 ||
	    channel_open(&ends->process, CHANNEL_PROCESS, ends->memory, ends->wake[0], ends->wake[1], &err) < 0)
		fail_msg("%s", err.text);
	ends->raw = mmap(NULL, 4096 + 2UL * CHANNEL_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ends->memory, 0);
	assert_true(ends->raw != MAP_FAILED);
	*state = ends;
	return 0;
}

static int tear_down(void **state)
{
	struct ends *ends = *state;

	munmap(ends->raw, 4096 + 2UL * CHANNEL_RING_SIZE);
	channel_close(&ends->vmm);
	channel_close(&ends->process);
	close(ends->memory);
	close(ends->wake[0]);
	close(ends->wake[1]);
	free(ends);
	return 0;
}

static bool put(struct channel *channel, u32 size, u8 value)
{
	u8 *to = channel_reserve(channel, size);

	if (!to)
		return false;
	memset(to, value, size);
	channel_commit(channel, size);
	return true;
}

static void take(struct channel *channel, u32 size, u8 value)
{
	bool broken;
	u32 found;
	const u8 *packet = channel_peek(channel, &found, &broken);

	assert_non_null(packet);
	assert_false(broken);
	assert_int_equal(found, size);
	for (u32 i = 0; i < size; i++)
		assert_int_equal(packet[i], value);
	channel_consume(channel, size);
}

static bool is_empty(struct channel *channel)
{
	bool broken;
	u32 size;

	return !channel_peek(channel, &size, &broken) && !broken;
}

static bool woken(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1;
}

static void test_both_directions(void **state)
{
	struct ends *ends = *state;

	assert_true(put(&ends->vmm, 100, 1));
	assert_true(put(&ends->process, 0, 0));
	assert_true(put(&ends->process, CHANNEL_PACKET_MAX, 3));
	take(&ends->process, 100, 1);
	assert_true(is_empty(&ends->process));
	take(&ends->vmm, 0, 0);
	take(&ends->vmm, CHANNEL_PACKET_MAX, 3);
	assert_true(is_empty(&ends->vmm));
}

/* Packets of many sizes, so that each wraps somewhere; the ring is filled to its end again and again. */
static void test_wraps(void **state)
{
	struct ends *ends = *state;
	u32 first = 0, next = 0;

	while (first < 2000) {
		while (put(&ends->vmm, next * 7919 % CHANNEL_PACKET_MAX, (u8)next))
			next++;
		assert_true(next - first >= CHANNEL_RING_SIZE / (CHANNEL_PACKET_MAX + 64));
		for (u32 count = (next - first) / 2 + 1; count; count--, first++)
			take(&ends->process, first * 7919 % CHANNEL_PACKET_MAX, (u8)first);
	}
}

static void test_wakes_who_waits(void **state)
{
	struct ends *ends = *state;

	put(&ends->vmm, 10, 1);
	channel_flush(&ends->vmm);
	assert_false(woken(ends->wake[1])); /* nobody waits */
	assert_false(channel_wait(&ends->process, true, false));
	take(&ends->process, 10, 1);
	assert_true(channel_wait(&ends->process, true, false));
	put(&ends->vmm, 10, 2);
	assert_false(woken(ends->wake[1]));
	channel_flush(&ends->vmm);
	assert_true(woken(ends->wake[1]));
	channel_woken(&ends->process);
	assert_false(woken(ends->wake[1]));
	put(&ends->vmm, 10, 3);
	channel_flush(&ends->vmm); /* once only */
	assert_false(woken(ends->wake[1]));
}

static void test_wakes_who_wants_room(void **state)
{
	struct ends *ends = *state;
	u32 count = 0;

	while (put(&ends->process, 60000, (u8)count))
		count++;
	assert_true(channel_wait(&ends->process, false, true));
	take(&ends->vmm, 60000, 0);
	channel_flush(&ends->vmm);
	assert_false(woken(ends->wake[1])); /* for one packet it is not worth it */
	for (u32 i = 1; i < count; i++)
		take(&ends->vmm, 60000, (u8)i);
	channel_flush(&ends->vmm);
	assert_true(woken(ends->wake[1]));
	assert_false(channel_wait(&ends->process, false, true));
}

static void test_offloads(void **state)
{
	struct ends *ends = *state;

	assert_int_equal(channel_offloads(&ends->process), 0);
	channel_set_offloads(&ends->vmm, 5);
	assert_int_equal(channel_offloads(&ends->process), 5);
}

static void assert_broken(struct ends *ends)
{
	bool broken;
	u32 size;

	assert_null(channel_peek(&ends->vmm, &size, &broken));
	assert_true(broken);
}

/* The process's ring: positions at 128 (head) and 192 (tail), data in the second part. */
static void test_hostile_process(void **state)
{
	struct ends *ends = *state;
	u32 *head = (u32 *)(ends->raw + 128), *size = (u32 *)(ends->raw + 4096 + CHANNEL_RING_SIZE);

	put(&ends->process, 100, 1);
	assert_int_equal(*head, 128);
	assert_int_equal(*size, 100);
	*head = 64; /* less than the packet */
	assert_broken(ends);
	*head = CHANNEL_RING_SIZE + 64;
	assert_broken(ends);
	*head = 0U - 64;
	assert_broken(ends);
	*head = CHANNEL_RING_SIZE;
	*size = CHANNEL_PACKET_MAX + 1;
	assert_broken(ends);
	*size = ~0U; /* would wrap */
	assert_broken(ends);
	*size = 100;
	*head = 128;
	take(&ends->vmm, 100, 1);
}

/* A tail that lies leaves no room rather than too much. */
static void test_hostile_consumer(void **state)
{
	struct ends *ends = *state;
	u32 *tail = (u32 *)(ends->raw + 64);

	*tail = 64;
	assert_null(channel_reserve(&ends->vmm, 10));
	assert_int_equal(channel_used(&ends->vmm), CHANNEL_RING_SIZE);
	*tail = 0;
	assert_true(put(&ends->vmm, 10, 1));
}

static void test_memory_is_sealed(void **state)
{
	struct ends *ends = *state;

	assert_int_equal(ftruncate(ends->memory, 4096), -1);
	assert_int_equal(ftruncate(ends->memory, 64 << 20), -1);
}

#define STREAM 20000

static void *produce(void *opaque)
{
	struct channel *channel = opaque;

	for (u32 i = 0; i < STREAM;) {
		struct pollfd me = {.fd = channel->wake_me, .events = POLLIN};

		if (put(channel, i % 3000, (u8)i)) {
			i++;
			channel_flush(channel);
		} else if (channel_wait(channel, false, true)) {
			poll(&me, 1, -1);
			channel_woken(channel);
		}
	}
	return NULL;
}

/* Two threads, each asleep when it has nothing to do: a lost wake-up would hang them. */
static void test_no_wakeup_is_lost(void **state)
{
	struct ends *ends = *state;
	struct channel *channel = &ends->process;
	pthread_t thread;

	pthread_create(&thread, NULL, produce, &ends->vmm);
	for (u32 i = 0; i < STREAM;) {
		struct pollfd me = {.fd = channel->wake_me, .events = POLLIN};

		if (!is_empty(channel)) {
			take(channel, i % 3000, (u8)i);
			i++;
			channel_flush(channel);
		} else if (channel_wait(channel, true, false)) {
			assert_int_equal(poll(&me, 1, 60000), 1);
			channel_woken(channel);
		}
	}
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_directions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wraps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wakes_who_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wakes_who_wants_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_offloads, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hostile_process, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hostile_consumer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_is_sealed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_wakeup_is_lost, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
