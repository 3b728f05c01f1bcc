/* Commands that are programs of their own. */
#include "command.h"

#include "util/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int command_exec(const char *program, char **argv)
{
	char path[PATH_MAX + 64];
	struct err err = ERR_INIT;

	if (program_find(program, path, sizeof(path), &err) == 0) {
		execv(path, argv);
		err_set(&err, "cannot run '%s': %s", path, strerror(errno));
	}
	fprintf(stderr, "avant: %s\n", err.text);
	return STATUS_ERROR;
}
