/*
 * Interrupt controllers as the rest of the machine sees them: lines in, vectors out. The 8259 pair, the IOAPIC and the
 * local APIC are one file each behind this.
 */
#ifndef AVANT_DEV_IRQCHIP_H
#define AVANT_DEV_IRQCHIP_H

#include "util/types.h"

struct vm;
struct irqchip;

/* The local APIC timer's input clock, before its divider: what a CPUID leaf or a calibration should find. */
#define LAPIC_TIMER_HZ 1000000000ULL

/* Adds its port and MMIO ranges to the VM's buses; the vCPU and the clock must exist. NULL: out of memory. */
struct irqchip *irqchip_create(struct vm *vm);
void irqchip_destroy(struct irqchip *chip);

/* Global system interrupt `gsi` (0–23; ISA IRQs identity-mapped but IRQ 0 on GSI 2) is raised or lowered. */
void irqchip_set_line(struct irqchip *chip, unsigned gsi, bool level);

/* Message-signalled interrupt (SDM vol. 3A, 10.11). */
void irqchip_message(struct irqchip *chip, u64 address, u32 data);

/* The vector to deliver now (acknowledged: IRR → ISR), or -1. Called with interrupts enabled in the guest. */
int irqchip_acknowledge(struct irqchip *chip);

/* True once for each NMI that has arrived (announced with vcpu_notify). */
bool irqchip_take_nmi(struct irqchip *chip);

/* x2APIC MSRs 0x800–0x8ff, IA32_APIC_BASE, IA32_TSC_DEADLINE, CR8. Return 0, or -1 where #GP(0) is due. */
int lapic_read_msr(struct irqchip *chip, u32 msr, u64 *value);
int lapic_write_msr(struct irqchip *chip, u32 msr, u64 value);
u64 lapic_read_base(struct irqchip *chip);
int lapic_write_base(struct irqchip *chip, u64 value);
u64 lapic_read_deadline(struct irqchip *chip);
void lapic_write_deadline(struct irqchip *chip, u64 tsc);
/* The guest has asked for the wall clock: its time starts (dev/tick_backlog.h). */
void lapic_time_starts(struct irqchip *chip);
/* vcpu->tsc_offset has changed: an armed deadline comes earlier or later. */
void lapic_tsc_moved(struct irqchip *chip);
u64 lapic_read_cr8(struct irqchip *chip);
void lapic_write_cr8(struct irqchip *chip, u64 value);

#endif
