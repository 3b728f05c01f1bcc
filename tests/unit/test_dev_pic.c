#include "test_dev_machine.h"

#define MASTER PORT_PIC_MASTER
#define SLAVE  PORT_PIC_SLAVE

static int setup(void **state)
{
	machine_setup(state);
	setup_pic();
	return 0;
}

static void pulse(unsigned gsi)
{
	irqchip_set_line(vm->irqchip, gsi, false);
	irqchip_set_line(vm->irqchip, gsi, true);
}

static int ack(void)
{
	return irqchip_acknowledge(vm->irqchip);
}

static u8 isr(u16 port)
{
	out8(port, 0x0b);
	return in8(port);
}

static u8 irr(u16 port)
{
	out8(port, 0x0a);
	return in8(port);
}

static void interrupt_life_cycle(void **state)
{
	(void)state;
	assert_false(seen.irq_line);
	pulse(4);
	assert_true(seen.irq_line);
	assert_int_equal(irr(MASTER), 0x10);
	assert_int_equal(ack(), 0x24);
	assert_false(seen.irq_line);
	assert_int_equal(irr(MASTER), 0);
	assert_int_equal(isr(MASTER), 0x10);
	/* the same edge does not interrupt twice, a new one only after the EOI */
	irqchip_set_line(vm->irqchip, 4, true);
	pulse(4);
	assert_false(seen.irq_line);
	out8(MASTER, 0x20);
	assert_int_equal(isr(MASTER), 0);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x24);
}

static void priorities_nest(void **state)
{
	(void)state;
	pulse(5);
	pulse(3);
	assert_int_equal(ack(), 0x23);
	assert_false(seen.irq_line); /* 5 waits for 3 */
	pulse(1);
	assert_int_equal(ack(), 0x21); /* 1 does not */
	assert_int_equal(isr(MASTER), 0x0a);
	out8(MASTER, 0x20); /* non-specific: ends 1 */
	assert_int_equal(isr(MASTER), 0x08);
	assert_false(seen.irq_line);
	out8(MASTER, 0x63); /* specific: ends 3 */
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x25);
}

static void timer_line_is_input_0(void **state)
{
	(void)state;
	pulse(GSI_PIT);
	assert_int_equal(ack(), 0x20);
	/* and global interrupt 0 is not connected */
	out8(MASTER, 0x20);
	pulse(0);
	assert_false(seen.irq_line);
	irqchip_set_line(vm->irqchip, 99, true);
}

static void mask_holds_back(void **state)
{
	(void)state;
	out8(MASTER + 1, 0x10);
	assert_int_equal(in8(MASTER + 1), 0x10);
	pulse(4);
	assert_false(seen.irq_line);
	out8(MASTER + 1, 0);
	assert_true(seen.irq_line);
	/* a request that goes away is forgotten */
	irqchip_set_line(vm->irqchip, 4, false);
	assert_false(seen.irq_line);
}

static void cascade(void **state)
{
	(void)state;
	pulse(8);
	pulse(12);
	assert_int_equal(ack(), 0x28);
	assert_int_equal(isr(MASTER), 0x04);
	assert_int_equal(isr(SLAVE), 0x01);
	assert_false(seen.irq_line);
	out8(SLAVE, 0x20);
	out8(MASTER, 0x20);
	assert_true(seen.irq_line); /* 12 makes a new edge on the cascade */
	assert_int_equal(ack(), 0x2c);
	pulse(3);
	assert_false(seen.irq_line); /* the slave as a whole is above 3 … */
	pulse(1);
	assert_int_equal(ack(), 0x21); /* … and below 1 */
}

static void automatic_eoi(void **state)
{
	(void)state;
	out8(SLAVE, 0x11);
	out8(SLAVE + 1, 0x28);
	out8(SLAVE + 1, 2);
	out8(SLAVE + 1, 3);
	out8(MASTER, 0x11);
	out8(MASTER + 1, 0x20);
	out8(MASTER + 1, 4);
	out8(MASTER + 1, 3);
	pulse(9);
	pulse(12);
	assert_int_equal(ack(), 0x29);
	assert_int_equal(isr(MASTER) | isr(SLAVE), 0);
	assert_true(seen.irq_line); /* the slave's output fell and rose during the acknowledgement */
	assert_int_equal(ack(), 0x2c);
	assert_false(seen.irq_line);
}

