/*
 * Locks on images, the same that QEMU takes, so that each keeps the other out: read locks on single bytes of the file.
 * A byte from 100 on says what its holder does, one from 200 on what it lets nobody else do; both in the order below.
 * Open-file-description locks end with the descriptor, also if the process is killed.
 */
#include "disk/internal.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define USED_BASE   100
#define DENIED_BASE 200

enum permission { CONSISTENT_READ, WRITE };

static int lock_byte(int fd, off_t byte)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_SETLK, &lock);
}

/* Does anybody else hold this byte? */
static bool is_locked(int fd, off_t byte)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int disk_lock(int fd, const char *path, bool writer, struct err *err)
{
	/* first the own ones, then the look at the others': of two that come at once none overlooks the other */
	if (lock_byte(fd, USED_BASE + CONSISTENT_READ) < 0 || lock_byte(fd, DENIED_BASE + WRITE) < 0 ||
	    (writer && lock_byte(fd, USED_BASE + WRITE) < 0)) {
		warn("disk '%s' cannot be locked (%s): take care that nothing else writes to it", path,
		     strerror(errno));
		return 0;
	}
	if (is_locked(fd, USED_BASE + WRITE) || (writer && is_locked(fd, DENIED_BASE + WRITE)) ||
	    is_locked(fd, DENIED_BASE + CONSISTENT_READ))
		return err_set(err, "disk '%s' is in use by another process%s", path,
			       writer ? "; 'snapshot' or 'readonly' would let several read it" : "");
	return 0;
}
