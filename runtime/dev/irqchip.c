#include "dev/irqchip.h"

#include "cpu/vcpu.h"
#include "dev/irqchip_parts.h"
#include "dev/platform.h"
#include "vm.h"

#include <stdlib.h>

struct irqchip *irqchip_create(struct vm *vm)
{
	struct irqchip *chip = calloc(1, sizeof(*chip));

	if (!chip)
		return NULL;
	chip->vm = vm;
	chip->pic = pic_create(vm, chip);
	chip->ioapic = ioapic_create(vm, chip);
	chip->lapic = lapic_create(vm, chip);
	if (!chip->pic || !chip->ioapic || !chip->lapic) {
		irqchip_destroy(chip);
		return NULL;
	}
	return chip;
}

void irqchip_destroy(struct irqchip *chip)
{
	if (!chip)
		return;
	lapic_destroy(chip->lapic);
	ioapic_destroy(chip->ioapic);
	pic_destroy(chip->pic);
	free(chip);
}

void irqchip_update(struct irqchip *chip)
{
	bool lint0 = pic_output(chip->pic), line;

	if (lint0 != chip->lint0) {
		chip->lint0 = lint0;
		if (lint0)
			lapic_lint0_rise(chip->lapic);
	}
	line = lapic_deliverable(chip->lapic) || (lint0 && lapic_passes_extint(chip->lapic));
	if (line != chip->line) {
		chip->line = line;
		vm_set_irq_line(chip->vm, line);
	}
}

void irqchip_raise_nmi(struct irqchip *chip)
{
	chip->nmi = true;
	vcpu_notify(chip->vm->vcpu);
}

bool irqchip_take_nmi(struct irqchip *chip)
{
	bool nmi = chip->nmi;

	chip->nmi = false;
	return nmi;
}

void irqchip_set_line(struct irqchip *chip, unsigned gsi, bool level)
{
	if (gsi >= GSI_COUNT)
		return;
	/* The timer's line is wired to pin 2 of the IOAPIC and to pin 0 of the 8259, whose pin 2 is the cascade. */
	if (gsi == GSI_PIT)
		pic_set_irq(chip->pic, 0, level);
	else if (gsi > 0 && gsi < 16)
		pic_set_irq(chip->pic, gsi, level);
	ioapic_set_pin(chip->ioapic, gsi, level);
	irqchip_update(chip);
}

/* SDM vol. 3A, 10.11.1 and 10.11.2. */
void irqchip_message(struct irqchip *chip, u64 address, u32 data)
{
	struct apic_message message = {
		.destination = (address >> 12) & 0xff,
		.logical = (address & 4) != 0,
		.level = (data & BIT(15)) != 0,
		.mode = (data >> 8) & 7,
		.vector = data & 0xff,
	};

	if ((address & ~0xfffffULL) != MMIO_LAPIC)
		return;
	if (message.level && !(data & BIT(14)))
		return;
	lapic_deliver(chip->lapic, &message);
	irqchip_update(chip);
}

int irqchip_acknowledge(struct irqchip *chip)
{
	int vector;

	/* An external interrupt is not subject to the local APIC's priorities (SDM vol. 3A, 10.8.1). */
	if (chip->lint0 && lapic_passes_extint(chip->lapic))
		vector = pic_acknowledge(chip->pic);
	else
		vector = lapic_acknowledge(chip->lapic);
	irqchip_update(chip);
	return vector;
}
