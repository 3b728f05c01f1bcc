#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/acpi.h"
#include "boot/acpi_tables.h"
#include "boot/aml.h"
#include "dev/platform.h"
#include "dev/rtc.h"

#define AREA_GPA  0xe0000ULL
#define AREA_SIZE 0x20000ULL

struct tables {
	u8 *area;
	u64 rsdp_gpa;
};

static void *at(const struct tables *t, u64 gpa, u64 length)
{
	assert_true(gpa >= AREA_GPA && gpa + length <= AREA_GPA + AREA_SIZE);
	return t->area + (gpa - AREA_GPA);
}

static u8 sum(const void *data, u64 length)
{
	u8 total = 0;

	for (u64 i = 0; i < length; i++)
		total += ((const u8 *)data)[i];
	return total;
}

static void *table_at(const struct tables *t, u64 gpa, const char *signature)
{
	struct acpi_header *header = at(t, gpa, sizeof(*header));

	assert_memory_equal(header->signature, signature, 4);
	at(t, gpa, header->length);
	assert_int_equal(sum(header, header->length), 0);
	return header;
}

static struct acpi_xsdt *xsdt_of(const struct tables *t)
{
	struct acpi_rsdp *rsdp = at(t, t->rsdp_gpa, sizeof(*rsdp));

	return table_at(t, rsdp->xsdt, "XSDT");
}

static int set_up(void **state)
{
	struct tables *t = malloc(sizeof(*t));

	t->area = malloc(AREA_SIZE);
	memset(t->area, 0xee, AREA_SIZE); /* nothing may depend on zeroed memory */
	t->rsdp_gpa = acpi_build(t->area, AREA_GPA, AREA_SIZE);
	*state = t;
	return 0;
}

static int tear_down(void **state)
{
	struct tables *t = *state;

	free(t->area);
	free(t);
	return 0;
}

static void rsdp_can_be_found(void **state)
{
	struct tables *t = *state;
	struct acpi_rsdp *rsdp = at(t, t->rsdp_gpa, sizeof(*rsdp));

	assert_int_equal(t->rsdp_gpa % 16, 0);
	assert_memory_equal(rsdp->signature, "RSD PTR ", 8);
	assert_int_equal(rsdp->revision, 2);
	assert_int_equal(rsdp->length, 36);
	assert_int_equal(rsdp->rsdt, 0);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(xsdt_of(t)->header.length, 36 + 2 * 8);
}

static void fadt_describes_the_platform(void **state)
{
	struct tables *t = *state;
	struct acpi_fadt *fadt = table_at(t, xsdt_of(t)->table[0], "FACP");

	assert_int_equal(fadt->header.length, 276);
	assert_int_equal(fadt->header.revision, 6);
	assert_int_equal(fadt->sci_irq, GSI_SCI);
	assert_int_equal(fadt->smi_command, 0);
	assert_int_equal(fadt->century, RTC_CENTURY);
	assert_int_equal(fadt->pm1a_event, PORT_ACPI_PM1_EVENT);
	assert_int_equal(fadt->pm1a_control, PORT_ACPI_PM1_CONTROL);
	assert_int_equal(fadt->pm_timer, PORT_ACPI_PM_TIMER);
	assert_int_equal(fadt->x_pm1a_event.address, PORT_ACPI_PM1_EVENT);
	assert_int_equal(fadt->x_pm1a_event.bit_width, fadt->pm1_event_length * 8);
	assert_int_equal(fadt->x_pm1a_control.bit_width, fadt->pm1_control_length * 8);
	assert_int_equal(fadt->x_pm_timer.bit_width, fadt->pm_timer_length * 8);
	assert_int_equal(fadt->reset_register.space, ACPI_SPACE_IO);
	assert_int_equal(fadt->reset_register.address, 0xcf9);
	assert_int_equal(fadt->reset_register.bit_width, 8);
	assert_int_equal(fadt->reset_value, 6);
	assert_int_equal(fadt->dsdt, fadt->x_dsdt);
	assert_int_equal(fadt->flags & BIT(4), 0);  /* power button: the fixed one */
	assert_int_equal(fadt->flags & BIT(20), 0); /* not hardware-reduced */
	assert_true(fadt->flags & BIT(8));          /* 32-bit timer */
	assert_true(fadt->flags & BIT(10));         /* reset register */
	assert_int_equal(fadt->boot_architecture & FADT_BOOT_8042, 0);
	assert_int_equal(fadt->boot_architecture & FADT_BOOT_NO_CMOS_RTC, 0);
	assert_true(fadt->boot_architecture & FADT_BOOT_NO_VGA);
}

static void facs_is_aligned(void **state)
{
	struct tables *t = *state;
	struct acpi_fadt *fadt = table_at(t, xsdt_of(t)->table[0], "FACP");
	struct acpi_facs *facs = at(t, fadt->facs, sizeof(*facs));

	assert_int_equal(fadt->facs % 64, 0);
	assert_memory_equal(facs->signature, "FACS", 4);
	assert_int_equal(facs->length, 64);
}

