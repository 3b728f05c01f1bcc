#include "interrupts.h"

#include "command.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* So long another signal is the same one still: timeout(1), for one, sends it to the process and to its group. */
#define ONE_NS 100000000ULL

static const char *command_name;
/* lock-free, and so allowed in a handler, which may run in any thread */
static atomic_bool may_note;
static atomic_ullong noted_ns; /* when; 0: not yet */

static void say(const char *what)
{
	const char *const parts[] = {"\n", command_name, what};

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		ssize_t written = write(STDERR_FILENO, parts[i], strlen(parts[i]));

		(void)written;
	}
}

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static void on_interrupt(int number)
{
	unsigned long long before = 0, now = now_ns();
	int error = errno;

	(void)number;
	if (atomic_load(&may_note) && atomic_compare_exchange_strong(&noted_ns, &before, now)) {
		say(": stopping; once more ends it at once\n");
		errno = error;
		return;
	}
	before = atomic_load(&noted_ns);
	if (!before || now - before >= ONE_NS) {
		say(": interrupted\n");
		_exit(STATUS_ERROR);
	}
	errno = error;
}

void interrupts_catch(const char *name)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};

	_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "used in a signal handler");
	command_name = name;
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct sigaction old;

		/* nohup(1), and shells for what is in the background, mean it */
		if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
	}
}

void interrupts_note(bool note)
{
	atomic_store(&may_note, note);
}

bool interrupts_noted(void)
{
	return atomic_load(&noted_ns) != 0;
}
