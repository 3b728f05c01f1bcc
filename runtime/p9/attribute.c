/* Tgetattr, Tsetattr, Tstatfs, Treadlink. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "p9/server.h"

#define BLOCK_MIN 4096

/* What programs take for the best size of a read or write: a power of two that fits into a message. */
static u32 block_size(const struct p9_server *server)
{
	u32 size = BLOCK_MIN;

	while (size * 2 + P9_WRITE_HEADER_SIZE <= server->msize)
		size *= 2;
	return size;
}

static void put_time(struct p9_call *call, const struct statx_timestamp *time)
{
	p9_put64(&call->out, (u64)time->tv_sec);
	p9_put64(&call->out, time->tv_nsec);
}

/* Tells a file from an older one that had its inode number. Linux keeps 32 bits of it. */
static u32 generation(const struct statx *st)
{
	return (u32)p9_hash((u64)st->stx_btime.tv_sec * 1000000000 + st->stx_btime.tv_nsec);
}

int p9_getattr(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	u64 valid = P9_GETATTR_BASIC;
	struct statx st;
	int error, fd;

	p9_get64(&call->in); /* what is asked for: there is no more, and it costs no more */
	error = p9_call_end(call);
	fd = error ? error : p9_call_open(call, fid);
	error = fd < 0 ? fd : p9_host_stat(fd, &st);
	if (error)
		return error;
	if (st.stx_mask & STATX_BTIME)
		valid |= P9_GETATTR_BTIME | P9_GETATTR_GEN;
	else
		st.stx_btime = (struct statx_timestamp){0};
	p9_put64(&call->out, valid);
	p9_call_put_qid(call, &st);
	p9_put32(&call->out, st.stx_mode);
	p9_put32(&call->out, st.stx_uid);
	p9_put32(&call->out, st.stx_gid);
	p9_put64(&call->out, st.stx_nlink);
	p9_put64(&call->out, makedev(st.stx_rdev_major, st.stx_rdev_minor));
	p9_put64(&call->out, st.stx_size);
	p9_put64(&call->out, block_size(call->server));
	p9_put64(&call->out, st.stx_blocks);
	put_time(call, &st.stx_atime);
	put_time(call, &st.stx_mtime);
	put_time(call, &st.stx_ctime);
	put_time(call, &st.stx_btime);
	p9_put64(&call->out, valid & P9_GETATTR_GEN ? generation(&st) : 0);
	p9_put64(&call->out, 0); /* data_version: reserved */
	return 0;
}

struct changes {
	u32 valid, mode;
	u64 size;
	struct timespec times[2]; /* atime, mtime */
};

static struct timespec get_time(struct p9_call *call, u32 valid, u32 changed, u32 given, bool *bad)
{
	u64 seconds = p9_get64(&call->in), nanoseconds = p9_get64(&call->in);

	if (!(valid & changed))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (!(valid & given))
		return (struct timespec){.tv_nsec = UTIME_NOW};
	*bad |= nanoseconds >= 1000000000; /* UTIME_NOW is among them */
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)nanoseconds};
}

static int set_size(struct p9_call *call, const struct p9_fid *fid, int path, u64 size)
{
	struct statx st;
	int fd, error;

	if (S_ISDIR(fid->node->type))
		return -EISDIR;
	if (!S_ISREG(fid->node->type))
		return -EINVAL;
	if (fid->kind == P9_FID_FILE && fid->writable)
		return ftruncate(fid->fd, (off_t)size) < 0 ? -errno : 0;
	fd = p9_host_reopen(&call->server->host, path, O_WRONLY);
	error = fd < 0 ? fd : p9_host_stat(fd, &st);
	if (!error)
		error = p9_host_drop_privileges(&call->server->host, fd, &st);
	if (!error && ftruncate(fd, (off_t)size) < 0)
		error = -errno;
	if (fd >= 0)
		close(fd);
	return error;
}

static int set_mode(struct p9_call *call, const struct p9_fid *fid, int path, u32 mode)
{
	if (S_ISLNK(fid->node->type))
		return -EOPNOTSUPP;
	return p9_host_chmod(&call->server->host, path, p9_mode_allowed(fid->node->type, mode));
}

/*
 * Size first: it sets times, and write permission may go with the mode. Nobody gets another owner (see the README);
 * what the kernel does to a file whose owner is set, it does: it sets ctime.
 */
static int apply(struct p9_call *call, const struct p9_fid *fid, const struct changes *changes)
{
	u32 valid = changes->valid;
	int fd = p9_call_open(call, fid), error = fd < 0 ? fd : 0;

	if (!error && valid & P9_SETATTR_SIZE)
		error = set_size(call, fid, fd, changes->size);
	if (!error && valid & P9_SETATTR_MODE)
		error = set_mode(call, fid, fd, changes->mode);
	if (!error && valid & (P9_SETATTR_ATIME | P9_SETATTR_MTIME))
		error = utimensat(fd, "", changes->times, AT_EMPTY_PATH) < 0 ? -errno : 0;
	else if (!error && valid && !(valid & (P9_SETATTR_SIZE | P9_SETATTR_MODE)))
		error = fchownat(fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH) < 0 ? -errno : 0;
	return error;
}

int p9_setattr(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	struct changes changes = {.valid = p9_get32(&call->in), .mode = p9_get32(&call->in)};
	bool bad = false;
	int error;

	p9_get32(&call->in); /* uid */
	p9_get32(&call->in); /* gid */
	changes.size = p9_get64(&call->in);
	changes.times[0] = get_time(call, changes.valid, P9_SETATTR_ATIME, P9_SETATTR_ATIME_SET, &bad);
	changes.times[1] = get_time(call, changes.valid, P9_SETATTR_MTIME, P9_SETATTR_MTIME_SET, &bad);
	error = p9_call_end(call);
	if (error)
		return error;
	return bad ? -EINVAL : apply(call, fid, &changes);
}

int p9_statfs(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	int error = p9_call_end(call), fd = error ? error : p9_call_open(call, fid);
	struct statfs st;

	if (fd < 0)
		return fd;
	if (fstatfs(fd, &st) < 0)
		return -errno;
	p9_put32(&call->out, P9_STATFS_TYPE);
	p9_put32(&call->out, (u32)st.f_bsize);
	p9_put64(&call->out, st.f_blocks);
	p9_put64(&call->out, st.f_bfree);
	p9_put64(&call->out, st.f_bavail);
	p9_put64(&call->out, st.f_files);
	p9_put64(&call->out, st.f_ffree);
	p9_put64(&call->out, fid->node->dev);
	p9_put32(&call->out, NAME_MAX);
	return 0;
}

int p9_readlink(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	int error = p9_call_end(call), fd = error ? error : p9_call_open(call, fid);
	char target[PATH_MAX];
	ssize_t length;

	if (fd < 0)
		return fd;
	if (!S_ISLNK(fid->node->type))
		return -EINVAL;
	length = readlinkat(fd, "", target, sizeof(target));
	if (length < 0)
		return -errno;
	p9_put_string(&call->out, target, (u32)length);
	return 0;
}
