#include "dev/bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct access {
	u64 offset, value;
	unsigned size;
};

static struct access accesses[16];
static unsigned logged;

static u64 device_read(void *device, u64 offset, unsigned size)
{
	accesses[logged++] = (struct access){offset, 0, size};
	return *(u64 *)device + offset;
}

static void device_write(void *device, u64 offset, unsigned size, u64 value)
{
	(void)device;
	accesses[logged++] = (struct access){offset, value, size};
}

static const struct bus_ops any_size = {.read = device_read, .write = device_write};
static const struct bus_ops bytes_only = {.read = device_read, .write = device_write, .widest = 1};
static const struct bus_ops nothing = {0};

static void finds_the_right_range(void **state)
{
	struct bus bus = {0};
	u64 a = 0x100, b = 0x200, c = 0x300;

	(void)state;
	bus_add(&bus, 0x60, 4, &any_size, &b, "b");
	bus_add(&bus, 0x40, 4, &any_size, &a, "a");
	bus_add(&bus, 0xfffffffffffffff0, 8, &any_size, &c, "c");
	logged = 0;
	assert_int_equal(bus_read(&bus, 0x42, 2), 0x102);
	assert_int_equal(bus_read(&bus, 0x60, 4), 0x200);
	assert_int_equal(bus_read(&bus, 0xfffffffffffffff7, 1), 0x07); /* cut to its size */
	assert_int_equal(logged, 3);
	assert_int_equal(bus_read(&bus, 0x3f, 1), 0xff);
	assert_int_equal(bus_read(&bus, 0x44, 2), 0xffff);
	assert_int_equal(bus_read(&bus, 0x64, 4), 0xffffffff);
	assert_true(bus_read(&bus, 0xfffffffffffffff8, 8) == UINT64_MAX);
	bus_write(&bus, 0x64, 4, 1);
	assert_int_equal(logged, 3);
}

static void missing_operations(void **state)
{
	struct bus bus = {0};

	(void)state;
	bus_add(&bus, 0, 16, &nothing, NULL, "nothing");
	assert_int_equal(bus_read(&bus, 0, 2), 0xffff);
	bus_write(&bus, 0, 8, 1);
}

static void splits_wide_accesses(void **state)
{
	struct bus bus = {0};
	u64 zero = 0x10;

	(void)state;
	bus_add(&bus, 0x70, 2, &bytes_only, &zero, "bytes");
	bus_add(&bus, 0x72, 2, &any_size, &zero, "words");
	logged = 0;
	assert_int_equal(bus_read(&bus, 0x70, 2), 0x1110);
	bus_write(&bus, 0x70, 2, 0xabcd);
	assert_int_equal(logged, 4);
	assert_int_equal(accesses[2].value, 0xcd);
	assert_int_equal(accesses[3].offset, 1);
	assert_int_equal(accesses[3].value, 0xab);

	/* over the end into the neighbour, and on into nothing */
	logged = 0;
	assert_int_equal(bus_read(&bus, 0x71, 4), 0xff111011);
	assert_int_equal(logged, 3);
	logged = 0;
	bus_write(&bus, 0x73, 2, 0x1234);
	assert_int_equal(logged, 1);
	assert_int_equal(accesses[0].value, 0x34);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_right_range),
		cmocka_unit_test(missing_operations),
		cmocka_unit_test(splits_wide_accesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
