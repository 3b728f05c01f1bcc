/* Tmkdir, Tmknod, Tsymlink, Tlink, Trename, Trenameat, Tunlinkat, Tremove: entries of directories. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "p9/server.h"

static int result(int returned)
{
	return returned < 0 ? -errno : 0;
}

/* The qid of what was just made. */
static int made(struct p9_call *call, int dir, const char *name)
{
	struct statx st;
	int error = p9_host_stat_at(dir, name, &st);

	if (!error)
		p9_call_put_qid(call, &st);
	return error;
}

int p9_mkdir(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	char name[NAME_MAX + 1];
	u32 mode;
	int error, dir;

	p9_call_name(call, name);
	mode = p9_get32(&call->in) & (0777 | S_ISVTX); /* set-group-ID comes from the directory around it */
	p9_get32(&call->in);                           /* gid */
	error = p9_call_end(call);
	dir = error ? error : p9_call_open_dir(call, fid);
	if (dir < 0)
		return dir;
	error = result(mkdirat(dir, name, mode));
	if (error)
		return error;
	p9_host_undo_umask(&call->server->host, dir, name, mode);
	return made(call, dir, name);
}

/* Devices are the host's; FIFOs and sockets are only names: the guest's kernel does the rest. */
static int make_node(struct p9_call *call, int dir, const char *name, u32 mode)
{
	u32 type = mode & S_IFMT;
	int error;

	if (!type)
		type = S_IFREG;
	if (S_ISCHR(type) || S_ISBLK(type))
		return -EPERM;
	if (!S_ISREG(type) && !S_ISFIFO(type) && !S_ISSOCK(type))
		return -EINVAL;
	mode = p9_mode_allowed(type, mode);
	error = result(mknodat(dir, name, type | mode, 0));
	if (error)
		return error;
	p9_host_undo_umask(&call->server->host, dir, name, mode);
	return made(call, dir, name);
}

int p9_mknod(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	char name[NAME_MAX + 1];
	u32 mode;
	int error, dir;

	p9_call_name(call, name);
	mode = p9_get32(&call->in);
	p9_get32(&call->in); /* major */
	p9_get32(&call->in); /* minor */
	p9_get32(&call->in); /* gid */
	error = p9_call_end(call);
	dir = error ? error : p9_call_open_dir(call, fid);
	return dir < 0 ? dir : make_node(call, dir, name, mode);
}

/* The target may be anything: nobody here follows it. */
int p9_symlink(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	char name[NAME_MAX + 1], target[PATH_MAX];
	int error, dir;

	p9_call_name(call, name);
	p9_call_string(call, target, sizeof(target));
	p9_get32(&call->in); /* gid */
	error = p9_call_end(call);
	dir = error ? error : p9_call_open_dir(call, fid);
	if (dir < 0)
		return dir;
	error = result(symlinkat(target, dir, name));
	return error ? error : made(call, dir, name);
}

int p9_link(struct p9_call *call)
{
	const struct p9_fid *to = p9_call_fid(call), *fid = p9_call_fid(call);
	char name[NAME_MAX + 1], from[16];
	int error, dir, fd;

	p9_call_name(call, name);
	error = p9_call_end(call);
	dir = error ? error : p9_call_open_dir(call, to);
	fd = dir < 0 ? dir : p9_call_open(call, fid);
	if (fd < 0)
		return fd;
	snprintf(from, sizeof(from), "%d", fd);
	return result(linkat(call->server->host.proc, from, dir, name, AT_SYMLINK_FOLLOW));
}

/* --- removing and renaming -----------------------------------------------------------------------------------------
 */

