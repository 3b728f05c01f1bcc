/* Tversion, Tattach, Twalk, Tclunk, Tflush: sessions and fids. */
#include <errno.h>
#include <string.h>

#include "p9/server.h"

int p9_version(struct p9_call *call)
{
	struct p9_server *server = call->server;
	u32 msize = p9_get32(&call->in);
	char version[32];
	int error;

	p9_call_string(call, version, sizeof(version));
	error = p9_call_end(call);
	if (error && error != -ENAMETOOLONG)
		return error;
	if (msize < P9_MSIZE_MIN)
		return -EMSGSIZE;
	if (msize > P9_MSIZE_MAX)
		msize = P9_MSIZE_MAX;
	p9_reset(server); /* a new session, whatever was before (version(5)) */
	if (strcmp(version, P9_VERSION))
		strcpy(version, "unknown");
	else
		server->msize = msize;
	p9_put32(&call->out, msize);
	p9_put_string(&call->out, version, (u32)strlen(version));
	return 0;
}

/* There is no authentication: clients go on without if this fails. */
int p9_auth(struct p9_call *call)
{
	(void)call;
	return -EOPNOTSUPP;
}

/* From the root to a directory that Tattach names: its components, one by one. */
static int walk_path(struct p9_server *server, char *path, struct statx *st, struct p9_node **node)
{
	struct p9_node *at = p9_node_get(server->nodes.root), *next;
	int fd = p9_node_open(&server->nodes, at), error = fd < 0 ? fd : p9_host_stat(fd, st);
	char *rest;

	for (char *name = strtok_r(path, "/", &rest); name && !error; name = strtok_r(NULL, "/", &rest)) {
		error = strcmp(name, "..") ? p9_node_walk(&server->nodes, at, name, st, &next) : -EINVAL;
		if (error)
			break;
		p9_node_put(&server->nodes, at);
		at = next;
	}
	if (!error && !S_ISDIR(at->type))
		error = -ENOTDIR;
	if (error)
		p9_node_put(&server->nodes, at);
	else
		*node = at;
	return error;
}

int p9_attach(struct p9_call *call)
{
	struct p9_server *server = call->server;
	u32 number = p9_get32(&call->in), afid = p9_get32(&call->in);
	char path[PATH_MAX];
	struct p9_node *node;
	struct statx st;
	int error;

	p9_skip_string(&call->in); /* uname: nobody is asked who he is; see the README for whose rights are used */
	p9_call_string(call, path, sizeof(path));
	p9_get32(&call->in); /* n_uname */
	error = p9_call_end(call);
	if (error)
		return error;
	if (afid != P9_NO_FID)
		return -EBADF;
	error = walk_path(server, path, &st, &node);
	if (error)
		return error;
	error = p9_fid_create(&server->fids, number, node, NULL);
	p9_node_put(&server->nodes, node);
	if (!error)
		p9_call_put_qid(call, &st);
	return error;
}

/* Requests are answered in order: what is to be flushed has been answered. */
int p9_flush(struct p9_call *call)
{
	p9_get16(&call->in);
	return p9_call_end(call);
}

/* An error that says nothing of the name: a client takes names that were not walked for names that are not there. */
static bool is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/*
 * Walks from `node`, and takes its reference. How many names were found is returned, with their qids in the reply and
 * the last one's node in *end; -errno if not even the first was.
 */
static int walk_names(struct p9_call *call, struct p9_node *node, char (*names)[NAME_MAX + 1], u16 count,
		      struct p9_node **end)
{
	struct p9_nodes *nodes = &call->server->nodes;
	struct p9_node *next;
	struct statx st;

	*end = node;
	for (u16 i = 0; i < count; i++) {
		int error = p9_node_walk(nodes, *end, names[i], &st, &next);

		if (error)
			return i && !is_shortage(error) ? i : error;
		p9_node_put(nodes, *end);
		*end = next;
		p9_call_put_qid(call, &st);
	}
	return count;
}

/* newfid is fid itself, or a new one. */
static int place(struct p9_server *server, struct p9_fid *fid, u32 number, struct p9_node *node)
{
	if (number != fid->number)
		return p9_fid_create(&server->fids, number, node, NULL);
	p9_node_get(node);
	p9_node_put(&server->nodes, fid->node);
	fid->node = node;
	return 0;
}

static int walk_from(struct p9_call *call, struct p9_fid *fid, u32 number, char (*names)[NAME_MAX + 1], u16 count)
{
	struct p9_server *server = call->server;
	u8 *start = call->out.at;
	struct p9_node *end;
	int walked, error = 0;

	p9_put16(&call->out, 0);
	walked = walk_names(call, p9_node_get(fid->node), names, count, &end);
	if (walked == count)
		error = place(server, fid, number, end);
	p9_node_put(&server->nodes, end);
	if (walked < 0)
		return walked;
	start[0] = (u8)walked;
	return error;
}

int p9_walk(struct p9_call *call)
{
	struct p9_fid *fid = p9_call_fid(call);
	u32 number = p9_get32(&call->in);
	u16 count = p9_get16(&call->in);
	char names[P9_WALK_MAX][NAME_MAX + 1];
	int error;

	if (count > P9_WALK_MAX)
		return -EINVAL;
	for (u16 i = 0; i < count; i++)
		p9_call_string(call, names[i], sizeof(names[i]));
	error = p9_call_end(call);
	if (error)
		return error;
	if (fid->kind == P9_FID_XATTR || (number == fid->number && fid->kind != P9_FID_PATH))
		return -EINVAL;
	if (number != fid->number && p9_fid_find(&call->server->fids, number))
		return -EBADF;
	return walk_from(call, fid, number, names, count);
}

int p9_clunk(struct p9_call *call)
{
	struct p9_fid *fid = p9_call_fid(call);
	int error = p9_call_end(call);

	return error ? error : p9_server_clunk(call->server, fid);
}
