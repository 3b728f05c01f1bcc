/*
 * Locks on images, the same that QEMU takes, so that each keeps the other out: read locks on single bytes of the file.
 * A byte from 100 on says what its holder does, one from 200 on what it lets nobody else do; both in the order below.
 * Open-file-description locks end with the descriptor, also if the process is killed, and need no right to write. They
 * have a descriptor of their own, which nothing is done by: what a ring is busy with may outlive its process.
 */
#include "disk/internal.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USED_BASE   100
#define DENIED_BASE 200

enum permission { CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE };

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

/* What this process does, and what nobody else may do meanwhile. 0, or -1 with errno. */
static int lock_own(int fd, bool writer)
{
	if (lock_byte(fd, USED_BASE + CONSISTENT_READ) < 0 || (writer && lock_byte(fd, USED_BASE + WRITE) < 0))
		return -1;
	return lock_byte(fd, DENIED_BASE + WRITE) < 0 || lock_byte(fd, DENIED_BASE + RESIZE) < 0 ? -1 : 0;
}

/* Does anybody do what is not to be done, or deny what is? */
static bool is_in_conflict(int fd, bool writer)
{
	return is_locked(fd, USED_BASE + WRITE) || is_locked(fd, USED_BASE + RESIZE) ||
	       is_locked(fd, DENIED_BASE + CONSISTENT_READ) || (writer && is_locked(fd, DENIED_BASE + WRITE));
}

/* Another description of the file that is open as `fd`. -1 with a message. */
static int open_again(int fd, const char *path, struct err *err)
{
	int lock_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status, again;

	if (lock_fd < 0)
		return err_set(err, "cannot open disk '%s': %s", path, strerror(errno));
	if (fstat(fd, &status) == 0 && fstat(lock_fd, &again) == 0 && status.st_dev == again.st_dev &&
	    status.st_ino == again.st_ino)
		return lock_fd;
	close(lock_fd);
	return err_set(err, "disk '%s' was replaced while it was opened", path);
}

int disk_lock(int fd, const char *path, bool writer, struct err *err)
{
	const int lock_fd = open_again(fd, path, err);
	int error;

	if (lock_fd < 0)
		return -1;
	/* first the own ones, then the look at the others': of two that come at once none overlooks the other */
	error = lock_own(lock_fd, writer) < 0 ? errno : 0;
	if (error && error != EAGAIN && error != EACCES) {
		warn("disk '%s' cannot be locked (%s): take care that nothing else writes to it", path,
		     strerror(error));
		return lock_fd;
	}
	if (!error && !is_in_conflict(lock_fd, writer))
		return lock_fd;
	close(lock_fd);
	return err_set(err, "disk '%s' is in use by another process%s", path,
		       writer ? "; with 'readonly' or 'snapshot', several can read it" : "");
}
