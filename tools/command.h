/*
 * Subcommands and their options. A subcommand is a table: options.c parses the arguments by it and prints --help from
 * it, so that neither can forget the other.
 */
#ifndef AVANT_TOOLS_COMMAND_H
#define AVANT_TOOLS_COMMAND_H

#include "util/err.h"
#include "util/types.h"

/* Exit statuses of the command. */
enum status {
	STATUS_OK = 0,       /* run: the guest powered off, or the user quit at the terminal */
	STATUS_ERROR = 1,    /* an error of ours, said on stderr */
	STATUS_USAGE = 2,    /* the arguments make no sense */
	STATUS_RESET = 3,    /* run: the guest reset, or triple-faulted */
	STATUS_LIMIT = 4,    /* run: a limit given by an option was reached */
	STATUS_SIGNAL = 128, /* run: plus the number of the signal that ended it */
};

/* Parses `text` into the field. Returns 0, or -1 with what was expected in err. */
typedef int option_parser(void *field, const char *text, struct err *err);

struct option_spec {
	const char *name;     /* without dashes; NULL: `help` is a heading */
	const char *argument; /* as shown in the help; NULL: a flag */
	const char *help;
	const char *initial;  /* default: shown in the help, and parsed as if given; NULL: none */
	option_parser *parse; /* NULL: a flag, the field is a bool */
	size_t offset;        /* of the field in the command's option structure */
};

/* The words that are not options, if a command takes any. */
struct command_arguments {
	const char *const *items;
	size_t count;
};

struct command {
	const char *name;    /* of a command in a group: "GROUP NAME" */
	const char *summary; /* one line for the list of commands */
	const char *usage;   /* what follows the command's name in the usage line */
	const char *text;    /* a paragraph or two */
	const char *examples;
	const struct option_spec *options; /* ends with an entry that has neither name nor help */
	const char *letters; /* short forms: each letter, capital or not, stands for the first option that begins
			      with it; or NULL */
	size_t options_size; /* of the option structure, which the parser zeroes first */
	/* words that are not options: how many at least; what they are called, for messages; NULL: none is allowed */
	size_t arguments_needed;
	const char *arguments;
	size_t arguments_offset; /* of a struct command_arguments in the option structure */
	int (*main)(const struct command *command, void *options); /* returns the exit status */
	/* a group: the commands in it, ending with NULL. It has no options and no main() of its own. */
	const struct command *const *commands;
	const char *program; /* not here but in this program, which takes all arguments; or NULL */
};

extern const struct command command_run, command_check, command_cache, command_image, command_translate,
	command_translate_program;

/* Becomes the program, which lies beside this one or in ../libexec/avant; returns an exit status if that fails. */
int command_exec(const char *program, char **argv);

/* Notes the time: call first thing in main(). */
void command_start(void);
/* Monotonic ns when command_start() was called. */
u64 command_start_ns(void);

/*
 * Parses the arguments and runs the command, or the command of the group that they name. argv[0] is the command's name.
 * Returns the exit status.
 */
int command_main(const struct command *command, int argc, char **argv);

/* Prints "avant NAME: message" and where to find help; returns STATUS_USAGE. */
int command_usage_error(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints "avant NAME: message"; returns STATUS_ERROR. */
int command_error(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/*
 * Flushes stdout; returns `status`, or STATUS_ERROR with a message if what was printed could not be written. Without
 * the message if that is because nobody reads it any more.
 */
int command_finish_output(int status);

option_parser option_text;    /* const char *: the argument itself */
option_parser option_size;    /* u64: bytes, with K, M, G or T for powers of 1024 */
option_parser option_count;   /* u64: a number, with K, M, G or T for powers of 1000 */
option_parser option_seconds; /* double: greater than zero */

/* Index of `text` in the NULL-terminated list of names, or -1 with the list in err. */
int option_choice(const char *const *names, const char *text, struct err *err);

#endif
