#include "test_dev_machine.h"

#define TPR       0x80
#define PPR       0xa0
#define EOI       0xb0
#define SVR       0xf0
#define ESR       0x280
#define ICR       0x300
#define ICR_HIGH  0x310
#define LVT_TIMER 0x320
#define LVT_ERROR 0x370
#define INITIAL   0x380
#define CURRENT   0x390
#define DIVIDE    0x3e0

#define BASE    (MMIO_LAPIC | 0x100)
#define ENABLED 0x800
#define X2APIC  0x400

static int ack(void)
{
	return irqchip_acknowledge(vm->irqchip);
}

static void message(u8 vector)
{
	irqchip_message(vm->irqchip, MMIO_LAPIC, vector);
}

static bool bit(unsigned base, unsigned vector)
{
	return lapic_mmio(base + vector / 32 * 16) >> vector % 32 & 1;
}

static int write_msr(u32 msr, u64 value)
{
	return lapic_write_msr(vm->irqchip, msr, value);
}

static u64 read_msr(u32 msr)
{
	u64 value = 0xdeadbeef;

	assert_int_equal(lapic_read_msr(vm->irqchip, msr, &value), 0);
	return value;
}

static void enable_x2apic(void)
{
	assert_int_equal(lapic_write_base(vm->irqchip, BASE | ENABLED | X2APIC), 0);
}

static void priorities(void **state)
{
	(void)state;
	message(0x41);
	message(0x51);
	message(0x45);
	assert_true(bit(0x200, 0x51));
	assert_int_equal(ack(), 0x51);
	assert_true(bit(0x100, 0x51));
	assert_false(bit(0x200, 0x51));
	assert_int_equal(lapic_mmio(PPR), 0x50);
	assert_false(seen.irq_line);
	message(0x52); /* same class: waits */
	assert_false(seen.irq_line);
	message(0x61);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x61);
	lapic_set(EOI, 0);
	assert_false(seen.irq_line);
	lapic_set(EOI, 0);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x52);
	lapic_set(EOI, 0);
	assert_int_equal(ack(), 0x45);
	lapic_set(EOI, 0);
	assert_int_equal(ack(), 0x41);
	lapic_set(EOI, 0);
	lapic_set(EOI, 0); /* one too many does no harm */
	assert_int_equal(ack(), -1);
	assert_int_equal(lapic_mmio(PPR), 0);
}

static void task_priority(void **state)
{
	(void)state;
	lapic_set(TPR, 0x5f);
	assert_int_equal(lapic_mmio(PPR), 0x5f);
	assert_int_equal(lapic_read_cr8(vm->irqchip), 5);
	message(0x5f);
	assert_false(seen.irq_line);
	assert_int_equal(ack(), -1);
	lapic_write_cr8(vm->irqchip, 4);
	assert_int_equal(lapic_mmio(TPR), 0x40);
	assert_true(seen.irq_line);
	lapic_write_cr8(vm->irqchip, 15);
	assert_false(seen.irq_line);
	lapic_write_cr8(vm->irqchip, 0);
	assert_int_equal(ack(), 0x5f);
}

static void software_disable(void **state)
{
	(void)state;
	assert_int_equal(lapic_mmio(SVR), 0x1ff); /* as firmware leaves it */
	assert_int_equal(lapic_mmio(0x30), 0x00050014);
	lapic_set(LVT_TIMER, 0x30);
	message(0x40);
	lapic_set(SVR, 0xff);
	assert_false(seen.irq_line);
	assert_int_equal(lapic_mmio(LVT_TIMER), 0x10030);
	assert_int_equal(lapic_mmio(0x350), 0x10700);
	lapic_set(LVT_TIMER, 0x31); /* the mask cannot be cleared now */
	assert_int_equal(lapic_mmio(LVT_TIMER), 0x10031);
	message(0x50); /* lost */
	lapic_set(SVR, 0x1ff);
	assert_int_equal(ack(), 0x40);
	lapic_set(EOI, 0);
	assert_int_equal(ack(), -1);
}

