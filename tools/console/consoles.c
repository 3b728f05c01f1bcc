#include "console/consoles.h"

#include "console/terminal.h"
#include "sandbox/sandbox.h"

#include <string.h>
#include <unistd.h>

/* --- options ------------------------------------------------------------------------------------------------------ */

static int parse_choice(struct console_choice *choice, const char *text, struct err *err)
{
	static const struct {
		const char *name;
		enum console_kind kind;
		bool has_path;
	} kinds[] = {
		{"stdio", CONSOLE_STDIO, false}, {"none", CONSOLE_NONE, false}, {"pty", CONSOLE_PTY, false},
		{"unix:", CONSOLE_UNIX, true},   {"file:", CONSOLE_FILE, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const size_t length = strlen(kinds[i].name);

		if (kinds[i].has_path ? strncmp(text, kinds[i].name, length) != 0 : strcmp(text, kinds[i].name) != 0)
			continue;
		*choice = (struct console_choice){.kind = kinds[i].kind,
						  .path = kinds[i].has_path ? text + length : NULL};
		if (choice->path && !*choice->path)
			return err_set(err, "'%s' lacks a path", text);
		return 0;
	}
	return err_set(err, "'%s' is none of: stdio, none, pty, unix:PATH, file:PATH", text);
}

int option_serial(void *field, const char *text, struct err *err)
{
	struct consoles_options *options = field;

	options->serial_chosen = true;
	return parse_choice(&options->serial, text, err);
}

int option_console(void *field, const char *text, struct err *err)
{
	static const char name[] = "virtio";
	struct consoles_options *options = field;
	const size_t length = sizeof(name) - 1;

	if (strncmp(text, name, length) != 0 || (text[length] && text[length] != ':'))
		return err_set(err, "'%s' is not virtio or virtio:WHERE", text);
	options->has_virtio = true;
	options->virtio_chosen = text[length];
	return text[length] ? parse_choice(&options->virtio, text + length + 1, err) : 0;
}

int consoles_options_settle(struct consoles_options *options, struct err *err)
{
	if (!options->has_virtio)
		return 0;
	if (!options->virtio_chosen && options->serial_chosen && options->serial.kind == CONSOLE_STDIO)
		return err_set(err, "--console virtio: standard input and output are the serial port's");
	if (!options->serial_chosen && options->virtio.kind == CONSOLE_STDIO)
		options->serial.kind = CONSOLE_NONE;
	if (options->serial.kind == CONSOLE_STDIO && options->virtio.kind == CONSOLE_STDIO)
		return err_set(err, "--console virtio:stdio: standard input and output are the serial port's");
	return 0;
}

unsigned consoles_sandbox_parts(const struct consoles_options *options)
{
	return options->serial.kind == CONSOLE_UNIX || (options->has_virtio && options->virtio.kind == CONSOLE_UNIX)
		       ? SANDBOX_LISTEN
		       : 0;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int open_channel(struct channel **channel, const struct console_choice *choice, const char *what,
			struct mark *mark, struct socket_name *name, struct err *err)
{
	if (choice->kind == CONSOLE_STDIO)
		return 0;
	*channel = console_channel_create(choice, what, mark, err);
	if (*channel && choice->kind == CONSOLE_UNIX)
		*name = (struct socket_name){.path = choice->path, .fd = console_channel_socket(*channel)};
	return *channel ? 0 : -1;
}

int consoles_open_channels(struct consoles *consoles, const struct consoles_options *options, const char *mark,
			   struct err *err)
{
	*consoles = (struct consoles){0};
	for (size_t i = 0; mark && i < ARRAY_SIZE(consoles->marks); i++)
		if (mark_init(&consoles->marks[i], mark, err) < 0)
			return -1;
	if (open_channel(&consoles->serial, &options->serial, "serial port", &consoles->marks[0], &consoles->sockets[0],
			 err) < 0 ||
	    (options->has_virtio && open_channel(&consoles->virtio, &options->virtio, "virtio console",
						 &consoles->marks[1], &consoles->sockets[1], err) < 0)) {
		consoles_release(consoles);
		return -1;
	}
	return 0;
}

int consoles_open_terminal(struct consoles *consoles, const struct consoles_options *options, u64 start_ns,
			   double timeout_s, struct err *err)
{
	const bool used = !consoles->serial || (options->has_virtio && !consoles->virtio);
	const struct terminal_config config = {
		.in = used ? STDIN_FILENO : -1,
		.out = STDOUT_FILENO,
		.mark = &consoles->marks[consoles->serial ? 1 : 0],
		.timeout_s = timeout_s,
		.start_ns = start_ns,
	};

	consoles->terminal = terminal_create(&config, err);
	if (!consoles->terminal)
		return -1;
	consoles->serial_far =
		consoles->serial ? console_channel_console(consoles->serial) : terminal_console(consoles->terminal);
	if (options->has_virtio)
		consoles->virtio_far = consoles->virtio ? console_channel_console(consoles->virtio)
							: terminal_console(consoles->terminal);
	return 0;
}

void consoles_start(struct consoles *consoles, struct vm *vm)
{
	terminal_start(consoles->terminal, vm);
}

void consoles_stop(struct consoles *consoles)
{
	if (consoles->serial)
		console_channel_stop(consoles->serial);
	if (consoles->virtio)
		console_channel_stop(consoles->virtio);
	terminal_stop(consoles->terminal);
}

void consoles_release(struct consoles *consoles)
{
	console_channel_destroy(consoles->serial);
	console_channel_destroy(consoles->virtio);
	if (consoles->terminal)
		terminal_destroy(consoles->terminal);
	consoles->serial = consoles->virtio = NULL;
	consoles->terminal = NULL;
}

u64 consoles_mark_ns(const struct consoles *consoles)
{
	u64 first = 0;

	for (size_t i = 0; i < ARRAY_SIZE(consoles->marks); i++) {
		const u64 found = consoles->marks[i].found_ns;

		if (found && (!first || found < first))
			first = found;
	}
	return first;
}
