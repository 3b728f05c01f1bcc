/*
 * A console that others connect to: a Unix socket or a pseudoterminal; or a file that gets the output. Everything
 * happens on the vCPU's thread:
 *
 *   guest → put() → ring → flush() → socket             put(): general registers only (channel_io.c)
 *   socket → poller → buffer → get() → guest            get(): likewise
 *
 * Output that nobody reads stays in the ring, which keeps the last of it for who connects next. While somebody is
 * connected nothing is dropped: the ring gets full, and the device waits.
 */
#ifndef AVANT_TOOLS_CONSOLE_CHANNEL_H
#define AVANT_TOOLS_CONSOLE_CHANNEL_H

#include "util/err.h"
#include "util/types.h"

struct channel;
struct console;
struct mark;

/* What a console of the guest's is connected to. */
enum console_kind { CONSOLE_STDIO, CONSOLE_NONE, CONSOLE_UNIX, CONSOLE_PTY, CONSOLE_FILE };

struct console_choice {
	enum console_kind kind;
	const char *path; /* of the socket or the file */
};

/*
 * Opens what was chosen, which is not CONSOLE_STDIO. `what` says whose console it is, for messages; a pseudoterminal's
 * name is printed on stderr. NULL with a message in err.
 */
struct channel *console_channel_create(const struct console_choice *choice, const char *what, struct mark *mark,
				       struct err *err);

/* The socket that clients come to, for socket_name_bind() before console->attach(); -1 if it is something else. */
int console_channel_socket(const struct channel *channel);

/* For vm_create(), which attaches the VM to it. */
struct console *console_channel_console(struct channel *channel);

/* Writes out what can be written without waiting and stops listening. The VM must still exist. */
void console_channel_stop(struct channel *channel);

/* Closes and frees it; NULL is allowed. A socket's name stays: who has the right to removes it. */
void console_channel_destroy(struct channel *channel);

#endif
