/*
 * The far end of a serial port or of a virtio console: host terminal, pipes, a socket. Output is buffered and written
 * when a line ends, when the buffer is full and when the guest goes idle; input is announced with vcpu_notify(), and
 * fetched with get(). This is what the devices see; tools/console/ provides them, tests a memory buffer.
 */
#ifndef AVANT_DEV_CONSOLE_H
#define AVANT_DEV_CONSOLE_H

#include "util/types.h"

struct err;
struct vm;

struct console {
	/* One byte from the guest. General registers only: no string functions, no stdio. */
	void (*put)(struct console *console, u8 byte);
	/* Next input byte, or -1. General registers only. */
	int (*get)(struct console *console);
	/* Writes out what is buffered. Anything goes. */
	void (*flush)(struct console *console);
	/* The vCPU exists from now on: input may be announced to it. 0, or -1 with a message in err. */
	int (*attach)(struct console *console, struct vm *vm, struct err *err);
	/*
	 * Somebody reads, but not fast enough: what is put now is lost. That there is room again is announced like
	 * input. NULL: never. General registers only.
	 */
	bool (*full)(struct console *console);
	/* Of the terminal at the far end; false if there is none. A change is announced like input. NULL: there is
	 * none. */
	bool (*size)(struct console *console, u16 *columns, u16 *rows);
};

#endif
