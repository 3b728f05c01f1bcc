/*
 * Intel 8254 (data sheet 231164). Counters are not stepped: a channel knows when its count was loaded, and everything
 * else follows from the clock. A count written while the channel runs takes effect at once.
 */
#include "dev/pit.h"

#include "dev/bus.h"
#include "dev/irqchip.h"
#include "dev/platform.h"
#include "dev/scale.h"
#include "vm.h"

#include <stdlib.h>

/* Interrupts closer together than this (10 µs) are merged. */
#define PERIOD_MIN_TICKS 12

/* Bit 4 of port 0x61 changes with each refresh of the memory, every 15 µs. */
#define REFRESH_NS 15085

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

struct channel {
	u32 count; /* 1–65536 (10000 in BCD) */
	u8 mode;   /* 0–5 */
	u8 access; /* enum access */
	bool bcd;
	bool gate;
	bool loaded;  /* a count has been written since the mode was */
	bool running; /* counting since `start_ns` */
	u64 start_ns;
	u64 frozen;                 /* ticks that had passed before that */
	bool write_high, read_high; /* which byte comes next with ACCESS_BOTH */
	u8 low;                     /* the low byte while the high one is awaited */
	u8 latched_bytes;           /* still to be read of `latched` */
	u16 latched;
	bool status_latched;
	u8 status;
};

struct pit {
	struct vm *vm;
	struct timer timer; /* of channel 0 */
	struct channel channel[3];
	u8 port_b; /* low four bits of port 0x61 */
};

static u64 now_ns(const struct pit *pit)
{
	return clock_ns(&pit->vm->clock);
}

static u16 to_bcd(u32 value)
{
	return (u16)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12);
}

static u32 from_bcd(u16 value)
{
	return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (u32)(value >> 12) * 1000;
}

/* Ticks since the count was loaded or the gate opened it. */
static u64 elapsed(const struct pit *pit, const struct channel *c)
{
	u64 now = now_ns(pit);

	if (!c->running || now < c->start_ns)
		return c->frozen;
	return c->frozen + scale(now - c->start_ns, PIT_HZ, NS_PER_SECOND);
}

/* Mode 3: length of the high half. */
static u32 high_half(const struct channel *c)
{
	return (c->count + 1) / 2;
}

static u16 counter(const struct pit *pit, const struct channel *c)
{
	u64 ticks = elapsed(pit, c);
	u32 range = c->bcd ? 10000 : 65536, phase, value;

	switch (c->mode) {
	case 2:
		value = c->count - (u32)(ticks % c->count);
		break;
	case 3: /* counts down by two, twice */
		phase = (u32)(ticks % c->count);
		if (phase >= high_half(c))
			phase -= high_half(c);
		value = (c->count & ~1u) - 2 * phase;
		break;
	default:
		value = (u32)((c->count + range - ticks % range) % range);
		break;
	}
	value %= range;
	return c->bcd ? to_bcd(value) : (u16)value;
}

static bool output(const struct pit *pit, const struct channel *c)
{
	u64 ticks = elapsed(pit, c);

	if (!c->loaded)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
		return ticks >= c->count;
	case 1: /* not triggered yet: high */
		return (!c->running && c->frozen == 0) || ticks >= c->count;
	case 2:
		return !c->running || ticks % c->count != c->count - 1;
	case 3:
		return !c->running || ticks % c->count < high_half(c);
	default: /* 4, 5: a strobe of one tick */
		return !c->running || ticks != c->count;
	}
}

/* When channel 0's output rises next, in ticks since its start (its gate is never low). UINT64_MAX: never. */
static u64 next_rise(const struct pit *pit, const struct channel *c)
{
	u64 ticks = elapsed(pit, c), merged;

	if (!c->loaded || !c->running)
		return UINT64_MAX;
	switch (c->mode) {
	case 0:
		return ticks < c->count ? c->count : UINT64_MAX;
	case 2:
	case 3:
		merged = c->count < PERIOD_MIN_TICKS ? (PERIOD_MIN_TICKS + c->count - 1) / c->count : 1;
		return (ticks / c->count + merged) * c->count;
	case 4:
		return ticks < c->count + 1 ? c->count + 1 : UINT64_MAX;
	default:
		return UINT64_MAX;
	}
}

static void arm(struct pit *pit)
{
	const struct channel *c = &pit->channel[0];
	u64 ticks = next_rise(pit, c), deadline = CLOCK_NEVER;

	if (ticks != UINT64_MAX)
		deadline = add_saturating(c->start_ns, scale_up(ticks, NS_PER_SECOND, PIT_HZ));
	timer_set(&pit->vm->clock, &pit->timer, deadline);
}

/*
 * Of the output's waveform the interrupt line carries the rising edges, each drawn as a short low pulse in front of it:
 * a fall has no meaning to anybody, and so costs no timer.
 */
static void timer_fired(void *opaque)
{
	struct pit *pit = opaque;

	irqchip_set_line(pit->vm->irqchip, GSI_PIT, false);
	irqchip_set_line(pit->vm->irqchip, GSI_PIT, true);
	arm(pit);
}

static void start(struct pit *pit, struct channel *c, u64 frozen)
{
	c->running = true;
	c->frozen = frozen;
	c->start_ns = now_ns(pit);
}

static void stop(struct channel *c, u64 frozen)
{
	c->running = false;
	c->frozen = frozen;
}

