#include "socket_name.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

static int bind_to(int fd, const struct sockaddr_un *address)
{
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -1;
	if (!is_left_over(address)) {
		errno = EADDRINUSE;
		return -1;
	}
	unlink(address->sun_path);
	return bind(fd, (const struct sockaddr *)address, sizeof(*address));
}

int socket_name_check(const char *path, struct err *err)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	return strlen(path) <= max ? 0 : err_set(err, "the path of a socket has at most %zu bytes", max);
}

int socket_name_bind(struct socket_name *name, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;

	if (socket_name_check(name->path, err) < 0)
		return -1;
	strcpy(address.sun_path, name->path);
	if (bind_to(name->fd, &address) < 0)
		return err_set(err, "cannot open '%s': %s", name->path, strerror(errno));
	if (lstat(name->path, &status) == 0) {
		name->dev = status.st_dev;
		name->ino = status.st_ino;
	}
	/* the next client waits until the one before has gone */
	if (listen(name->fd, 1) == 0)
		return 0;
	err_set(err, "cannot open '%s': %s", name->path, strerror(errno));
	socket_name_remove(name);
	return -1;
}

void socket_name_remove(const struct socket_name *name)
{
	struct stat now;

	if (name->path && name->ino && lstat(name->path, &now) == 0 && now.st_dev == name->dev &&
	    now.st_ino == name->ino)
		unlink(name->path);
}
