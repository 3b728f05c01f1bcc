/* Sockets, pseudoterminals and files by what the user called them. */
#include "console/channel_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

static int fail(const struct channel *channel, struct err *err)
{
	return err_set(err, "cannot open '%s': %s", channel->choice.path, strerror(errno));
}

/* --- sockets ------------------------------------------------------------------------------------------------------ */

/* What is left of a run that was killed may be replaced; what somebody listens at, or is no socket, may not. */
static bool is_left_over(const struct sockaddr_un *address)
{
	struct stat status;
	bool refused;
	int fd;

	if (lstat(address->sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_socket(int fd, const struct sockaddr_un *address)
{
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return 0;
	if (errno != EADDRINUSE || !is_left_over(address)) {
		errno = EADDRINUSE;
		return -1;
	}
	unlink(address->sun_path);
	return bind(fd, (const struct sockaddr *)address, sizeof(*address));
}

static int open_socket(struct channel *channel, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(channel->choice.path) >= sizeof(address.sun_path))
		return err_set(err, "the path of a socket has at most %zu bytes", sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, channel->choice.path);
	channel->door.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (channel->door.fd < 0 || bind_socket(channel->door.fd, &address) < 0)
		return fail(channel, err);
	/* the next client waits until the one before has gone */
	if (listen(channel->door.fd, 1) < 0) {
		fail(channel, err);
		unlink(address.sun_path);
		return -1;
	}
	return 0;
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
