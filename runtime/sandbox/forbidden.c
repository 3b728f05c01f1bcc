#include "sandbox/parts.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"
#include "util/types.h"

#define STATUS_FORBIDDEN (128 + SIGSYS)

/* Names by numbers: those of the headers that this was built with. */
static const char *const names[] = {
#include "call_names.h"
};

/* Of the process; a signal handler has nowhere else to look. */
static void (*at_end)(void);

/* Text is put together by hand: stdio is not async-signal-safe, and the process may be in any state. */
struct line {
	char text[160];
	size_t length;
};

static void add(struct line *line, const char *text)
{
	while (*text && line->length < sizeof(line->text))
		line->text[line->length++] = *text++;
}

static void add_number(struct line *line, unsigned value)
{
	char digits[12];
	char *at = digits + sizeof(digits);

	*--at = '\0';
	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	add(line, at);
}

static void on_forbidden(int number, siginfo_t *info, void *context)
{
	const unsigned call = (unsigned)info->si_syscall;
	struct line line = {.length = 0};

	(void)number;
	(void)context;
	add(&line, "\navant run: the sandbox forbids the system call '");
	add(&line, call < ARRAY_SIZE(names) && names[call] ? names[call] : "?");
	add(&line, "' (");
	add_number(&line, call);
	add(&line, "): the run ends\n");
	if (at_end)
		at_end();
	if (write(STDERR_FILENO, line.text, line.length) < 0)
		_exit(STATUS_FORBIDDEN + 1);
	_exit(STATUS_FORBIDDEN);
}

int sandbox_catch_forbidden(const struct sandbox_config *config, struct err *err)
{
	/* a second one while it is handled, by at_end() say, ends the process without a message */
	struct sigaction action = {.sa_sigaction = on_forbidden,
				   .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};
	sigset_t set;

	at_end = config->at_end;
	sigfillset(&action.sa_mask);
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	if (sigaction(SIGSYS, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0)
		return err_set(err, "cannot catch SIGSYS: %s", strerror(errno));
	return 0;
}
