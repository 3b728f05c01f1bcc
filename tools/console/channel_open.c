/* Sockets, pseudoterminals and files by what the user called them. */
#include "console/channel_internal.h"
#include "socket_name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

static int fail(const struct channel *channel, struct err *err)
{
	return err_set(err, "cannot open '%s': %s", channel->choice.path, strerror(errno));
}

/* --- sockets ------------------------------------------------------------------------------------------------------ */

/* It gets its name, and listens, when whoever is to remove that is there (console_channel_socket()). */
static int open_socket(struct channel *channel, struct err *err)
{
	if (socket_name_check(channel->choice.path, err) < 0)
		return -1;
	channel->door.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return channel->door.fd < 0 ? fail(channel, err) : 0;
}

/* --- pseudoterminals ---------------------------------------------------------------------------------------------- */

/* A terminal that nobody has opened yet looks as if somebody had: so it is opened once. */
static int open_and_close(const char *name)
{
	int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);

	return fd < 0 ? -1 : close(fd);
}

/* All bytes as they are, in both directions: the guest has a terminal driver of its own. */
static int make_raw(int fd)
{
	struct termios mode;

	if (tcgetattr(fd, &mode) < 0)
		return -1;
	cfmakeraw(&mode);
	return tcsetattr(fd, TCSANOW, &mode);
}

/* There is no event for a terminal that is opened, but there is one for a file that is. */
static int watch_openings(const char *name)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd >= 0 && inotify_add_watch(fd, name, IN_OPEN) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int open_pty(struct channel *channel, struct err *err)
{
	char name[64];
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	channel->data.fd = fd;
	if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, name, sizeof(name)) != 0 || make_raw(fd) < 0 || open_and_close(name) < 0)
		return err_set(err, "cannot make a pseudoterminal: %s", strerror(errno));
	channel->door.fd = watch_openings(name);
	if (channel->door.fd < 0)
		return err_set(err, "cannot watch '%s': %s", name, strerror(errno));
	fprintf(stderr, "avant run: the %s is at %s\n", channel->what, name);
	return 0;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static int open_file(struct channel *channel, struct err *err)
{
	channel->data.fd = open(channel->choice.path, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_CLOEXEC, 0666);
	if (channel->data.fd < 0)
		return fail(channel, err);
	channel->connected = true;
	return 0;
}

int console_channel_open(struct channel *channel, struct err *err)
{
	switch (channel->choice.kind) {
	case CONSOLE_UNIX:
		return open_socket(channel, err);
	case CONSOLE_PTY:
		return open_pty(channel, err);
	case CONSOLE_FILE:
		return open_file(channel, err);
	case CONSOLE_NONE:
	case CONSOLE_STDIO:
		break;
	}
	return 0;
}
