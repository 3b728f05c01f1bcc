/* What the interrupt controllers know of each other. Only irqchip.c, pic.c, ioapic.c and lapic.c include this. */
#ifndef AVANT_DEV_IRQCHIP_PARTS_H
#define AVANT_DEV_IRQCHIP_PARTS_H

#include "dev/irqchip.h"
#include "util/types.h"

struct irqchip {
	struct vm *vm;
	struct pic *pic;
	struct ioapic *ioapic;
	struct lapic *lapic;
	bool line;  /* what vm_set_irq_line was last told */
	bool lint0; /* the 8259 pair's INTR, which is the local APIC's LINT0 */
	bool nmi;   /* not yet taken */
};

/* Something changed in a controller: recompute the vCPU's interrupt line. */
void irqchip_update(struct irqchip *chip);
void irqchip_raise_nmi(struct irqchip *chip);

/* Two cascaded 8259A; `irq` is 0–15. */
struct pic *pic_create(struct vm *vm, struct irqchip *chip);
void pic_destroy(struct pic *pic);
void pic_set_irq(struct pic *pic, unsigned irq, bool level);
bool pic_output(const struct pic *pic);
/* Both INTA cycles: the vector, a spurious one if nothing is requested any longer. */
int pic_acknowledge(struct pic *pic);

/* 82093AA with 24 pins. */
struct ioapic *ioapic_create(struct vm *vm, struct irqchip *chip);
void ioapic_destroy(struct ioapic *ioapic);
void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level);
/* The local APIC has finished a level-triggered interrupt with this vector. */
void ioapic_end_of_interrupt(struct ioapic *ioapic, u8 vector);

/* Delivery modes of the ICR, of LVT and redirection entries, and of messages (SDM vol. 3A, 10.6.1). */
enum apic_mode {
	APIC_FIXED,
	APIC_LOWEST,
	APIC_SMI,
	APIC_RESERVED,
	APIC_NMI,
	APIC_INIT,
	APIC_STARTUP,
	APIC_EXTINT,
};

struct apic_message {
	u32 destination; /* 8 bits wide from IOAPIC, MSI and xAPIC, where 0xff is everybody */
	bool wide;       /* the destination is one of x2APIC mode, 32 bits wide */
	bool logical;
	bool level;
	u8 mode; /* enum apic_mode */
	u8 vector;
};

struct lapic *lapic_create(struct vm *vm, struct irqchip *chip);
void lapic_destroy(struct lapic *lapic);
/* False if it is not for this APIC, or the APIC does not take it in its present state. */
bool lapic_deliver(struct lapic *lapic, const struct apic_message *message);
/* Is there a vector that the processor's priority lets through? */
bool lapic_deliverable(const struct lapic *lapic);
/* Moves that vector from IRR to ISR and returns it; -1 if there is none. */
int lapic_acknowledge(struct lapic *lapic);
/* Does the 8259 pair's INTR reach the processor as an external interrupt? */
bool lapic_passes_extint(const struct lapic *lapic);
/* LINT0 went up: an interrupt if LINT0 is programmed to be something else than ExtINT. */
void lapic_lint0_rise(struct lapic *lapic);

#endif
