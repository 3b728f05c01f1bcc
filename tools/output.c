#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is there already and not a regular file must be written in place: a rename would replace the device itself. */
static bool is_special(const char *path)
{
	struct stat st;

	return !stat(path, &st) && !S_ISREG(st.st_mode);
}

int output_check(const char *path, struct err *err)
{
	char *copy = strdup(path);
	int result = 0;
	struct stat st;

	if (!copy)
		return err_set(err, "out of memory");
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		result = err_set(err, "cannot write '%s': it is a directory", path);
	else if (access(is_special(path) ? path : dirname(copy), W_OK) < 0)
		result = err_set(err, "cannot write '%s': %s", path, strerror(errno));
	free(copy);
	return result;
}

static int write_all(int fd, const u8 *data, u64 size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			data += n;
			size -= (u64)n;
		}
	}
	return 0;
}

static int write_in_place(const char *path, const void *data, u64 size, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_APPEND);

	if (fd < 0)
		return err_set(err, "cannot open '%s': %s", path, strerror(errno));
	if (write_all(fd, data, size) < 0) {
		err_set(err, "cannot write '%s': %s", path, strerror(errno));
		close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

static int write_and_rename(const char *path, const void *data, u64 size, struct err *err)
{
	char *temporary = NULL;
	int fd, result;
	mode_t mask;

	if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
		return err_set(err, "out of memory");
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		result = err_set(err, "cannot create '%s': %s", temporary, strerror(errno));
		free(temporary);
		return result;
	}
	/* mkostemp makes it private; give it the permissions of an ordinary new file. */
	mask = umask(0);
	umask(mask);
	result = write_all(fd, data, size);
	if (!result)
		result = fchmod(fd, 0666 & ~mask);
	if (close(fd) < 0)
		result = -1;
	if (!result)
		result = rename(temporary, path);
	if (result < 0) {
		err_set(err, "cannot write '%s': %s", path, strerror(errno));
		unlink(temporary);
	}
	free(temporary);
	return result;
}

int output_write(const char *path, const void *data, u64 size, struct err *err)
{
	return is_special(path) ? write_in_place(path, data, size, err) : write_and_rename(path, data, size, err);
}
