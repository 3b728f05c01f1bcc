/*
 * Two cascaded 8259A interrupt controllers (Intel 8259A data sheet) with the edge/level registers of PC chipsets.
 * A request that goes away before it was acknowledged is forgotten, as on the chip, also in edge mode.
 */
#include "dev/bus.h"
#include "dev/irqchip_parts.h"
#include "dev/platform.h"
#include "vm.h"

#include <stdlib.h>

#define CASCADE 2

struct pic_chip {
	struct pic *pair;
	u8 lines; /* levels of the inputs */
	u8 irr, isr, imr;
	u8 elcr, elcr_mask; /* 1: level-triggered; the mask says which may be */
	u8 base;            /* vector of input 0 */
	u8 lowest;          /* the input of lowest priority */
	u8 init;            /* the initialization word that the data port expects next, 0: none */
	bool needs_icw4, single;
	bool auto_eoi, rotate_on_auto_eoi, special_mask, special_nesting;
	bool read_isr, poll;
	bool master;
};

struct pic {
	struct irqchip *irqchip;
	struct pic_chip chip[2];
};

/* Distance of the highest-priority set bit from the top priority: 0–7, or 8 if no bit is set. */
static unsigned top_priority(const struct pic_chip *c, u8 bits)
{
	unsigned rank = 0;

	while (rank < 8 && !(bits & BIT((c->lowest + 1 + rank) & 7)))
		rank++;
	return rank;
}

static unsigned rank_to_irq(const struct pic_chip *c, unsigned rank)
{
	return (c->lowest + 1 + rank) & 7;
}

/* The input whose request reaches the chip's output, or -1. */
static int requested(const struct pic_chip *c)
{
	unsigned rank = top_priority(c, c->irr & ~c->imr), limit;
	u8 in_service = c->isr;

	if (c->special_mask)
		in_service &= ~c->imr;
	/* Fully nested in both chips: the slave may interrupt its own service routines. */
	if (c->special_nesting && c->master)
		in_service &= ~BIT(CASCADE);
	limit = top_priority(c, in_service);
	return rank < limit ? (int)rank_to_irq(c, rank) : -1;
}

static void set_input(struct pic_chip *c, unsigned irq, bool level)
{
	u8 bit = BIT(irq);
	bool was = c->lines & bit;

	c->lines = level ? c->lines | bit : c->lines & ~bit;
	if (!level)
		c->irr &= ~bit;
	else if (!was || (c->elcr & bit))
		c->irr |= bit;
}

/* The slave's output is the master's input 2. */
static void update_cascade(struct pic *pic)
{
	set_input(&pic->chip[0], CASCADE, requested(&pic->chip[1]) >= 0);
}

static void update(struct pic *pic)
{
	update_cascade(pic);
	irqchip_update(pic->irqchip);
}

void pic_set_irq(struct pic *pic, unsigned irq, bool level)
{
	set_input(&pic->chip[irq >> 3], irq & 7, level);
	update_cascade(pic);
}

bool pic_output(const struct pic *pic)
{
	return requested(&pic->chip[0]) >= 0;
}

/* One chip's INTA: the input, 7 with nothing in service if no request is left. */
static unsigned acknowledge(struct pic_chip *c)
{
	int irq = requested(c);
	u8 bit;

	if (irq < 0)
		return 7;
	bit = BIT(irq);
	if (!(c->elcr & bit))
		c->irr &= ~bit;
	if (!c->auto_eoi)
		c->isr |= bit;
	else if (c->rotate_on_auto_eoi)
		c->lowest = irq;
	return (unsigned)irq;
}

/* A chip's output falls during INTA: that is what makes an edge for the master if the slave has more. */
static unsigned acknowledge_slave(struct pic *pic)
{
	unsigned irq = acknowledge(&pic->chip[1]);

	set_input(&pic->chip[0], CASCADE, false);
	update_cascade(pic);
	return irq;
}

int pic_acknowledge(struct pic *pic)
{
	bool cascaded = requested(&pic->chip[0]) == CASCADE;
	unsigned irq = acknowledge(&pic->chip[0]);

	if (cascaded)
		return pic->chip[1].base + (int)acknowledge_slave(pic);
	return pic->chip[0].base + (int)irq;
}

static void end_of_interrupt(struct pic_chip *c, bool specific, unsigned irq, bool rotate)
{
	if (!specific) {
		u8 in_service = c->special_mask ? c->isr & ~c->imr : c->isr;
		unsigned rank = top_priority(c, in_service);

		if (rank == 8)
			return;
		irq = rank_to_irq(c, rank);
	}
	c->isr &= ~BIT(irq);
	if (rotate)
		c->lowest = irq;
}