static int rename_entry(struct p9_call *call, struct p9_node *dir, const char *name, struct p9_node *to_dir,
			const char *to_name)
{
	struct p9_nodes *nodes = &call->server->nodes;
	int from = p9_node_open(nodes, dir), to = from < 0 ? from : p9_node_open(nodes, to_dir), error;

	if (to < 0)
		return to;
	if (!S_ISDIR(dir->type) || !S_ISDIR(to_dir->type))
		return -ENOTDIR;
	if (dir != to_dir || strcmp(name, to_name))
		p9_node_before_remove(nodes, to_dir, to_name);
	error = result(renameat(from, name, to, to_name));
	if (!error)
		p9_node_renamed(nodes, dir, name, to_dir, to_name);
	return error;
}

static int remove_entry(struct p9_call *call, struct p9_node *dir, const char *name, bool directory)
{
	struct p9_nodes *nodes = &call->server->nodes;
	int fd = S_ISDIR(dir->type) ? p9_node_open(nodes, dir) : -ENOTDIR, error;

	if (fd < 0)
		return fd;
	p9_node_before_remove(nodes, dir, name);
	error = result(unlinkat(fd, name, directory ? AT_REMOVEDIR : 0));
	if (!error)
		p9_node_removed(nodes, dir, name);
	return error;
}

int p9_renameat(struct p9_call *call)
{
	const struct p9_fid *from = p9_call_fid(call), *to;
	char name[NAME_MAX + 1], to_name[NAME_MAX + 1];
	int error;

	p9_call_name(call, name);
	to = p9_call_fid(call);
	p9_call_name(call, to_name);
	error = p9_call_end(call);
	return error ? error : rename_entry(call, from->node, name, to->node, to_name);
}

int p9_unlinkat(struct p9_call *call)
{
	const struct p9_fid *dir = p9_call_fid(call);
	char name[NAME_MAX + 1];
	u32 flags;
	int error;

	p9_call_name(call, name);
	flags = p9_get32(&call->in);
	error = p9_call_end(call);
	if (error)
		return error;
	if (flags & ~P9_UNLINK_DIRECTORY)
		return -EINVAL;
	return remove_entry(call, dir->node, name, flags);
}

/*
 * Where a fid's file is: its directory, referenced, and its name there, if it is still the same file. The root is in
 * no directory.
 */
static int locate(struct p9_call *call, const struct p9_fid *fid, struct p9_node **dir, char name[NAME_MAX + 1])
{
	struct p9_nodes *nodes = &call->server->nodes;
	struct p9_node *node = fid->node, *found;
	struct statx st;
	int error;

	if (node == nodes->root)
		return -EBUSY;
	if (!node->parent)
		return -ENOENT;
	strcpy(name, node->name);
	*dir = p9_node_get(node->parent);
	error = p9_node_walk(nodes, *dir, name, &st, &found);
	if (!error) {
		error = found == node ? 0 : -ENOENT;
		p9_node_put(nodes, found);
	}
	if (error)
		p9_node_put(nodes, *dir);
	return error;
}

int p9_rename(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call), *to = p9_call_fid(call);
	char name[NAME_MAX + 1], to_name[NAME_MAX + 1];
	struct p9_node *dir;
	int error;

	p9_call_name(call, to_name);
	error = p9_call_end(call);
	if (!error)
		error = locate(call, fid, &dir, name);
	if (error)
		return error;
	error = rename_entry(call, dir, name, to->node, to_name);
	p9_node_put(&call->server->nodes, dir);
	return error;
}

static int remove_fid(struct p9_call *call, const struct p9_fid *fid)
{
	char name[NAME_MAX + 1];
	struct p9_node *dir;
	int error;

	if (call->server->readonly)
		return -EROFS;
	error = locate(call, fid, &dir, name);
	if (error)
		return error;
	error = remove_entry(call, dir, name, S_ISDIR(fid->node->type));
	p9_node_put(&call->server->nodes, dir);
	return error;
}

/* The fid is gone afterwards, also if it could not be removed (remove(5)). */
int p9_remove(struct p9_call *call)
{
	struct p9_fid *fid = p9_call_fid(call);
	int error = p9_call_end(call);

	if (error)
		return error;
	error = remove_fid(call, fid);
	p9_server_clunk(call->server, fid);
	return error;
}
