#include "boot/acpi.h"

#include <string.h>

#include "boot/acpi_tables.h"
#include "boot/aml.h"
#include "dev/pci.h"
#include "dev/platform.h"
#include "dev/rtc.h"
#include "util/err.h"

#define TABLE_ALIGN  64 /* the FACS demands it; the RSDP 16 */
#define RSDP_V1_SIZE 20
#define IOAPIC_ID    1
#define NO_C_STATE   0xffff /* a latency above 100 and 1000 µs: no C2, no C3 */

#define HEADER(name, table_revision)                                                                                   \
	{                                                                                                              \
		.signature = name, .revision = table_revision, .oem_id = "AVANT ", .oem_table_id = "AVANTVM ",         \
		.oem_revision = 1, .creator_id = "AVNT", .creator_revision = 1                                         \
	}
#define IO_REGISTER(port, bytes, access)                                                                               \
	{                                                                                                              \
		.space = ACPI_SPACE_IO, .bit_width = (bytes)*8, .access_size = access, .address = port                 \
	}

#define PM1_EVENT_LENGTH   4
#define PM1_CONTROL_LENGTH 2
#define PM_TIMER_LENGTH    4

static const struct acpi_fadt fadt = {
	.header = HEADER("FACP", 6),
	.minor_revision = 4,
	.sci_irq = GSI_SCI,
	/* smi_command 0: always in ACPI mode, SCI_EN reads as 1 */
	.pm1a_event = PORT_ACPI_PM1_EVENT,
	.pm1a_control = PORT_ACPI_PM1_CONTROL,
	.pm_timer = PORT_ACPI_PM_TIMER,
	.pm1_event_length = PM1_EVENT_LENGTH,
	.pm1_control_length = PM1_CONTROL_LENGTH,
	.pm_timer_length = PM_TIMER_LENGTH,
	.x_pm1a_event = IO_REGISTER(PORT_ACPI_PM1_EVENT, PM1_EVENT_LENGTH, ACPI_ACCESS_WORD),
	.x_pm1a_control = IO_REGISTER(PORT_ACPI_PM1_CONTROL, PM1_CONTROL_LENGTH, ACPI_ACCESS_WORD),
	.x_pm_timer = IO_REGISTER(PORT_ACPI_PM_TIMER, PM_TIMER_LENGTH, ACPI_ACCESS_DWORD),
	.c2_latency = NO_C_STATE,
	.c3_latency = NO_C_STATE,
	/* no 8042; a CMOS RTC if one is asked for; the power button is the fixed one of the PM1 registers */
	.boot_architecture = FADT_BOOT_LEGACY_DEVICES | FADT_BOOT_NO_VGA,
	.flags = FADT_WBINVD | FADT_C1 | FADT_SLEEP_BUTTON | FADT_FIXED_RTC | FADT_TIMER_32_BIT | FADT_RESET_REGISTER,
	.reset_register = IO_REGISTER(PORT_RESET, 1, ACPI_ACCESS_BYTE),
	.reset_value = 0x06,
};

static const struct acpi_facs facs = {.signature = "FACS", .length = sizeof(facs), .version = 2};

/* ISA's interrupts are edges; these are what PCI has. */
#define PCI_OVERRIDE(number)                                                                                           \
	{                                                                                                              \
		.type = MADT_OVERRIDE, .length = sizeof(struct madt_override), .irq = number, .gsi = number,           \
		.flags = MADT_ACTIVE_LOW_LEVEL                                                                         \
	}

