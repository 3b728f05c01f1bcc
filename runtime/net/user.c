/* The VMM's side of --net user: starts the network process and exchanges packets with it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/backend.h"
#include "net/channel.h"
#include "net/options.h"
#include "net/process/process.h"
#include "poller.h"
#include "util/err.h"
#include "util/program.h"

#define START_TIMEOUT_MS 10000
#define DESCRIPTOR_MIN   16 /* ours are above the process's, so that giving them their numbers overwrites none */

struct net_user {
	struct net_backend backend;
	struct poller *poller;
	struct poller_source wake, death;
	bool polled_wake, polled_death;
	struct channel channel;
	int control, process_control; /* the two ends of the control socket */
	int memory, wake_process, wake_me;
	int pidfd;
	pid_t pid;
	bool gone;
};

static struct net_user *user_of(struct net_backend *backend)
{
	return (struct net_user *)backend;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Moves a descriptor out of the way. -1 stays -1, with errno. */
static int move_up(int fd)
{
	int moved, why;

	if (fd < 0)
		return -1;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);
	why = errno;
	close(fd);
	errno = why;
	return moved;
}

static int create_descriptors(struct net_user *user, struct err *err)
{
	int pair[2];

	user->memory = channel_memory_create(err);
	if (user->memory < 0)
		return -1;
	user->memory = move_up(user->memory);
	user->wake_process = move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	user->wake_me = move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0) {
		user->control = move_up(pair[0]);
		user->process_control = move_up(pair[1]);
	}
	if (user->memory < 0 || user->wake_process < 0 || user->wake_me < 0 || user->control < 0 ||
	    user->process_control < 0)
		return err_set(err, "cannot create descriptors for the network: %s", strerror(errno));
	return channel_open(&user->channel, CHANNEL_VMM, user->memory, user->wake_process, user->wake_me, err);
}

/* Its descriptors, and none of ours: those are close-on-exec. It may say on stderr how it died. */
static int set_descriptors(posix_spawn_file_actions_t *actions, const struct net_user *user)
{
	int status = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

	if (!status)
		status = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	if (!status)
		status = posix_spawn_file_actions_adddup2(actions, user->process_control, PROCESS_CONTROL);
	if (!status)
		status = posix_spawn_file_actions_adddup2(actions, user->memory, PROCESS_MEMORY);
	if (!status)
		status = posix_spawn_file_actions_adddup2(actions, user->wake_me, PROCESS_WAKE_PEER);
	if (!status)
		status = posix_spawn_file_actions_adddup2(actions, user->wake_process, PROCESS_WAKE_ME);
	return status;
}

static int set_signals(posix_spawnattr_t *attributes)
{
	sigset_t all, none;
	int status = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);

	sigfillset(&all);
	sigemptyset(&none);
	if (!status)
		status = posix_spawnattr_setsigdefault(attributes, &all);
	return status ? status : posix_spawnattr_setsigmask(attributes, &none);
}

