#include "image/reader/bytes.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int bytes_read(int fd, u64 offset, void *to, u64 size, struct err *err)
{
	if (offset > INT64_MAX || size > INT64_MAX - offset)
		return err_set(err, "it refers to what lies beyond its end");
	for (u64 done = 0; done < size;) {
		ssize_t n = pread(fd, (u8 *)to + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, "cannot be read: %s", strerror(errno));
		if (n == 0)
			return err_set(err, "it refers to what lies beyond its end");
		done += (u64)n;
	}
	return 0;
}
