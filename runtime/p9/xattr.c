/*
 * Txattrwalk, Txattrcreate: extended attributes as files. Only those in the name space "user." are the guest's: the
 * others mean something to the host (security.capability would let a program do more than its user may).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "p9/iov.h"
#include "p9/server.h"

#define PREFIX "user."

struct p9_xattr {
	bool written; /* to be set when the fid is clunked */
	int flags;    /* XATTR_CREATE, XATTR_REPLACE */
	u32 size, filled;
	char name[XATTR_NAME_MAX + 1];
	u8 value[];
};

static int check_name(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) ? -EOPNOTSUPP : 0;
}

/* A descriptor of our own: O_PATH is not enough. -EOPNOTSUPP: what is neither a file nor a directory has none. */
static int open_real(struct p9_server *server, const struct p9_fid *fid)
{
	int fd;

	if (!S_ISREG(fid->node->type) && !S_ISDIR(fid->node->type))
		return -EOPNOTSUPP;
	fd = fid->fd >= 0 ? fid->fd : p9_node_open(&server->nodes, fid->node);
	return fd < 0 ? fd : p9_host_reopen(&server->host, fd, O_RDONLY);
}

static struct p9_xattr *create(u32 size)
{
	struct p9_xattr *xattr = calloc(1, sizeof(*xattr) + size);

	if (xattr)
		xattr->size = size;
	return xattr;
}

/* Leaves the guest's names in a list of them: each ends with a zero byte. Returns its new size. */
static u32 filter(char *names, u32 size)
{
	u32 kept = 0, length;

	for (u32 at = 0; at < size; at += length) {
		length = (u32)strlen(names + at) + 1;
		if (check_name(names + at) < 0)
			continue;
		memmove(names + kept, names + at, length);
		kept += length;
	}
	return kept;
}

/* The value of an attribute, or the list of names if `name` is empty. NULL with -errno in *error. */
static struct p9_xattr *read_all(int fd, const char *name, int *error)
{
	struct p9_xattr *xattr = create(XATTR_SIZE_MAX), *shorter;
	ssize_t size;

	if (!xattr) {
		*error = -ENOMEM;
		return NULL;
	}
	size = *name ? fgetxattr(fd, name, xattr->value, XATTR_SIZE_MAX)
		     : flistxattr(fd, (char *)xattr->value, XATTR_LIST_MAX);
	if (size < 0) {
		*error = -errno;
		free(xattr);
		return NULL;
	}
	xattr->size = *name ? (u32)size : filter((char *)xattr->value, (u32)size);
	shorter = realloc(xattr, sizeof(*xattr) + xattr->size);
	return shorter ? shorter : xattr;
}

static int walk(struct p9_call *call, const struct p9_fid *fid, u32 number, const char *name)
{
	struct p9_server *server = call->server;
	struct p9_xattr *xattr;
	struct p9_fid *created;
	int fd, error;

	if (server->xattrs >= P9_XATTRS_MAX)
		return -ENFILE;
	fd = open_real(server, fid);
	if (fd < 0)
		return fd;
	xattr = read_all(fd, name, &error);
	close(fd);
	if (!xattr)
		return error;
	error = p9_fid_create(&server->fids, number, fid->node, &created);
	if (error) {
		free(xattr);
		return error;
	}
	created->kind = P9_FID_XATTR;
	created->xattr = xattr;
	server->xattrs++;
	p9_put64(&call->out, xattr->size);
	return 0;
}

int p9_xattrwalk(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	u32 number = p9_get32(&call->in);
	char name[XATTR_NAME_MAX + 1];
	int error;

	p9_call_string(call, name, sizeof(name));
	error = p9_call_end(call);
	if (!error && *name)
		error = check_name(name);
	return error ? error : walk(call, fid, number, name);
}

int p9_xattrcreate(struct p9_call *call)
{
	struct p9_server *server = call->server;
	struct p9_fid *fid = p9_call_fid(call);
	char name[XATTR_NAME_MAX + 1];
	u64 size;
	u32 flags;
	int error;

	p9_call_string(call, name, sizeof(name));
	size = p9_get64(&call->in);
	flags = p9_get32(&call->in);
	error = p9_call_end(call);
	if (!error)
		error = check_name(name);
	if (error)
		return error;
	if (fid->kind != P9_FID_PATH || flags & ~(u32)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	if (server->xattrs >= P9_XATTRS_MAX)
		return -ENFILE;
	fid->xattr = create((u32)size);
	if (!fid->xattr)
		return -ENOMEM;
	fid->xattr->written = true;
	fid->xattr->flags = (int)flags;
	strcpy(fid->xattr->name, name);
	fid->kind = P9_FID_XATTR;
	server->xattrs++;
	return 0;
}

int p9_xattr_read(struct p9_call *call, const struct p9_fid *fid, u64 offset, u32 count)
{
	const struct p9_xattr *xattr = fid->xattr;
	const struct p9_request *request = call->request;

	if (xattr->written)
		return -EBADF;
	if (offset >= xattr->size)
		count = 0;
	else if (count > xattr->size - offset)
		count = (u32)(xattr->size - offset);
	if (count)
		p9_iov_copy_to(request->in, request->in_count, P9_READ_HEADER_SIZE, xattr->value + offset, count);
	p9_put32(&call->out, count);
	call->data_bytes = count;
	return 0;
}

/* From the beginning to the end, as clients do it. */
int p9_xattr_write(struct p9_call *call, struct p9_fid *fid, u64 offset, u32 count)
{
	struct p9_xattr *xattr = fid->xattr;
	const struct p9_request *request = call->request;

	if (!xattr->written)
		return -EBADF;
	if (offset != xattr->filled || count > xattr->size - xattr->filled)
		return -EINVAL;
	p9_iov_copy_from(request->out, request->out_count, P9_WRITE_HEADER_SIZE, xattr->value + offset, count);
	xattr->filled += count;
	p9_put32(&call->out, count);
	return 0;
}

/* Linux' client has no other way to say that an attribute is to be removed: it replaces it by nothing. */
int p9_xattr_finish(struct p9_server *server, struct p9_fid *fid)
{
	const struct p9_xattr *xattr = fid->xattr;
	int fd, error;

	if (!xattr->written)
		return 0;
	if (xattr->filled != xattr->size)
		return -EINVAL;
	fd = open_real(server, fid);
	if (fd < 0)
		return fd;
	if (!xattr->size && xattr->flags == XATTR_REPLACE)
		error = fremovexattr(fd, xattr->name);
	else
		error = fsetxattr(fd, xattr->name, xattr->value, xattr->size, xattr->flags);
	if (error < 0)
		error = -errno;
	close(fd);
	return error;
}
