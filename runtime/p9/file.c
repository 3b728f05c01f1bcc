/* Tlopen, Tlcreate, Tread, Twrite, Tfsync: regular files. */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "p9/iov.h"
#include "p9/server.h"

/*
 * Flags of open(2) for those of the message. Others are the client's business, or, like O_DIRECT, would ask for things
 * of the guest's buffers that nobody sees to.
 */
static int open_flags(u32 flags)
{
	static const int access[] = {O_RDONLY, O_WRONLY, O_RDWR};

	return access[flags & P9_OPEN_ACCESS] | (flags & P9_OPEN_TRUNC ? O_TRUNC : 0) |
	       (flags & P9_OPEN_APPEND ? O_APPEND : 0) | (flags & P9_OPEN_DSYNC ? O_DSYNC : 0) |
	       (flags & P9_OPEN_SYNC ? O_SYNC : 0);
}

static bool writes(u32 flags)
{
	return (flags & P9_OPEN_ACCESS) != P9_OPEN_RDONLY;
}

/* The file of an open fid, or -errno. *st is what it is then. */
static int open_node(struct p9_call *call, struct p9_node *node, u32 flags, struct statx *st)
{
	struct p9_server *server = call->server;
	int path = p9_node_open(&server->nodes, node), fd, error;

	if (path < 0)
		return path;
	fd = p9_nodes_take_descriptor(&server->nodes);
	if (fd < 0)
		return fd;
	fd = p9_host_reopen(&server->host, path, open_flags(flags) | (S_ISDIR(node->type) ? O_DIRECTORY : 0));
	error = fd < 0 ? fd : p9_host_stat(fd, st);
	if (!error && (writes(flags) || flags & P9_OPEN_TRUNC))
		error = p9_host_drop_privileges(&server->host, fd, st);
	if (!error)
		return fd;
	if (fd >= 0)
		close(fd);
	p9_nodes_give_descriptor(&server->nodes);
	return error;
}

/* What can be opened, and how: a FIFO or a device of the host's would block, or do something. */
static int check_open(const struct p9_server *server, u32 type, u32 flags)
{
	bool changes = writes(flags) || flags & P9_OPEN_TRUNC;

	if ((flags & P9_OPEN_ACCESS) == P9_OPEN_ACCESS)
		return -EINVAL;
	if (S_ISDIR(type))
		return changes ? -EISDIR : 0;
	if (S_ISLNK(type))
		return -ELOOP;
	if (!S_ISREG(type))
		return -EOPNOTSUPP;
	if (flags & P9_OPEN_DIRECTORY)
		return -ENOTDIR;
	return changes && server->readonly ? -EROFS : 0;
}

/* Qid and iounit: 0, as much as fits into a message. */
static int opened(struct p9_call *call, struct p9_fid *fid, int fd, u32 flags, const struct statx *st)
{
	fid->fd = fd;
	fid->kind = S_ISDIR(fid->node->type) ? P9_FID_DIR : P9_FID_FILE;
	fid->writable = writes(flags);
	fid->synchronous = flags & (P9_OPEN_DSYNC | P9_OPEN_SYNC);
	p9_call_put_qid(call, st);
	p9_put32(&call->out, 0);
	return 0;
}

int p9_lopen(struct p9_call *call)
{
	struct p9_fid *fid = p9_call_fid(call);
	u32 flags = p9_get32(&call->in);
	struct statx st;
	int error = p9_call_end(call), fd;

	if (error)
		return error;
	if (fid->kind != P9_FID_PATH)
		return -EINVAL;
	error = check_open(call->server, fid->node->type, flags);
	if (error)
		return error;
	fd = open_node(call, fid->node, flags, &st);
	return fd < 0 ? fd : opened(call, fid, fd, flags, &st);
}

/* A file that was not there before: its descriptor, or -errno. */
static int create_file(struct p9_call *call, int dir, const char *name, u32 flags, u32 mode, struct statx *st)
{
	struct p9_server *server = call->server;
	int fd = p9_nodes_take_descriptor(&server->nodes), error;

	if (fd < 0)
		return fd;
	fd = TEMP_FAILURE_RETRY(
		openat(dir, name, open_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, mode));
	error = fd < 0 ? -errno : 0;
	if (!error && mode & server->host.umask)
		error = fchmod(fd, mode) < 0 ? -errno : 0;
	if (!error)
		error = p9_host_stat(fd, st);
	if (!error)
		return fd;
	if (fd >= 0)
		close(fd);
	p9_nodes_give_descriptor(&server->nodes);
	return error;
}

/* A file that is there already, and was created by somebody else just now or is unknown to the client. */
static int open_existing(struct p9_call *call, struct p9_node *dir, const char *name, u32 flags, struct statx *st)
{
	struct p9_nodes *nodes = &call->server->nodes;
	struct p9_node *node;
	int fd = p9_node_walk(nodes, dir, name, st, &node);

	if (fd < 0)
		return fd;
	fd = S_ISDIR(node->type) ? -EISDIR : check_open(call->server, node->type, flags);
	if (!fd)
		fd = open_node(call, node, flags, st);
	p9_node_put(nodes, node);
	return fd;
}

/* The fid stands for the file from now on, no longer for the directory. */
static int move_fid(struct p9_call *call, struct p9_fid *fid, const char *name, const struct statx *st)
{
	struct p9_nodes *nodes = &call->server->nodes;
	struct p9_node *node = p9_node_adopt(nodes, fid->node, name, st);

	if (!node)
		return -ENOMEM;
	p9_node_put(nodes, fid->node);
	fid->node = node;
	return 0;
}

