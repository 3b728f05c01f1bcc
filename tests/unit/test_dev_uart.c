#include "test_dev_machine.h"

#include "dev/console.h"
#include "dev/uart.h"

enum { DATA = PORT_UART, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

struct memory_console {
	struct console ops;
	unsigned flushes;
	char out[256];
	unsigned out_count;
	const char *in;
};

static struct memory_console console;

static void put(struct console *c, u8 byte)
{
	struct memory_console *memory = (struct memory_console *)c;

	assert_true(memory->out_count < sizeof(memory->out));
	memory->out[memory->out_count++] = (char)byte;
}

static void flush(struct console *c)
{
	((struct memory_console *)c)->flushes++;
}

static int get(struct console *c)
{
	struct memory_console *memory = (struct memory_console *)c;

	return memory->in && *memory->in ? (u8)*memory->in++ : -1;
}

static int setup(void **state)
{
	(void)state;
	memset(&console, 0, sizeof(console));
	console.ops.put = put;
	console.ops.get = get;
	console.ops.flush = flush;
	machine_setup_with(&console.ops, false);
	setup_pic();
	return 0;
}

static bool interrupted(void)
{
	if (!seen.irq_line)
		return false;
	assert_int_equal(irqchip_acknowledge(vm->irqchip), 0x24);
	out8(PORT_PIC_MASTER, 0x20);
	return true;
}

static void type(const char *text)
{
	console.in = text;
	uart_poll(vm->uart);
}

static void polled_output(void **state)
{
	(void)state;
	for (const char *p = "hello"; *p; p++) {
		assert_int_equal(in8(LSR), 0x60);
		out8(DATA, (u8)*p);
	}
	assert_int_equal(console.out_count, 5);
	assert_memory_equal(console.out, "hello", 5);
	assert_false(seen.irq_line);
}

/* What Linux' 8250 driver tries to find out what it is talking to. */
static void detection(void **state)
{
	(void)state;
	out8(IER, 0);
	assert_int_equal(in8(IER), 0);
	out8(IER, 0xff);
	assert_int_equal(in8(IER), 0x0f);
	out8(IER, 0);
	out8(MCR, 0x1a); /* loopback: RTS and OUT2 come back as CTS and DCD */
	assert_int_equal(in8(MSR) & 0xf0, 0x90);
	out8(MCR, 0x15);
	assert_int_equal(in8(MSR) & 0xf0, 0x60);
	out8(MCR, 0);
	assert_int_equal(in8(MSR) & 0xf0, 0xb0);
	out8(FCR, 0x01);
	assert_int_equal(in8(IIR), 0xc1);
	out8(LCR, 0xbf);
	assert_int_equal(in8(IIR), 0xc1); /* no EFR */
	out8(LCR, 0x80);
	out8(FCR, 0x21); /* no 64-byte FIFO */
	assert_int_equal(in8(IIR) & 0x20, 0);
	out8(DATA, 1);
	out8(IER, 0);
	assert_int_equal(in8(DATA), 1);
	out8(LCR, 3);
	assert_int_equal(in8(LCR), 3);
	assert_int_equal(in8(IER), 0);
	assert_int_equal(console.out_count, 0);
	out8(FCR, 0);
	assert_int_equal(in8(IIR), 0x01);
	out8(SCR, 0x5a);
	assert_int_equal(in8(SCR), 0x5a);
}

/* Its tests for UARTs that do not raise THRE again (UART_BUG_THRE, UART_BUG_TXEN). */
static void transmit_interrupt_comes_back(void **state)
{
	(void)state;
	out8(IER, 2);
	assert_int_equal(in8(IIR), 0x02);
	out8(IER, 0);
	assert_int_equal(in8(IIR), 0x01);
	out8(IER, 2);
	assert_int_equal(in8(IIR), 0x02);
	assert_int_equal(in8(IIR), 0x01); /* reading took it */
	out8(IER, 2);                     /* no change, no interrupt */
	assert_int_equal(in8(IIR), 0x01);
	out8(DATA, 'x');
	assert_int_equal(in8(IIR), 0x02);
}

static void transmit_interrupt_line(void **state)
{
	(void)state;
	out8(IER, 2);
	assert_false(interrupted()); /* OUT2 off: not connected */
	out8(MCR, 8);
	assert_true(interrupted());
	/* each byte makes an edge, whether the request was taken or not */
	out8(DATA, 'a');
	assert_true(interrupted());
	assert_int_equal(in8(IIR), 2);
	assert_false(interrupted());
	out8(DATA, 'b');
	assert_true(interrupted());
	out8(IER, 0);
	assert_false(interrupted());
}

static void receive_interrupt(void **state)
{
	(void)state;
	out8(FCR, 0x81); /* trigger 8 */
	out8(MCR, 0x0b);
	out8(IER, 5);
	assert_int_equal(in8(LSR), 0x60);
	type("abc");
	assert_true(interrupted());
	assert_int_equal(in8(IIR), 0xcc); /* below the trigger: timeout */
	assert_int_equal(in8(LSR), 0x61);
	assert_int_equal(in8(DATA), 'a');
	assert_int_equal(in8(IIR), 0xcc);
	assert_int_equal(in8(DATA), 'b');
	assert_int_equal(in8(DATA), 'c');
	assert_int_equal(in8(IIR), 0xc1);
	assert_int_equal(in8(LSR), 0x60);
	assert_int_equal(in8(DATA), 0);
	type("0123456789abcdefghijk");
	assert_true(interrupted());
	assert_int_equal(in8(IIR), 0xc4);
	assert_string_equal(console.in, "ghijk"); /* 16 fit, the others wait */
	for (const char *p = "0123456789abcdefghijk"; *p; p++) {
		assert_int_equal(in8(LSR), 0x61);
		assert_int_equal(in8(DATA), *p);
	}
	assert_int_equal(in8(LSR), 0x60);
	assert_false(interrupted());
	type("z");
	assert_true(interrupted()); /* a new edge */
}

static void receive_without_fifo(void **state)
{
	(void)state;
	out8(MCR, 8);
	type("xy");
	assert_string_equal(console.in, "xy"); /* nobody reads yet: it stays where it cannot be cleared */
	out8(IER, 1);
	assert_string_equal(console.in, "y");
	assert_int_equal(in8(IIR), 0x04);
	assert_true(interrupted());
	assert_int_equal(in8(DATA), 'x');
	assert_int_equal(in8(DATA), 'y');
	assert_int_equal(in8(IIR), 0x01);
}

static void polled_input(void **state)
{
	unsigned reads = 0;

	(void)state;
	type("q");
	out8(DATA, '1'); /* a console that prints is not one that reads */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(in8(LSR), 0x60);
		out8(DATA, '2');
	}
	while (!(in8(LSR) & 1))
		assert_true(++reads < 10);
	assert_int_equal(in8(DATA), 'q');
	out8(DATA, '?');
	vm->vcpu->event = 0;
	for (reads = 0; !vm->vcpu->event; reads++) { /* who waits for input has asked for it: the loop is to flush */
		assert_int_equal(in8(LSR), 0x60);
		assert_true(reads < 10);
	}
	assert_int_equal(console.flushes, 0); /* not here: the guest's vector registers are live */
	console.in = "rs";
	assert_int_equal(in8(LSR), 0x61);
	assert_int_equal(in8(DATA), 'r');
	assert_int_equal(in8(DATA), 's');
}

