#include "util/program.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/err.h"
#include "util/types.h"

int program_find(const char *name, char *path, size_t size, struct err *err)
{
	static const char *const folders[] = {"", "../libexec/avant/"};
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *here;

	if (length < 0)
		return err_set(err, "cannot tell where this program is: %s", strerror(errno));
	self[length] = '\0';
	here = dirname(self);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (snprintf(path, size, "%s/%s%s", here, folders[i], name) >= (int)size)
			return err_set(err, "the path of '%s' is too long", name);
		if (access(path, X_OK) == 0)
			return 0;
	}
	return err_set(err, "cannot run '%s': %s", path, strerror(errno));
}
