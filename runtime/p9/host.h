/*
 * The host's side: how a name given by the guest becomes a descriptor, and nothing else does. A name is one component
 * below a directory that is open, never followed if it is a symbolic link; so no name leads out of the shared
 * directory, whoever renames what meanwhile. Files are looked at through O_PATH descriptors, which open nothing: a
 * FIFO does not block, a device is not touched.
 */
#ifndef AVANT_P9_HOST_H
#define AVANT_P9_HOST_H

#include <sys/stat.h>

#include "util/types.h"

struct p9_qid;

struct p9_host {
	int proc; /* /proc/self/fd: the way from an O_PATH descriptor to one that reads and writes the same file */
	u64 root_dev, root_ino;
	u32 umask, uid; /* of the process */
};

/* Device and inode number: which file it is, among those that exist. */
static inline u64 p9_stat_dev(const struct statx *st)
{
	return (u64)st->stx_dev_major << 32 | st->stx_dev_minor;
}

/* Refuses what is no name of an entry: "", ".", "..", a slash in it, too long. 0 or -errno. */
int p9_name_check(const char *name);

/* All of these: a descriptor or 0, or -errno. `name` has passed p9_name_check(), or is ".." nowhere else. */
int p9_host_open_path(int dir, const char *name);
int p9_host_stat(int fd, struct statx *st);
int p9_host_stat_at(int dir, const char *name, struct statx *st);

/* Opens what `fd` stands for, a regular file or a directory, with flags of open(2). */
int p9_host_reopen(const struct p9_host *host, int fd, int flags);

/* Changes permission bits of what `fd` stands for: not a symbolic link. */
int p9_host_chmod(const struct p9_host *host, int fd, u32 mode);

/*
 * Permission bits that a guest may give a file of the given type. Set-user-ID and set-group-ID bits would let the guest
 * make programs that run with the rights of the user who runs it, for every user of the host.
 */
u32 p9_mode_allowed(u32 type, u32 mode);

/*
 * For a file that is open to be changed. The kernel takes set-user-ID and set-group-ID bits from a file that is written
 * to, but not if root does it: a guest must not be able to put its own program where root's was. 0 or -errno.
 */
int p9_host_drop_privileges(const struct p9_host *host, int fd, const struct statx *st);

/* What was just created as dir/name with permission bits `mode` gets those that the process's umask kept from it. */
void p9_host_undo_umask(const struct p9_host *host, int dir, const char *name, u32 mode);

/* The name of a file for the guest; never the same for two files that exist at a time (but see host.c). */
void p9_host_qid(const struct p9_host *host, const struct statx *st, struct p9_qid *qid);
/* The same number from its parts: for entries of a directory on device `dev`. */
u64 p9_host_qid_path(const struct p9_host *host, u64 dev, u64 ino);

#endif
