/*
 * The console on our standard input and output.
 *
 *   guest → put() → buffer → stdout          vCPU thread, general registers only (terminal_io.c)
 *   stdin → waiter thread → ring → get()     announced by vm_wake()
 *
 * If stdin is a terminal it is in raw mode while the guest runs, and Ctrl-A is a prefix: X quits, A or Ctrl-A sends a
 * Ctrl-A, H helps. From a pipe or a file every byte goes to the guest; at its end the guest goes on.
 * The waiter thread also takes SIGINT and SIGHUP, which end the run in order, and SIGTERM, which presses the guest's
 * power button and ends the run the second time; that is so also if the terminal is no console of the guest's.
 */
#ifndef AVANT_TOOLS_CONSOLE_TERMINAL_H
#define AVANT_TOOLS_CONSOLE_TERMINAL_H

#include "util/err.h"
#include "util/types.h"

struct console;
struct mark;
struct terminal;
struct vm;

struct terminal_config {
	int in, out;       /* descriptors, not closed by the terminal; in -1: it is no console, only takes signals */
	struct mark *mark; /* is fed the output, or NULL */
	double timeout_s;  /* from start_ns on, do not wait for a reader of the output any longer; 0: wait */
	u64 start_ns;      /* monotonic */
};

/*
 * Blocks the signals named above (and SIGTSTP, SIGCONT) in the calling thread and ignores SIGPIPE: call it before any
 * other thread exists. One terminal at a time. NULL with a message in err.
 */
struct terminal *terminal_create(const struct terminal_config *config, struct err *err);

/* For vm_create(), which attaches the VM to it. */
struct console *terminal_console(struct terminal *terminal);

/* Puts the terminal into raw mode (if it is one) and starts the waiter thread, also for a VM that has other consoles.
 */
void terminal_start(struct terminal *terminal, struct vm *vm);

/* Writes out what is left, stops the waiter thread (if started) and restores the terminal. The VM must still exist. */
void terminal_stop(struct terminal *terminal);

/* Puts the terminal back as it was found, for a process that ends at once. Async-signal-safe. */
void terminal_restore(void);

/* Frees it; after terminal_stop(). */
void terminal_destroy(struct terminal *terminal);

/* The signal that ended the run; 0: none, it was Ctrl-A X. */
int terminal_stop_signal(const struct terminal *terminal);

#endif
