/* Recordings: what is translated again is one record, whose counts are sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>
#include <tcache.h>

#include "cpu/cpu.h"
#include "live/live.h"
#include "live/record.h"
#include "vm.h"

static char path[] = "/tmp/test_live_recordXXXXXX";
static u64 counters[16];

static struct unit unit_at(u64 pc, u16 bytes, u32 first_counter, u32 counter_count)
{
	return (struct unit){
		.pc = pc, .guest_bytes = bytes, .counters = first_counter, .counters_count = counter_count};
}

static void add(struct recorder *recorder, const struct unit *unit, const u8 *bytes)
{
	recorder_add(recorder, unit, counters + unit->counters, bytes, NULL);
}

/* Writes what was recorded and opens it. */
static struct tcache *written(struct recorder *recorder, struct live *live)
{
	struct err err = ERR_INIT;
	struct tcache *file;
	char error[512] = "";

	int fd = open(path, O_RDWR | O_TRUNC);

	assert_int_equal(recorder_write(recorder, live, fd, path, &err), 0);
	close(fd);
	assert_int_equal(tcache_open(path, 0, &file, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(tcache_verify_all(file), TCACHE_OK);
	return file;
}

static struct vm *make_vm(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	assert_non_null(vm);
	vm->config.cpu = cpu_model_at(0);
	return vm;
}

static void test_sums(void **state)
{
	struct vm *vm = make_vm();
	struct live live = {.vm = vm};
	struct err err = ERR_INIT;
	struct recorder *recorder = recorder_create(&err);
	struct unit first = unit_at(0x1000, 3, 1, 2), other = unit_at(0x1000, 3, 3, 2), none = unit_at(0x2000, 4, 0, 0);

	(void)state;
	assert_non_null(recorder);
	add(recorder, &first, (const u8 *)"abc");
	add(recorder, &other, (const u8 *)"abd");
	add(recorder, &none, (const u8 *)"wxyz");
	/* dropped and made again, with other counters */
	first.counters = 5;
	add(recorder, &first, (const u8 *)"abc");
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++)
		counters[i] = 1 + i * 10;
	recorder_harvest(recorder, false);
	/* once more after a flush */
	first.counters = 1;
	add(recorder, &first, (const u8 *)"abc");
	recorder_harvest(recorder, false);
	recorder_harvest(recorder, false);

	struct tcache *file = written(recorder, &live);
	const struct tcache_executed *records = tcache_executed(file, 0, 3);

	assert_int_equal(tcache_executed_count(file), 3);
	assert_non_null(records);
	assert_memory_equal(tcache_guest(file, records[0].bytes_first, 3), "abc", 3);
	assert_memory_equal(tcache_guest(file, records[1].bytes_first, 3), "abd", 3);
	assert_memory_equal(tcache_guest(file, records[2].bytes_first, 4), "wxyz", 4);
	assert_int_equal(records[0].count_count, 2);
	assert_int_equal(*tcache_counts(file, records[0].count_first, 1), 11 + 51 + 11);
	assert_int_equal(*tcache_counts(file, records[0].count_first + 1, 1), 21 + 61 + 21);
	assert_int_equal(*tcache_counts(file, records[1].count_first, 1), 31);
	assert_int_equal(*tcache_counts(file, records[1].count_first + 1, 1), 41);
	assert_int_equal(records[2].count_count, 0);
	tcache_close(file);
	recorder_destroy(recorder);
	free(vm);
}

/* Counters that last are taken when they are asked for, whatever else is forgotten meanwhile. */
static void test_lasting(void **state)
{
	struct vm *vm = make_vm();
	struct live live = {.vm = vm};
	struct err err = ERR_INIT;
	struct recorder *recorder = recorder_create(&err);
	static u8 page[PAGE_SIZE];
	struct unit lasting = unit_at(0x1000, 3, 0, 1), other = unit_at(0x2000, 3, 1, 1);

	(void)state;
	assert_non_null(recorder);
	recorder_add(recorder, &lasting, counters, (const u8 *)"abc", page);
	/* the same code in another page is another record */
	page[0] = 1;
	recorder_add(recorder, &lasting, counters, (const u8 *)"abc", page);
	add(recorder, &other, (const u8 *)"abc");
	counters[0] = 1;
	counters[1] = 2;
	recorder_harvest(recorder, false);
	counters[0] = 5;
	counters[1] = 6;
	recorder_harvest(recorder, false);
	recorder_harvest(recorder, true);

	struct tcache *file = written(recorder, &live);

	assert_int_equal(tcache_executed_count(file), 3);
	assert_int_equal(tcache_recorded_pages_count(file), 2);
	assert_int_equal(tcache_executed(file, 0, 1)->page, 1);
	assert_int_equal(*tcache_counts(file, tcache_executed(file, 0, 1)->count_first, 1), 5);
	assert_int_equal(tcache_executed(file, 1, 1)->page, 2);
	assert_int_equal(*tcache_counts(file, tcache_executed(file, 1, 1)->count_first, 1), 5);
	assert_int_equal(tcache_executed(file, 2, 1)->page, 0);
	assert_int_equal(*tcache_counts(file, tcache_executed(file, 2, 1)->count_first, 1), 2);
	tcache_close(file);
	recorder_destroy(recorder);
	free(vm);
}

/* More than the first table holds; each twice. */
static void test_many(void **state)
{
	enum { MANY = 20000 };
	struct vm *vm = make_vm();
	struct live live = {.vm = vm};
	struct err err = ERR_INIT;
	struct recorder *recorder = recorder_create(&err);

	(void)state;
	assert_non_null(recorder);
	for (unsigned n = 0; n < 2 * MANY; n++) {
		struct unit unit = unit_at(0x1000 + n % MANY / 4, 4, 0, 0);
		const u32 bytes = n % 4;

		unit.mode = n % MANY % 8;
		add(recorder, &unit, (const u8 *)&bytes);
	}
	struct tcache *file = written(recorder, &live);

	assert_int_equal(tcache_executed_count(file), MANY);
	for (unsigned n = 0; n < MANY; n++)
		assert_int_equal(tcache_executed(file, n, 1)->pc, 0x1000 + n / 4);
	tcache_close(file);
	recorder_destroy(recorder);
	free(vm);
}

static int make_path(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_lasting),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
