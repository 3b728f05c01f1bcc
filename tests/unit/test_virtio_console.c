/* The virtio console, between a driver and a far end of which the test knows everything. */
#include "test_virtio_machine.h"

#include "dev/console.h"
#include "virtio/console.h"

#include <stdio.h>

enum { RECEIVE, TRANSMIT };

#define SIZE      BIT(0)
#define EMERGENCY BIT(2)

/* The configuration. */
#define COLUMNS        CONFIG
#define ROWS           (CONFIG + 2)
#define EMERGENCY_BYTE (CONFIG + 8)

static struct far {
	struct console console;
	char out[64], in[64];
	unsigned out_count, in_count, in_at, flushes, room;
	u16 columns, rows;
} far;

static void put_byte(struct console *console, u8 byte)
{
	(void)console;
	assert_in_range(far.out_count, 0, sizeof(far.out) - 1);
	far.out[far.out_count++] = (char)byte;
	far.room -= far.room > 0;
}

static int get_byte(struct console *console)
{
	(void)console;
	return far.in_at < far.in_count ? far.in[far.in_at++] : -1;
}

static void flush(struct console *console)
{
	(void)console;
	far.flushes++;
}

static bool is_full(struct console *console)
{
	(void)console;
	return !far.room;
}

static bool get_size(struct console *console, u16 *columns, u16 *rows)
{
	(void)console;
	*columns = far.columns;
	*rows = far.rows;
	return far.columns;
}

static int setup_with(u16 columns, u16 rows)
{
	machine_build();
	far = (struct far){.console = {put_byte, get_byte, flush, NULL, is_full, get_size},
			   .room = 1000,
			   .columns = columns,
			   .rows = rows};
	assert_int_equal(virtio_console_create(vm, &far.console, NULL), 0);
	device = vm->virtio;
	become_master();
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(80, 25);
}

static int setup_without_terminal(void **state)
{
	(void)state;
	return setup_with(0, 0);
}

static void input(const char *text)
{
	strcpy(far.in, text);
	far.in_count = (unsigned)strlen(text);
	far.in_at = 0;
}

static void expect_output(const char *text)
{
	assert_int_equal(far.out_count, strlen(text));
	assert_memory_equal(far.out, text, strlen(text));
	far.out_count = 0;
}

/* The helpers of the machine know queue 0 alone: the same for any. */
static u16 *ring_word(unsigned queue, unsigned area, unsigned n)
{
	return guest(QUEUE_AREA(queue) + area + 2 * (u64)n);
}

static void offer_buffer(unsigned queue, unsigned n, u64 address, u32 length, u16 flags)
{
	u16 *index = ring_word(queue, AVAILABLE, 1);

	descriptor_at(QUEUE_AREA(queue) + DESCRIPTORS, n, address, length, flags, 0);
	*ring_word(queue, AVAILABLE, 2 + *index % queue_size) = (u16)n;
	++*index;
}

static u16 used(unsigned queue)
{
	return *ring_word(queue, USED, 1);
}

/* Length of the n-th buffer that came back. */
static u32 used_length(unsigned queue, unsigned n)
{
	return ((u32 *)guest(QUEUE_AREA(queue) + USED + 4 + 8 * (u64)(n % queue_size)))[1];
}

static void send(unsigned n, const char *text)
{
	const u64 at = DATA + 0x1000 * (u64)n;

	strcpy(guest(at), text);
	offer_buffer(TRANSMIT, n, at, (u32)strlen(text), 0);
}

static void kick(unsigned queue)
{
	set(NOTIFY + 4 * queue, 2, queue);
}

static void output(void **state)
{
	(void)state;
	start_driver(0);
	send(0, "first ");
	send(1, "second");
	kick(TRANSMIT);
	expect_output("first second");
	assert_int_equal(used(TRANSMIT), 2);
	assert_int_equal(used_length(TRANSMIT, 0), 0);
	assert_true(far.flushes > 0);
}

/* What there is no room for stays where it is. */
static void output_waits_for_room(void **state)
{
	(void)state;
	start_driver(0);
	far.room = 3;
	send(0, "one");
	send(1, "two");
	kick(TRANSMIT);
	expect_output("one");
	assert_int_equal(used(TRANSMIT), 1);
	virtio_console_poll(vm->virtio_console);
	expect_output("");
	far.room = 100;
	virtio_console_poll(vm->virtio_console);
	expect_output("two");
	assert_int_equal(used(TRANSMIT), 2);
}

