/*
 * Several processes: fork, exec, context switches. They share one processor for the time of the row, as in a guest with
 * a single one; otherwise the host's figures would be those of wake-ups across processors.
 */
#include "bench.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct process_state {
	cpu_set_t before; /* the processors allowed until now */
	char program[512];
	int there[2], back[2]; /* pipes of the context switch row */
	pid_t partner;
};

static void process_teardown(void *state)
{
	struct process_state *process = state;

	sched_setaffinity(0, sizeof(process->before), &process->before);
	free(process);
}

static struct process_state *process_setup_with(const char *program)
{
	struct process_state *process = calloc(1, sizeof(*process));
	cpu_set_t one;
	int cpu = sched_getcpu();

	if (!process)
		return NULL;
	sched_getaffinity(0, sizeof(process->before), &process->before);
	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (program &&
	    (!bench_sibling(program, process->program, sizeof(process->program)) || access(process->program, X_OK))) {
		process_teardown(process);
		return NULL;
	}
	return process;
}

static void *fork_setup(void)
{
	return process_setup_with(NULL);
}

/* In the initramfs the program is called init, as the kernel wants it. */
static void *exec_static_setup(void)
{
	return process_setup_with(getpid() == 1 ? "init" : "bench");
}

static void *exec_dynamic_setup(void)
{
	return process_setup_with("bench-dynamic");
}

static void start_and_wait(struct job *job, const char *program)
{
	static char argument[] = "--exit";
	int status;
	pid_t child = fork();

	if (child < 0) {
		job_fail(job, "fork");
		return;
	}
	if (!child) {
		if (program) {
			char *argv[] = {(char *)program, argument, NULL}, *envp[] = {NULL};

			execve(program, argv, envp);
		}
		_exit(program ? 127 : 0);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
		job_fail(job, "child failed");
}

static void fork_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations && !job->error; n++)
		start_and_wait(job, NULL);
}

static void exec_run(struct job *job)
{
	const struct process_state *process = job->state;

	for (uint64_t n = 0; n < job->iterations && !job->error; n++)
		start_and_wait(job, process->program);
}

/* The partner sends every byte back until its pipe is closed. */
static void partner_loop(const struct process_state *process)
{
	char byte;

	close(process->there[1]);
	close(process->back[0]);
	while (read(process->there[0], &byte, 1) == 1)
		if (write(process->back[1], &byte, 1) != 1)
			break;
	_exit(0);
}

static void *switch_setup(void)
{
	struct process_state *process = process_setup_with(NULL);

	if (!process)
		return NULL;
	if (pipe(process->there) || pipe(process->back)) {
		process_teardown(process);
		return NULL;
	}
	process->partner = fork();
	if (process->partner < 0) {
		process_teardown(process);
		return NULL;
	}
	if (!process->partner)
		partner_loop(process);
	close(process->there[0]);
	close(process->back[1]);
	return process;
}

static void switch_teardown(void *state)
{
	struct process_state *process = state;

	close(process->there[1]);
	close(process->back[0]);
	waitpid(process->partner, NULL, 0);
	process_teardown(process);
}

static void switch_run(struct job *job)
{
	const struct process_state *process = job->state;

	for (uint64_t n = 0; n < job->iterations && !job->error; n++) {
		char out = (char)n, in = 0;

		if (write(process->there[1], &out, 1) != 1 || read(process->back[0], &in, 1) != 1 || in != out)
			job_fail(job, "ping-pong");
	}
}

const struct row rows_process[] = {
	{"context_switch", "us", 1, switch_setup, switch_run, switch_teardown},
	{"fork_wait", "us", 1, fork_setup, fork_run, process_teardown},
	{"fork_exec_static", "us", 1, exec_static_setup, exec_run, process_teardown},
	{"fork_exec_dynamic", "us", 1, exec_dynamic_setup, exec_run, process_teardown},
	{0},
};
