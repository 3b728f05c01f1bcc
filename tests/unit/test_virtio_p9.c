/* Shared directories, in front of a server that answers when it is told to. */
#include "test_virtio_machine.h"

#include "p9/p9.h"
#include "poller.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

#define TAG "work"

/* --- the server ----------------------------------------------------------------------------------------------------
 */

struct p9_server {
	unsigned requests, waited, resets;
	bool slow, no_reply, destroyed, readonly;
	u32 descriptors;
	char seen[64]; /* first bytes of the requests */
	sem_t entered, leave;
};

static struct p9_server server;

u32 p9_descriptors(void)
{
	return 3000;
}

struct p9_server *p9_create(const struct p9_config *config, struct err *err)
{
	if (!strcmp(config->path, "none")) {
		err_set(err, "there is no directory '%s'", config->path);
		return NULL;
	}
	memset(&server, 0, sizeof(server));
	server.readonly = config->readonly;
	server.descriptors = config->descriptors;
	sem_init(&server.entered, 0, 0);
	sem_init(&server.leave, 0, 0);
	return &server;
}

void p9_destroy(struct p9_server *destroyed)
{
	destroyed->destroyed = true;
}

void p9_reset(struct p9_server *reset)
{
	reset->resets++;
}

/* Replies with the request's bytes, doubled. */
s64 p9_handle(struct p9_server *asked, const struct p9_request *request, bool wait)
{
	u8 byte;
	s64 size = 0;

	if (asked->slow && !wait)
		return P9_WOULD_WAIT;
	if (asked->no_reply)
		return P9_NO_REPLY;
	byte = *(const u8 *)request->out[0].iov_base;
	asked->seen[asked->requests++] = (char)byte;
	if (asked->slow) {
		asked->waited++;
		sem_post(&asked->entered);
		while (sem_wait(&asked->leave) < 0)
			continue;
	}
	for (unsigned i = 0; i < request->in_count; i++) {
		memset(request->in[i].iov_base, byte + 1, request->in[i].iov_len);
		size += (s64)request->in[i].iov_len;
	}
	return size;
}

/* --- the machine ---------------------------------------------------------------------------------------------------
 */

static int setup_with(enum clock_source clock, const char *path)
{
	const struct vm_share share = {.config = {.path = path, .readonly = true}, .tag = TAG};
	struct err err = ERR_INIT;

	machine_build();
	vm->config.clock = clock;
	vm->config.share_count = 2;
	vm->wake_fd = -1;
	vm->poller = poller_create(vm, &err);
	assert_non_null(vm->poller);
	if (virtio_p9_create(vm, &share, &err) < 0) {
		assert_string_equal(err.text, "there is no directory 'none'");
		return -1;
	}
	device = vm->virtio;
	become_master();
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(CLOCK_SOURCE_HOST, "directory");
}

static int teardown(void **state)
{
	virtio_destroy_all(vm);
	poller_destroy(vm->poller);
	return virtio_teardown(state);
}

/* Request n: one byte to be read, and two pieces to be written. */
static void request(u16 n, char byte)
{
	*(char *)guest(DATA + 0x1000 * (u64)n) = byte;
	descriptor(3 * n, DATA + 0x1000 * (u64)n, 1, DESC_NEXT, (u16)(3 * n + 1));
	descriptor(3 * n + 1, DATA + 0x1000 * (u64)n + 100, 50, DESC_NEXT | DESC_WRITE, (u16)(3 * n + 2));
	descriptor(3 * n + 2, DATA + 0x1000 * (u64)n + 200, 7, DESC_WRITE, 0);
	offer((u16)(3 * n));
}

static void kick(void)
{
	set(NOTIFY, 2, 0);
}

static void expect_reply(unsigned entry, u16 n, char byte)
{
	const u8 *data = guest(DATA + 0x1000 * (u64)n);

	assert_int_equal(used_entry(entry)[0], 3 * n);
	assert_int_equal(used_entry(entry)[1], 57);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(data[100 + i], byte + 1);
	assert_int_equal(data[206], byte + 1);
	assert_int_equal(data[207], 0);
}

/* Lets the poller see what has happened, up to a second. */
static void wait_for_used(u16 index)
{
	for (unsigned i = 0; i < 1000 && used_index() != index; i++) {
		poller_park(vm->poller);
		poller_run(vm->poller);
		usleep(1000);
	}
	assert_int_equal(used_index(), index);
}

