/* Layout of the ACPI tables that acpi.c fills in (ACPI 6.4, 5.2). All fields little-endian, unaligned. */
#ifndef AVANT_BOOT_ACPI_TABLES_H
#define AVANT_BOOT_ACPI_TABLES_H

#include "dev/platform.h"
#include "util/types.h"

#define PACKED __attribute__((packed))

/* 5.2.5.3 */
struct acpi_rsdp {
	char signature[8];
	u8 checksum; /* of the first 20 bytes */
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
	u8 extended_checksum; /* of all */
	u8 reserved[3];
} PACKED;

/* 5.2.6 */
struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} PACKED;

struct acpi_xsdt {
	struct acpi_header header;
	u64 table[3];
} PACKED;

/* 5.2.3.2: generic address structure */
struct acpi_address {
	u8 space, bit_width, bit_offset, access_size;
	u64 address;
} PACKED;

#define ACPI_SPACE_IO     1
#define ACPI_ACCESS_BYTE  1
#define ACPI_ACCESS_WORD  2
#define ACPI_ACCESS_DWORD 3

/* 5.2.9 */
struct acpi_fadt {
	struct acpi_header header;
	u32 facs, dsdt;
	u8 reserved0, preferred_profile;
	u16 sci_irq;
	u32 smi_command;
	u8 acpi_enable, acpi_disable, s4bios_request, pstate_control;
	u32 pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	u8 pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
	u8 gpe0_length, gpe1_length, gpe1_base, cst_control;
	u16 c2_latency, c3_latency, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alarm, month_alarm, century;
	u16 boot_architecture;
	u8 reserved1;
	u32 flags;
	struct acpi_address reset_register;
	u8 reset_value;
	u16 arm_boot_architecture;
	u8 minor_revision;
	u64 x_facs, x_dsdt;
	struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer;
	struct acpi_address x_gpe0, x_gpe1, sleep_control, sleep_status;
	u64 hypervisor_vendor;
} PACKED;

#define FADT_WBINVD         BIT(0) /* the instruction works */
#define FADT_C1             BIT(2) /* HLT is supported */
#define FADT_SLEEP_BUTTON   BIT(5) /* not a fixed feature: there is none */
#define FADT_FIXED_RTC      BIT(6) /* RTC wake status is not in fixed registers */
#define FADT_TIMER_32_BIT   BIT(8)
#define FADT_RESET_REGISTER BIT(10)

#define FADT_BOOT_LEGACY_DEVICES BIT(0) /* such as the serial port */
#define FADT_BOOT_8042           BIT(1)
#define FADT_BOOT_NO_VGA         BIT(2)
#define FADT_BOOT_NO_CMOS_RTC    BIT(5)

/* 5.2.10 */
struct acpi_facs {
	char signature[4];
	u32 length, hardware_signature, waking_vector, global_lock, flags;
	u64 x_waking_vector;
	u8 version;
	u8 reserved0[3];
	u32 ospm_flags;
	u8 reserved1[24];
} PACKED;

/* 5.2.12 and its sections */
struct madt_lapic {
	u8 type, length, processor_uid, apic_id;
	u32 flags;
} PACKED;

struct madt_ioapic {
	u8 type, length, id, reserved;
	u32 address, gsi_base;
} PACKED;

struct madt_override {
	u8 type, length, bus, irq;
	u32 gsi;
	u16 flags;
} PACKED;

struct madt_lapic_nmi {
	u8 type, length, processor_uid;
	u16 flags;
	u8 lint;
} PACKED;

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4 };

#define MADT_PCAT_COMPAT       1 /* there are 8259s as well */
#define MADT_LAPIC_ENABLED     1
#define MADT_ALL_PROCESSORS    0xff
#define MADT_BUS_DEFAULT       0 /* edge-triggered, active high on ISA */
#define MADT_ACTIVE_HIGH_LEVEL 0x0d
#define MADT_ACTIVE_LOW_LEVEL  0x0f

struct acpi_madt {
	struct acpi_header header;
	u32 lapic_address, flags;
	struct madt_lapic lapic;
	struct madt_ioapic ioapic;
	struct madt_override timer, sci, pci[PCI_GSI_COUNT];
	struct madt_lapic_nmi nmi;
} PACKED;

/* PCI firmware specification 3.0, 4.1.2; for one host bridge. */
struct acpi_mcfg {
	struct acpi_header header;
	u64 reserved0;
	u64 address;
	u16 segment;
	u8 first_bus, last_bus;
	u32 reserved1;
} PACKED;

_Static_assert(sizeof(struct acpi_mcfg) == 60, "MCFG with one entry");
_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");
_Static_assert(sizeof(struct acpi_header) == 36, "table header");
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT of revision 6");
_Static_assert(offsetof(struct acpi_fadt, flags) == 112, "FADT flags");
_Static_assert(offsetof(struct acpi_fadt, x_pm1a_event) == 148, "FADT X_PM1a_EVT_BLK");
_Static_assert(sizeof(struct acpi_facs) == 64, "FACS");
_Static_assert(sizeof(struct madt_lapic) == 8, "MADT local APIC");
_Static_assert(sizeof(struct madt_ioapic) == 12, "MADT I/O APIC");
_Static_assert(sizeof(struct madt_override) == 10, "MADT interrupt source override");
_Static_assert(sizeof(struct madt_lapic_nmi) == 6, "MADT local APIC NMI");

#undef PACKED
#endif
