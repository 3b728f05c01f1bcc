#include "test_dev_machine.h"

#define LEVEL      0x8000u
#define MASKED     0x10000u
#define REMOTE_IRR 0x4000u

static void line(unsigned gsi, bool level)
{
	irqchip_set_line(vm->irqchip, gsi, level);
}

static int ack(void)
{
	return irqchip_acknowledge(vm->irqchip);
}

static void eoi(void)
{
	lapic_set(0xb0, 0);
}

static void registers(void **state)
{
	(void)state;
	assert_int_equal(ioapic_get(1), 0x00170020);
	ioapic_set(0, 0xffffffff);
	assert_int_equal(ioapic_get(0), 0x0f000000);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(23)), MASKED);
	ioapic_set(IOAPIC_ENTRY(23) + 1, 0x12345678);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(23) + 1), 0x12000000);
	ioapic_set(IOAPIC_ENTRY(23), 0xffffffff); /* status and remote IRR are not writable */
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(23)), 0x1afff);
	ioapic_set(IOAPIC_ENTRY(24), 0x55);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(24)), 0);
	assert_int_equal(bus_read(&vm->mmio, MMIO_IOAPIC, 4), IOAPIC_ENTRY(24));
}

static void edge(void **state)
{
	(void)state;
	ioapic_set(IOAPIC_ENTRY(4), 0x34);
	line(4, true);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x34);
	assert_false(seen.irq_line);
	eoi();
	assert_false(seen.irq_line); /* the level alone is nothing */
	line(4, false);
	line(4, true);
	assert_int_equal(ack(), 0x34);
	eoi();
	/* an edge on a masked pin is lost */
	ioapic_set(IOAPIC_ENTRY(4), 0x34 | MASKED);
	line(4, false);
	line(4, true);
	ioapic_set(IOAPIC_ENTRY(4), 0x34);
	assert_false(seen.irq_line);
}

static void level(void **state)
{
	(void)state;
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | LEVEL);
	line(9, true);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, REMOTE_IRR);
	assert_int_equal(ack(), 0x49);
	assert_int_equal(lapic_mmio(0x180 + 0x20) >> 9 & 1, 1); /* TMR */
	line(9, false);
	line(9, true);
	assert_false(seen.irq_line); /* not before the EOI */
	eoi();
	assert_true(seen.irq_line); /* still asserted: delivered again */
	assert_int_equal(ack(), 0x49);
	line(9, false);
	eoi();
	assert_false(seen.irq_line);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, 0);
}

static void level_while_masked(void **state)
{
	(void)state;
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | LEVEL | MASKED);
	line(9, true);
	assert_false(seen.irq_line);
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | LEVEL);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x49);
	/* masked during service, as Linux does when it migrates: the EOI clears remote IRR but nothing comes */
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | LEVEL | MASKED);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, REMOTE_IRR);
	eoi();
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, 0);
	assert_false(seen.irq_line);
}

static void remote_irr_can_be_cleared(void **state)
{
	(void)state;
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | LEVEL);
	line(9, true);
	line(9, false);
	bus_write(&vm->mmio, MMIO_IOAPIC + 0x40, 4, 0x48); /* another vector */
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, REMOTE_IRR);
	bus_write(&vm->mmio, MMIO_IOAPIC + 0x40, 4, 0x49);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, 0);
	line(9, true);
	line(9, false);
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | MASKED); /* edge */
	ioapic_set(IOAPIC_ENTRY(9), 0x49 | MASKED | LEVEL);
	assert_int_equal(ioapic_get(IOAPIC_ENTRY(9)) & REMOTE_IRR, 0);
}

static void destinations(void **state)
{
	(void)state;
	ioapic_set(IOAPIC_ENTRY(4), 0x34);
	ioapic_set(IOAPIC_ENTRY(4) + 1, 1u << 24); /* no such CPU */
	line(4, true);
	assert_false(seen.irq_line);
	line(4, false);
	ioapic_set(IOAPIC_ENTRY(4) + 1, 0xffu << 24);
	line(4, true);
	assert_int_equal(ack(), 0x34);
	eoi();
	line(4, false);
	/* logical, flat */
	lapic_set(0xd0, 0x04000000);
	ioapic_set(IOAPIC_ENTRY(4), 0x834);
	ioapic_set(IOAPIC_ENTRY(4) + 1, 0x03u << 24);
	line(4, true);
	assert_false(seen.irq_line);
	line(4, false);
	ioapic_set(IOAPIC_ENTRY(4) + 1, 0x06u << 24);
	line(4, true);
	assert_int_equal(ack(), 0x34);
	eoi();
	line(4, false);
	/* logical, cluster 2, member 4 */
	lapic_set(0xe0, 0x0fffffff);
	lapic_set(0xd0, 0x24000000);
	ioapic_set(IOAPIC_ENTRY(4) + 1, 0x14u << 24);
	line(4, true);
	assert_false(seen.irq_line);
	line(4, false);
	ioapic_set(IOAPIC_ENTRY(4) + 1, 0x26u << 24);
	line(4, true);
	assert_int_equal(ack(), 0x34);
}

static void nmi_mode(void **state)
{
	(void)state;
	ioapic_set(IOAPIC_ENTRY(4), 0x400);
	line(4, true);
	assert_false(seen.irq_line);
	assert_int_equal(vm->vcpu->event, 1);
	assert_true(irqchip_take_nmi(vm->irqchip));
	assert_false(irqchip_take_nmi(vm->irqchip));
}

static void messages(void **state)
{
	(void)state;
	irqchip_message(vm->irqchip, 0xfee00000, 0x61);
	assert_int_equal(ack(), 0x61);
	eoi();
	irqchip_message(vm->irqchip, 0xfee01000, 0x61); /* CPU 1 */
	irqchip_message(vm->irqchip, 0xfed00000, 0x61); /* not an interrupt */
	assert_false(seen.irq_line);
	irqchip_message(vm->irqchip, 0xfee00000, 0x8061); /* level, deassert */
	assert_false(seen.irq_line);
	lapic_set(0xd0, 0x01000000);
	irqchip_message(vm->irqchip, 0xfee0100c, 0x4161); /* logical, lowest priority */
	assert_int_equal(ack(), 0x61);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(registers, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(edge, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(level, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(level_while_masked, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(remote_irr_can_be_cleared, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(destinations, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(nmi_mode, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(messages, machine_setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