static void input_survives_setup_of_the_port(void **state)
{
	(void)state;
	type("cmd");
	out8(FCR, 0x01); /* as Linux opens the port */
	out8(FCR, 0x07);
	out8(FCR, 0x00);
	in8(LSR);
	in8(DATA);
	in8(IIR);
	in8(MSR);
	out8(FCR, 0x81);
	out8(IER, 5);
	assert_int_equal(in8(DATA), 'c');
	/* but what has been received is cleared when asked */
	out8(FCR, 0x83);
	assert_int_equal(in8(LSR), 0x60);
}

static void priorities(void **state)
{
	(void)state;
	out8(FCR, 1);
	out8(MCR, 0x18); /* loopback, OUT2 */
	in8(MSR);
	for (unsigned i = 0; i < 17; i++)
		out8(DATA, (u8)i);
	assert_int_equal(console.out_count, 0);
	out8(MCR, 0x1a); /* RTS: CTS changes */
	out8(IER, 0x0f);
	assert_int_equal(in8(IIR), 0xc6); /* overrun */
	assert_int_equal(in8(LSR), 0x63);
	assert_int_equal(in8(LSR), 0x61);
	assert_int_equal(in8(IIR), 0xc4);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(in8(DATA), i);
	assert_int_equal(in8(IIR), 0xc2);
	assert_int_equal(in8(IIR), 0xc0);
	assert_int_equal(in8(MSR), 0x91);
	assert_int_equal(in8(IIR), 0xc1);
	/* the ring indicator's delta marks only its end */
	out8(MCR, 0x1e);
	assert_int_equal(in8(MSR) & 0x0f, 0);
	out8(MCR, 0x1a);
	assert_int_equal(in8(MSR) & 0x0f, 4);
}

static void without_console(void **state)
{
	(void)state;
	vm->console = NULL;
	out8(IER, 1);
	out8(DATA, 'x');
	assert_int_equal(in8(DATA), 0);
	uart_poll(vm->uart);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(polled_output, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(detection, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(transmit_interrupt_comes_back, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(transmit_interrupt_line, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(receive_interrupt, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(receive_without_fifo, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(polled_input, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(input_survives_setup_of_the_port, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(priorities, setup, machine_teardown),
		cmocka_unit_test_setup_teardown(without_console, setup, machine_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
