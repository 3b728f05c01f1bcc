#include "dev/pci.h"
#include "test_dev_machine.h"

#define BAR_SIZE 0x1000u

#define VECTOR      0x51u
#define MSI_ADDRESS 0xfee00000u

/* A device with a BAR of registers that remember what was written. */
struct probe {
	struct pci_device pci;
	u32 registers[4];
	unsigned writes, config_writes, config_reads;
	unsigned last_offset, last_size;
};

static u64 probe_read(void *opaque, u64 offset, unsigned size)
{
	struct probe *p = opaque;

	p->last_size = size;
	return offset / 4 < ARRAY_SIZE(p->registers) ? p->registers[offset / 4] >> 8 * (offset % 4) : 0;
}

static void probe_write(void *opaque, u64 offset, unsigned size, u64 value)
{
	struct probe *p = opaque;

	p->writes++;
	p->last_offset = (unsigned)offset;
	p->last_size = size;
	if (offset / 4 < ARRAY_SIZE(p->registers))
		p->registers[offset / 4] = (u32)value;
}

static void config_reading(struct pci_device *device, unsigned offset, unsigned size)
{
	struct probe *p = (struct probe *)device;

	p->config_reads++;
	p->last_offset = offset;
	p->last_size = size;
}

static void config_written(struct pci_device *device, unsigned offset, unsigned size)
{
	struct probe *p = (struct probe *)device;

	p->config_writes++;
	p->last_offset = offset;
	p->last_size = size;
}

static struct probe probes[PCI_SLOTS];

static struct probe *add_probe(unsigned n)
{
	static const struct bus_ops ops = {.read = probe_read, .write = probe_write, .widest = 4};
	static const struct pci_identity identity = {
		.vendor = 0x1234, .device = 0x5678, .revision = 9, .class_code = 0x0a0b0c, .subsystem_vendor = 0x4321};
	struct probe *p = &probes[n];

	memset(p, 0, sizeof(*p));
	pci_device_init(&p->pci, "probe", &identity);
	pci_device_bar(&p->pci, 0, BAR_SIZE, &ops, p);
	msix_init(&p->pci, 3, 2);
	assert_int_equal(pci_add(vm->pci, &p->pci, NULL), 0);
	return p;
}

static int setup(void **state)
{
	machine_setup(state);
	add_probe(0);
	return 0;
}

static u64 io_read(u16 port, unsigned size)
{
	return bus_read(&vm->ports, port, size);
}

static void io_write(u16 port, unsigned size, u64 value)
{
	bus_write(&vm->ports, port, size, value);
}

static void select_register(unsigned bus, unsigned slot, unsigned function, unsigned reg)
{
	io_write(0xcf8, 4, 0x80000000 | bus << 16 | slot << 11 | function << 8 | (reg & 0xfc));
}

static u32 config_get(unsigned slot, unsigned reg, unsigned size)
{
	select_register(0, slot, 0, reg);
	return (u32)io_read((u16)(0xcfc + reg % 4), size);
}

static void config_set(unsigned slot, unsigned reg, unsigned size, u32 value)
{
	select_register(0, slot, 0, reg);
	io_write((u16)(0xcfc + reg % 4), size, value);
}

static u64 ecam(unsigned slot, unsigned reg)
{
	return PCI_ECAM + (slot << 15) + reg;
}

static u64 memory_read(u64 address, unsigned size)
{
	return bus_read(&vm->mmio, address, size);
}

static void memory_write(u64 address, unsigned size, u64 value)
{
	bus_write(&vm->mmio, address, size, value);
}

static u32 bar(unsigned n)
{
	return config_get(1, PCI_BAR0 + 4 * n, 4);
}

/* --- configuration space --------------------------------------------------------------------------------------- */

