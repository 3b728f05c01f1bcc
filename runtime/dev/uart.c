/*
 * The transmitter is infinitely fast: the holding register is empty again as soon as a byte was written, unless the
 * console is full; drivers that wait for it then lose nothing. Input waits in the console until the receiver has room,
 * so nothing is overrun; and what has arrived below the FIFO's trigger level counts as timed out at once, for the
 * console has nothing more at that moment.
 */
#include "dev/uart.h"

#include "dev/bus.h"
#include "dev/console.h"
#include "dev/irqchip.h"
#include "dev/platform.h"
#include "vm.h"

#include <stdlib.h>

enum reg { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RECEIVE  0x01
#define IER_TRANSMIT 0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08

#define IIR_MODEM    0x00
#define IIR_NONE     0x01
#define IIR_TRANSMIT 0x02
#define IIR_RECEIVE  0x04
#define IIR_LINE     0x06
#define IIR_TIMEOUT  0x0c
#define IIR_FIFOS    0xc0

#define FCR_ENABLE         0x01
#define FCR_RESET_RECEIVER 0x02

#define LCR_DLAB 0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DATA    0x01
#define LSR_OVERRUN 0x02
#define LSR_EMPTY   0x60 /* THRE and TEMT */

#define MSR_DELTA 0x0f
#define MSR_CTS   0x10
#define MSR_DSR   0x20
#define MSR_RI    0x40
#define MSR_DCD   0x80

#define FIFO_SIZE 16

/* So many reads of LSR in a row, with the receive interrupt off, tell a guest that polls for input. */
#define POLLING_READS 4

struct uart {
	struct vm *vm;
	u8 ier, fcr, lcr, mcr, msr, scr;
	u8 divisor[2];
	bool overrun;
	bool transmit_pending; /* the holding register became empty and the guest has not been told */
	bool blocked;          /* the holding register does not become empty: the console is full */
	u8 lsr_reads;
	u8 fifo[FIFO_SIZE];
	u8 head, count;
	bool line;
};

static u8 trigger_level(const struct uart *u)
{
	static const u8 levels[4] = {1, 4, 8, 14};

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* The pending interrupt of highest priority (data sheet, table IV). */
static u8 pending(const struct uart *u)
{
	if ((u->ier & IER_LINE) && u->overrun)
		return IIR_LINE;
	if ((u->ier & IER_RECEIVE) && u->count)
		return u->count >= trigger_level(u) ? IIR_RECEIVE : IIR_TIMEOUT;
	if ((u->ier & IER_TRANSMIT) && u->transmit_pending)
		return IIR_TRANSMIT;
	if ((u->ier & IER_MODEM) && (u->msr & MSR_DELTA))
		return IIR_MODEM;
	return IIR_NONE;
}

static void update(struct uart *u)
{
	/* On a PC OUT2 connects the interrupt to the bus. */
	bool line = (u->mcr & MCR_OUT2) && pending(u) != IIR_NONE;

	if (line != u->line) {
		u->line = line;
		irqchip_set_line(u->vm->irqchip, GSI_UART, line);
	}
}

/* --- receiver ---------------------------------------------------------------------------------------------------- */

static u8 capacity(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static void receive(struct uart *u, u8 byte)
{
	if (u->count == capacity(u)) {
		u->overrun = true;
		/* Without FIFO the new byte destroys the old one, with it the new one is lost. */
		if (!(u->fcr & FCR_ENABLE))
			u->fifo[u->head] = byte;
		return;
	}
	u->fifo[(u->head + u->count) % FIFO_SIZE] = byte;
	u->count++;
}

/*
 * Takes input once the guest shows that it reads: drivers clear the receiver while they set up the port, and what was
 * typed or piped ahead should wait for them rather than be lost.
 */
static void pull_input(struct uart *u)
{
	struct console *console = u->vm->console;

	if (!console || (u->mcr & MCR_LOOP))
		return;
	if (!(u->ier & IER_RECEIVE) && u->lsr_reads < POLLING_READS)
		return;
	while (u->count < capacity(u)) {
		int byte = console->get(console);

		if (byte < 0)
			break;
		receive(u, (u8)byte);
	}
}

static bool is_full(const struct uart *u)
{
	struct console *console = u->vm->console;

	return console && console->full && !(u->mcr & MCR_LOOP) && console->full(console);
}

/* There may be room in the console again. */
static void look_for_room(struct uart *u)
{
	if (!u->blocked || is_full(u))
		return;
	u->blocked = false;
	u->transmit_pending = true;
}

void uart_poll(struct uart *u)
{
	look_for_room(u);
	pull_input(u);
	update(u);
}

static u8 read_data(struct uart *u)
{
	u8 byte = 0;

	if (u->count) {
		byte = u->fifo[u->head];
		u->head = (u->head + 1) % FIFO_SIZE;
		u->count--;
	}
	pull_input(u);
	return byte;
}

/* --- the other registers ----------------------------------------------------------------------------------------- */

static void write_data(struct uart *u, u8 byte)
{
	struct console *console = u->vm->console;

	/* The request goes away and comes back: an edge-triggered controller has to see both. */
	u->transmit_pending = false;
	update(u);
	if (u->mcr & MCR_LOOP)
		receive(u, byte);
	else if (console)
		console->put(console, byte);
	u->blocked = is_full(u);
	u->transmit_pending = !u->blocked;
}

static void write_ier(struct uart *u, u8 value)
{
	/* Enabling the interrupt while the holding register is empty raises it, again and again. */
	if ((value & ~u->ier & IER_TRANSMIT) && !u->blocked)
		u->transmit_pending = true;
	u->ier = value & 0x0f;
	pull_input(u);
}

static void write_fcr(struct uart *u, u8 value)
{
	if (((value ^ u->fcr) & FCR_ENABLE) || ((value & FCR_ENABLE) && (value & FCR_RESET_RECEIVER))) {
		u->count = 0;
		u->head = 0;
	}
	/* The other bits are taken only together with the enable bit. */
	u->fcr = value & FCR_ENABLE ? value & 0xc1 : 0;
	pull_input(u);
}

/* Modem inputs: all there, or in loopback the modem outputs. */
static u8 modem_inputs(const struct uart *u)
{
	u8 inputs = 0;

	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	if (u->mcr & MCR_RTS)
		inputs |= MSR_CTS;
	if (u->mcr & MCR_DTR)
		inputs |= MSR_DSR;
	if (u->mcr & MCR_OUT1)
		inputs |= MSR_RI;
	if (u->mcr & MCR_OUT2)
		inputs |= MSR_DCD;
	return inputs;
}

static void write_mcr(struct uart *u, u8 value)
{
	u8 inputs, changed;

	u->mcr = value & 0x1f;
	inputs = modem_inputs(u);
	changed = (inputs ^ u->msr) & 0xf0;
	/* The ring indicator's delta bit marks its trailing edge only. */
	if (inputs & MSR_RI)
		changed &= (u8)~MSR_RI;
	u->msr = inputs | (u->msr & MSR_DELTA) | changed >> 4;
	pull_input(u);
}

static u8 read_iir(struct uart *u)
{
	u8 id = pending(u);

	if (id == IIR_TRANSMIT)
		u->transmit_pending = false;
	return id | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static u8 read_lsr(struct uart *u)
{
	u8 value;

	/* it waits for an answer: what it has asked must be seen, though the line be not ended; the loop flushes */
	if (u->lsr_reads < POLLING_READS && ++u->lsr_reads == POLLING_READS)
		vcpu_notify(u->vm->vcpu);
	pull_input(u);
	value = (u->blocked ? 0 : LSR_EMPTY) | (u->count ? LSR_DATA : 0) | (u->overrun ? LSR_OVERRUN : 0);
	u->overrun = false;
	return value;
}

static u64 port_read(void *device, u64 offset, unsigned size)
{
	struct uart *u = device;
	u8 value = 0;

	(void)size;
	switch (offset) {
	case REG_DATA:
		value = u->lcr & LCR_DLAB ? u->divisor[0] : read_data(u);
		break;
	case REG_IER:
		value = u->lcr & LCR_DLAB ? u->divisor[1] : u->ier;
		break;
	case REG_IIR_FCR:
		value = read_iir(u);
		break;
	case REG_LCR:
		value = u->lcr;
		break;
	case REG_MCR:
		value = u->mcr;
		break;
	case REG_LSR:
		value = read_lsr(u);
		break;
	case REG_MSR:
		value = u->msr;
		u->msr &= (u8)~MSR_DELTA;
		break;
	case REG_SCR:
		value = u->scr;
		break;
	}
	/* Reading input is part of polling for it. */
	if (offset != REG_LSR && offset != REG_DATA)
		u->lsr_reads = 0;
	update(u);
	return value;
}

static void port_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct uart *u = device;
	u8 byte = (u8)value;

	(void)size;
	u->lsr_reads = 0;
	switch (offset) {
	case REG_DATA:
		if (u->lcr & LCR_DLAB)
			u->divisor[0] = byte;
		else
			write_data(u, byte);
		break;
	case REG_IER:
		if (u->lcr & LCR_DLAB)
			u->divisor[1] = byte;
		else
			write_ier(u, byte);
		break;
	case REG_IIR_FCR:
		write_fcr(u, byte);
		break;
	case REG_LCR:
		u->lcr = byte;
		break;
	case REG_MCR:
		write_mcr(u, byte);
		break;
	case REG_SCR:
		u->scr = byte;
		break;
	default: /* LSR and MSR are not for writing */
		break;
	}
	update(u);
}

struct uart *uart_create(struct vm *vm)
{
	static const struct bus_ops ops = {.read = port_read, .write = port_write, .widest = 1};
	struct uart *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->vm = vm;
	u->divisor[0] = 12; /* 9600 baud */
	u->msr = modem_inputs(u);
	bus_add(&vm->ports, PORT_UART, 8, &ops, u, "uart");
	return u;
}

void uart_destroy(struct uart *u)
{
	free(u);
}