/* Without our environment: it is none of its business. Returns 0 or an errno value. */
static int spawn(struct net_user *user, const char *path, const char *text)
{
	char *const arguments[] = {"avant-net", (char *)text, NULL}, *const environment[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int status = posix_spawn_file_actions_init(&actions);

	if (status)
		return status;
	status = posix_spawnattr_init(&attributes);
	if (!status) {
		status = set_descriptors(&actions, user);
		if (!status)
			status = set_signals(&attributes);
		if (!status)
			status = posix_spawn(&user->pid, path, &actions, &attributes, arguments, environment);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return status;
}

static int start_process(struct net_user *user, const struct net_config *config, struct err *err)
{
	char path[PATH_MAX + 64];
	int status;

	if (config->program)
		strncpy(path, config->program, sizeof(path) - 1)[sizeof(path) - 1] = '\0';
	else if (program_find("avant-net", path, sizeof(path), err) < 0)
		return -1;
	status = spawn(user, path, config->text);
	if (status) {
		user->pid = 0;
		return err_set(err, "cannot run '%s': %s", path, strerror(status));
	}
	close_fd(&user->process_control);
	close_fd(&user->memory);
	user->pidfd = (int)syscall(SYS_pidfd_open, user->pid, 0);
	if (user->pidfd >= 0)
		return 0;
	err_set(err, "cannot watch the network process: %s", strerror(errno));
	kill(user->pid, SIGKILL);
	waitpid(user->pid, NULL, 0);
	user->pid = 0;
	return -1;
}

/* By its descriptor: a filter of system calls can allow that without allowing to kill others. */
static void kill_process(const struct net_user *user)
{
	if (syscall(SYS_pidfd_send_signal, user->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		BUG("cannot end the network process: %s", strerror(errno));
}

static const char *cause_of_death(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return "its sandbox ended it";
	if (WIFSIGNALED(status))
		snprintf(text, size, "%s", strsignal(WTERMSIG(status)));
	else
		snprintf(text, size, "exit status %d", WEXITSTATUS(status));
	return text;
}

/* It has ended by itself, or by our hand if it wrote nonsense. */
static void on_death(struct poller_source *source, u32 events)
{
	struct net_user *user = source->opaque;
	char text[64];
	int status = 0;

	(void)events;
	if (waitpid(user->pid, &status, 0) == user->pid)
		warn("the network process ended (%s): the guest's network is gone",
		     cause_of_death(status, text, sizeof(text)));
	user->pid = 0;
	user->gone = true;
	poller_remove(user->poller, &user->death);
	user->polled_death = false;
	user->backend.lost(user->backend.opaque);
}

static void on_wake(struct poller_source *source, u32 events)
{
	struct net_user *user = source->opaque;

	(void)events;
	channel_woken(&user->channel);
	user->backend.ready(user->backend.opaque);
}

static int watch(struct net_user *user, struct err *err)
{
	user->wake = (struct poller_source){.fd = user->wake_me, .events = EPOLLIN, .ready = on_wake, .opaque = user};
	user->death = (struct poller_source){.fd = user->pidfd, .events = EPOLLIN, .ready = on_death, .opaque = user};
	if (poller_add(user->poller, &user->wake, err) < 0)
		return -1;
	user->polled_wake = true;
	if (poller_add(user->poller, &user->death, err) < 0)
		return -1;
	user->polled_death = true;
	return 0;
}

static int user_start(struct net_backend *backend, struct err *err)
{
	struct net_user *user = user_of(backend);
	struct pollfd answer = {.fd = user->control, .events = POLLIN};
	char message[1 + sizeof(err->text)];
	ssize_t length;

	if (poll(&answer, 1, START_TIMEOUT_MS) != 1)
		return err_set(err, "the network process does not answer");
	length = recv(user->control, message, sizeof(message) - 1, 0);
	if (length <= 0)
		return err_set(err, "the network process ended at once");
	message[length] = '\0';
	if (message[0] != PROCESS_READY)
		return err_set(err, "%s", message + 1);
	return watch(user, err);
}

static bool user_send(struct net_backend *backend, const struct iovec *iov, unsigned count, u32 size)
{
	struct net_user *user = user_of(backend);
	u8 *to;

	if (user->gone)
		return true; /* as into a cable that was cut */
	to = channel_reserve(&user->channel, size);
	if (!to)
		return false;
	for (unsigned i = 0; i < count; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	channel_commit(&user->channel, size);
	return true;
}

static const u8 *user_peek(struct net_backend *backend, u32 *size)
{
	struct net_user *user = user_of(backend);
	bool broken;
	const u8 *packet;

	if (user->gone)
		return NULL;
	packet = channel_peek(&user->channel, size, &broken);
	if (!broken && (!packet || *size >= sizeof(struct net_header)))
		return packet;
	warn("the network process does not keep to the rules and is ended");
	user->gone = true;
	kill_process(user); /* on_death() does the rest */
	return NULL;
}

static void user_consume(struct net_backend *backend, u32 size)
{
	channel_consume(&user_of(backend)->channel, size);
}

static void user_flush(struct net_backend *backend)
{
	channel_flush(&user_of(backend)->channel);
}

static bool user_wait(struct net_backend *backend, bool packets, bool room)
{
	struct net_user *user = user_of(backend);

	return user->gone || channel_wait(&user->channel, packets, room);
}

static void user_set_offloads(struct net_backend *backend, u32 offloads)
{
	channel_set_offloads(&user_of(backend)->channel, offloads);
}

static void user_close(struct net_backend *backend)
{
	struct net_user *user = user_of(backend);

	if (user->polled_death)
		poller_remove(user->poller, &user->death);
	if (user->polled_wake)
		poller_remove(user->poller, &user->wake);
	if (user->pid) {
		kill_process(user);
		waitpid(user->pid, NULL, 0);
	}
	channel_close(&user->channel);
	close_fd(&user->control);
	close_fd(&user->process_control);
	close_fd(&user->memory);
	close_fd(&user->wake_process);
	close_fd(&user->wake_me);
	close_fd(&user->pidfd);
	free(user);
}

static const struct net_backend_ops operations = {
	.send = user_send,
	.peek = user_peek,
	.consume = user_consume,
	.flush = user_flush,
	.wait = user_wait,
	.set_offloads = user_set_offloads,
	.start = user_start,
	.close = user_close,
};

struct net_backend *net_user_open(const struct net_config *config, struct poller *poller, struct err *err)
{
	struct net_user *user = calloc(1, sizeof(*user));

	if (!user) {
		err_set(err, "out of memory for the network");
		return NULL;
	}
	user->backend.ops = &operations;
	user->poller = poller;
	user->control = user->process_control = user->memory = user->wake_process = user->wake_me = user->pidfd = -1;
	user->channel.wake_peer = user->channel.wake_me = -1;
	if (create_descriptors(user, err) < 0 || start_process(user, config, err) < 0) {
		user_close(&user->backend);
		return NULL;
	}
	return &user->backend;
}
