/* Parses options by a command's table and prints its help from the same table. */
#include "command.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HELP_COLUMN 28

static u64 start_ns;

void command_start(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	start_ns = (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

u64 command_start_ns(void)
{
	return start_ns;
}

/* "avant", or "avant NAME". */
static void print_name(FILE *to, const struct command *command)
{
	fprintf(to, "avant%s%s", *command->name ? " " : "", command->name);
}

static void complain(const struct command *command, const char *format, va_list args)
{
	print_name(stderr, command);
	fputs(": ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

int command_usage_error(const struct command *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(command, format, args);
	va_end(args);
	fputs("Try '", stderr);
	print_name(stderr, command);
	fputs(" --help'.\n", stderr);
	return STATUS_USAGE;
}

int command_error(const struct command *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(command, format, args);
	va_end(args);
	return STATUS_ERROR;
}

static bool reader_left(void)
{
	struct pollfd out = {.fd = 1, .events = POLLOUT};

	return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

int command_finish_output(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	if (reader_left())
		return STATUS_ERROR;
	fprintf(stderr, "avant: cannot write to standard output: %s\n", strerror(errno));
	return STATUS_ERROR;
}

static bool is_end(const struct option_spec *option)
{
	return !option->name && !option->help;
}

/* Prints text that may have several lines, the later ones indented to the help column. */
static void print_indented(const char *text)
{
	for (; *text; text++) {
		putchar(*text);
		if (*text == '\n')
			printf("%*s", HELP_COLUMN, "");
	}
}

static void print_option(const struct option_spec *option)
{
	int width = printf("  --%s%s%s", option->name, option->argument ? " " : "",
			   option->argument ? option->argument : "");

	if (width > HELP_COLUMN - 2) {
		putchar('\n');
		width = 0;
	}
	printf("%*s", HELP_COLUMN - width, "");
	print_indented(option->help);
	if (option->initial)
		printf(" (default: %s)", option->initial);
	putchar('\n');
}

/* What a command is called in its group. */
static const char *last_word(const char *name)
{
	const char *space = strrchr(name, ' ');

	return space ? space + 1 : name;
}

static void print_commands(FILE *to, const struct command *group)
{
	fputs("Commands:\n", to);
	for (const struct command *const *c = group->commands; *c; c++)
		fprintf(to, "  %-10s %s\n", last_word((*c)->name), (*c)->summary);
}

static void print_help(const struct command *command)
{
	fputs("Usage: ", stdout);
	print_name(stdout, command);
	printf(" %s\n%s", command->usage, command->text);
	if (command->commands) {
		putchar('\n');
		print_commands(stdout, command);
		printf("\n%s", command->examples);
		return;
	}
	for (const struct option_spec *option = command->options; !is_end(option); option++) {
		if (option->name)
			print_option(option);
		else
			printf("\n%s:\n", option->help);
	}
	printf("\n  --%-*s%s\n", HELP_COLUMN - 4, "help", "print this text");
	printf("\nExamples:\n%s", command->examples);
}

static const struct option_spec *find_option(const struct command *command, const char *name, size_t length)
{
	for (const struct option_spec *option = command->options; !is_end(option); option++)
		if (option->name && strlen(option->name) == length && !memcmp(option->name, name, length))
			return option;
	return NULL;
}

/* A short form stands for the option whose name it begins. */
static const struct option_spec *find_letter(const struct command *command, char letter)
{
	if (!command->letters || !strchr(command->letters, letter))
		return NULL;
	for (const struct option_spec *option = command->options; !is_end(option); option++)
		if (option->name && option->name[0] == tolower((unsigned char)letter))
			return option;
	return NULL;
}

static void set_defaults(const struct command *command, u8 *options)
{
	struct err err = ERR_INIT;

	for (const struct option_spec *option = command->options; !is_end(option); option++)
		if (option->initial && option->parse(options + option->offset, option->initial, &err) < 0)
			BUG("default of --%s: %s", option->name, err.text);
}

/* Handles argv[*at] and, where it needs one, its argument. Returns 0 or STATUS_USAGE. */
static int parse_argument(const struct command *command, u8 *options, char **argv, int argc, int *at)
{
	const char *name = argv[*at] + 2, *equals, *text;
	const struct option_spec *option;
	struct err err = ERR_INIT;

	if (argv[*at][0] == '-' && argv[*at][1] && argv[*at][1] != '-' && !argv[*at][2]) {
		option = find_letter(command, argv[*at][1]);
		equals = name;
	} else {
		if (strncmp(argv[*at], "--", 2) != 0 || !*name)
			return command_usage_error(command, "unexpected argument '%s'", argv[*at]);
		equals = strchrnul(name, '=');
		option = find_option(command, name, (size_t)(equals - name));
	}
	if (!option)
		return command_usage_error(command, "unknown option '%.*s'", (int)(equals - argv[*at]), argv[*at]);
	if (!option->parse) {
		if (*equals)
			return command_usage_error(command, "option '--%s' takes no argument", option->name);
		*(bool *)(options + option->offset) = true;
		return 0;
	}
	if (*equals) {
		text = equals + 1;
	} else {
		if (*at + 1 >= argc)
			return command_usage_error(command, "option '--%s' needs an argument", option->name);
		text = argv[++*at];
	}
	if (option->parse(options + option->offset, text, &err) < 0)
		return command_usage_error(command, "--%s: %s", option->name, err.text);
	return 0;
}

/* Parses the arguments into the options; `words` has room for argc. Returns 0, STATUS_USAGE, or -1: help is wanted. */
static int parse_arguments(const struct command *command, u8 *options, int argc, char **argv, const char **words)
{
	struct command_arguments arguments = {.items = words};
	bool only_words = false;

	for (int i = 1; i < argc; i++) {
		int status;

		if (!only_words && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")))
			return -1;
		if (command->arguments && !only_words && !strcmp(argv[i], "--")) {
			only_words = true;
		} else if (command->arguments && (only_words || *argv[i] != '-' || !argv[i][1])) {
			words[arguments.count++] = argv[i];
		} else {
			status = parse_argument(command, options, argv, argc, &i);
			if (status)
				return status;
		}
	}
	if (!command->arguments)
		return 0;
	if (arguments.count < command->arguments_needed)
		return command_usage_error(command, "arguments are needed: %s", command->arguments);
	*(struct command_arguments *)(options + command->arguments_offset) = arguments;
	return 0;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	u8 *options = calloc(1, command->options_size);
	const char **words = calloc((size_t)argc + 1, sizeof(*words));
	int status;

	if (!options || !words) {
		free(options);
		free(words);
		return command_error(command, "out of memory");
	}
	set_defaults(command, options);
	status = parse_arguments(command, options, argc, argv, words);
	if (status < 0) {
		print_help(command);
		status = command_finish_output(STATUS_OK);
	} else if (!status) {
		status = command->main(command, options);
	}
	free(words);
	free(options);
	return status;
}

static int run_group(const struct command *group, int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		print_help(group);
		return command_finish_output(STATUS_OK);
	}
	for (const struct command *const *c = group->commands; argc > 1 && *c; c++)
		if (!strcmp(argv[1], last_word((*c)->name)))
			return command_main(*c, argc - 1, argv + 1);
	print_name(stderr, group);
	if (argc > 1)
		fprintf(stderr, ": unknown command '%s'\n", argv[1]);
	else
		fputs(": a command is needed\n", stderr);
	print_commands(stderr, group);
	return STATUS_USAGE;
}

int command_main(const struct command *command, int argc, char **argv)
{
	if (command->program)
		return command_exec(command->program, argv);
	return command->commands ? run_group(command, argc, argv) : run_command(command, argc, argv);
}

int option_text(void *field, const char *text, struct err *err)
{
	(void)err;
	*(const char **)field = text;
	return 0;
}

/* A decimal number with an optional K, M, G or T that stands for a power of `base`. */
static int parse_scaled(const char *text, u64 base, u64 *value)
{
	static const char suffixes[] = "kmgt";
	const char *suffix;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno)
		return -1;
	if (!*end)
		return 0;
	suffix = strchr(suffixes, tolower((unsigned char)*end));
	if (!suffix || end[1])
		return -1;
	for (const char *s = suffixes; s <= suffix; s++)
		if (__builtin_mul_overflow(*value, base, value))
			return -1;
	return 0;
}

int option_size(void *field, const char *text, struct err *err)
{
	if (parse_scaled(text, 1024, field) < 0)
		return err_set(err, "'%s' is not a size such as 512M (K, M, G, T for powers of 1024)", text);
	return 0;
}

int option_count(void *field, const char *text, struct err *err)
{
	if (parse_scaled(text, 1000, field) < 0)
		return err_set(err, "'%s' is not a count such as 200M (K, M, G, T for powers of 1000)", text);
	return 0;
}

int option_seconds(void *field, const char *text, struct err *err)
{
	char *end;
	double value = strtod(text, &end);

	if (!isdigit((unsigned char)*text) || *end || !(value > 0 && value <= 1e9))
		return err_set(err, "'%s' is not a number of seconds greater than 0", text);
	*(double *)field = value;
	return 0;
}

int option_choice(const char *const *names, const char *text, struct err *err)
{
	char list[256] = "";
	size_t used = 0;

	for (int i = 0; names[i]; i++) {
		if (!strcmp(names[i], text))
			return i;
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", names[i]);
		if (used >= sizeof(list))
			used = sizeof(list) - 1;
	}
	return err_set(err, "'%s' is none of: %s", text, list);
}