static void input_waits_for_buffers(void **state)
{
	(void)state;
	input("abcdefgh");
	virtio_console_poll(vm->virtio_console);
	start_driver(0);
	virtio_console_poll(vm->virtio_console);
	offer_buffer(RECEIVE, 0, DATA, 5, DESC_WRITE);
	kick(RECEIVE);
	assert_int_equal(used(RECEIVE), 1);
	assert_int_equal(used_length(RECEIVE, 0), 5);
	assert_memory_equal(guest(DATA), "abcde", 5);
	offer_buffer(RECEIVE, 1, DATA + 0x100, 100, DESC_WRITE);
	offer_buffer(RECEIVE, 2, DATA + 0x200, 100, DESC_WRITE);
	kick(RECEIVE);
	assert_int_equal(used(RECEIVE), 2);
	assert_int_equal(used_length(RECEIVE, 1), 3);
	assert_memory_equal(guest(DATA + 0x100), "fgh", 3);
	/* the third is still there */
	input("x");
	virtio_console_poll(vm->virtio_console);
	assert_int_equal(used(RECEIVE), 3);
	assert_int_equal(used_length(RECEIVE, 2), 1);
	assert_memory_equal(guest(DATA + 0x200), "x", 1);
}

/* A byte that was taken for a buffer that did not come is not lost by a reset. */
static void reset(void **state)
{
	(void)state;
	start_driver(0);
	input("ab");
	virtio_console_poll(vm->virtio_console);
	set_status(0);
	virtio_console_poll(vm->virtio_console);
	memset(guest(QUEUE_AREA(RECEIVE)), 0, 0x10000);
	start_driver(0);
	offer_buffer(RECEIVE, 0, DATA, 5, DESC_WRITE);
	kick(RECEIVE);
	assert_int_equal(used_length(RECEIVE, 0), 2);
	assert_memory_equal(guest(DATA), "ab", 2);
}

static void no_room_for_input(void **state)
{
	(void)state;
	start_driver(0);
	offer_buffer(RECEIVE, 0, DATA, 5, 0);
	input("a");
	kick(RECEIVE);
	assert_true(is_broken());
}

static u64 offered_features(void)
{
	set(COMMON, 4, 0);
	return get(COMMON + 4, 4);
}

/* The driver is told of the size when it begins to use the queues, and whenever it changes. */
static void size(void **state)
{
	u8 generation;

	(void)state;
	assert_int_equal(offered_features() & (SIZE | EMERGENCY), SIZE | EMERGENCY);
	assert_int_equal(get(COLUMNS, 2), 80);
	assert_int_equal(get(ROWS, 2), 25);
	start_driver(SIZE);
	generation = (u8)get(COMMON + 21, 1);
	kick(RECEIVE);
	assert_int_not_equal(get(COMMON + 21, 1), generation);
	assert_int_equal(get(ISR, 1), 2);
	kick(RECEIVE);
	assert_int_equal(get(ISR, 1), 0);
	kick(TRANSMIT);
	assert_int_equal(get(ISR, 1), 2);
	far.columns = 100;
	far.rows = 30;
	virtio_console_poll(vm->virtio_console);
	assert_int_equal(get(COLUMNS, 2), 100);
	assert_int_equal(get(ROWS, 2), 30);
	assert_int_equal(get(ISR, 1), 2);
	virtio_console_poll(vm->virtio_console);
	assert_int_equal(get(ISR, 1), 0);
}

static void without_size(void **state)
{
	(void)state;
	assert_int_equal(offered_features() & (SIZE | EMERGENCY), EMERGENCY);
	start_driver(0);
	kick(RECEIVE);
	kick(TRANSMIT);
	assert_int_equal(get(ISR, 1), 0);
}

/* Before there are queues, and in every width. */
static void emergency_write(void **state)
{
	(void)state;
	set(EMERGENCY_BYTE, 4, 'x');
	set(EMERGENCY_BYTE, 1, 'y');
	set(COLUMNS, 2, 'z');
	expect_output("xy");
	start_driver(EMERGENCY);
	set(EMERGENCY_BYTE, 2, 'w');
	expect_output("w");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(output, setup, virtio_teardown),
		cmocka_unit_test_setup_teardown(output_waits_for_room, setup, virtio_teardown),
		cmocka_unit_test_setup_teardown(input_waits_for_buffers, setup, virtio_teardown),
		cmocka_unit_test_setup_teardown(reset, setup, virtio_teardown),
		cmocka_unit_test_setup_teardown(no_room_for_input, setup, virtio_teardown),
		cmocka_unit_test_setup_teardown(size, setup, virtio_teardown),
		cmocka_unit_test_setup_teardown(without_size, setup_without_terminal, virtio_teardown),
		cmocka_unit_test_setup_teardown(emergency_write, setup, virtio_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
