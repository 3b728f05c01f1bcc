#include "util/thread.h"

#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "util/types.h"

#define SIGNAL_ACT (SIGRTMIN + 1)
#define PATIENCE_S 10

int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, struct err *err)
{
	static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
	sigset_t blocked, before;
	int error;

	sigfillset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(open); i++)
		sigdelset(&blocked, open[i]);
	sigdelset(&blocked, SIGNAL_ACT);
	pthread_sigmask(SIG_SETMASK, &blocked, &before); /* a new thread begins with its maker's */
	error = pthread_create(thread, NULL, run, opaque);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? err_set(err, "cannot start a thread: %s", strerror(error)) : 0;
}

/* What thread_each_other() is about; a signal handler has nowhere else to look. */
static struct {
	void (*act)(void *opaque);
	void *opaque;
	sem_t done;
} order;

static void on_act(int number)
{
	int saved = errno;

	(void)number;
	order.act(order.opaque);
	sem_post(&order.done);
	errno = saved;
}

static int wait_for_one(struct err *err)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += PATIENCE_S;
	while (sem_timedwait(&order.done, &limit) < 0)
		if (errno != EINTR)
			return err_set(err, "a thread does not answer");
	return 0;
}

/* One after the other: there are few. */
static int order_all(DIR *threads, struct err *err)
{
	const pid_t process = getpid();

	for (struct dirent *entry; (entry = readdir(threads));) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

		if (!thread || thread == (pid_t)syscall(SYS_gettid))
			continue;
		if (syscall(SYS_tgkill, process, thread, SIGNAL_ACT) < 0) {
			if (errno == ESRCH) /* it has ended */
				continue;
			return err_set(err, "cannot reach a thread: %s", strerror(errno));
		}
		if (wait_for_one(err) < 0)
			return -1;
	}
	return 0;
}

int thread_each_other(void (*act)(void *opaque), void *opaque, struct err *err)
{
	struct sigaction action = {.sa_handler = on_act, .sa_flags = SA_RESTART};
	DIR *threads;
	int result;

	order.act = act;
	order.opaque = opaque;
	sem_init(&order.done, 0, 0);
	if (sigaction(SIGNAL_ACT, &action, NULL) < 0)
		return err_set(err, "cannot catch a signal: %s", strerror(errno));
	threads = opendir("/proc/self/task");
	if (!threads)
		return err_set(err, "cannot read '/proc/self/task': %s", strerror(errno));
	result = order_all(threads, err);
	closedir(threads);
	signal(SIGNAL_ACT, SIG_IGN);
	sem_destroy(&order.done);
	return result;
}
