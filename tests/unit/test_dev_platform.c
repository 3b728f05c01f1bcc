#include "test_dev_machine.h"

#include "dev/acpi_pm.h"
#include "dev/boot_timer.h"
#include "dev/scale.h"

#define EVENT   PORT_ACPI_PM1_EVENT
#define CONTROL PORT_ACPI_PM1_CONTROL

static int setup(void **state)
{
	machine_setup(state);
	setup_pic();
	return 0;
}

static int setup_debug_exit(void **state)
{
	(void)state;
	return machine_setup_with(NULL, true);
}

static u64 in(u16 port, unsigned size)
{
	return bus_read(&vm->ports, port, size);
}

static void out(u16 port, unsigned size, u64 value)
{
	bus_write(&vm->ports, port, size, value);
}

static void power_off(void **state)
{
	(void)state;
	assert_int_equal(in(CONTROL, 2), 1); /* SCI_EN */
	out(CONTROL, 2, 0);
	assert_int_equal(in(CONTROL, 2), 1);
	out(CONTROL, 2, 5 << 10); /* Linux writes the type first, then type and enable */
	assert_int_equal(in(CONTROL, 2), 5 << 10 | 1);
	assert_int_equal(seen.stop_reason, EXIT_RUNNING);
	out(CONTROL, 2, 3 << 10 | 1 << 13); /* not a state of this machine */
	assert_int_equal(seen.stop_reason, EXIT_RUNNING);
	out(CONTROL, 2, 5 << 10 | 1 << 13);
	assert_int_equal(seen.stop_reason, EXIT_POWER_OFF);
	assert_int_equal(seen.stop_code, 0);
	assert_int_equal(in(CONTROL, 2) & 1 << 13, 0);
	seen.stop_reason = EXIT_RUNNING;
	out8(CONTROL + 1, 0x34); /* by its byte alone */
	assert_int_equal(seen.stop_reason, EXIT_POWER_OFF);
}

static void reset(void **state)
{
	(void)state;
	out8(PORT_RESET, 0x02);
	assert_int_equal(seen.stop_reason, EXIT_RUNNING);
	assert_int_equal(in8(PORT_RESET), 0x02);
	out8(PORT_RESET, 0x06);
	assert_int_equal(seen.stop_reason, EXIT_RESET);
	assert_int_equal(seen.stop_code, 0);
}

static void power_button(void **state)
{
	(void)state;
	acpi_pm_press_power_button(vm->pm);
	assert_false(seen.irq_line);
	assert_int_equal(in(EVENT, 2), 0x100);
	out(EVENT, 2, 0x100);
	assert_int_equal(in(EVENT, 2), 0);
	out(EVENT + 2, 2, 0x120);
	assert_int_equal(in(EVENT + 2, 2), 0x120);
	assert_int_equal(in(EVENT, 4), 0x01200000);
	assert_false(seen.irq_line);
	acpi_pm_press_power_button(vm->pm);
	assert_true(seen.irq_line);
	assert_int_equal(irqchip_acknowledge(vm->irqchip), 0x29);
	out(EVENT, 2, 0xfeff); /* clears others only */
	assert_int_equal(in(EVENT, 2), 0x100);
	out8(EVENT + 1, 1);
	assert_int_equal(in(EVENT, 2), 0);
	assert_int_equal(in(EVENT + 2, 2), 0x120);
	out(EVENT + 2, 2, 0xffff);
	assert_int_equal(in(EVENT + 2, 2), 0x721);
}

static void timer(void **state)
{
	u64 before, half = scale_up(BIT(31), NS_PER_SECOND, ACPI_PM_TIMER_HZ);

	(void)state;
	before = in(PORT_ACPI_PM_TIMER, 4);
	run(NS_PER_SECOND);
	assert_int_equal(in(PORT_ACPI_PM_TIMER, 4) - before, 3579545);
	assert_int_equal(in(PORT_ACPI_PM_TIMER + 1, 1), 3579545 >> 8 & 0xff);
	/* its top bit changes */
	run(half - NS_PER_SECOND - 1);
	assert_int_equal(in(EVENT, 2), 0);
	run(1);
	assert_int_equal(in(EVENT, 2), 1);
	assert_int_equal(in(PORT_ACPI_PM_TIMER, 4), 0x80000000);
	out(EVENT, 2, 1);
	assert_int_equal(in(EVENT, 2), 0);
	out(EVENT + 2, 2, 1);
	assert_false(seen.irq_line);
	run(half);
	assert_true(seen.irq_line);
	assert_int_equal(in(EVENT, 2), 1);
	assert_in_range(in(PORT_ACPI_PM_TIMER, 4), 0, 10);
}

static void debug_exit(void **state)
{
	(void)state;
	assert_int_equal(in8(PORT_DEBUG_EXIT), 0xff);
	out(PORT_DEBUG_EXIT, 4, 3);
	assert_int_equal(seen.stop_reason, EXIT_DEBUG);
	assert_int_equal(seen.stop_code, 7);
	out8(PORT_DEBUG_EXIT, 0);
	assert_int_equal(seen.stop_code, 1);
}

static void no_debug_exit_unless_asked_for(void **state)
{
	(void)state;
	out(PORT_DEBUG_EXIT, 4, 3);
	assert_int_equal(seen.stop_reason, EXIT_RUNNING);
}

static void boot_marks(void **state)
{
	(void)state;
	run(1000);
	out8(PORT_BOOT_TIMER, 7);
	run(1000);
	out8(PORT_BOOT_TIMER, 7); /* the first counts */
	out8(PORT_BOOT_TIMER, 255);
	assert_int_equal(boot_timer_mark(vm->boot_timer, 7), 1000);
	assert_int_equal(boot_timer_mark(vm->boot_timer, 255), 2000);
	assert_true(boot_timer_mark(vm->boot_timer, 0) == CLOCK_NEVER);
}

static void empty_ports(void **state)
{
	(void)state;
	out8(PORT_POST, 0x55);
	assert_int_equal(in8(PORT_POST), 0xff);
	assert_int_equal(in8(0x60), 0xff);
	assert_int_equal(in8(0x64), 0xff);
	out(0xcf8, 4, 0xffffffff); /* a PCI configuration address is not a reset */
	assert_int_equal(seen.stop_reason, EXIT_RUNNING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(power_off, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(reset, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(power_button, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(timer, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(debug_exit, setup_debug_exit, machine_teardown),
		cmocka_unit_test_setup_teardown(no_debug_exit_unless_asked_for, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(boot_marks, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(empty_ports, setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
