/* A file that appears under its name only when it is complete. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* Readable by all as far as the umask allows, writable by nobody else whatever it says: readers insist on that. */
#define TEMP_MODE 0644

static enum tcache_status system_fail(const struct temp_file *file, const char *what)
{
	return tcache_fail(&file->report, TCACHE_ERR_WRITE, "%s: %s", what, strerror(errno));
}

static int random_name(struct temp_file *file)
{
	uint8_t bytes[8];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -1;
	snprintf(file->name, sizeof(file->name), ".tcache-%02x%02x%02x%02x%02x%02x%02x%02x", bytes[0], bytes[1],
		 bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]);
	return 0;
}

/* Splits path; opens its directory. */
static enum tcache_status open_directory(struct temp_file *file, const char *path)
{
	char *slash;

	file->path = strdup(path);
	if (!file->path)
		return tcache_fail(&file->report, TCACHE_ERR_MEMORY, "out of memory");
	slash = strrchr(file->path, '/');
	file->base = slash ? slash + 1 : file->path;
	if (!*file->base || !strcmp(file->base, ".") || !strcmp(file->base, ".."))
		return tcache_fail(&file->report, TCACHE_ERR_WRITE, "is not a file name");
	if (slash == file->path) {
		file->dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	} else {
		if (slash)
			*slash = 0;
		file->dir = open(slash ? file->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (file->dir < 0)
		return system_fail(file, "its directory cannot be opened");
	return TCACHE_OK;
}

/* Only a regular file may be replaced: not a device, and not a link, which readers would not follow. */
static enum tcache_status check_target(const struct temp_file *file)
{
	struct stat st;

	if (fstatat(file->dir, file->base, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? TCACHE_OK : system_fail(file, "cannot be examined");
	if (!S_ISREG(st.st_mode))
		return tcache_fail(&file->report, TCACHE_ERR_KIND, "exists and is not a regular file");
	return TCACHE_OK;
}

static void interrupting_signals(sigset_t *set)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(set, numbers[i]);
}

/* A temporary name outlives a process that a signal ends: while there is one, such signals have to wait. */
static void hold_signals(struct temp_file *file)
{
	sigset_t set;

	interrupting_signals(&set);
	file->holds_signals = !pthread_sigmask(SIG_BLOCK, &set, &file->signals_before);
}

/* A signal waits that would have ended the process: there is no point in writing on. */
static bool is_interrupted(const struct temp_file *file)
{
	sigset_t set, pending;

	if (!file->holds_signals || sigpending(&pending))
		return false;
	interrupting_signals(&set);
	for (int number = 1; number < NSIG; number++)
		if (sigismember(&set, number) == 1 && sigismember(&pending, number) == 1 &&
		    !sigismember(&file->signals_before, number))
			return true;
	return false;
}

enum tcache_status temp_create(struct temp_file *file, const char *path, bool named, const struct report *report)
{
	enum tcache_status status;

	*file = (struct temp_file){.fd = -1, .dir = -1, .report = *report};
	status = open_directory(file, path);
	if (!status)
		status = check_target(file);
	if (status)
		return status;
	if (!named) {
		file->fd = openat(file->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, TEMP_MODE);
		/* not on every file system; kernels without it see an open of a directory */
		if (file->fd < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
			return system_fail(file, "cannot be created");
	}
	if (file->fd < 0)
		hold_signals(file);
	while (file->fd < 0) {
		if (random_name(file))
			return system_fail(file, "cannot be created");
		file->fd = openat(file->dir, file->name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, TEMP_MODE);
		if (file->fd < 0 && errno != EEXIST)
			return system_fail(file, "cannot be created");
		file->named = file->fd >= 0;
	}
	return TCACHE_OK;
}

enum tcache_status temp_adopt(struct temp_file *file, int fd, const struct report *report)
{
	*file = (struct temp_file){.fd = dup(fd), .dir = -1, .report = *report};
	return file->fd < 0 ? system_fail(file, "cannot be written") : TCACHE_OK;
}

/* Writing beyond RLIMIT_FSIZE raises SIGXFSZ, which kills; we want its error code, and leave no signal behind. */
static ssize_t write_quietly(int fd, const void *data, size_t size, uint64_t offset)
{
	const struct timespec now = {0};
	sigset_t xfsz, before, pending;
	ssize_t done;
	int error;

	sigemptyset(&xfsz);
	sigaddset(&xfsz, SIGXFSZ);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &xfsz, &before);
	done = pwrite(fd, data, size, (off_t)offset);
	error = errno;
	if (done < 0 && error == EFBIG && !sigismember(&pending, SIGXFSZ))
		while (sigtimedwait(&xfsz, NULL, &now) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return done;
}

enum tcache_status temp_write(struct temp_file *file, const void *data, size_t size, uint64_t offset)
{
	const uint8_t *bytes = data;

	while (size) {
		ssize_t done;

		if (is_interrupted(file)) {
			errno = EINTR;
			return system_fail(file, "cannot be written");
		}
		done = write_quietly(file->fd, bytes, size, offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (!done)
			errno = ENOSPC;
		if (done <= 0)
			return system_fail(file, "cannot be written");
		bytes += done;
		offset += (uint64_t)done;
		size -= (size_t)done;
	}
	return TCACHE_OK;
}

/* Gives the nameless file a name. */
static int link_as(const struct temp_file *file, const char *name)
{
	char proc[40];

	/* needs a capability on most kernels, but not /proc */
	if (!linkat(file->fd, "", file->dir, name, AT_EMPTY_PATH))
		return 0;
	if (errno == EEXIST)
		return -1;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", file->fd);
	return linkat(AT_FDCWD, proc, file->dir, name, AT_SYMLINK_FOLLOW);
}

static enum tcache_status show(struct temp_file *file)
{
	if (!file->named) {
		if (!link_as(file, file->base))
			return TCACHE_OK;
		if (errno != EEXIST)
			return system_fail(file, "cannot be published");
		/* a link cannot replace an existing file, a rename can */
		do {
			if (random_name(file))
				return system_fail(file, "cannot be published");
		} while (link_as(file, file->name) && errno == EEXIST);
		file->named = true;
	}
	if (renameat(file->dir, file->name, file->dir, file->base))
		return system_fail(file, "cannot be published");
	file->named = false;
	return TCACHE_OK;
}

enum tcache_status temp_publish(struct temp_file *file)
{
	enum tcache_status status;
	sigset_t all, before;

	if (file->dir < 0)
		return TCACHE_OK;
	status = check_target(file);
	if (status)
		return status;
	if (fsync(file->fd))
		return system_fail(file, "cannot be written");
	/* between link and rename there is a second name: a signal that ends the process has to wait */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	status = show(file);
	if (status && file->named) {
		unlinkat(file->dir, file->name, 0);
		file->named = false;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (status)
		return status;
	/* not every file system knows how */
	if (fsync(file->dir) && errno != EINVAL && errno != EROFS)
		return system_fail(file, "is written, but its directory entry may not survive a power failure");
	return TCACHE_OK;
}

void temp_release(struct temp_file *file)
{
	if (file->named)
		unlinkat(file->dir, file->name, 0);
	if (file->fd >= 0)
		close(file->fd);
	if (file->dir >= 0)
		close(file->dir);
	free(file->path);
	if (file->holds_signals)
		pthread_sigmask(SIG_SETMASK, &file->signals_before, NULL);
	*file = (struct temp_file){.fd = -1, .dir = -1};
}
