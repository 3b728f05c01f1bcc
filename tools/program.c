/* Commands that are programs of their own. */
#include "command.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int command_exec(const char *program, char **argv)
{
	static const char *const folders[] = {"", "../libexec/avant/"}; /* build tree, installation */
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length < 0) {
		fprintf(stderr, "avant: cannot tell where this program is: %s\n", strerror(errno));
		return STATUS_ERROR;
	}
	self[length] = '\0';

	const char *here = dirname(self);

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s%s", here, folders[i], program);
		execv(path, argv);
		if (errno != ENOENT)
			break;
	}
	fprintf(stderr, "avant: cannot run '%s': %s\n", path, strerror(errno));
	return STATUS_ERROR;
}