static void bridge_and_device_are_found(void **state)
{
	(void)state;
	assert_int_equal(config_get(0, 0, 4), 0x00081b36);
	assert_int_equal(config_get(0, 8, 4) >> 8, 0x060000);
	assert_int_equal(config_get(1, 0, 4), 0x56781234);
	assert_int_equal(config_get(1, 8, 4), 0x0a0b0c09);
	assert_int_equal(config_get(1, PCI_SUBSYSTEM, 2), 0x4321);
	assert_int_equal(config_get(1, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(config_get(1, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(config_get(0, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(config_get(2, 0, 4), 0xffffffff);
	select_register(0, 1, 1, 0);
	assert_int_equal(io_read(0xcfc, 4), 0xffffffff);
	select_register(1, 1, 0, 0);
	assert_int_equal(io_read(0xcfc, 4), 0xffffffff);
}

static void data_port_needs_the_enable_bit(void **state)
{
	(void)state;
	io_write(0xcf8, 4, 0x0800);
	assert_int_equal(io_read(0xcfc, 4), 0xffffffff);
	io_write(0xcfc, 4, 0);
	assert_int_equal(probes[0].config_writes, 0);
}

static void parts_of_registers_are_read(void **state)
{
	(void)state;
	assert_int_equal(config_get(1, 1, 1), 0x12);
	assert_int_equal(config_get(1, 2, 2), 0x5678);
	assert_int_equal(config_get(1, 3, 1), 0x56);
}

static void address_port_takes_words_of_32_bits(void **state)
{
	(void)state;
	io_write(0xcf8, 4, 0xffffffff);
	assert_int_equal(io_read(0xcf8, 4), 0x80fffffc);
	io_write(0xcfb, 1, 1); /* what Linux does before it looks for this mechanism */
	io_write(0xcf8, 2, 0);
	assert_int_equal(io_read(0xcf8, 4), 0x80fffffc);
	assert_int_equal(io_read(0xcf8, 2), 0xffff);
}

static void reset_register_is_in_the_middle(void **state)
{
	(void)state;
	select_register(0, 1, 0, 0);
	out8(PORT_RESET, 0x02);
	assert_int_equal(in8(PORT_RESET), 0x02);
	assert_int_equal(io_read(0xcfc, 4), 0x56781234); /* the address is as it was */
	assert_int_equal(seen.stop_reason, EXIT_RUNNING);
	out8(PORT_RESET, 0x06);
	assert_int_equal(seen.stop_reason, EXIT_RESET);
}

static void ecam_shows_the_same(void **state)
{
	(void)state;
	assert_int_equal(memory_read(ecam(1, 0), 4), 0x56781234);
	assert_int_equal(memory_read(ecam(1, 2), 2), 0x5678);
	assert_int_equal(memory_read(ecam(1, 0), 8) >> 32, config_get(1, PCI_COMMAND, 4));
	memory_write(ecam(1, PCI_INTERRUPT_LINE), 1, 0x5a);
	assert_int_equal(config_get(1, PCI_INTERRUPT_LINE, 1), 0x5a);
	assert_int_equal(memory_read(ecam(2, 0), 4), 0xffffffff);
	assert_int_equal(memory_read(ecam(1, 0x1000), 4), 0xffffffff); /* function 1 */
	assert_int_equal(memory_read(ecam(1, 0x100), 4), 0xffffffff);  /* extended space */
	assert_int_equal(memory_read(ecam(1, 0xfe), 4), 0xffffffff);   /* half of it is */
	probes[0].pci.writable[0xff] = 0xff;
	memory_write(ecam(1, 0xff), 2, 0xaaaa);
	assert_int_equal(memory_read(ecam(1, 0xff), 1), 0);
	memory_write(ecam(1, 0xffc), 4, 0);
	memory_write(PCI_ECAM + PCI_ECAM_SIZE - 4, 4, 0);
}

static void what_is_fixed_cannot_be_written(void **state)
{
	(void)state;
	for (unsigned reg = 0; reg < 16; reg += 4)
		config_set(1, reg, 4, 0xffffffff);
	assert_int_equal(config_get(1, 0, 4), 0x56781234);
	assert_int_equal(config_get(1, 8, 4), 0x0a0b0c09);
	assert_int_equal(config_get(1, PCI_COMMAND, 2), 0x0546);
	assert_int_equal(config_get(1, PCI_STATUS, 2), 0x0010);
	config_set(1, PCI_CAPABILITIES, 4, 0);
	assert_int_equal(config_get(1, PCI_CAPABILITIES, 1), 0x40);
	config_set(1, PCI_BAR0 + 4, 4, 0xffffffff); /* there is no BAR 1 */
	assert_int_equal(config_get(1, PCI_BAR0 + 4, 4), 0);
}

static void hooks_hear_of_accesses(void **state)
{
	struct probe *p = &probes[0];

	(void)state;
	p->pci.config_reading = config_reading;
	p->pci.config_written = config_written;
	config_get(1, 0x42, 2);
	assert_int_equal(p->config_reads, 1);
	assert_int_equal(p->last_offset, 0x42);
	assert_int_equal(p->last_size, 2);
	config_set(1, 0x43, 1, 0);
	assert_int_equal(p->config_writes, 1);
	assert_int_equal(p->last_offset, 0x43);
	assert_int_equal(p->last_size, 1);
}

static void bus_has_room_for_32(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	for (unsigned i = 1; i < PCI_SLOTS - 1; i++)
		assert_int_equal(add_probe(i)->pci.slot, i + 1);
	for (unsigned i = 0; i < PCI_SLOTS - 1; i++) {
		memory_write(config_get(i + 1, PCI_BAR0, 4) + 4, 4, 100 + i);
		assert_int_equal(probes[i].registers[1], 100 + i);
	}
	assert_int_equal(pci_add(vm->pci, &probes[31].pci, &err), -1);
	assert_non_null(strstr(err.text, "32"));
}

/* --- BARs -------------------------------------------------------------------------------------------------------- */

static void bars_are_placed_and_decode(void **state)
{
	(void)state;
	assert_in_range(bar(0), PCI_MMIO_BASE, PCI_MMIO_END - BAR_SIZE);
	assert_int_equal(bar(0) % BAR_SIZE, 0);
	assert_true(bar(2) >= bar(0) + BAR_SIZE || bar(0) >= bar(2) + MSIX_BAR_SIZE);
	memory_write(bar(0) + 8, 4, 0x11223344);
	assert_int_equal(probes[0].registers[2], 0x11223344);
	assert_int_equal(memory_read(bar(0) + 8, 4), 0x11223344);
	assert_int_equal(memory_read(bar(0) + 9, 1), 0x33);
	/* an access of 8 bytes reaches the device in pieces that it takes */
	memory_write(bar(0), 8, 0x8877665544332211);
	assert_int_equal(probes[0].registers[0], 0x44332211);
	assert_int_equal(probes[0].registers[1], 0x88776655);
	assert_int_equal(memory_read(bar(0), 8), 0x8877665544332211);
}

static void bar_shows_its_size(void **state)
{
	const u32 before = bar(0);

	(void)state;
	config_set(1, PCI_BAR0, 4, 0xffffffff);
	assert_int_equal(bar(0), ~(BAR_SIZE - 1));
	config_set(1, PCI_BAR0, 4, before);
	assert_int_equal(bar(0), before);
	memory_write(before, 4, 7);
	assert_int_equal(probes[0].registers[0], 7);
}

static void bar_moves(void **state)
{
	const u32 before = bar(0), after = 0xe1234000;

	(void)state;
	config_set(1, PCI_BAR0, 4, after | 0xfff);
	assert_int_equal(bar(0), after);
	memory_write(after + 4, 4, 5);
	assert_int_equal(probes[0].registers[1], 5);
	assert_int_equal(memory_read(before, 4), 0xffffffff);
	memory_write(before, 4, 1);
	assert_int_equal(probes[0].writes, 1);
}

static void bar_decodes_only_if_enabled(void **state)
{
	(void)state;
	config_set(1, PCI_COMMAND, 2, 0);
	memory_write(bar(0), 4, 1);
	assert_int_equal(memory_read(bar(0), 4), 0xffffffff);
	assert_int_equal(probes[0].writes, 0);
	config_set(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	memory_write(bar(0), 4, 1);
	assert_int_equal(probes[0].writes, 1);
}

/* Wherever the guest puts a BAR: nothing but what lies in the window is reached, and nothing else is covered. */
static void bar_in_a_wrong_place_is_not_reached(void **state)
{
	static const u32 places[] = {0,          0x1000,     0xbffff000, (u32)PCI_MMIO_END, (u32)PCI_ECAM,
				     0xfec00000, 0xfee00000, 0xfffff000};
	const u32 version = lapic_mmio(0x30);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		config_set(1, PCI_BAR0, 4, places[i]);
		memory_write(places[i], 4, 0);
		assert_int_equal(probes[0].writes, 0);
	}
	assert_int_equal(lapic_mmio(0x30), version);
	assert_int_equal(memory_read(ecam(1, 0), 4), 0x56781234);
}

static void bar_on_top_of_another_one_waits(void **state)
{
	struct probe *second = add_probe(1);
	const u32 first = bar(0), old = config_get(2, PCI_BAR0, 4);

	(void)state;
	config_set(2, PCI_BAR0, 4, first);
	memory_write(first, 4, 1);
	assert_int_equal(probes[0].writes + second->writes, 1);
	config_set(1, PCI_BAR0, 4, old); /* they change places */
	memory_write(first, 4, 1);
	assert_int_equal(second->registers[0], 1);
	memory_write(old, 4, 2);
	assert_int_equal(probes[0].registers[0], 2);
}

static void last_page_of_the_window_decodes(void **state)
{
	(void)state;
	config_set(1, PCI_BAR0, 4, (u32)PCI_MMIO_END - BAR_SIZE);
	memory_write(PCI_MMIO_END - BAR_SIZE, 4, 3);
	assert_int_equal(probes[0].registers[0], 3);
	/* an access that runs over the end reaches what is there on both sides */
	memory_read(PCI_MMIO_END - 2, 4);
}

static void bars_are_reached_from_inside(void **state)
{
	u64 value = 0;

	(void)state;
	config_set(1, PCI_COMMAND, 2, 0);
	assert_true(pci_bar_write(&probes[0].pci, 0, 4, 4, 99));
	assert_true(pci_bar_read(&probes[0].pci, 0, 4, 4, &value));
	assert_int_equal(value, 99);
	assert_false(pci_bar_read(&probes[0].pci, 0, BAR_SIZE - 2, 4, &value));
	assert_false(pci_bar_read(&probes[0].pci, 0, UINT32_MAX, 4, &value));
	assert_false(pci_bar_write(&probes[0].pci, 1, 0, 1, 0));
	assert_false(pci_bar_write(&probes[0].pci, PCI_BARS, 0, 1, 0));
	assert_false(pci_bar_write(&probes[0].pci, 255, 0, 1, 0));
}

/* --- MSI-X ------------------------------------------------------------------------------------------------------- */

static unsigned msix_at(void)
{
	unsigned at = config_get(1, PCI_CAPABILITIES, 1);

	while (config_get(1, at, 1) != PCI_CAP_MSIX) {
		at = config_get(1, at + 1, 1);
		assert_int_not_equal(at, 0);
	}
	return at;
}

static void msix_control(u16 value)
{
	config_set(1, msix_at() + 2, 2, value);
}

static void set_entry(unsigned n, u32 data, u32 control)
{
	const u64 entry = bar(2) + 16 * (u64)n;

	memory_write(entry, 4, MSI_ADDRESS);
	memory_write(entry + 4, 4, 0);
	memory_write(entry + 8, 4, data);
	memory_write(entry + 12, 4, control);
}

static u64 pending(void)
{
	return memory_read(bar(2) + MSIX_PENDING, 8);
}

/* The local APIC takes interrupts, and 0 to 2 have the vectors from VECTOR on. */
static void enable_msix(void)
{
	lapic_set(0xf0, 0x1ff);
	config_set(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned i = 0; i < 3; i++)
		set_entry(i, VECTOR + i, 0);
	msix_control(0x8000);
}

static void expect_vector(int vector)
{
	assert_int_equal(irqchip_acknowledge(vm->irqchip), vector);
	if (vector >= 0)
		lapic_set(0xb0, 0);
}

static void msix_says_where_its_table_is(void **state)
{
	const unsigned at = msix_at();

	(void)state;
	assert_int_equal(config_get(1, at + 2, 2), 2); /* 3 vectors, disabled */
	assert_int_equal(config_get(1, at + 4, 4), 2);
	assert_int_equal(config_get(1, at + 8, 4), MSIX_PENDING | 2);
	config_set(1, at, 4, 0xffffffff);
	config_set(1, at + 4, 4, 0xffffffff);
	config_set(1, at + 8, 4, 0xffffffff);
	assert_int_equal(config_get(1, at + 2, 2), 0xc002);
	assert_int_equal(config_get(1, at + 4, 4), 2);
	assert_int_equal(config_get(1, at + 8, 4), MSIX_PENDING | 2);
}

static void table_reads_what_was_written(void **state)
{
	(void)state;
	assert_int_equal(memory_read(bar(2) + 12, 4), 1); /* masked after reset */
	memory_write(bar(2) + 16, 8, 0x1122334455667788);
	assert_int_equal(memory_read(bar(2) + 16, 8), 0x1122334455667788);
	assert_int_equal(memory_read(bar(2) + 18, 2), 0x5566);
	memory_write(bar(2) + 19, 1, 0xaa);
	assert_int_equal(memory_read(bar(2) + 16, 4), 0xaa667788);
	memory_write(bar(2) + 16 * 3, 4, 1); /* there is no fourth one */
	assert_int_equal(memory_read(bar(2) + 16 * 3, 4), 0);
	memory_write(bar(2) + MSIX_PENDING, 8, ~0ULL);
	assert_int_equal(pending(), 0);
	assert_int_equal(memory_read(bar(2) + MSIX_PENDING + 8, 4), 0);
}

static void message_is_sent(void **state)
{
	(void)state;
	enable_msix();
	msix_raise(&probes[0].pci, 1);
	assert_true(seen.irq_line);
	expect_vector(VECTOR + 1);
	msix_raise(&probes[0].pci, 3); /* there is none: nothing */
	msix_raise(&probes[0].pci, 0xffff);
	expect_vector(-1);
}

static void masked_vector_is_pending(void **state)
{
	(void)state;
	enable_msix();
	set_entry(2, VECTOR + 2, 1);
	msix_raise(&probes[0].pci, 2);
	msix_raise(&probes[0].pci, 2);
	expect_vector(-1);
	assert_int_equal(pending(), 4);
	set_entry(2, VECTOR + 5, 0); /* the message may change in the meantime */
	assert_int_equal(pending(), 0);
	expect_vector(VECTOR + 5);
	expect_vector(-1);
}

static void masked_function_is_pending(void **state)
{
	(void)state;
	enable_msix();
	msix_control(0xc000);
	msix_raise(&probes[0].pci, 0);
	msix_raise(&probes[0].pci, 1);
	expect_vector(-1);
	assert_int_equal(pending(), 3);
	msix_control(0x8000);
	assert_int_equal(pending(), 0);
	expect_vector(VECTOR + 1);
	expect_vector(VECTOR);
}

static void disabled_function_forgets(void **state)
{
	(void)state;
	enable_msix();
	msix_control(0);
	msix_raise(&probes[0].pci, 0);
	assert_int_equal(pending(), 0);
	msix_control(0x8000);
	expect_vector(-1);
}

static void who_is_not_master_sends_nothing(void **state)
{
	(void)state;
	enable_msix();
	config_set(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	msix_raise(&probes[0].pci, 0);
	expect_vector(-1);
	config_set(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	expect_vector(VECTOR);
}

static void message_to_elsewhere_is_lost(void **state)
{
	(void)state;
	enable_msix();
	memory_write(bar(2), 4, 0x1000);
	msix_raise(&probes[0].pci, 0);
	memory_write(bar(2), 4, MSI_ADDRESS);
	memory_write(bar(2) + 4, 4, 1);
	msix_raise(&probes[0].pci, 0);
	expect_vector(-1);
	assert_false(seen.irq_line);
}

/* --- INTA -------------------------------------------------------------------------------------------------------- */

static void enable_pin(unsigned gsi, u8 vector)
{
	lapic_set(0xf0, 0x1ff);
	ioapic_set(IOAPIC_ENTRY(gsi) + 1, 0);
	ioapic_set(IOAPIC_ENTRY(gsi), 0x8000 | vector); /* level-triggered */
}

static void line_reaches_its_pin(void **state)
{
	(void)state;
	enable_pin(pci_slot_gsi(1), VECTOR);
	assert_int_equal(config_get(1, PCI_STATUS, 2) & 8, 0);
	pci_set_line(&probes[0].pci, true);
	assert_int_equal(config_get(1, PCI_STATUS, 2) & 8, 8);
	expect_vector(VECTOR);
	expect_vector(VECTOR); /* after each end of interrupt again, while it is asserted */
	pci_set_line(&probes[0].pci, false);
	expect_vector(VECTOR); /* that one was on its way */
	expect_vector(-1);
	assert_int_equal(config_get(1, PCI_STATUS, 2) & 8, 0);
}

/* And the 8259's input, as a level: for guests without an IOAPIC. */
static void line_reaches_the_8259(void **state)
{
	const unsigned gsi = pci_slot_gsi(1);

	(void)state;
	assert_true(gsi >= 8 && gsi < 16);
	assert_int_equal(in8(PORT_PIC_ELCR + 1) >> (gsi - 8) & 1, 1);
	out8(PORT_PIC_SLAVE, 0x0a); /* the request register is read */
	pci_set_line(&probes[0].pci, true);
	assert_int_equal(in8(PORT_PIC_SLAVE), 1 << (gsi - 8));
	pci_set_line(&probes[0].pci, false);
	assert_int_equal(in8(PORT_PIC_SLAVE), 0);
}

static void line_can_be_disabled(void **state)
{
	(void)state;
	enable_pin(pci_slot_gsi(1), VECTOR);
	config_set(1, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	pci_set_line(&probes[0].pci, true);
	expect_vector(-1);
	assert_int_equal(config_get(1, PCI_STATUS, 2) & 8, 8); /* it is asserted, nobody hears of it */
	config_set(1, PCI_COMMAND, 2, 0);
	expect_vector(VECTOR);
}

static void msix_takes_the_place_of_the_line(void **state)
{
	(void)state;
	enable_pin(pci_slot_gsi(1), VECTOR);
	pci_set_line(&probes[0].pci, true);
	msix_control(0x8000);
	expect_vector(VECTOR);
	expect_vector(-1);
	msix_control(0);
	expect_vector(VECTOR);
}

/* Slots 1 and 4 share a line: it is down when neither asserts it. */
static void lines_are_shared(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 4; i++)
		add_probe(i);
	assert_int_equal(pci_slot_gsi(1), pci_slot_gsi(4));
	enable_pin(pci_slot_gsi(4), VECTOR);
	pci_set_line(&probes[0].pci, true);
	pci_set_line(&probes[3].pci, true);
	pci_set_line(&probes[0].pci, false);
	expect_vector(VECTOR);
	expect_vector(VECTOR);
	pci_set_line(&probes[3].pci, false);
	expect_vector(VECTOR);
	expect_vector(-1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		TEST(bridge_and_device_are_found),
		TEST(data_port_needs_the_enable_bit),
		TEST(parts_of_registers_are_read),
		TEST(address_port_takes_words_of_32_bits),
		TEST(reset_register_is_in_the_middle),
		TEST(ecam_shows_the_same),
		TEST(what_is_fixed_cannot_be_written),
		TEST(hooks_hear_of_accesses),
		TEST(bus_has_room_for_32),
		TEST(bars_are_placed_and_decode),
		TEST(bar_shows_its_size),
		TEST(bar_moves),
		TEST(bar_decodes_only_if_enabled),
		TEST(bar_in_a_wrong_place_is_not_reached),
		TEST(bar_on_top_of_another_one_waits),
		TEST(last_page_of_the_window_decodes),
		TEST(bars_are_reached_from_inside),
		TEST(msix_says_where_its_table_is),
		TEST(table_reads_what_was_written),
		TEST(message_is_sent),
		TEST(masked_vector_is_pending),
		TEST(masked_function_is_pending),
		TEST(disabled_function_forgets),
		TEST(who_is_not_master_sends_nothing),
		TEST(message_to_elsewhere_is_lost),
		TEST(line_reaches_its_pin),
		TEST(line_reaches_the_8259),
		TEST(line_can_be_disabled),
		TEST(msix_takes_the_place_of_the_line),
		TEST(lines_are_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
