/* What channel.c (connections), channel_open.c (names) and channel_io.c (bytes) share. */
#ifndef AVANT_TOOLS_CONSOLE_CHANNEL_INTERNAL_H
#define AVANT_TOOLS_CONSOLE_CHANNEL_INTERNAL_H

#include "console/channel.h"
#include "dev/console.h"
#include "poller.h"

#define CHANNEL_RING  (128u << 10) /* a power of two */
#define CHANNEL_SLACK 4096u        /* room in a ring that counts as full: for what a device has under way */
#define CHANNEL_INPUT 4096u

/* Positions count up for ever. */
struct channel_ring {
	u32 head; /* written up to here */
	u32 tail; /* sent up to here */
	u8 byte[CHANNEL_RING];
};

struct channel {
	struct console console; /* first: channel_io.c casts */
	struct console_choice choice;
	const char *what;
	struct mark *mark; /* or NULL */
	struct vm *vm;     /* NULL before attach */
	bool connected;
	bool input_ended; /* the client sends no more, but it still reads */
	bool hung_up;     /* it does neither; there may be input left */
	bool stalled;     /* input waits in the host, for there was no room in the buffer */
	bool failed;      /* nothing can be written to the file any more */
	u32 input_at, input_end;
	u8 input[CHANNEL_INPUT];
	struct channel_ring output;
	struct poller_source data; /* the client, the pseudoterminal; fd -1: none */
	struct poller_source door; /* what tells of a client: listening socket, inotify; fd -1: none */
	bool data_polled, door_polled;
};

/* channel_io.c: general registers only, no libc. */
void console_channel_put(struct console *console, u8 byte);
int console_channel_get(struct console *console);
bool console_channel_full(struct console *console);

/* channel_open.c: opens what choice says. 0, or -1 with a message in err; the caller closes what is open. */
int console_channel_open(struct channel *channel, struct err *err);

#endif
