/* The avant command: finds the subcommand and hands over. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command *const commands[] = {
	&command_run, &command_translate_program, &command_image, &command_cache, &command_check, NULL,
};

static const struct command avant = {
	.name = "",
	.usage = "COMMAND [OPTION]...",
	.text = "Runs unmodified x86-64 operating systems on hosts without hardware virtualization.\n",
	.examples = "'avant COMMAND --help' tells the options of a command; 'avant --version' the version.\n",
	.commands = commands,
};

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
	if (argc > 1 && !strcmp(argv[1], "--version")) {
		puts("avant " AVANT_VERSION);
		return command_finish_output(0);
	}
	return command_main(&avant, argc, argv);
}