static void write_icw1(struct pic_chip *c, u8 value)
{
	c->needs_icw4 = value & 1;
	c->single = value & 2;
	c->init = 2;
	c->imr = 0;
	c->isr = 0;
	c->irr = c->lines & c->elcr; /* edges must come anew */
	c->lowest = 7;
	c->special_mask = false;
	c->read_isr = false;
	c->poll = false;
	c->auto_eoi = false;
	c->rotate_on_auto_eoi = false;
	c->special_nesting = false;
}

static void write_ocw2(struct pic_chip *c, u8 value)
{
	unsigned irq = value & 7;

	switch (value >> 5) {
	case 0:
	case 4:
		c->rotate_on_auto_eoi = value >> 5 == 4;
		break;
	case 1:
	case 5:
		end_of_interrupt(c, false, 0, value >> 5 == 5);
		break;
	case 3:
	case 7:
		end_of_interrupt(c, true, irq, value >> 5 == 7);
		break;
	case 6:
		c->lowest = irq;
		break;
	default:
		break;
	}
}

static void write_ocw3(struct pic_chip *c, u8 value)
{
	if (value & 0x40)
		c->special_mask = value & 0x20;
	if (value & 2)
		c->read_isr = value & 1;
	c->poll = value & 4;
}

static void write_data(struct pic_chip *c, u8 value)
{
	switch (c->init) {
	case 2:
		c->base = value & 0xf8;
		c->init = !c->single ? 3 : c->needs_icw4 ? 4 : 0;
		break;
	case 3: /* which input the cascade is on is wired */
		c->init = c->needs_icw4 ? 4 : 0;
		break;
	case 4:
		c->auto_eoi = value & 2;
		c->special_nesting = value & 0x10;
		c->init = 0;
		break;
	default:
		c->imr = value;
		break;
	}
}

static void port_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pic_chip *c = device;

	(void)size;
	if (offset == 1)
		write_data(c, value);
	else if (value & 0x10)
		write_icw1(c, value);
	else if (value & 0x08)
		write_ocw3(c, value);
	else
		write_ocw2(c, value);
	update(c->pair);
}

static u64 port_read(void *device, u64 offset, unsigned size)
{
	struct pic_chip *c = device;

	(void)size;
	if (c->poll) {
		bool any = requested(c) >= 0;
		unsigned irq;

		c->poll = false;
		if (!any)
			return 0;
		irq = c->master ? acknowledge(c) : acknowledge_slave(c->pair);
		update(c->pair);
		return 0x80 | irq;
	}
	if (offset == 1)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static u64 elcr_read(void *device, u64 offset, unsigned size)
{
	struct pic *pic = device;

	(void)size;
	return pic->chip[offset].elcr;
}

static void elcr_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct pic *pic = device;
	struct pic_chip *c = &pic->chip[offset];

	(void)size;
	c->elcr = value & c->elcr_mask;
	c->irr |= c->lines & c->elcr;
	update(pic);
}

struct pic *pic_create(struct vm *vm, struct irqchip *chip)
{
	static const struct bus_ops ports = {.read = port_read, .write = port_write, .widest = 1};
	static const struct bus_ops elcr = {.read = elcr_read, .write = elcr_write, .widest = 1};
	struct pic *pic = calloc(1, sizeof(*pic));

	if (!pic)
		return NULL;
	pic->irqchip = chip;
	for (int i = 0; i < 2; i++) {
		pic->chip[i].pair = pic;
		pic->chip[i].lowest = 7;
		pic->chip[i].imr = 0xff; /* as firmware leaves it, and the levels of PCI's lines too */
	}
	pic->chip[0].master = true;
	/* Timer, keyboard, cascade, RTC and coprocessor are always edge-triggered. */
	pic->chip[0].elcr_mask = 0xf8;
	pic->chip[1].elcr_mask = 0xde;
	pic->chip[0].elcr = BIT(GSI_PCI_2);
	pic->chip[1].elcr = BIT(GSI_PCI_0 - 8) | BIT(GSI_PCI_1 - 8);
	bus_add(&vm->ports, PORT_PIC_MASTER, 2, &ports, &pic->chip[0], "pic master");
	bus_add(&vm->ports, PORT_PIC_SLAVE, 2, &ports, &pic->chip[1], "pic slave");
	bus_add(&vm->ports, PORT_PIC_ELCR, 2, &elcr, pic, "pic elcr");
	return pic;
}

void pic_destroy(struct pic *pic)
{
	free(pic);
}
