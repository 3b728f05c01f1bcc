#include "interrupts.h"

#include "command.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static const char *command_name;
/* lock-free, and so allowed in a handler, which may run in any thread */
static atomic_bool may_note, noted;

static void say(const char *text)
{
	ssize_t written = write(STDERR_FILENO, text, strlen(text));

	(void)written;
}

static void on_interrupt(int number)
{
	(void)number;
	say("\n");
	say(command_name);
	if (atomic_load(&may_note) && !atomic_exchange(&noted, true)) {
		say(": stopping; once more ends it at once\n");
		return;
	}
	say(": interrupted\n");
	_exit(STATUS_ERROR);
}

void interrupts_catch(const char *name)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};

	_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "used in a signal handler");
	command_name = name;
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaction(numbers[i], &action, NULL);
}

void interrupts_note(bool note)
{
	atomic_store(&may_note, note);
}

bool interrupts_noted(void)
{
	return atomic_load(&noted);
}
