/* `--cache auto`: the process that translates after the run. */
#include "auto_cache.h"

#include "command.h"
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOWEST_PRIORITY 19

/* Gives terminal and pipes back to whoever waits for the run: what the build says goes to its log. */
static int detach(const struct auto_guest *guest)
{
	char log[PATH_MAX + 16];
	struct sched_param idle = {0};

	snprintf(log, sizeof(log), "%s/build.log", guest->path);
	setsid();
	int null = open("/dev/null", O_RDWR), to = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(to < 0 ? null : to, STDOUT_FILENO) < 0 ||
	    dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
		return -1;
	setpriority(PRIO_PROCESS, 0, LOWEST_PRIORITY);
	sched_setscheduler(0, SCHED_IDLE, &idle); /* a wish */
	return chdir("/");
}

static int wait_and_build(int order, const struct auto_guest *guest)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	char *arguments[] = {"avant", "cache", "build", "--", (char *)guest->path, NULL};
	char go;

	/* they are for the run; this process ends with it anyway */
	for (unsigned i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	while (true) {
		ssize_t n = read(order, &go, 1);

		if (n == 1)
			break;
		if (n == 0 || errno != EINTR)
			return STATUS_OK;
	}
	if (detach(guest) < 0)
		return STATUS_ERROR;
	for (unsigned i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_DFL);
	return command_exec("avant", arguments);
}

int auto_builder_start(struct auto_builder *builder, const struct auto_guest *guest, struct err *err)
{
	int ends[2];
	pid_t child;

	builder->pipe = -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, "cannot create a pipe: %s", strerror(errno));
	fflush(NULL);
	child = fork();
	if (child == 0) {
		/* a grandchild: nobody has to wait for it */
		_exit(fork() == 0 ? wait_and_build(descriptors_keep(ends[0]), guest) : STATUS_OK);
	}
	close(ends[0]);
	if (child < 0) {
		close(ends[1]);
		return err_set(err, "cannot start a process: %s", strerror(errno));
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	builder->pipe = ends[1];
	return 0;
}

void auto_builder_go(struct auto_builder *builder)
{
	if (builder->pipe >= 0 && write(builder->pipe, "b", 1) < 0)
		warn("the new translations are not made now ('avant cache build' makes them): %s", strerror(errno));
}

void auto_builder_release(struct auto_builder *builder)
{
	if (builder->pipe >= 0)
		close(builder->pipe);
	builder->pipe = -1;
}
