#include "test_dev_machine.h"

#include "dev/pit.h"
#include "dev/scale.h"

static u64 ticks(u64 n)
{
	return scale_up(n, NS_PER_SECOND, PIT_HZ);
}

static int setup(void **state)
{
	machine_setup(state);
	setup_pic();
	return 0;
}

static void program(unsigned channel, u8 mode, u16 count)
{
	out8(PORT_PIT + 3, (u8)(channel << 6 | 0x30 | mode << 1));
	out8((u16)(PORT_PIT + channel), (u8)count);
	out8((u16)(PORT_PIT + channel), count >> 8);
}

static u16 read_count(unsigned channel)
{
	u8 low = in8((u16)(PORT_PIT + channel));

	return (u16)(low | in8((u16)(PORT_PIT + channel)) << 8);
}

static u16 latched_count(unsigned channel)
{
	out8(PORT_PIT + 3, (u8)(channel << 6));
	return read_count(channel);
}

static bool timer_interrupt(void)
{
	if (!seen.irq_line)
		return false;
	assert_int_equal(irqchip_acknowledge(vm->irqchip), 0x20);
	out8(PORT_PIC_MASTER, 0x20);
	return true;
}

static void rate_generator(void **state)
{
	(void)state;
	program(0, 2, 11932); /* 100 Hz */
	assert_false(timer_interrupt());
	for (unsigned i = 1; i <= 100; i++) {
		run(ticks(11932ULL * i) - clock_ns(&vm->clock) - 1);
		assert_false(timer_interrupt());
		run(1);
		assert_true(timer_interrupt());
	}
	assert_in_range(clock_ns(&vm->clock), 1000000000, 1000020000); /* a second, no drift */
	run(ticks(1000));
	assert_in_range(latched_count(0), 11932 - 1001, 11932 - 999);
}

static void terminal_count(void **state)
{
	(void)state;
	program(0, 0, 1000);
	run(ticks(1000) - 1);
	assert_false(timer_interrupt());
	run(1);
	assert_true(timer_interrupt());
	run(ticks(200000));
	assert_false(timer_interrupt()); /* once */
	/* another count, another interrupt */
	out8(PORT_PIT, 100);
	out8(PORT_PIT, 0);
	run(ticks(100));
	assert_true(timer_interrupt());
	/* a new mode stops it */
	program(0, 0, 1000);
	out8(PORT_PIT + 3, 0x30);
	run(ticks(2000));
	assert_false(timer_interrupt());
}

static void strobe(void **state)
{
	(void)state;
	program(0, 4, 1000); /* the mode of Linux' one-shot clock event device */
	run(ticks(1000) - 1);
	assert_false(timer_interrupt());
	run(ticks(2));
	assert_true(timer_interrupt());
	run(ticks(100000));
	assert_false(timer_interrupt());
}

static void square_wave(void **state)
{
	(void)state;
	out8(PORT_SYSTEM_B, 1);
	program(2, 3, 1000);
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0x20);
	assert_int_equal(latched_count(2), 1000);
	run(ticks(250));
	assert_int_equal(latched_count(2), 500); /* by two */
	run(ticks(251));
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0);
	run(ticks(500));
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0x20);
	program(0, 3, 0); /* 65536: 18.2 Hz */
	run(ticks(65536));
	assert_true(timer_interrupt());
	assert_false(timer_interrupt());
}

/* As Linux calibrates the TSC: channel 2 in mode 0, waiting for its output; and by its high byte. */
static void calibration(void **state)
{
	u64 start;
	unsigned low_byte;

	(void)state;
	out8(PORT_SYSTEM_B, (in8(PORT_SYSTEM_B) & ~2) | 1);
	out8(PORT_PIT + 3, 0xb0);
	out8(PORT_PIT + 2, 59659 & 0xff); /* 50 ms */
	out8(PORT_PIT + 2, 59659 >> 8);
	start = clock_ns(&vm->clock);
	while (!(in8(PORT_SYSTEM_B) & 0x20))
		run(1000);
	assert_in_range(clock_ns(&vm->clock) - start, 49999000, 50002000);

	out8(PORT_PIT + 3, 0xb0);
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0);
	out8(PORT_PIT + 2, 0xff);
	out8(PORT_PIT + 2, 0xff);
	low_byte = in8(PORT_PIT + 2); /* low and high alternate without latching */
	assert_in_range(low_byte, 0xfe, 0xff);
	assert_int_equal(in8(PORT_PIT + 2), 0xff);
	run(ticks(256));
	in8(PORT_PIT + 2);
	assert_int_equal(in8(PORT_PIT + 2), 0xfe);
}

