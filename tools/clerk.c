#include "clerk.h"

#include "descriptors.h"
#include "output.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE_MAX_WRITTEN (8ULL << 30) /* of one file: more is no recording, but a mistake */

/* What the clerk is asked; `size` bytes follow. */
struct order {
	u64 number, size;
};

struct answer {
	s64 result;
	struct err err;
};

static bool send_all(int fd, const void *data, u64 size)
{
	const u8 *at = data;

	while (size) {
		ssize_t n = write(fd, at, size);

		if (n <= 0 && errno != EINTR)
			return false;
		if (n > 0) {
			at += n;
			size -= (u64)n;
		}
	}
	return true;
}

static bool receive_all(int fd, void *data, u64 size)
{
	u8 *at = data;

	while (size) {
		ssize_t n = read(fd, at, size);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		if (n > 0) {
			at += n;
			size -= (u64)n;
		}
	}
	return true;
}

static int carry_out(const struct order *order, const char *path, int socket, struct err *err)
{
	void *data;
	int result;

	if (order->size > SIZE_MAX_WRITTEN)
		return err_set(err, "cannot write '%s': it would be too large", path);
	data = malloc(order->size + 1);
	if (!data)
		return err_set(err, "cannot write '%s': out of memory", path);
	/* half a file is none */
	result = receive_all(socket, data, order->size) ? output_write(path, data, order->size, err) : -1;
	free(data);
	return result;
}

static int serve(int socket, const char *const *paths, unsigned count)
{
	struct order order;

	while (receive_all(socket, &order, sizeof(order))) {
		struct answer answer = {0};

		if (order.number >= count || !paths[order.number])
			return 1;
		answer.result = carry_out(&order, paths[order.number], socket, &answer.err);
		if (!send_all(socket, &answer, sizeof(answer)))
			return 1;
	}
	return 0;
}

static void bind_sockets(struct socket_name *sockets, struct answer *answer)
{
	for (unsigned i = 0; i < CLERK_SOCKETS && answer->result == 0; i++)
		if (sockets[i].path)
			answer->result = socket_name_bind(&sockets[i], &answer->err);
}

/* Its first answer, to no order, says whether it has begun. */
static int work(int socket, const char *const *paths, unsigned count, const struct socket_name *given)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE};
	struct socket_name sockets[CLERK_SOCKETS];
	struct answer answer = {0};
	int status = 1;

	/* they are for the run; this process ends with it anyway */
	for (unsigned i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	memcpy(sockets, given, sizeof(sockets));
	bind_sockets(sockets, &answer);
	socket = descriptors_keep(socket);
	if (send_all(socket, &answer, sizeof(answer)) && answer.result == 0)
		status = serve(socket, paths, count);
	for (unsigned i = 0; i < CLERK_SOCKETS; i++)
		socket_name_remove(&sockets[i]);
	return status;
}

static int receive_answer(int socket, const char *what, struct err *err)
{
	struct answer answer;

	if (!receive_all(socket, &answer, sizeof(answer)))
		return err_set(err, "%s: the process that does so has gone", what);
	answer.err.text[sizeof(answer.err.text) - 1] = '\0';
	return answer.result < 0 ? err_set(err, "%s", answer.err.text) : 0;
}

int clerk_start(struct clerk *clerk, const char *const *paths, unsigned count, const struct socket_name *sockets,
		struct err *err)
{
	int ends[2];
	pid_t child;

	clerk->socket = -1;
	clerk->paths = paths;
	clerk->removes = false;
	for (unsigned i = 0; i < CLERK_SOCKETS; i++)
		clerk->removes |= sockets[i].path != NULL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return err_set(err, "cannot create a socket: %s", strerror(errno));
	fflush(NULL);
	child = fork();
	if (child == 0) {
		/* a grandchild: nobody has to wait for it */
		_exit(fork() == 0 ? work(ends[0], paths, count, sockets) : 0);
	}
	close(ends[0]);
	if (child < 0) {
		close(ends[1]);
		return err_set(err, "cannot start a process: %s", strerror(errno));
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	clerk->socket = ends[1];
	return receive_answer(clerk->socket, "cannot prepare what is written at the end", err);
}

void clerk_release(struct clerk *clerk)
{
	char end;

	if (clerk->socket < 0)
		return;
	if (clerk->removes && shutdown(clerk->socket, SHUT_WR) == 0)
		receive_all(clerk->socket, &end, sizeof(end));
	close(clerk->socket);
	clerk->socket = -1;
}

int clerk_write(const struct clerk *clerk, unsigned number, const void *data, u64 size, struct err *err)
{
	struct order order = {.number = number, .size = size};
	char what[512];

	snprintf(what, sizeof(what), "cannot write '%s'", clerk->paths[number]);
	if (!send_all(clerk->socket, &order, sizeof(order)) || !send_all(clerk->socket, data, size))
		return err_set(err, "%s: the process that does so has gone", what);
	return receive_answer(clerk->socket, what, err);
}

int clerk_write_fd(const struct clerk *clerk, unsigned number, int fd, struct err *err)
{
	struct stat status;
	void *data;
	int result;

	if (fstat(fd, &status) < 0 || status.st_size <= 0)
		return err_set(err, "cannot write '%s': there is nothing to write", clerk->paths[number]);
	data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return err_set(err, "cannot write '%s': %s", clerk->paths[number], strerror(errno));
	result = clerk_write(clerk, number, data, (u64)status.st_size, err);
	munmap(data, (size_t)status.st_size);
	return result;
}
