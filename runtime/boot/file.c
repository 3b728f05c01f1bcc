#include "boot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_open(const char *path, const char *what, u64 *size, struct err *err)
{
	/* O_NONBLOCK: a FIFO without a writer must become a message, not a hang. Regular files ignore it. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_set(err, "cannot open %s '%s': %s", what, path, strerror(errno));
	if (fstat(fd, &st)) {
		err_set(err, "cannot read %s '%s': %s", what, path, strerror(errno));
		close(fd);
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(err, "%s '%s' is %s, not a regular file", what, path,
			S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
		close(fd);
		return -1;
	}
	*size = (u64)st.st_size;
	return fd;
}

int file_read(int fd, void *to, u64 size, const char *path, const char *what, struct err *err)
{
	u64 done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (u8 *)to + done, size - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, "cannot read %s '%s': %s", what, path, strerror(errno));
		if (n == 0)
			return err_set(err, "%s '%s' became shorter while it was read", what, path);
		done += (u64)n;
	}
	return 0;
}