static const struct acpi_madt madt = {
	.header = HEADER("APIC", 5),
	.lapic_address = MMIO_LAPIC,
	.flags = MADT_PCAT_COMPAT,
	.lapic = {.type = MADT_LAPIC, .length = sizeof(struct madt_lapic), .flags = MADT_LAPIC_ENABLED},
	.ioapic = {.type = MADT_IOAPIC, .length = sizeof(struct madt_ioapic), .id = IOAPIC_ID, .address = MMIO_IOAPIC},
	.timer = {.type = MADT_OVERRIDE,
		  .length = sizeof(struct madt_override),
		  .irq = 0,
		  .gsi = GSI_PIT,
		  .flags = MADT_BUS_DEFAULT},
	.sci = {.type = MADT_OVERRIDE,
		.length = sizeof(struct madt_override),
		.irq = GSI_SCI,
		.gsi = GSI_SCI,
		.flags = MADT_ACTIVE_HIGH_LEVEL},
	.pci = {PCI_OVERRIDE(GSI_PCI_0), PCI_OVERRIDE(GSI_PCI_1), PCI_OVERRIDE(GSI_PCI_2)},
	.nmi = {.type = MADT_LAPIC_NMI,
		.length = sizeof(struct madt_lapic_nmi),
		.processor_uid = MADT_ALL_PROCESSORS,
		.flags = MADT_BUS_DEFAULT,
		.lint = 1},
};

static const struct acpi_mcfg mcfg = {.header = HEADER("MCFG", 1), .address = PCI_ECAM};

/* --- DSDT ------------------------------------------------------------------------------------------------------ */

static void add_isa_device(struct aml *aml, const char *name, const char *id, u16 port, u8 length, u8 irq)
{
	aml_begin_device(aml, name);
	aml_name(aml, "_HID");
	aml_eisa_id(aml, id);
	aml_name(aml, "_UID");
	aml_integer(aml, 1);
	aml_name(aml, "_CRS");
	aml_begin_resources(aml);
	aml_io(aml, port, length);
	aml_irq(aml, irq);
	aml_end_resources(aml);
	aml_end(aml);
}

static void add_pci_resources(struct aml *aml)
{
	aml_name(aml, "_CRS");
	aml_begin_resources(aml);
	aml_bus_numbers(aml, 0, 0);
	aml_io(aml, PORT_PCI, 8);
	aml_port_window(aml, 0, PORT_PCI - 1);
	aml_port_window(aml, PORT_PCI + 8, 0xffff);
	aml_memory_window(aml, (u32)PCI_MMIO_BASE, (u32)PCI_MMIO_END - 1);
	aml_end_resources(aml);
}

/* Which global interrupt INTA of each slot is (6.2.13). */
static void add_pci_routes(struct aml *aml)
{
	aml_name(aml, "_PRT");
	aml_begin_package(aml, PCI_SLOTS);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		aml_begin_package(aml, 4);
		aml_integer(aml, slot << 16 | 0xffff); /* any function of it */
		aml_integer(aml, 0);                   /* INTA */
		aml_integer(aml, 0);                   /* the next is an interrupt's number */
		aml_integer(aml, pci_slot_gsi(slot));
		aml_end(aml);
	}
	aml_end(aml);
}

static void add_pci(struct aml *aml)
{
	aml_begin_device(aml, "PCI0");
	aml_name(aml, "_HID");
	aml_eisa_id(aml, "PNP0A08");
	aml_name(aml, "_CID");
	aml_eisa_id(aml, "PNP0A03");
	aml_name(aml, "_UID");
	aml_integer(aml, 0);
	add_pci_resources(aml);
	add_pci_routes(aml);
	/* whatever the system wants to control, it may: the features it asks about are not there (6.2.11) */
	aml_begin_method(aml, "_OSC", 4);
	aml_return_argument(aml, 3);
	aml_end(aml);
	aml_end(aml);

	/* what no device may be put on */
	aml_begin_device(aml, "ECAM");
	aml_name(aml, "_HID");
	aml_eisa_id(aml, "PNP0C02");
	aml_name(aml, "_UID");
	aml_integer(aml, 1);
	aml_name(aml, "_CRS");
	aml_begin_resources(aml);
	aml_memory(aml, (u32)PCI_ECAM, (u32)PCI_ECAM_SIZE);
	aml_end_resources(aml);
	aml_end(aml);
}

