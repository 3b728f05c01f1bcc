/* The consoles of a run: its serial port and perhaps a virtio console, and what each is connected to. */
#ifndef AVANT_TOOLS_CONSOLE_CONSOLES_H
#define AVANT_TOOLS_CONSOLE_CONSOLES_H

#include "console/channel.h"
#include "console/mark.h"
#include "socket_name.h"
#include "util/err.h"
#include "util/types.h"

struct console;
struct terminal;
struct vm;

/* --serial and --console. */
struct consoles_options {
	struct console_choice serial, virtio;
	bool serial_chosen, has_virtio, virtio_chosen;
};

/* Option parsers; the field is a struct consoles_options. */
int option_serial(void *field, const char *text, struct err *err);
int option_console(void *field, const char *text, struct err *err);

/* Standard input and output are one console's: decides whose, where none was chosen. 0, or -1 with a message in err. */
int consoles_options_settle(struct consoles_options *options, struct err *err);

struct consoles {
	struct terminal *terminal; /* takes signals, also if no console is on it */
	struct channel *serial, *virtio;
	struct console *serial_far, *virtio_far; /* for vm_create(); the second may be NULL */
	struct mark marks[2];
	struct socket_name sockets[2]; /* path NULL: none; to be bound between the two calls below */
};

/* First what has names: processes that see to these start between the two. 0, or -1 with a message in err. */
int consoles_open_channels(struct consoles *consoles, const struct consoles_options *options, const char *mark,
			   struct err *err);
/* As terminal_create(): before there are threads. `start_ns` and `timeout_s` as there. */
int consoles_open_terminal(struct consoles *consoles, const struct consoles_options *options, u64 start_ns,
			   double timeout_s, struct err *err);

/* System calls that the consoles need: of enum sandbox_part. */
unsigned consoles_sandbox_parts(const struct consoles_options *options);

/* The VM exists. Input comes from now on. */
void consoles_start(struct consoles *consoles, struct vm *vm);
/* Writes out what is left and restores the terminal. The VM must still exist. */
void consoles_stop(struct consoles *consoles);
void consoles_release(struct consoles *consoles);

/* Monotonic ns when the mark first was complete on one of them, 0 if it never was. */
u64 consoles_mark_ns(const struct consoles *consoles);

#endif