int p9_lcreate(struct p9_call *call)
{
	struct p9_nodes *nodes = &call->server->nodes;
	struct p9_fid *fid = p9_call_fid(call);
	char name[NAME_MAX + 1];
	struct statx st;
	u32 flags, mode;
	int error, dir, fd;

	p9_call_name(call, name);
	flags = p9_get32(&call->in);
	mode = p9_mode_allowed(S_IFREG, p9_get32(&call->in));
	p9_get32(&call->in); /* gid */
	error = p9_call_end(call);
	if (error)
		return error;
	if (fid->kind != P9_FID_PATH)
		return -EINVAL;
	error = check_open(call->server, S_IFREG, flags);
	dir = error ? error : p9_call_open_dir(call, fid);
	if (dir < 0)
		return dir;
	fd = create_file(call, dir, name, flags, mode, &st);
	if (fd == -EEXIST && !(flags & P9_OPEN_EXCL))
		fd = open_existing(call, fid->node, name, flags, &st);
	if (fd < 0)
		return fd;
	error = move_fid(call, fid, name, &st);
	if (!error)
		return opened(call, fid, fd, flags, &st);
	close(fd);
	p9_nodes_give_descriptor(nodes);
	return error;
}

static unsigned pieces(unsigned count)
{
	return count < IOV_MAX ? count : IOV_MAX;
}

/*
 * Reads what is in memory, piece after piece: how much that was up to the end of the file. -P9_LATER if a piece is not.
 * In memory is all of a file on file systems that cannot say.
 */
static s64 read_cached(struct p9_call *call, struct p9_fid *fid, u64 offset, u32 count)
{
	const struct p9_request *request = call->request;
	struct iovec *part = call->server->part;
	u32 done = 0;

	while (done < count) {
		unsigned parts = p9_iov_part(request->in, pieces(request->in_count), P9_READ_HEADER_SIZE + done,
					     count - done, part);
		ssize_t n;

		if (!parts)
			break; /* more pieces than can be used */
		n = TEMP_FAILURE_RETRY(preadv2(fid->fd, part, (int)parts, (off_t)(offset + done), RWF_NOWAIT));
		if (n < 0 && errno == EOPNOTSUPP) {
			fid->cache_unknown = true;
			n = TEMP_FAILURE_RETRY(preadv(fid->fd, part, (int)parts, (off_t)(offset + done)));
		}
		if (n < 0)
			return errno == EAGAIN ? -P9_LATER : -errno;
		if (n == 0)
			break;
		done += (u32)n;
	}
	return done;
}

static s64 read_all(struct p9_call *call, const struct p9_fid *fid, u64 offset, u32 count)
{
	const struct p9_request *request = call->request;
	struct iovec *part = call->server->part;
	unsigned parts = p9_iov_part(request->in, pieces(request->in_count), P9_READ_HEADER_SIZE, count, part);
	ssize_t n = TEMP_FAILURE_RETRY(preadv(fid->fd, part, (int)parts, (off_t)offset));

	return n < 0 ? -errno : n;
}

static int read_file(struct p9_call *call, struct p9_fid *fid, u64 offset, u32 count)
{
	s64 n = call->wait || fid->cache_unknown ? read_all(call, fid, offset, count)
						 : read_cached(call, fid, offset, count);

	if (n < 0)
		return (int)n;
	p9_put32(&call->out, (u32)n);
	call->data_bytes = (u32)n;
	return 0;
}

int p9_read(struct p9_call *call)
{
	struct p9_fid *fid = p9_call_fid(call);
	u64 offset = p9_get64(&call->in);
	u32 count = p9_get32(&call->in);
	int error = p9_call_end(call);

	if (error)
		return error;
	if (count > call->in_bytes - P9_READ_HEADER_SIZE)
		count = (u32)(call->in_bytes - P9_READ_HEADER_SIZE);
	if (fid->kind == P9_FID_XATTR)
		return p9_xattr_read(call, fid, offset, count);
	if (fid->kind == P9_FID_DIR)
		return -EISDIR;
	return fid->kind == P9_FID_FILE ? read_file(call, fid, offset, count) : -EBADF;
}

static int write_file(struct p9_call *call, const struct p9_fid *fid, u64 offset, u32 count)
{
	const struct p9_request *request = call->request;
	struct iovec *part = call->server->part;
	unsigned parts = p9_iov_part(request->out, pieces(request->out_count), P9_WRITE_HEADER_SIZE, count, part);
	ssize_t n;

	if (fid->synchronous && !call->wait)
		return -P9_LATER;
	n = TEMP_FAILURE_RETRY(pwritev(fid->fd, part, (int)parts, (off_t)offset));
	if (n < 0)
		return -errno;
	p9_put32(&call->out, (u32)n);
	return 0;
}

int p9_write(struct p9_call *call)
{
	struct p9_fid *fid = p9_call_fid(call);
	u64 offset = p9_get64(&call->in);
	u32 count = p9_get32(&call->in);
	int error = p9_call_end(call);

	if (error)
		return error;
	if (count > call->out_bytes - P9_WRITE_HEADER_SIZE)
		return -EINVAL;
	if (fid->kind == P9_FID_XATTR)
		return p9_xattr_write(call, fid, offset, count);
	return fid->kind == P9_FID_FILE ? write_file(call, fid, offset, count) : -EBADF;
}

int p9_fsync(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	bool data_only = p9_get32(&call->in) != 0;
	int error = p9_call_end(call);

	if (error)
		return error;
	if (fid->kind != P9_FID_FILE && fid->kind != P9_FID_DIR)
		return -EBADF;
	if (!call->wait)
		return -P9_LATER;
	if (TEMP_FAILURE_RETRY(data_only ? fdatasync(fid->fd) : fsync(fid->fd)) < 0)
		return -errno;
	return 0;
}