static void build_definitions(struct aml *aml, bool rtc)
{
	aml_name(aml, "_S5_"); /* what to write to SLP_TYP of PM1a and PM1b for power-off (7.4.2) */
	aml_begin_package(aml, 4);
	aml_integer(aml, ACPI_SLEEP_TYPE_S5);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_end(aml);

	aml_begin_scope(aml, "_SB_");
	add_isa_device(aml, "COM1", "PNP0501", PORT_UART, 8, GSI_UART);
	if (rtc)
		add_isa_device(aml, "RTC0", "PNP0B00", PORT_RTC, 2, GSI_RTC);
	add_pci(aml);
	aml_end(aml);
}

/* --- putting them into memory ---------------------------------------------------------------------------------- */

struct area {
	u8 *host;
	u64 gpa, size, used;
};

/* Room for a table; its guest physical address goes to *gpa. */
static void *reserve(struct area *area, u64 size, u64 *gpa)
{
	u64 at = align_up(area->used, TABLE_ALIGN);

	if (at + size > area->size)
		BUG("ACPI tables do not fit into %llu bytes", (unsigned long long)area->size);
	area->used = at + size;
	*gpa = area->gpa + at;
	return area->host + at;
}

static u8 checksum(const void *data, u64 length)
{
	u8 sum = 0;

	for (u64 i = 0; i < length; i++)
		sum += ((const u8 *)data)[i];
	return (u8)-sum;
}

static void seal(struct acpi_header *header, u64 length)
{
	header->length = (u32)length;
	header->checksum = 0;
	header->checksum = checksum(header, length);
}

static u64 add_dsdt(struct area *area, bool rtc)
{
	u64 gpa;
	struct acpi_header *header = reserve(area, sizeof(*header), &gpa);
	struct aml aml = {.data = (u8 *)(header + 1), .capacity = area->size - area->used};

	*header = (struct acpi_header)HEADER("DSDT", 2);
	build_definitions(&aml, rtc);
	area->used += aml.size; /* the code follows its header without a gap */
	seal(header, sizeof(*header) + aml.size);
	return gpa;
}

static u64 add_fadt(struct area *area, bool rtc)
{
	u64 gpa, facs_gpa, dsdt_gpa = add_dsdt(area, rtc);
	struct acpi_fadt *table = reserve(area, sizeof(fadt), &gpa);

	memcpy(reserve(area, sizeof(facs), &facs_gpa), &facs, sizeof(facs));
	*table = fadt;
	if (rtc)
		table->century = RTC_CENTURY;
	else
		table->boot_architecture |= FADT_BOOT_NO_CMOS_RTC;
	table->facs = (u32)facs_gpa; /* x_facs stays 0: one of the two (5.2.9) */
	table->dsdt = (u32)dsdt_gpa;
	table->x_dsdt = dsdt_gpa;
	seal(&table->header, sizeof(fadt));
	return gpa;
}

/* A table that needs nothing but its checksum. */
static u64 add_constant(struct area *area, const void *contents, u64 size)
{
	u64 gpa;
	void *table = reserve(area, size, &gpa);

	memcpy(table, contents, size);
	seal(table, size);
	return gpa;
}

u64 acpi_build(u8 *area, u64 gpa, u64 size, bool rtc)
{
	struct area a = {.host = area, .gpa = gpa, .size = size};
	u64 rsdp_gpa, xsdt_gpa;
	struct acpi_rsdp *rsdp = reserve(&a, sizeof(*rsdp), &rsdp_gpa);
	struct acpi_xsdt *xsdt = reserve(&a, sizeof(*xsdt), &xsdt_gpa);

	*xsdt = (struct acpi_xsdt){.header = HEADER("XSDT", 1)};
	xsdt->table[0] = add_fadt(&a, rtc);
	xsdt->table[1] = add_constant(&a, &madt, sizeof(madt));
	xsdt->table[2] = add_constant(&a, &mcfg, sizeof(mcfg));
	seal(&xsdt->header, sizeof(*xsdt));

	*rsdp = (struct acpi_rsdp){
		.signature = "RSD PTR ", .oem_id = "AVANT ", .revision = 2, .length = sizeof(*rsdp), .xsdt = xsdt_gpa};
	rsdp->checksum = checksum(rsdp, RSDP_V1_SIZE);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
	return rsdp_gpa;
}
