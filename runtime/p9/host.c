#include "p9/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "p9/message.h"
#include "p9/protocol.h"
#include "p9/table.h"

int p9_name_check(const char *name)
{
	if (!*name)
		return -ENOENT;
	if (!strcmp(name, ".") || !strcmp(name, "..") || strchr(name, '/'))
		return -EINVAL;
	return strlen(name) > NAME_MAX ? -ENAMETOOLONG : 0;
}

int p9_host_open_path(int dir, const char *name)
{
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int p9_host_stat(int fd, struct statx *st)
{
	return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, st) < 0 ? -errno : 0;
}

int p9_host_stat_at(int dir, const char *name, struct statx *st)
{
	return statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, st) < 0 ? -errno
														: 0;
}

int p9_host_reopen(const struct p9_host *host, int fd, int flags)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", fd);
	/* O_NONBLOCK: a lease that somebody holds on the file becomes an error instead of a wait of 45 s. */
	fd = TEMP_FAILURE_RETRY(openat(host->proc, name, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
	return fd < 0 ? -errno : fd;
}

int p9_host_chmod(const struct p9_host *host, int fd, u32 mode)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", fd);
	return fchmodat(host->proc, name, mode, 0) < 0 ? -errno : 0;
}

u32 p9_mode_allowed(u32 type, u32 mode)
{
	return mode & (S_ISDIR(type) ? 0777 | S_ISVTX | S_ISGID : 0777 | S_ISVTX);
}

int p9_host_drop_privileges(const struct p9_host *host, int fd, const struct statx *st)
{
	u32 mode = st->stx_mode & 07777;

	if (!(mode & S_ISUID) && (mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP))
		return 0;
	if (fchmod(fd, mode & ~(u32)(S_ISUID | S_ISGID)) < 0 && host->uid == 0)
		return -errno;
	return 0;
}

/* Somebody else may have put another file there meanwhile: it must be ours at least, and look like what was made. */
void p9_host_undo_umask(const struct p9_host *host, int dir, const char *name, u32 mode)
{
	struct statx st;
	int fd;

	if (!(mode & host->umask))
		return;
	fd = p9_host_open_path(dir, name);
	if (fd < 0)
		return;
	if (!p9_host_stat(fd, &st) && !S_ISLNK(st.stx_mode) && st.stx_uid == host->uid &&
	    (st.stx_mode & mode & 0777) == (mode & 0777 & ~host->umask))
		p9_host_chmod(host, fd, mode | (st.stx_mode & S_ISGID));
	close(fd);
}

/*
 * Files on the device of the shared directory have the host's inode numbers. Those on others, mounted below it, get
 * numbers that look random: that two are equal is as likely as one in 2^64 for each pair.
 */
u64 p9_host_qid_path(const struct p9_host *host, u64 dev, u64 ino)
{
	return dev == host->root_dev ? ino : p9_hash(ino ^ p9_hash(dev));
}

/* Linux' client since 6.4 does not cache a file of version 0; fscache tells by it whether a file was changed. */
static u32 version(const struct statx *st)
{
	u64 state = p9_hash((u64)st->stx_mtime.tv_sec * 1000000000 + st->stx_mtime.tv_nsec) ^ st->stx_size;
	u32 folded = (u32)(state ^ state >> 32);

	return folded ? folded : 1;
}

void p9_host_qid(const struct p9_host *host, const struct statx *st, struct p9_qid *qid)
{
	qid->type = S_ISDIR(st->stx_mode) ? P9_QID_DIRECTORY : S_ISLNK(st->stx_mode) ? P9_QID_SYMLINK : P9_QID_FILE;
	qid->version = version(st);
	qid->path = p9_host_qid_path(host, p9_stat_dev(st), st->stx_ino);
}