static void one_shot(void **state)
{
	(void)state;
	lapic_set(LVT_TIMER, 0x30);
	lapic_set(DIVIDE, 0x3); /* by 16 */
	lapic_set(INITIAL, 1000);
	assert_int_equal(lapic_mmio(CURRENT), 1000);
	run(1600);
	assert_int_equal(lapic_mmio(CURRENT), 900);
	run(16000 - 1600 - 1);
	assert_false(seen.irq_line);
	assert_int_equal(lapic_mmio(CURRENT), 1);
	run(1);
	assert_true(seen.irq_line);
	assert_int_equal(ack(), 0x30);
	lapic_set(EOI, 0);
	assert_int_equal(lapic_mmio(CURRENT), 0);
	assert_int_equal(lapic_mmio(INITIAL), 1000);
	run(100000);
	assert_false(seen.irq_line);
	/* stopped by 0 */
	lapic_set(INITIAL, 10);
	lapic_set(INITIAL, 0);
	run(1000);
	assert_false(seen.irq_line);
}

static void dividers(void **state)
{
	static const u8 code[8] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		lapic_set(DIVIDE, code[i]);
		lapic_set(INITIAL, 1000);
		run(128);
		assert_int_equal(lapic_mmio(CURRENT), 1000 - (128 >> i));
	}
	/* a change while it counts goes on from the count reached */
	lapic_set(DIVIDE, 0xb);
	lapic_set(INITIAL, 1000);
	run(400);
	lapic_set(DIVIDE, 0x1);
	run(400);
	assert_int_equal(lapic_mmio(CURRENT), 500);
}

static void periodic(void **state)
{
	(void)state;
	lapic_set(LVT_TIMER, 0x20030);
	lapic_set(DIVIDE, 0xb);
	lapic_set(INITIAL, 50000);
	for (unsigned i = 0; i < 3; i++) {
		run(49999);
		assert_false(seen.irq_line);
		run(1);
		assert_int_equal(ack(), 0x30);
		lapic_set(EOI, 0);
	}
	run(20000);
	assert_int_equal(lapic_mmio(CURRENT), 30000);
	/* masked it goes on counting, and interrupts no one */
	lapic_set(LVT_TIMER, 0x30030);
	run(40000);
	assert_false(seen.irq_line);
	assert_int_equal(lapic_mmio(CURRENT), 40000);
	lapic_set(LVT_TIMER, 0x20030);
	assert_false(seen.irq_line);
	run(40000);
	assert_true(seen.irq_line);
	/* to one-shot and back: the count goes on */
	ack();
	lapic_set(EOI, 0);
	run(10000);
	lapic_set(LVT_TIMER, 0x30);
	assert_int_equal(lapic_mmio(CURRENT), 40000);
	run(40000);
	assert_int_equal(ack(), 0x30);
	lapic_set(EOI, 0);
	lapic_set(LVT_TIMER, 0x20030);
	assert_int_equal(lapic_mmio(CURRENT), 0); /* ran out: it stays so */
	run(100000);
	assert_false(seen.irq_line);
}

static void hostile_period(void **state)
{
	(void)state;
	lapic_set(LVT_TIMER, 0x20030);
	lapic_set(DIVIDE, 0xb);
	lapic_set(INITIAL, 1);
	run(1000000); /* checks that the budget is never used up by timers alone */
	assert_int_equal(ack(), 0x30);
	lapic_set(EOI, 0);
	run(100000);
	assert_true(seen.irq_line);
}

