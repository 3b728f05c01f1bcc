#include "test_dev_machine.h"

#include "dev/rtc.h"
#include "dev/scale.h"

#define MS 1000000ULL

enum { SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D };

static int setup(void **state)
{
	machine_setup(state);
	setup_pic();
	return 0;
}

static u8 get(u8 reg)
{
	out8(PORT_RTC, reg);
	return in8(PORT_RTC + 1);
}

static void set(u8 reg, u8 value)
{
	out8(PORT_RTC, reg);
	out8(PORT_RTC + 1, value);
}

/* Sets the clock the way Linux does: SET, divider reset, registers, and both back. */
static void set_time(u8 century, u8 year, u8 month, u8 day, u8 hour, u8 minute, u8 second)
{
	u8 a = get(A), b = get(B);

	set(B, b | 0x80);
	set(A, a | 0x70);
	set(RTC_CENTURY, century);
	set(YEAR, year);
	set(MONTH, month);
	set(DAY, day);
	set(HOURS, hour);
	set(MINUTES, minute);
	set(SECONDS, second);
	set(B, b);
	set(A, a);
}

static void assert_time(u8 century, u8 year, u8 month, u8 day, u8 hour, u8 minute, u8 second)
{
	assert_int_equal(get(RTC_CENTURY), century);
	assert_int_equal(get(YEAR), year);
	assert_int_equal(get(MONTH), month);
	assert_int_equal(get(DAY), day);
	assert_int_equal(get(HOURS), hour);
	assert_int_equal(get(MINUTES), minute);
	assert_int_equal(get(SECONDS), second);
}

static bool interrupted(void)
{
	if (!seen.irq_line)
		return false;
	assert_int_equal(irqchip_acknowledge(vm->irqchip), 0x28);
	out8(PORT_PIC_SLAVE, 0x20);
	out8(PORT_PIC_MASTER, 0x20);
	return true;
}

static void starts_with_the_boot_time(void **state)
{
	(void)state;
	assert_int_equal(vm->clock.boot_epoch, 1767225600);
	assert_time(0x20, 0x26, 0x01, 0x01, 0, 0, 0); /* BCD, 24 hours */
	assert_int_equal(get(WEEKDAY), 5);            /* a Thursday */
	assert_int_equal(get(A) & 0x7f, 0x26);
	assert_int_equal(get(B), 0x02);
	assert_int_equal(get(D), 0x80);
	run((9 * 3600 + 59 * 60 + 59) * NS_PER_SECOND);
	assert_time(0x20, 0x26, 0x01, 0x01, 0x09, 0x59, 0x59);
	run(NS_PER_SECOND);
	assert_time(0x20, 0x26, 0x01, 0x01, 0x10, 0x00, 0x00);
}

static void update_in_progress(void **state)
{
	unsigned set_reads = 0;

	(void)state;
	/* set for the last 244 µs of a second, and the time then changes */
	run(NS_PER_SECOND - 300000);
	assert_int_equal(get(A) & 0x80, 0);
	run(100000);
	assert_int_equal(get(A) & 0x80, 0x80);
	assert_int_equal(get(SECONDS), 0);
	run(200000);
	assert_int_equal(get(A) & 0x80, 0);
	assert_int_equal(get(SECONDS), 1);
	for (unsigned i = 0; i < 1000; i++) {
		set_reads += (get(A) & 0x80) != 0;
		run(MS / 10);
	}
	assert_in_range(set_reads, 0, 3);
}

static void leap_years_and_ends_of_month(void **state)
{
	(void)state;
	set_time(0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59);
	run(500 * MS); /* the first second is half a one */
	assert_time(0x20, 0x24, 0x02, 0x29, 0, 0, 0);
	assert_int_equal(get(WEEKDAY), 5);
	set_time(0x21, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59);
	run(500 * MS);
	assert_time(0x21, 0x00, 0x03, 0x01, 0, 0, 0);
	assert_int_equal(get(WEEKDAY), 2);
	set_time(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59);
	run(500 * MS);
	assert_time(0x20, 0x00, 0x01, 0x01, 0, 0, 0);
	set_time(0x19, 0x69, 0x12, 0x31, 0x23, 0x59, 0x59);
	run(500 * MS);
	assert_time(0x19, 0x70, 0x01, 0x01, 0, 0, 0);
	set_time(0x20, 0x00, 0x02, 0x29, 0x12, 0x34, 0x56);
	assert_time(0x20, 0x00, 0x02, 0x29, 0x12, 0x34, 0x56);
}

static void set_stops_the_clock(void **state)
{
	(void)state;
	run(2 * NS_PER_SECOND);
	set(B, 0x82);
	run(5 * NS_PER_SECOND - 100000);
	assert_int_equal(get(SECONDS), 2);
	assert_int_equal(get(A) & 0x80, 0);
	set(SECONDS, 0x30);
	set(B, 0x02);
	assert_int_equal(get(SECONDS), 0x30);
	run(100000); /* the divider had gone on */
	assert_int_equal(get(SECONDS), 0x31);
	/* a register written while the clock runs */
	set(HOURS, 0x17);
	assert_time(0x20, 0x26, 0x01, 0x01, 0x17, 0, 0x31);
}

