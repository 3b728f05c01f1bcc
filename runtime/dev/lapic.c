/*
 * Local APIC (SDM vol. 3A, chapter 10) of the only processor: xAPIC registers by MMIO, x2APIC registers by MSR, timer
 * in its three modes. APIC ID 0. Both register files are one, addressed by the MMIO offset / 16.
 */
#include "cpu/vcpu.h"
#include "dev/bus.h"
#include "dev/irqchip_parts.h"
#include "dev/platform.h"
#include "dev/scale.h"
#include "dev/tick_backlog.h"
#include "mem/mem.h"
#include "util/bytes.h"
#include "vm.h"

#include <stdlib.h>

enum reg {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR = 0x30,
	REG_ICR_HIGH = 0x31,
	REG_LVT = 0x32,
	REG_LVT_END = 0x38,
	REG_TIMER_INITIAL = 0x38,
	REG_TIMER_CURRENT = 0x39,
	REG_TIMER_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f,
	REG_COUNT = 0x40,
};

enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_MODE(lvt)      ((lvt) >> 8 & 7)
#define LVT_LEVEL          BIT(15)
#define LVT_MASKED         BIT(16)
#define LVT_STATUS         (BIT(12) | BIT(14)) /* delivery status and remote IRR: read-only */
#define LVT_TIMER_PERIODIC BIT(17)
#define LVT_TIMER_DEADLINE BIT(18)
#define LVT_TIMER_MODE     (LVT_TIMER_PERIODIC | LVT_TIMER_DEADLINE)

static const u32 lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

#define VERSION      (0x14u | (LVT_COUNT - 1) << 16)
#define SVR_ENABLED  BIT(8)
#define SVR_WRITABLE 0x3ffu
#define DFR_FLAT     0xffffffffu

#define ESR_SEND_ILLEGAL_VECTOR    BIT(5)
#define ESR_RECEIVE_ILLEGAL_VECTOR BIT(6)
#define ESR_ILLEGAL_REGISTER       BIT(7)

#define ICR_LOGICAL      BIT(11)
#define ICR_STATUS       BIT(12)
#define ICR_ASSERT       BIT(14)
#define ICR_LEVEL        BIT(15)
#define ICR_WRITABLE_LOW 0xccfffu

#define BASE_BSP      BIT(8)
#define BASE_X2APIC   BIT(10)
#define BASE_ENABLED  BIT(11)
#define BASE_ADDRESS  (BIT(MAXPHYADDR) - PAGE_SIZE)
#define BASE_RESERVED (~(BASE_ADDRESS | BASE_BSP | BASE_X2APIC | BASE_ENABLED))

#define MSR_X2APIC     0x800
#define MSR_X2APIC_ICR (MSR_X2APIC + REG_ICR)

/* Periodic interrupts come no closer than this: a hostile period must not keep the VMM busy with nothing else. */
#define PERIOD_MIN_NS 10000

struct lapic {
	struct vm *vm;
	struct irqchip *chip;
	struct timer timer;
	u64 base; /* IA32_APIC_BASE */
	u32 tpr, ldr, dfr, svr;
	u32 esr, esr_pending; /* the guest sees `esr`, to which a write moves what has come together */
	u32 icr, icr_high;
	u32 lvt[LVT_COUNT];
	u32 irr[8], isr[8], tmr[8];
	u32 initial, divide;
	bool counting;
	u64 zero_ns;  /* while counting: when the count reaches 0 next */
	u64 deadline; /* IA32_TSC_DEADLINE, 0 when disarmed */
	struct tick_backlog backlog;
};

static bool is_x2apic(const struct lapic *l)
{
	return (l->base & (BASE_ENABLED | BASE_X2APIC)) == (BASE_ENABLED | BASE_X2APIC);
}

static bool takes_interrupts(const struct lapic *l)
{
	return (l->base & BASE_ENABLED) && (l->svr & SVR_ENABLED);
}

/* --- vectors and priorities -------------------------------------------------------------------------------------- */

static void vector_set(u32 *bits, unsigned vector)
{
	bits[vector / 32] |= 1u << (vector % 32);
}

static void vector_clear(u32 *bits, unsigned vector)
{
	bits[vector / 32] &= ~(1u << (vector % 32));
}

static bool vector_test(const u32 *bits, unsigned vector)
{
	return bits[vector / 32] & 1u << (vector % 32);
}