static void load(struct pit *pit, struct channel *c, u16 value)
{
	u32 count = c->bcd ? from_bcd(value) : value;

	c->count = count ? count : c->bcd ? 10000 : 65536;
	c->loaded = true;
	/* Modes 1 and 5 wait for the gate to rise, the others count while it is high. */
	if (c->mode == 1 || c->mode == 5) {
		if (!c->running)
			stop(c, 0);
	} else if (c->gate) {
		start(pit, c, 0);
	} else {
		stop(c, 0);
	}
	if (c == &pit->channel[0]) {
		irqchip_set_line(pit->vm->irqchip, GSI_PIT, false);
		arm(pit);
	}
}

static void set_gate(struct pit *pit, struct channel *c, bool gate)
{
	bool rise = gate && !c->gate, fall = !gate && c->gate;

	c->gate = gate;
	if (!c->loaded || !(rise || fall))
		return;
	switch (c->mode) {
	case 0:
	case 4: /* suspended while low */
		if (fall)
			stop(c, elapsed(pit, c));
		else
			start(pit, c, c->frozen);
		break;
	case 2:
	case 3: /* low stops, the rise reloads */
		if (fall)
			stop(c, 0);
		else
			start(pit, c, 0);
		break;
	default: /* 1, 5: the rise triggers */
		if (rise)
			start(pit, c, 0);
		break;
	}
}

static void latch_count(const struct pit *pit, struct channel *c)
{
	if (c->latched_bytes)
		return;
	c->latched = counter(pit, c);
	c->latched_bytes = c->access == ACCESS_BOTH ? 2 : 1;
	if (c->access == ACCESS_HIGH)
		c->latched >>= 8;
}

static void latch_status(const struct pit *pit, struct channel *c)
{
	if (c->status_latched)
		return;
	c->status = (u8)(output(pit, c) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
	c->status_latched = true;
}

static void write_control(struct pit *pit, u8 value)
{
	struct channel *c;

	if (value >> 6 == 3) { /* read-back; its two select bits are active low */
		for (unsigned i = 0; i < 3; i++) {
			c = &pit->channel[i];
			if (!(value & 2 << i))
				continue;
			if (!(value & 0x20))
				latch_count(pit, c);
			if (!(value & 0x10))
				latch_status(pit, c);
		}
		return;
	}
	c = &pit->channel[value >> 6];
	if ((value >> 4 & 3) == ACCESS_LATCH) {
		latch_count(pit, c);
		return;
	}
	c->access = value >> 4 & 3;
	c->mode = value >> 1 & 7;
	if (c->mode > 5) /* 6 and 7 are 2 and 3 */
		c->mode -= 4;
	c->bcd = value & 1;
	c->loaded = false;
	c->write_high = false;
	c->read_high = false;
	c->latched_bytes = 0;
	c->status_latched = false;
	stop(c, 0);
	if (c == &pit->channel[0]) {
		irqchip_set_line(pit->vm->irqchip, GSI_PIT, false);
		arm(pit);
	}
}

static void write_count(struct pit *pit, struct channel *c, u8 value)
{
	switch (c->access) {
	case ACCESS_LOW:
		load(pit, c, value);
		break;
	case ACCESS_HIGH:
		load(pit, c, (u16)(value << 8));
		break;
	default:
		if (c->write_high) {
			c->write_high = false;
			load(pit, c, (u16)(value << 8 | c->low));
			break;
		}
		c->low = value;
		c->write_high = true;
		if (c->mode == 0) { /* the first byte stops the count and lowers the output */
			stop(c, 0);
			if (c == &pit->channel[0])
				arm(pit);
		}
		break;
	}
}

static u8 read_count(const struct pit *pit, struct channel *c)
{
	u16 value;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	if (c->latched_bytes) {
		value = c->latched;
		c->latched >>= 8;
		c->latched_bytes--;
		return (u8)value;
	}
	value = counter(pit, c);
	switch (c->access) {
	case ACCESS_LOW:
		return (u8)value;
	case ACCESS_HIGH:
		return value >> 8;
	default:
		c->read_high = !c->read_high;
		return c->read_high ? (u8)value : value >> 8;
	}
}

static u64 port_read(void *device, u64 offset, unsigned size)
{
	struct pit *pit = device;

	(void)size;
	return offset == 3 ? 0xff : read_count(pit, &pit->channel[offset]);
}

static void port_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pit *pit = device;

	(void)size;
	if (offset == 3)
		write_control(pit, (u8)value);
	else
		write_count(pit, &pit->channel[offset], (u8)value);
}

static u64 port_b_read(void *device, u64 offset, unsigned size)
{
	struct pit *pit = device;

	(void)offset;
	(void)size;
	return pit->port_b | (now_ns(pit) / REFRESH_NS & 1) << 4 | (u64)output(pit, &pit->channel[2]) << 5;
}

static void port_b_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pit *pit = device;

	(void)offset;
	(void)size;
	pit->port_b = value & 15;
	set_gate(pit, &pit->channel[2], value & 1);
}

struct pit *pit_create(struct vm *vm)
{
	static const struct bus_ops ports = {.read = port_read, .write = port_write, .widest = 1};
	static const struct bus_ops port_b = {.read = port_b_read, .write = port_b_write, .widest = 1};
	struct pit *pit = calloc(1, sizeof(*pit));

	if (!pit)
		return NULL;
	pit->vm = vm;
	for (unsigned i = 0; i < 3; i++) {
		pit->channel[i].access = ACCESS_BOTH;
		pit->channel[i].count = 65536;
		pit->channel[i].gate = i != 2;
	}
	timer_register(&vm->clock, &pit->timer, timer_fired, pit);
	bus_add(&vm->ports, PORT_PIT, 4, &ports, pit, "pit");
	bus_add(&vm->ports, PORT_SYSTEM_B, 1, &port_b, pit, "system control b");
	return pit;
}

void pit_destroy(struct pit *pit)
{
	free(pit);
}