static void gate(void **state)
{
	u16 count;

	(void)state;
	out8(PORT_SYSTEM_B, 0);
	program(2, 0, 1000);
	run(ticks(5000));
	assert_int_equal(latched_count(2), 1000); /* closed */
	out8(PORT_SYSTEM_B, 1);
	run(ticks(400));
	out8(PORT_SYSTEM_B, 0);
	count = latched_count(2);
	assert_in_range(count, 599, 601);
	run(ticks(5000));
	assert_int_equal(latched_count(2), count);
	out8(PORT_SYSTEM_B, 1);
	run(ticks(590));
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0);
	run(ticks(20));
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0x20);

	out8(PORT_SYSTEM_B, 0);
	program(2, 1, 1000); /* one-shot: the gate triggers, again and again */
	assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0x20);
	for (unsigned i = 0; i < 2; i++) {
		out8(PORT_SYSTEM_B, 1);
		run(ticks(999));
		assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0);
		out8(PORT_SYSTEM_B, 0);
		run(ticks(2));
		assert_int_equal(in8(PORT_SYSTEM_B) & 0x20, 0x20);
	}
}

static void read_back(void **state)
{
	(void)state;
	out8(PORT_SYSTEM_B, 1);
	program(2, 2, 5000);
	program(0, 0, 0x1234);
	out8(PORT_PIT + 3, 0xc2 | 1 << 3); /* count and status of channels 0 and 2 */
	run(ticks(100));
	assert_int_equal(in8(PORT_PIT), 0x30);     /* low output, both bytes, mode 0 */
	assert_int_equal(read_count(0), 0x1234);   /* as it was when latched */
	assert_int_equal(in8(PORT_PIT + 2), 0xb4); /* high output, mode 2 */
	assert_int_equal(read_count(2), 5000);
	assert_in_range(read_count(2), 4898, 4902); /* then the live count */
	out8(PORT_PIT + 3, 0x34);                   /* a mode, no count yet */
	out8(PORT_PIT + 3, 0xe2);
	assert_int_equal(in8(PORT_PIT), 0xf4); /* null count */
}

static void single_byte_counts(void **state)
{
	(void)state;
	out8(PORT_SYSTEM_B, 1);
	out8(PORT_PIT + 3, 0x90); /* low byte only, mode 0 */
	out8(PORT_PIT + 2, 200);
	run(ticks(50));
	assert_in_range(in8(PORT_PIT + 2), 149, 151);
	out8(PORT_PIT + 3, 0xa0); /* high byte only */
	out8(PORT_PIT + 2, 2);
	run(ticks(10));
	assert_int_equal(in8(PORT_PIT + 2), 1);
	out8(PORT_PIT + 3, 0x80);
	assert_int_equal(in8(PORT_PIT + 2), 1);
	out8(PORT_PIT + 3, 0xb1); /* BCD */
	out8(PORT_PIT + 2, 0x00);
	out8(PORT_PIT + 2, 0x10);
	run(ticks(1));
	assert_int_equal(latched_count(2), 0x0999);
}

static void hostile_counts(void **state)
{
	(void)state;
	for (u8 mode = 0; mode < 8; mode++)
		for (u16 count = 0; count < 4; count++) {
			program(0, mode, count);
			program(2, mode, count);
			run(200000);
			latched_count(0);
			latched_count(2);
			out8(PORT_PIT + 3, 0xce);
		}
}

static void port_61(void **state)
{
	u8 before;

	(void)state;
	out8(PORT_SYSTEM_B, 0xff);
	assert_int_equal(in8(PORT_SYSTEM_B) & 0xcf, 0x0f);
	before = in8(PORT_SYSTEM_B) & 0x10;
	run(15085);
	assert_int_not_equal(in8(PORT_SYSTEM_B) & 0x10, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rate_generator, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(terminal_count, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(strobe, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(square_wave, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(calibration, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(gate, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(read_back, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(single_byte_counts, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(hostile_counts, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(port_61, setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