static void other_formats(void **state)
{
	(void)state;
	set(B, 0x06);
	set_time(20, 31, 12, 24, 23, 58, 59);
	assert_time(20, 31, 12, 24, 23, 58, 59);
	set(B, 0x00); /* 12 hours, BCD */
	assert_int_equal(get(HOURS), 0x91);
	set(HOURS, 0x12);
	set(B, 0x02);
	assert_int_equal(get(HOURS), 0);
	set(B, 0x00);
	set(HOURS, 0x92);
	set(B, 0x02);
	assert_int_equal(get(HOURS), 0x12);
}

static void update_interrupt(void **state)
{
	(void)state;
	set(B, 0x12);
	assert_int_equal(get(C) & 0x10, 0);
	for (unsigned i = 0; i < 3; i++) {
		run(NS_PER_SECOND - 1);
		assert_false(interrupted());
		run(1);
		assert_true(interrupted());
		run(0);
		assert_int_equal(get(C) & 0xb0, 0x90);
		assert_int_equal(get(C), 0);
	}
	/* unread flags hold the line: no further edge */
	run(NS_PER_SECOND);
	assert_true(interrupted());
	run(5 * NS_PER_SECOND);
	assert_false(interrupted());
	get(C);
	run(NS_PER_SECOND);
	assert_true(interrupted());
}

static void periodic_interrupt(void **state)
{
	unsigned count = 0;

	(void)state;
	set(B, 0x42);
	set(A, 0x26); /* 1024 Hz */
	for (unsigned i = 0; i < 10000; i++) {
		run(MS / 10);
		if (interrupted()) {
			count++;
			assert_int_equal(get(C) & 0xc0, 0xc0);
		}
	}
	assert_in_range(count, 1023, 1025);
	set(A, 0x20); /* none */
	get(C);
	run(NS_PER_SECOND);
	assert_false(interrupted());
	set(A, 0x21); /* 256 Hz */
	run(3906249);
	interrupted();
	get(C);
	run(3906250);
	assert_true(interrupted());
}

static void flags_without_interrupt(void **state)
{
	(void)state;
	get(C);
	run(500);
	assert_int_equal(get(C), 0);
	run(MS);
	assert_int_equal(get(C), 0x40);
	run(NS_PER_SECOND);
	assert_int_equal(get(C), 0x50);
	assert_false(seen.irq_line);
}

static void alarm_interrupt(void **state)
{
	(void)state;
	set(SECONDS_ALARM, 0x05);
	set(MINUTES_ALARM, 0x01);
	set(HOURS_ALARM, 0x00);
	get(C);
	set(B, 0x22);
	run(65 * NS_PER_SECOND - 1);
	assert_false(interrupted());
	run(1);
	assert_true(interrupted());
	assert_int_equal(get(C) & 0xa0, 0xa0);
	run(86400 * NS_PER_SECOND - 1);
	assert_false(interrupted());
	run(1); /* tomorrow again */
	assert_true(interrupted());
	get(C);
	/* each minute at 10 */
	set(SECONDS_ALARM, 0x10);
	set(MINUTES_ALARM, 0xff);
	set(HOURS_ALARM, 0xc0);
	run(5 * NS_PER_SECOND);
	assert_true(interrupted());
	get(C);
	run(60 * NS_PER_SECOND - 1);
	assert_false(interrupted());
	run(1);
	assert_true(interrupted());
	get(C);
	/* never */
	set(SECONDS_ALARM, 0x99);
	run(200000 * NS_PER_SECOND);
	assert_false(interrupted());
}

static void nonsense_does_no_harm(void **state)
{
	(void)state;
	for (unsigned reg = 0; reg < 128; reg++)
		set((u8)reg, 0xff);
	run(NS_PER_SECOND);
	for (unsigned reg = 0; reg < 128; reg++)
		get((u8)reg);
	for (unsigned value = 0; value < 256; value++) {
		for (u8 reg = 0; reg < 14; reg++)
			set(reg, (u8)(value * 7 + reg));
		set(RTC_CENTURY, (u8)value);
		run(3 * MS);
		get(C);
	}
	set(B, 0x02);
	set(A, 0x26);
	set_time(0, 0, 0, 0, 0, 0, 0);
	run(2 * NS_PER_SECOND);
	assert_int_equal(get(SECONDS), 0x02);
	set(0x40, 0x5a); /* plain CMOS memory */
	assert_int_equal(get(0xc0), 0x5a);
	assert_int_equal(in8(PORT_RTC), 0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(starts_with_the_boot_time, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(update_in_progress, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(leap_years_and_ends_of_month, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(set_stops_the_clock, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(other_formats, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(update_interrupt, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(periodic_interrupt, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(flags_without_interrupt, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(alarm_interrupt, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(nonsense_does_no_harm, setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