static void deadline(void **state)
{
	u64 offset = 1000000;

	(void)state;
	enable_x2apic();
	vm->vcpu->tsc_offset = offset;
	lapic_write_deadline(vm->irqchip, 5);
	assert_int_equal(lapic_read_deadline(vm->irqchip), 0); /* not in this mode */
	assert_int_equal(write_msr(0x832, 0x40030), 0);
	lapic_write_deadline(vm->irqchip, offset + 5000);
	assert_int_equal(lapic_read_deadline(vm->irqchip), offset + 5000);
	run(4999);
	assert_false(seen.irq_line);
	run(1);
	assert_true(seen.irq_line);
	assert_int_equal(lapic_read_deadline(vm->irqchip), 0);
	assert_int_equal(ack(), 0x30);
	assert_int_equal(write_msr(0x80b, 0), 0);
	run(100000);
	assert_false(seen.irq_line);
	/* in the past: at once */
	lapic_write_deadline(vm->irqchip, offset);
	assert_true(seen.irq_line);
	ack();
	write_msr(0x80b, 0);
	/* disarmed by 0, and by a change of mode */
	lapic_write_deadline(vm->irqchip, offset + 200000);
	lapic_write_deadline(vm->irqchip, 0);
	run(200000);
	lapic_write_deadline(vm->irqchip, UINT64_MAX);
	run(200000);
	assert_false(seen.irq_line);
	lapic_write_deadline(vm->irqchip, offset + 600000);
	write_msr(0x832, 0x30);
	write_msr(0x832, 0x40030);
	assert_int_equal(lapic_read_deadline(vm->irqchip), 0);
	run(200000);
	assert_false(seen.irq_line);
	/* the count registers are dead */
	assert_int_equal(write_msr(0x838, 1000), 0);
	assert_int_equal(read_msr(0x838), 0);
	assert_int_equal(read_msr(0x839), 0);
}

/* A guest that counts ticks starts its timer late: it gets at once what it missed. */
static void ticks_are_made_up_for(void **state)
{
	const u64 period = 4000000;
	unsigned ticks = 0;

	(void)state;
	enable_x2apic();
	write_msr(0x832, 0x40030);
	lapic_time_starts(vm->irqchip);
	run(10 * (s64)period);
	for (lapic_write_deadline(vm->irqchip, vm->vcpu->icount + period); seen.irq_line; ticks++) {
		assert_int_equal(ack(), 0x30);
		write_msr(0x80b, 0);
		vm->vcpu->icount += 500; /* what a tick takes */
		lapic_write_deadline(vm->irqchip, vm->vcpu->icount + period);
	}
	assert_int_equal(ticks, 10);
	run((s64)period);
	assert_int_equal(ack(), 0x30);
	write_msr(0x80b, 0);
	assert_false(seen.irq_line);
}

static void deadline_follows_the_guests_tsc(void **state)
{
	(void)state;
	enable_x2apic();
	write_msr(0x832, 0x40030);
	lapic_write_deadline(vm->irqchip, 10000);
	vm->vcpu->tsc_offset = 4000;
	lapic_tsc_moved(vm->irqchip);
	run(5999);
	assert_false(seen.irq_line);
	run(1);
	assert_true(seen.irq_line);
	ack();
	write_msr(0x80b, 0);
	lapic_write_deadline(vm->irqchip, 20000);
	vm->vcpu->tsc_offset = (u64)-6000; /* back: a timer set too early finds out */
	run(19999);
	assert_false(seen.irq_line);
	assert_int_equal(lapic_read_deadline(vm->irqchip), 20000);
	run(1);
	assert_true(seen.irq_line);
}

static void due_but_not_yet_fired(void **state)
{
	(void)state;
	/* the guest may touch the timer between expiry and the next look at the clock: no interrupt may get lost */
	lapic_set(LVT_TIMER, 0x30);
	lapic_set(DIVIDE, 0xb);
	lapic_set(INITIAL, 100);
	vm->vcpu->icount += 150;
	assert_int_equal(lapic_mmio(CURRENT), 0);
	lapic_set(INITIAL, 1000);
	assert_int_equal(ack(), 0x30);
	lapic_set(EOI, 0);
	vm->vcpu->icount += 1500;
	lapic_set(LVT_TIMER, 0x40030);
	assert_int_equal(ack(), 0x30);
	lapic_set(EOI, 0);
	lapic_write_deadline(vm->irqchip, clock_tsc(&vm->clock) + 100);
	vm->vcpu->icount += 100;
	lapic_write_deadline(vm->irqchip, clock_tsc(&vm->clock) + 100);
	assert_int_equal(ack(), 0x30);
}

