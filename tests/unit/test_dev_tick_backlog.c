/* Ticks that are made up for, with guests that are played. Times in microseconds. */
#include "dev/tick_backlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define PERIOD 4000ULL

static struct tick_backlog backlog;
static u64 now;

static bool arm(u64 interval)
{
	return tick_backlog_armed(&backlog, now * 1000, (now + interval) * 1000);
}

/* A guest that counts ticks, each of which it takes `late`. Returns how many it got in `periods`. */
static unsigned count_ticks(unsigned periods, u64 late, u64 handling)
{
	const u64 end = now + periods * PERIOD;
	unsigned ticks = 0;

	while (now < end) {
		bool extra = arm(PERIOD);

		now += extra ? 0 : PERIOD + late;
		now += handling;
		ticks++;
	}
	return ticks;
}

static void begin(void)
{
	now = 1000000;
	tick_backlog_begin(&backlog, now * 1000);
}

static void punctual(void **state)
{
	(void)state;
	begin();
	assert_in_range(count_ticks(1000, 0, 0), 1000, 1001);
}

/* The timer is started late, by a time that is worth 40 ticks. */
static void late_start(void **state)
{
	(void)state;
	begin();
	now += 40 * PERIOD + 100;
	assert_in_range(count_ticks(100, 0, 10), 138, 141);
}

/* Every tick is a little late: one in ten is missing without us. */
static void late_ticks(void **state)
{
	(void)state;
	begin();
	assert_in_range(count_ticks(1000, 400, 1), 997, 1002);
}

/* It stands still once, for 30 ticks. */
static void stall(void **state)
{
	unsigned ticks;

	(void)state;
	begin();
	ticks = count_ticks(50, 0, 1);
	arm(PERIOD);
	now += 31 * PERIOD;
	ticks += 1 + count_ticks(50, 0, 1);
	assert_in_range(ticks, 129, 133);
}

/* The host takes the processor away between reading the TSC and arming, from the very first time on. */
static void cut_short(void **state)
{
	static const u64 away[] = {1500, 0, 100, 3900, 0, 2, 4000, 0, 9000, 64, 63, 400};
	unsigned ticks = 0;
	u64 end;

	(void)state;
	begin();
	end = now + 1000 * PERIOD;
	for (unsigned i = 0; now < end; i++) {
		u64 read = now, taken = away[i % (sizeof(away) / sizeof(away[0]))];
		bool extra;

		now += taken;
		extra = tick_backlog_armed(&backlog, now * 1000, (read + PERIOD) * 1000);
		if (!extra && now < read + PERIOD)
			now = read + PERIOD;
		now += 7;
		ticks++;
	}
	assert_in_range(ticks, 995, 1002);
}

/* Who arms for points of time looks at a clock, and has missed nothing. */
static void clock_reader(void **state)
{
	(void)state;
	begin();
	count_ticks(10, 0, 1);
	assert_false(arm(PERIOD - 300)); /* before the interrupt that was armed for */
	now += 100 * PERIOD;
	assert_false(arm(PERIOD));
	assert_false(arm(PERIOD));
	begin();
	now += 100 * PERIOD;
	assert_false(arm(1000000)); /* no tick at all */
	assert_false(arm(PERIOD));
	begin();
	now += 100 * PERIOD;
	assert_false(arm(10));
	assert_false(arm(PERIOD));
	begin();
	count_ticks(10, 0, 1);
	now += 100 * PERIOD;
	assert_false(arm(PERIOD + 70)); /* longer than any tick */
	assert_false(arm(PERIOD));
}

/* The same one period after each other, which it takes late. */
static void punctual_clock_reader(void **state)
{
	u64 point;

	(void)state;
	begin();
	count_ticks(10, 0, 1);
	point = now + 3700;
	for (unsigned i = 0; i < 100; i++) {
		assert_false(tick_backlog_armed(&backlog, now * 1000, point * 1000));
		now = point + 300;
		point += PERIOD;
	}
	now += 100 * PERIOD;
	assert_false(arm(PERIOD));
}

/* After a long stop it cannot be told from one that was cut short; but one interrupt too many is all that it gets. */
static void clock_reader_after_stop(void **state)
{
	unsigned extra = 0;

	(void)state;
	begin();
	count_ticks(10, 0, 1);
	now += 100 * PERIOD;
	for (unsigned i = 0; i < 20; i++) {
		extra += tick_backlog_armed(&backlog, now * 1000, (now / PERIOD + 1) * PERIOD * 1000);
		now += 5;
	}
	assert_in_range(extra, 0, 1);
}

/* Before it asked for the wall clock it kept no time. */
static void not_begun(void **state)
{
	(void)state;
	backlog = (struct tick_backlog){0};
	now += 1000 * PERIOD;
	assert_false(arm(PERIOD));
	now += 1000 * PERIOD;
	assert_false(arm(PERIOD));
}

/* Stopped for an hour: that is more than ticks can make up for. */
static void bounded(void **state)
{
	unsigned ticks = 0;

	(void)state;
	begin();
	now += 3600000000ULL;
	while (arm(PERIOD)) {
		now += 2;
		ticks++;
	}
	assert_int_equal(ticks, 1250);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(punctual),
		cmocka_unit_test(late_start),
		cmocka_unit_test(late_ticks),
		cmocka_unit_test(stall),
		cmocka_unit_test(not_begun),
		cmocka_unit_test(clock_reader),
		cmocka_unit_test(bounded),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(punctual_clock_reader),
		cmocka_unit_test(clock_reader_after_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