/* The highest vector set, or -1. */
static int vector_highest(const u32 *bits)
{
	for (int i = 7; i >= 0; i--)
		if (bits[i])
			return i * 32 + 31 - __builtin_clz(bits[i]);
	return -1;
}

/* Processor priority (10.8.3.1). */
static u32 ppr(const struct lapic *l)
{
	int serving = vector_highest(l->isr);
	u32 class = serving < 0 ? 0 : (u32)serving & 0xf0;

	return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

/* The vector that may be delivered now, or -1. */
static int deliverable(const struct lapic *l)
{
	int vector = vector_highest(l->irr);

	if (vector < 0 || !takes_interrupts(l) || ((u32)vector & 0xf0) <= (ppr(l) & 0xf0))
		return -1;
	return vector;
}

static void accept(struct lapic *l, u8 vector, bool level);

/* An error was found; the LVT error interrupt tells of it (10.5.3). */
static void error(struct lapic *l, u32 bit)
{
	u32 lvt = l->lvt[LVT_ERROR];

	if (l->esr_pending & bit)
		return;
	l->esr_pending |= bit;
	/* A reserved vector in the error entry itself is an error that cannot be reported. */
	if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
		accept(l, lvt & 0xff, false);
}

static void accept(struct lapic *l, u8 vector, bool level)
{
	if (!takes_interrupts(l))
		return;
	if (vector < 16) {
		error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
		return;
	}
	vector_set(l->irr, vector);
	if (level)
		vector_set(l->tmr, vector);
	else
		vector_clear(l->tmr, vector);
}

static void end_of_interrupt(struct lapic *l)
{
	int vector = vector_highest(l->isr);

	if (vector < 0)
		return;
	vector_clear(l->isr, (unsigned)vector);
	if (vector_test(l->tmr, (unsigned)vector))
		ioapic_end_of_interrupt(l->chip->ioapic, (u8)vector);
}

bool lapic_deliverable(const struct lapic *l)
{
	return deliverable(l) >= 0;
}

int lapic_acknowledge(struct lapic *l)
{
	int vector = deliverable(l);

	if (vector >= 0) {
		vector_clear(l->irr, (unsigned)vector);
		vector_set(l->isr, (unsigned)vector);
	}
	return vector;
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

/* Logical ID of APIC 0 in x2APIC mode (10.12.10.2) or as the guest has set it. */
static u32 ldr(const struct lapic *l)
{
	return is_x2apic(l) ? 1 : l->ldr;
}

/* 10.6.2. */
static bool is_destination(const struct lapic *l, const struct apic_message *m)
{
	u32 destination = m->destination, id;

	if (destination == (m->wide ? UINT32_MAX : 0xff))
		return true;
	if (!m->logical)
		return destination == 0;
	if (is_x2apic(l))
		return destination >> 16 == 0 && (destination & ldr(l));
	id = l->ldr >> 24;
	if (l->dfr >> 28 == 0xf)
		return destination & id;
	return destination >> 4 == id >> 4 && (destination & id & 0xf);
}

bool lapic_deliver(struct lapic *l, const struct apic_message *m)
{
	if (!(l->base & BASE_ENABLED) || !is_destination(l, m))
		return false;
	switch (m->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (!takes_interrupts(l))
			return false;
		accept(l, m->vector, m->level);
		return true;
	case APIC_NMI:
		irqchip_raise_nmi(l->chip);
		return true;
	default: /* INIT and SIPI are for processors that wait for them; there is no SMM */
		return false;
	}
}

static void send_ipi(struct lapic *l)
{
	struct apic_message message = {
		.destination = is_x2apic(l) ? l->icr_high : l->icr_high >> 24,
		.wide = is_x2apic(l),
		.logical = l->icr & ICR_LOGICAL,
		.mode = LVT_MODE(l->icr),
		.vector = l->icr & 0xff,
	};

	if (message.mode <= APIC_LOWEST && message.vector < 16) {
		error(l, ESR_SEND_ILLEGAL_VECTOR);
		return;
	}
	switch (l->icr >> 18 & 3) {
	case 1: /* self and all including self */
	case 2:
		message.logical = false;
		message.destination = 0;
		break;
	case 3: /* all but self: nobody */
		return;
	default:
		break;
	}
	lapic_deliver(l, &message);
}

bool lapic_passes_extint(const struct lapic *l)
{
	u32 lvt = l->lvt[LVT_LINT0];

	/* Switched off, the APIC is transparent (10.4.3). */
	return !(l->base & BASE_ENABLED) || (!(lvt & LVT_MASKED) && LVT_MODE(lvt) == APIC_EXTINT);
}

void lapic_lint0_rise(struct lapic *l)
{
	u32 lvt = l->lvt[LVT_LINT0];

	if (!(l->base & BASE_ENABLED) || (lvt & LVT_MASKED))
		return;
	/* The mode decides; a level-triggered pin is delivered once per rise, which its only source makes the same. */
	if (LVT_MODE(lvt) == APIC_FIXED)
		accept(l, lvt & 0xff, false);
	else if (LVT_MODE(lvt) == APIC_NMI)
		irqchip_raise_nmi(l->chip);
}

/* --- timer (10.5.4) ---------------------------------------------------------------------------------------------- */

static bool deadline_mode(const struct lapic *l)
{
	return (l->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_DEADLINE;
}

static bool periodic_mode(const struct lapic *l)
{
	return (l->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC;
}

/* Nanoseconds of one count: the divider's bits 3, 1 and 0 select 2, 4 … 128, 1. */
static u64 tick_ns(const struct lapic *l)
{
	u32 code = (l->divide & 3) | (l->divide >> 1 & 4);

	return (NS_PER_SECOND / LAPIC_TIMER_HZ) << ((code + 1) & 7);
}

static void timer_interrupt(struct lapic *l)
{
	if (!(l->lvt[LVT_TIMER] & LVT_MASKED))
		accept(l, l->lvt[LVT_TIMER] & 0xff, false);
}

static void stop_timer(struct lapic *l)
{
	l->counting = false;
	l->deadline = 0;
	timer_set(&l->vm->clock, &l->timer, CLOCK_NEVER);
}

/* Arms for the next 0 of the count. A masked timer counts on, but nobody need be woken for it. */
static void arm_count(struct lapic *l)
{
	bool silent = !l->counting || (l->lvt[LVT_TIMER] & LVT_MASKED);

	timer_set(&l->vm->clock, &l->timer, silent ? CLOCK_NEVER : l->zero_ns);
}

static void start_count(struct lapic *l, u64 counts)
{
	l->counting = counts != 0;
	l->zero_ns = clock_ns(&l->vm->clock) + counts * tick_ns(l);
	arm_count(l);
}

/* Brings the count up to `now`: a one-shot that has run out stops, a periodic one starts again. True if it reached 0.
 */
static bool advance_count(struct lapic *l, u64 now)
{
	u64 period = l->initial * tick_ns(l);

	if (!l->counting || now < l->zero_ns)
		return false;
	if (!periodic_mode(l) || period == 0)
		l->counting = false;
	else
		l->zero_ns += ((now - l->zero_ns) / period + 1) * period;
	return true;
}

static u32 current_count(struct lapic *l)
{
	u64 now = clock_ns(&l->vm->clock), left;

	if (deadline_mode(l) || !l->counting)
		return 0;
	if (now < l->zero_ns) {
		left = l->zero_ns - now;
	} else {
		u64 period = l->initial * tick_ns(l);

		if (!periodic_mode(l) || period == 0)
			return 0;
		left = period - (now - l->zero_ns) % period;
	}
	return (u32)((left + tick_ns(l) - 1) / tick_ns(l));
}

static u64 guest_tsc(const struct lapic *l)
{
	return clock_tsc(&l->vm->clock) + l->vm->vcpu->tsc_offset;
}

/* Arms the timer for the deadline, or lets it expire if that has passed. */
static void arm_deadline(struct lapic *l)
{
	struct clock *clock = &l->vm->clock;
	u64 host = clock_tsc(clock), guest = host + l->vm->vcpu->tsc_offset;

	if (l->deadline == 0) {
		timer_set(clock, &l->timer, CLOCK_NEVER);
	} else if (guest >= l->deadline) {
		l->deadline = 0;
		timer_set(clock, &l->timer, CLOCK_NEVER);
		timer_interrupt(l);
	} else {
		timer_set(clock, &l->timer, clock_tsc_to_deadline(clock, add_saturating(host, l->deadline - guest)));
	}
}

static void timer_fired(void *opaque)
{
	struct lapic *l = opaque;
	u64 now = clock_ns(&l->vm->clock);

	if (deadline_mode(l)) {
		arm_deadline(l);
	} else {
		if (advance_count(l, now))
			timer_interrupt(l);
		arm_count(l);
		if (l->counting && l->timer.deadline < now + PERIOD_MIN_NS)
			timer_set(&l->vm->clock, &l->timer, now + PERIOD_MIN_NS);
	}
	irqchip_update(l->chip);
}

/*
 * Before anything about the timer changes: what is due by now but has not fired yet happens under the old settings. A
 * count that ran out while masked must not fire when unmasked, an unmasked one must not get lost.
 */
static void settle_timer(struct lapic *l)
{
	if (deadline_mode(l)) {
		if (l->deadline && guest_tsc(l) >= l->deadline)
			arm_deadline(l);
	} else if (advance_count(l, clock_ns(&l->vm->clock))) {
		timer_interrupt(l);
	}
}

static void write_lvt_timer(struct lapic *l, u32 value)
{
	u32 old = l->lvt[LVT_TIMER];

	settle_timer(l);
	l->lvt[LVT_TIMER] = value;
	if ((old ^ value) & LVT_TIMER_DEADLINE) {
		stop_timer(l);
		l->initial = 0;
	} else if (!deadline_mode(l)) {
		arm_count(l);
	}
}

static void write_divide(struct lapic *l, u32 value)
{
	u32 left;

	settle_timer(l);
	left = current_count(l);
	l->divide = value;
	if (!deadline_mode(l))
		start_count(l, left);
}

/* --- registers --------------------------------------------------------------------------------------------------- */

static void reset(struct lapic *l)
{
	l->tpr = 0;
	l->ldr = 0;
	l->dfr = DFR_FLAT;
	l->svr = 0xff;
	l->esr = 0;
	l->esr_pending = 0;
	l->icr = 0;
	l->icr_high = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = LVT_MASKED;
	bytes_zero(l->irr, sizeof(l->irr));
	bytes_zero(l->isr, sizeof(l->isr));
	bytes_zero(l->tmr, sizeof(l->tmr));
	l->initial = 0;
	l->divide = 0;
	stop_timer(l);
}

static u32 read_register(struct lapic *l, unsigned reg)
{
	switch (reg) {
	case REG_ID:
		return 0;
	case REG_VERSION:
		return VERSION;
	case REG_TPR:
		return l->tpr;
	case REG_APR: /* no bus arbitration since the P6: the priority is the processor's */
	case REG_PPR:
		return ppr(l);
	case REG_LDR:
		return ldr(l);
	case REG_DFR:
		return l->dfr;
	case REG_SVR:
		return l->svr;
	case REG_ISR ... REG_ISR + 7:
		return l->isr[reg - REG_ISR];
	case REG_TMR ... REG_TMR + 7:
		return l->tmr[reg - REG_TMR];
	case REG_IRR ... REG_IRR + 7:
		return l->irr[reg - REG_IRR];
	case REG_ESR:
		return l->esr;
	case REG_ICR:
		return l->icr;
	case REG_ICR_HIGH:
		return l->icr_high;
	case REG_LVT ... REG_LVT_END - 1:
		return l->lvt[reg - REG_LVT];
	case REG_TIMER_INITIAL:
		return l->initial;
	case REG_TIMER_CURRENT:
		return current_count(l);
	case REG_TIMER_DIVIDE:
		return l->divide;
	case REG_EOI: /* write-only */
	case REG_RRD:
		return 0;
	default:
		error(l, ESR_ILLEGAL_REGISTER);
		return 0;
	}
}

static void write_svr(struct lapic *l, u32 value)
{
	l->svr = value & SVR_WRITABLE;
	if (!(l->svr & SVR_ENABLED))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			l->lvt[i] |= LVT_MASKED;
}

static void write_lvt(struct lapic *l, unsigned n, u32 value)
{
	value &= lvt_writable[n];
	if (!(l->svr & SVR_ENABLED))
		value |= LVT_MASKED;
	if (n == LVT_TIMER) {
		write_lvt_timer(l, value);
		return;
	}
	l->lvt[n] = value;
}

static void write_register(struct lapic *l, unsigned reg, u32 value)
{
	switch (reg) {
	case REG_TPR:
		l->tpr = value & 0xff;
		break;
	case REG_EOI:
		end_of_interrupt(l);
		break;
	case REG_LDR:
		l->ldr = value & 0xff000000;
		break;
	case REG_DFR:
		l->dfr = value | 0x0fffffff;
		break;
	case REG_SVR:
		write_svr(l, value);
		break;
	case REG_ESR:
		l->esr = l->esr_pending;
		l->esr_pending = 0;
		break;
	case REG_ICR:
		l->icr = value & ICR_WRITABLE_LOW;
		send_ipi(l);
		break;
	case REG_ICR_HIGH:
		l->icr_high = value & 0xff000000;
		break;
	case REG_LVT ... REG_LVT_END - 1:
		write_lvt(l, reg - REG_LVT, value);
		break;
	case REG_TIMER_INITIAL:
		settle_timer(l);
		if (!deadline_mode(l)) {
			l->initial = value;
			start_count(l, value);
		}
		break;
	case REG_TIMER_DIVIDE:
		write_divide(l, value & 0xb);
		break;
	case REG_ID: /* read-only ones */
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_ISR ... REG_IRR + 7:
	case REG_TIMER_CURRENT:
		break;
	default:
		error(l, ESR_ILLEGAL_REGISTER);
		break;
	}
	irqchip_update(l->chip);
}

/* --- xAPIC: MMIO ------------------------------------------------------------------------------------------------- */

static u64 mmio_read(void *device, u64 offset, unsigned size)
{
	struct lapic *l = device;
	u32 value;

	if (!(l->base & BASE_ENABLED) || is_x2apic(l))
		return UINT64_MAX;
	/* Registers are the low 4 of 16 bytes; narrower reads are undefined, so let them see the register's bytes. */
	if ((offset & 15) + size > 4 || offset >= 16 * REG_COUNT)
		return 0;
	value = read_register(l, offset / 16);
	irqchip_update(l->chip);
	return value >> (8 * (offset & 15));
}

static void mmio_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct lapic *l = device;

	if (!(l->base & BASE_ENABLED) || is_x2apic(l))
		return;
	if (size == 4 && offset % 16 == 0 && offset < 16 * REG_COUNT)
		write_register(l, offset / 16, value);
}

/* --- x2APIC: MSRs (table 10-6) ----------------------------------------------------------------------------------- */

#define READ  BIT(62)
#define WRITE BIT(63)

/* What may be done with an x2APIC register, and in the low half the bits that may be set. 0: no such register. */
static u64 x2apic_access(unsigned reg)
{
	switch (reg) {
	case REG_ID:
	case REG_VERSION:
	case REG_PPR:
	case REG_LDR:
	case REG_ISR ... REG_IRR + 7:
	case REG_TIMER_CURRENT:
		return READ;
	case REG_TPR:
	case REG_SELF_IPI:
		return (reg == REG_TPR ? READ : 0) | WRITE | 0xff;
	case REG_EOI:
		return WRITE;
	case REG_SVR:
		return READ | WRITE | SVR_WRITABLE;
	case REG_ESR:
		return READ | WRITE;
	case REG_LVT ... REG_LVT_END - 1:
		return READ | WRITE | lvt_writable[reg - REG_LVT] | LVT_STATUS;
	case REG_TIMER_INITIAL:
		return READ | WRITE | UINT32_MAX;
	case REG_TIMER_DIVIDE:
		return READ | WRITE | 0xb;
	default:
		return 0;
	}
}

int lapic_read_msr(struct irqchip *chip, u32 msr, u64 *value)
{
	struct lapic *l = chip->lapic;
	unsigned reg = msr - MSR_X2APIC;

	if (!is_x2apic(l))
		return -1;
	if (msr == MSR_X2APIC_ICR) {
		*value = (u64)l->icr_high << 32 | l->icr;
		return 0;
	}
	if (reg >= REG_COUNT || !(x2apic_access(reg) & READ))
		return -1;
	*value = read_register(l, reg);
	return 0;
}

int lapic_write_msr(struct irqchip *chip, u32 msr, u64 value)
{
	struct lapic *l = chip->lapic;
	unsigned reg = msr - MSR_X2APIC;
	u64 access;

	if (!is_x2apic(l))
		return -1;
	if (msr == MSR_X2APIC_ICR) {
		if (value & (UINT32_MAX & ~(ICR_WRITABLE_LOW | ICR_STATUS)))
			return -1;
		l->icr_high = value >> 32;
		write_register(l, REG_ICR, (u32)value);
		return 0;
	}
	access = reg < REG_COUNT ? x2apic_access(reg) : 0;
	if (!(access & WRITE) || (value & ~(access & UINT32_MAX)))
		return -1;
	if (reg == REG_SELF_IPI) {
		if (value < 16)
			error(l, ESR_SEND_ILLEGAL_VECTOR);
		else
			accept(l, (u8)value, false);
		irqchip_update(chip);
	} else {
		write_register(l, reg, (u32)value);
	}
	return 0;
}

u64 lapic_read_base(struct irqchip *chip)
{
	return chip->lapic->base;
}

/* 10.12.5: off → xAPIC → x2APIC → off; nothing else, except from xAPIC to off. */
int lapic_write_base(struct irqchip *chip, u64 value)
{
	struct lapic *l = chip->lapic;
	u64 mode = value & (BASE_ENABLED | BASE_X2APIC), was = l->base & (BASE_ENABLED | BASE_X2APIC);

	if ((value & BASE_RESERVED) || mode == BASE_X2APIC)
		return -1;
	if (mode == (BASE_ENABLED | BASE_X2APIC) && was == 0)
		return -1;
	if (mode == BASE_ENABLED && was == (BASE_ENABLED | BASE_X2APIC))
		return -1;
	if ((value & BASE_ADDRESS) != MMIO_LAPIC) {
		vm_stop_error(l->vm, "the guest moved its local APIC's registers, which is not supported");
		return 0;
	}
	l->base = value;
	if (mode == 0 && was != 0)
		reset(l);
	else if (mode != was)
		l->icr_high = 0; /* the destination has another format now */
	irqchip_update(chip);
	return 0;
}

/* --- other MSRs and CR8 ------------------------------------------------------------------------------------------ */

u64 lapic_read_deadline(struct irqchip *chip)
{
	struct lapic *l = chip->lapic;

	/* It reads 0 from the moment it has passed, which the clock may not have told us yet. */
	settle_timer(l);
	irqchip_update(chip);
	return deadline_mode(l) ? l->deadline : 0;
}

/* When in the guest's time that value of its TSC is or was. */
static u64 when(struct lapic *l, u64 tsc)
{
	struct clock *clock = &l->vm->clock;
	u64 host = clock_tsc(clock), guest = host + l->vm->vcpu->tsc_offset;

	if (tsc > guest)
		return clock_tsc_to_deadline(clock, add_saturating(host, tsc - guest));
	return guest - tsc < host ? clock_tsc_to_ns(clock, host - (guest - tsc)) : 0;
}

void lapic_write_deadline(struct irqchip *chip, u64 tsc)
{
	struct lapic *l = chip->lapic;

	if (!deadline_mode(l))
		return;
	settle_timer(l);
	l->deadline = tsc;
	arm_deadline(l);
	if (tsc && tick_backlog_armed(&l->backlog, clock_ns(&l->vm->clock), when(l, tsc)))
		timer_interrupt(l);
	irqchip_update(chip);
}

void lapic_time_starts(struct irqchip *chip)
{
	tick_backlog_begin(&chip->lapic->backlog, clock_ns(&chip->vm->clock));
}

void lapic_tsc_moved(struct irqchip *chip)
{
	struct lapic *l = chip->lapic;

	if (!deadline_mode(l) || !l->deadline)
		return;
	arm_deadline(l);
	irqchip_update(chip);
}

u64 lapic_read_cr8(struct irqchip *chip)
{
	return chip->lapic->tpr >> 4;
}

void lapic_write_cr8(struct irqchip *chip, u64 value)
{
	chip->lapic->tpr = (value & 15) << 4;
	irqchip_update(chip);
}

struct lapic *lapic_create(struct vm *vm, struct irqchip *chip)
{
	static const struct bus_ops ops = {.read = mmio_read, .write = mmio_write};
	struct lapic *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->vm = vm;
	l->chip = chip;
	l->base = MMIO_LAPIC | BASE_ENABLED | BASE_BSP;
	timer_register(&vm->clock, &l->timer, timer_fired, l);
	reset(l);
	/* What firmware would leave: virtual wire mode (MultiProcessor Specification 3.6.2.2). */
	l->svr = SVR_ENABLED | 0xff;
	l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
	l->lvt[LVT_LINT1] = APIC_NMI << 8;
	bus_add(&vm->mmio, MMIO_LAPIC, PAGE_SIZE, &ops, l, "lapic");
	return l;
}

void lapic_destroy(struct lapic *l)
{
	free(l);
}