static void ipi(void **state)
{
	(void)state;
	lapic_set(ICR, 0x44041); /* self */
	assert_int_equal(ack(), 0x41);
	lapic_set(EOI, 0);
	lapic_set(ICR, 0x84042); /* all */
	assert_int_equal(ack(), 0x42);
	lapic_set(EOI, 0);
	lapic_set(ICR, 0xc4043); /* all others */
	lapic_set(ICR_HIGH, 1u << 24);
	lapic_set(ICR, 0x4043); /* another */
	lapic_set(ICR, 0x4500); /* INIT, SIPI to it */
	lapic_set(ICR, 0x4608);
	assert_int_equal(ack(), -1);
	assert_int_equal(lapic_mmio(ICR), 0x4608); /* never busy */
	assert_int_equal(lapic_mmio(ICR_HIGH), 1u << 24);
	lapic_set(ICR_HIGH, 0);
	lapic_set(ICR, 0x4044);
	assert_int_equal(ack(), 0x44);
	lapic_set(EOI, 0);
	lapic_set(ICR, 0x4400); /* NMI */
	assert_true(irqchip_take_nmi(vm->irqchip));
	assert_false(seen.irq_line);
}

static void errors(void **state)
{
	(void)state;
	lapic_set(LVT_ERROR, 0xfe);
	lapic_set(ICR, 0x44005); /* vector 5 */
	assert_int_equal(lapic_mmio(ESR), 0);
	assert_int_equal(ack(), 0xfe);
	lapic_set(EOI, 0);
	message(3);
	lapic_set(ESR, 0);
	assert_int_equal(lapic_mmio(ESR), 0x60);
	lapic_set(EOI, 0);
	lapic_set(ESR, 0);
	assert_int_equal(lapic_mmio(ESR), 0);
	assert_int_equal(lapic_mmio(0x10), 0); /* no such register */
	lapic_set(ESR, 0);
	assert_int_equal(lapic_mmio(ESR), 0x80);
}

static void odd_accesses(void **state)
{
	(void)state;
	lapic_set(TPR, 0x50);
	assert_int_equal(bus_read(&vm->mmio, MMIO_LAPIC + TPR, 1), 0x50);
	assert_int_equal(bus_read(&vm->mmio, MMIO_LAPIC + 0x32, 2), 0x0005);
	bus_write(&vm->mmio, MMIO_LAPIC + TPR + 2, 4, 0);
	bus_write(&vm->mmio, MMIO_LAPIC + 0xff0, 4, 0);
	bus_write(&vm->mmio, MMIO_LAPIC + TPR, 8, 0);
	assert_int_equal(lapic_mmio(TPR), 0x50);
	assert_int_equal(bus_read(&vm->mmio, MMIO_LAPIC + 0x8, 8), 0);
	assert_int_equal(bus_read(&vm->mmio, MMIO_LAPIC + 0xff8, 4), 0);
}

static void base_transitions(void **state)
{
	struct irqchip *chip = vm->irqchip;

	(void)state;
	assert_int_equal(lapic_read_base(chip), BASE | ENABLED);
	assert_int_equal(lapic_write_base(chip, BASE | X2APIC), -1);
	assert_int_equal(lapic_write_base(chip, BASE | ENABLED | 1), -1);
	assert_int_equal(lapic_write_base(chip, BASE | ENABLED | BIT(MAXPHYADDR)), -1);
	lapic_set(TPR, 0x30);
	assert_int_equal(lapic_write_base(chip, BASE | ENABLED | X2APIC), 0);
	assert_int_equal(lapic_mmio(TPR), 0xffffffff); /* MMIO is gone */
	assert_int_equal(read_msr(0x808), 0x30);       /* the state is not */
	assert_int_equal(lapic_write_base(chip, BASE | ENABLED), -1);
	assert_int_equal(lapic_write_base(chip, BASE), 0);
	assert_int_equal(lapic_mmio(TPR), 0xffffffff);
	assert_int_equal(write_msr(0x808, 0), -1);
	assert_int_equal(lapic_write_base(chip, BASE | ENABLED | X2APIC), -1);
	message(0x40); /* nobody there */
	assert_int_equal(lapic_write_base(chip, BASE | ENABLED), 0);
	assert_int_equal(lapic_mmio(TPR), 0);
	assert_int_equal(lapic_mmio(SVR), 0xff); /* as after a reset */
	assert_int_equal(ack(), -1);
	assert_false(seen.stop_error);
	lapic_write_base(chip, 0xfed00000 | ENABLED);
	assert_true(seen.stop_error);
}