static void rotation(void **state)
{
	(void)state;
	out8(MASTER, 0xc3); /* 3 is lowest: order 4 5 6 7 0 1 2 3 */
	pulse(1);
	pulse(6);
	assert_int_equal(ack(), 0x26);
	out8(MASTER, 0xa0); /* rotate on EOI: 6 becomes lowest, 7 0 1 … */
	assert_int_equal(ack(), 0x21);
	pulse(7);
	assert_int_equal(ack(), 0x27);
}

static void special_mask(void **state)
{
	(void)state;
	pulse(3);
	assert_int_equal(ack(), 0x23);
	pulse(6);
	assert_false(seen.irq_line);
	out8(MASTER + 1, 0x08); /* mask the one in service … */
	assert_false(seen.irq_line);
	out8(MASTER, 0x68); /* … and let lower ones through */
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x26);
	out8(MASTER, 0x48);
}

static void level_triggered(void **state)
{
	(void)state;
	out8(PORT_PIC_ELCR, 0xff);
	out8(PORT_PIC_ELCR + 1, 0xff);
	assert_int_equal(in8(PORT_PIC_ELCR), 0xf8);
	assert_int_equal(in8(PORT_PIC_ELCR + 1), 0xde);
	irqchip_set_line(vm->irqchip, 5, true);
	assert_int_equal(ack(), 0x25);
	assert_false(seen.irq_line);
	out8(MASTER, 0x20);
	assert_true(seen.irq_line); /* still asserted: again */
	irqchip_set_line(vm->irqchip, 5, false);
	assert_false(seen.irq_line);
}

static void poll_and_spurious(void **state)
{
	(void)state;
	out8(MASTER, 0x0c);
	assert_int_equal(in8(MASTER) & 0x80, 0);
	pulse(4);
	out8(MASTER, 0x0c);
	assert_int_equal(in8(MASTER), 0x84);
	assert_int_equal(isr(MASTER), 0x10);
	assert_false(seen.irq_line);
	/* nothing requested any longer: nothing is delivered, nothing goes into service */
	assert_int_equal(ack(), -1);
	assert_int_equal(isr(MASTER), 0x10);
}

static void initialization_forgets(void **state)
{
	(void)state;
	pulse(4);
	assert_true(seen.irq_line);
	out8(MASTER, 0x11);
	assert_false(seen.irq_line);
	assert_int_equal(irr(MASTER), 0);
	out8(MASTER + 1, 0x40);
	out8(MASTER + 1, 4);
	out8(MASTER + 1, 1);
	assert_int_equal(in8(MASTER + 1), 0); /* masks are clear */
	pulse(4);
	assert_int_equal(ack(), 0x44);
	/* how Linux finds out that the chip exists */
	out8(MASTER + 1, 0xfb);
	assert_int_equal(in8(MASTER + 1), 0xfb);
}

static void virtual_wire(void **state)
{
	(void)state;
	pulse(4);
	assert_true(seen.irq_line);
	lapic_set(0x350, 0x10700); /* LINT0 masked */
	assert_false(seen.irq_line);
	assert_int_equal(ack(), -1);
	lapic_set(0x350, 0x00700);
	assert_true(seen.irq_line);
	lapic_set(0x350, 0x10000);
	/* without local APIC the pair is connected directly */
	assert_int_equal(lapic_write_base(vm->irqchip, MMIO_LAPIC | 0x100), 0);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x24);
}

static void lint0_as_fixed_interrupt(void **state)
{
	(void)state;
	lapic_set(0x350, 0x00055);
	pulse(4);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x55);
	lapic_set(0xb0, 0);
	assert_false(seen.irq_line);
	lapic_set(0x350, 0x00400); /* NMI */
	out8(MASTER + 1, 0xff);
	out8(MASTER + 1, 0);
	assert_true(irqchip_take_nmi(vm->irqchip));
	assert_false(irqchip_take_nmi(vm->irqchip));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(interrupt_life_cycle, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(priorities_nest, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(timer_line_is_input_0, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(mask_holds_back, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(cascade, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(automatic_eoi, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(rotation, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(special_mask, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(level_triggered, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(poll_and_spurious, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(initialization_forgets, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(virtual_wire, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(lint0_as_fixed_interrupt, setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