static void what_the_driver_sees(void **state)
{
	(void)state;
	assert_int_equal(device->transport->pci.config[2] | device->transport->pci.config[3] << 8, 0x1049);
	assert_int_equal(get(CONFIG, 2), strlen(TAG));
	for (unsigned i = 0; i < strlen(TAG); i++)
		assert_int_equal(get(CONFIG + 2 + i, 1), TAG[i]);
	assert_int_equal(get(CONFIG + 2 + strlen(TAG), 1), 0);
	set(COMMON, 4, 0);
	assert_int_equal(get(COMMON + 4, 4) & 1, 1);
	assert_true(server.readonly);
	assert_int_equal(server.descriptors, 1500); /* of two shares */
}

static void requests(void **state)
{
	(void)state;
	queue_size = 32;
	start_driver(BIT(0));
	request(0, 'a');
	kick();
	assert_int_equal(used_index(), 1);
	expect_reply(0, 0, 'a');
	request(1, 'b');
	request(2, 'c');
	kick();
	assert_int_equal(used_index(), 3);
	expect_reply(1, 1, 'b');
	expect_reply(2, 2, 'c');
	assert_int_equal(server.waited, 0);
	server.no_reply = true;
	request(3, 'd');
	kick();
	assert_true(is_broken());
	assert_int_equal(used_index(), 3);
	set_status(0);
	assert_int_equal(server.resets, 1);
}

/* The guest runs on, the requests behind wait, and come in their order. */
static void slow_requests(void **state)
{
	(void)state;
	queue_size = 32;
	start_driver(BIT(0));
	server.slow = true;
	request(0, 'a');
	kick();
	sem_wait(&server.entered);
	request(1, 'b');
	kick();
	request(2, 'c');
	kick();
	usleep(1000);
	poller_park(vm->poller);
	poller_run(vm->poller);
	assert_int_equal(used_index(), 0);
	assert_int_equal(server.requests, 1);
	sem_post(&server.leave);
	wait_for_used(1);
	expect_reply(0, 0, 'a');
	sem_wait(&server.entered);
	server.slow = false; /* "b" is at it */
	sem_post(&server.leave);
	wait_for_used(3);
	expect_reply(1, 1, 'b');
	expect_reply(2, 2, 'c');
	assert_string_equal(server.seen, "abc");
	assert_int_equal(server.waited, 2);
	request(3, 'd');
	kick();
	expect_reply(3, 3, 'd');
}

static void *let_go(void *opaque)
{
	usleep(20000);
	sem_post(&server.leave);
	return opaque;
}

/* The reset waits: afterwards nothing is written to the guest, and the session is over. */
static void reset_while_slow(void **state)
{
	pthread_t thread;

	(void)state;
	queue_size = 32;
	start_driver(BIT(0));
	server.slow = true;
	request(0, 'a');
	request(1, 'b');
	kick();
	sem_wait(&server.entered);
	assert_int_equal(pthread_create(&thread, NULL, let_go, NULL), 0);
	set_status(0);
	pthread_join(thread, NULL);
	assert_int_equal(server.resets, 1);
	assert_int_equal(used_index(), 0);
	poller_park(vm->poller);
	poller_run(vm->poller);
	assert_int_equal(used_index(), 0);
	assert_int_equal(server.requests, 1);
	/* and it works again */
	server.slow = false;
	memset(guest(QUEUE_AREA(0)), 0, 0x10000);
	start_driver(BIT(0));
	request(2, 'c');
	kick();
	assert_int_equal(used_index(), 1);
	expect_reply(0, 2, 'c');
}

/* The machine goes while a request is under way. */
static void end_while_slow(void **state)
{
	pthread_t thread;

	(void)state;
	queue_size = 32;
	start_driver(BIT(0));
	server.slow = true;
	request(0, 'a');
	kick();
	sem_wait(&server.entered);
	assert_int_equal(pthread_create(&thread, NULL, let_go, NULL), 0);
	virtio_destroy_all(vm);
	pthread_join(thread, NULL);
	assert_true(server.destroyed);
}

/* Repeatable runs have no thread whose replies come when they happen to. */
static void instruction_clock(void **state)
{
	(void)state;
	setup_with(CLOCK_SOURCE_INSTRUCTIONS, "directory");
	queue_size = 32;
	start_driver(BIT(0));
	server.slow = true;
	sem_post(&server.leave);
	request(0, 'a');
	kick();
	assert_int_equal(used_index(), 1);
	assert_int_equal(server.waited, 1);
	teardown(state);
}

static void no_directory(void **state)
{
	assert_int_equal(setup_with(CLOCK_SOURCE_HOST, "none"), -1);
	assert_null(vm->virtio);
	teardown(state);
}

#define SHARE_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SHARE_TEST(what_the_driver_sees), SHARE_TEST(requests),       SHARE_TEST(slow_requests),
		SHARE_TEST(reset_while_slow),     SHARE_TEST(end_while_slow), cmocka_unit_test(instruction_clock),
		cmocka_unit_test(no_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
