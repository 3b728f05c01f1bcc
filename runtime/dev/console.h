/*
 * The far end of the serial port: host terminal or pipes. Output is buffered and written when a line ends, when the
 * buffer is full and when the guest goes idle; input is read by a waiter thread into a small ring and announced with
 * vcpu_notify(). struct console_ops is what the UART sees; tools/ provides the terminal, tests a memory buffer.
 */
#ifndef AVANT_DEV_CONSOLE_H
#define AVANT_DEV_CONSOLE_H

#include "util/types.h"

struct vm;

struct console {
	/* One byte from the guest. General registers only: no string functions, no stdio. */
	void (*put)(struct console *console, u8 byte);
	/* Next input byte, or -1. General registers only. */
	int (*get)(struct console *console);
	/* Writes out what is buffered. Anything goes. */
	void (*flush)(struct console *console);
	/* The vCPU exists from now on: input may be announced to it. */
	void (*attach)(struct console *console, struct vm *vm);
};

#endif
