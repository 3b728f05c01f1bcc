/* The avant command: finds the subcommand and hands over. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command *const commands[] = {
	&command_run,
	&command_check,
};

static void print_commands(FILE *to)
{
	fputs("Commands:\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
}

static void print_help(void)
{
	puts("Usage: avant COMMAND [OPTION]...\n"
	     "Runs unmodified x86-64 operating systems on hosts without hardware virtualization.\n");
	print_commands(stdout);
	puts("\n'avant COMMAND --help' tells the options of a command; 'avant --version' the version.");
}

/* A closed descriptor 0, 1 or 2 would be reused by the next file that is opened, and that file written over. */
static int open_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", fd ? O_WRONLY : O_RDONLY) != fd)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	command_start();
	if (open_standard_descriptors() < 0)
		return STATUS_ERROR;
	if (argc < 2) {
		fputs("avant: a command is needed\n", stderr);
		print_commands(stderr);
		return STATUS_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_help();
		return command_finish_output(0);
	}
	if (!strcmp(argv[1], "--version")) {
		puts("avant " AVANT_VERSION);
		return command_finish_output(0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i]->name))
			return command_main(commands[i], argc - 1, argv + 1);
	fprintf(stderr, "avant: unknown command '%s'\n", argv[1]);
	print_commands(stderr);
	return STATUS_USAGE;
}