static void x2apic_registers(void **state)
{
	static const u32 read_only[] = {0x802, 0x803, 0x80a, 0x80d, 0x810, 0x818, 0x820, 0x827, 0x839};
	static const u32 absent[] = {0x800, 0x801, 0x804, 0x809, 0x80c, 0x80e, 0x82f, 0x831, 0x83a, 0x840, 0x8ff};
	u64 value;

	(void)state;
	assert_int_equal(write_msr(0x808, 0), -1); /* xAPIC mode */
	assert_int_equal(lapic_read_msr(vm->irqchip, 0x802, &value), -1);
	lapic_set(0xd0, 0x80000000);
	enable_x2apic();
	for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++) {
		read_msr(read_only[i]);
		assert_int_equal(write_msr(read_only[i], 0), -1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
		assert_int_equal(lapic_read_msr(vm->irqchip, absent[i], &value), -1);
		assert_int_equal(write_msr(absent[i], 0), -1);
	}
	assert_int_equal(read_msr(0x802), 0);
	assert_int_equal(read_msr(0x80d), 1); /* cluster 0, member 0 */
	assert_int_equal(write_msr(0x80b, 1), -1);
	assert_int_equal(lapic_read_msr(vm->irqchip, 0x80b, &value), -1);
	assert_int_equal(write_msr(0x828, 1), -1);
	assert_int_equal(write_msr(0x828, 0), 0);
	assert_int_equal(write_msr(0x808, 0x100), -1);
	assert_int_equal(write_msr(0x838, BIT(32)), -1);
	assert_int_equal(write_msr(0x832, 0x80000), -1);
	assert_int_equal(write_msr(0x832, 0x10030), 0);
	assert_int_equal(write_msr(0x80f, 0x1ff), 0);
	assert_int_equal(write_msr(0x80f, 0x11ff), -1); /* EOI broadcasts cannot be suppressed */
	assert_int_equal(write_msr(0x83f, 0x41), 0);
	assert_int_equal(ack(), 0x41);
	assert_int_equal(write_msr(0x80b, 0), 0);
	assert_int_equal(lapic_read_msr(vm->irqchip, 0x83f, &value), -1);
	assert_int_equal(write_msr(0x830, 0x4042), 0); /* to 0, physical */
	assert_int_equal(ack(), 0x42);
	write_msr(0x80b, 0);
	assert_int_equal(write_msr(0x830, 1ULL << 32 | 0x4842), 0); /* to cluster 0, member 0 */
	assert_int_equal(read_msr(0x830), 1ULL << 32 | 0x4842);
	assert_int_equal(ack(), 0x42);
	write_msr(0x80b, 0);
	assert_int_equal(write_msr(0x830, 0xffULL << 32 | 0x4042), 0); /* 0xff is a CPU now … */
	assert_int_equal(ack(), -1);
	assert_int_equal(write_msr(0x830, 0xffffffffULL << 32 | 0x4042), 0); /* … and this is everybody */
	assert_int_equal(ack(), 0x42);
	write_msr(0x80b, 0);
	assert_int_equal(write_msr(0x830, 0x104042), -1);
	/* 8-bit logical destinations of MSIs still reach us */
	irqchip_message(vm->irqchip, MMIO_LAPIC | 1 << 12 | 4, 0x43);
	assert_int_equal(ack(), 0x43);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(priorities, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(task_priority, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(software_disable, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(one_shot, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(dividers, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(periodic, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(hostile_period, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(deadline, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(ticks_are_made_up_for, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(deadline_follows_the_guests_tsc, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(due_but_not_yet_fired, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(ipi, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(errors, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(odd_accesses, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(base_transitions, machine_setup, machine_teardown),
		cmocka_unit_test_setup_teardown(x2apic_registers, machine_setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