static void madt_entries_are_well_formed(void **state)
{
	struct tables *t = *state;
	struct acpi_madt *madt = table_at(t, xsdt_of(t)->table[1], "APIC");
	const u8 *p = (const u8 *)&madt->lapic, *end = (const u8 *)madt + madt->header.length;
	unsigned count[5] = {0};

	for (; p < end; p += p[1]) {
		assert_in_range(p[0], 0, 4);
		assert_true(p[1] >= 2 && p + p[1] <= end);
		count[p[0]]++;
	}
	assert_ptr_equal(p, end);
	assert_int_equal(count[MADT_LAPIC], 1);
	assert_int_equal(count[MADT_IOAPIC], 1);
	assert_int_equal(count[MADT_OVERRIDE], 2);
	assert_int_equal(count[MADT_LAPIC_NMI], 1);
	assert_int_equal(madt->lapic_address, 0xfee00000);
	assert_int_equal(madt->flags, 1);
	assert_int_equal(madt->ioapic.id, 1);
	assert_int_equal(madt->ioapic.address, 0xfec00000);
	assert_int_equal(madt->timer.irq, 0);
	assert_int_equal(madt->timer.gsi, GSI_PIT);
	assert_int_equal(madt->sci.irq, GSI_SCI);
	assert_int_equal(madt->sci.gsi, GSI_SCI);
	assert_int_equal(madt->sci.flags, 0x000d);
	assert_int_equal(madt->nmi.lint, 1);
}

/*
 * What ACPICA's compiler (iasl) makes of
 *
 *	DefinitionBlock ("", "DSDT", 2, "AVANT ", "AVANTVM ", 1)
 *	{
 *		Name (\_S5, Package (4) { 5, 0, 0, 0 })
 *		Scope (\_SB)
 *		{
 *			Device (COM1)
 *			{
 *				Name (_HID, EisaId ("PNP0501"))
 *				Name (_UID, 1)
 *				Name (_CRS, ResourceTemplate () {
 *					IO (Decode16, 0x3f8, 0x3f8, 1, 8)
 *					IRQNoFlags () {4}
 *				})
 *			}
 *			Device (RTC0)
 *			{
 *				Name (_HID, EisaId ("PNP0B00"))
 *				Name (_UID, 1)
 *				Name (_CRS, ResourceTemplate () {
 *					IO (Decode16, 0x70, 0x70, 1, 2)
 *					IRQNoFlags () {8}
 *				})
 *			}
 *		}
 *	}
 */
static const u8 compiled_dsdt[] = {
	0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x07, 0x04, 0x0a, 0x05, 0x00, 0x00, 0x00, 0x10, 0x40, 0x06,
	0x5f, 0x53, 0x42, 0x5f, 0x5b, 0x82, 0x2b, 0x43, 0x4f, 0x4d, 0x31, 0x08, 0x5f, 0x48, 0x49, 0x44,
	0x0c, 0x41, 0xd0, 0x05, 0x01, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x01, 0x08, 0x5f, 0x43, 0x52, 0x53,
	0x11, 0x10, 0x0a, 0x0d, 0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x22, 0x10, 0x00, 0x79,
	0x00, 0x5b, 0x82, 0x2b, 0x52, 0x54, 0x43, 0x30, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0,
	0x0b, 0x00, 0x08, 0x5f, 0x55, 0x49, 0x44, 0x01, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x10, 0x0a,
	0x0d, 0x47, 0x01, 0x70, 0x00, 0x70, 0x00, 0x01, 0x02, 0x22, 0x00, 0x01, 0x79, 0x00,
};

static void dsdt_is_what_the_compiler_makes(void **state)
{
	struct tables *t = *state;
	struct acpi_fadt *fadt = table_at(t, xsdt_of(t)->table[0], "FACP");
	struct acpi_header *dsdt = table_at(t, fadt->dsdt, "DSDT");

	assert_int_equal(dsdt->revision, 2);
	assert_int_equal(dsdt->length, sizeof(*dsdt) + sizeof(compiled_dsdt));
	assert_memory_equal(dsdt + 1, compiled_dsdt, sizeof(compiled_dsdt));
}

/* PkgLength takes a second byte from 64 on; its own bytes count. */
static void aml_lengths_switch_form(void **state)
{
	(void)state;
	for (unsigned filler = 50; filler < 70; filler++) {
		u8 code[128];
		struct aml aml = {.data = code, .capacity = sizeof(code)};
		unsigned content = 1 + filler; /* the element count, then zeros of one byte */

		aml_begin_package(&aml, (u8)filler);
		for (unsigned i = 0; i < filler; i++)
			aml_integer(&aml, 0);
		aml_end(&aml);
		if (content + 1 < 64) {
			assert_int_equal(code[1], content + 1);
			assert_int_equal(code[2], filler);
			assert_int_equal(aml.size, content + 2);
		} else {
			assert_int_equal(code[1] >> 4, 4);
			assert_int_equal((code[1] & 0xf) | code[2] << 4, content + 2);
			assert_int_equal(code[3], filler);
			assert_int_equal(aml.size, content + 3);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rsdp_can_be_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(fadt_describes_the_platform, set_up, tear_down),
		cmocka_unit_test_setup_teardown(facs_is_aligned, set_up, tear_down),
		cmocka_unit_test_setup_teardown(madt_entries_are_well_formed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(dsdt_is_what_the_compiler_makes, set_up, tear_down),
		cmocka_unit_test(aml_lengths_switch_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
