/* What terminal.c (threads, terminal modes, signals) and terminal_io.c (bytes) share. */
#ifndef AVANT_TOOLS_CONSOLE_TERMINAL_INTERNAL_H
#define AVANT_TOOLS_CONSOLE_TERMINAL_INTERNAL_H

#include "console/terminal.h"
#include "dev/console.h"

#define TERMINAL_RING   65536 /* a power of two */
#define TERMINAL_BUFFER 4096

/* One writer (the waiter thread), one reader (the vCPU thread). Positions count up for ever. */
struct terminal_ring {
	u32 head;       /* written up to here */
	u32 tail;       /* read up to here */
	u32 wants_room; /* the writer waits for room_fd */
	u8 byte[TERMINAL_RING];
};

struct terminal_output {
	int fd;
	bool failed; /* no more output: a write failed, or nobody reads at the end of the run */
	u32 used;
	u64 give_up_ns; /* monotonic; UINT64_MAX: wait for ever */
	u8 buffer[TERMINAL_BUFFER];
};

struct terminal_thread; /* terminal.c's own */

struct terminal {
	struct console console; /* first: terminal_io.c casts */
	struct vm *vm;          /* NULL before attach */
	struct terminal_output output;
	struct terminal_ring ring;
	struct mark *mark; /* or NULL */
	u32 size;          /* of the terminal: rows << 16 | columns; 0: there is none */
	int room_fd;       /* eventfd: the ring has room again, or the waiter thread is to end */
	struct terminal_thread *thread;
};

/* terminal_io.c: general registers only, no libc. */
void terminal_put(struct console *console, u8 byte);
int terminal_get(struct console *console);
void terminal_flush(struct console *console);

/* Appends a byte; false if the ring is full. Waiter thread. */
bool terminal_ring_add(struct terminal_ring *ring, u8 byte);
/* Bytes that can be added now. */
u32 terminal_ring_room(const struct terminal_ring *ring);

#endif
