#include "p9/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "p9/iov.h"
#include "util/err.h"

#define DESCRIPTORS_MIN 128

static const struct {
	p9_operation *run;
	bool changes; /* something in the directory: refused if it is shared read-only */
} operations[] = {
	[P9_TSTATFS] = {p9_statfs, false},
	[P9_TLOPEN] = {p9_lopen, false},
	[P9_TLCREATE] = {p9_lcreate, true},
	[P9_TSYMLINK] = {p9_symlink, true},
	[P9_TMKNOD] = {p9_mknod, true},
	[P9_TRENAME] = {p9_rename, true},
	[P9_TREADLINK] = {p9_readlink, false},
	[P9_TGETATTR] = {p9_getattr, false},
	[P9_TSETATTR] = {p9_setattr, true},
	[P9_TXATTRWALK] = {p9_xattrwalk, false},
	[P9_TXATTRCREATE] = {p9_xattrcreate, true},
	[P9_TREADDIR] = {p9_readdir, false},
	[P9_TFSYNC] = {p9_fsync, false},
	[P9_TLOCK] = {p9_lock, false},
	[P9_TGETLOCK] = {p9_getlock, false},
	[P9_TLINK] = {p9_link, true},
	[P9_TMKDIR] = {p9_mkdir, true},
	[P9_TRENAMEAT] = {p9_renameat, true},
	[P9_TUNLINKAT] = {p9_unlinkat, true},
	[P9_TVERSION] = {p9_version, false},
	[P9_TAUTH] = {p9_auth, false},
	[P9_TATTACH] = {p9_attach, false},
	[P9_TFLUSH] = {p9_flush, false},
	[P9_TWALK] = {p9_walk, false},
	[P9_TREAD] = {p9_read, false},
	[P9_TWRITE] = {p9_write, false},
	[P9_TCLUNK] = {p9_clunk, false},
	[P9_TREMOVE] = {p9_remove, false},
};

/* --- fields of messages --------------------------------------------------------------------------------------------
 */

static void note(struct p9_call *call, int error)
{
	if (!call->error)
		call->error = error;
}

struct p9_fid *p9_call_fid(struct p9_call *call)
{
	struct p9_fid *fid = p9_fid_find(&call->server->fids, p9_get32(&call->in));

	if (!fid)
		note(call, -EBADF);
	return fid;
}

void p9_call_string(struct p9_call *call, char *to, u32 size)
{
	note(call, p9_get_string(&call->in, to, size));
}

void p9_call_name(struct p9_call *call, char name[NAME_MAX + 1])
{
	p9_call_string(call, name, NAME_MAX + 1);
	note(call, p9_name_check(name));
}

int p9_call_end(const struct p9_call *call)
{
	int error = p9_get_end(&call->in);

	return error ? error : call->error;
}

/* --- what operations share -----------------------------------------------------------------------------------------
 */

int p9_call_open(struct p9_call *call, const struct p9_fid *fid)
{
	return fid->fd >= 0 ? fid->fd : p9_node_open(&call->server->nodes, fid->node);
}

int p9_call_open_dir(struct p9_call *call, const struct p9_fid *fid)
{
	return S_ISDIR(fid->node->type) ? p9_call_open(call, fid) : -ENOTDIR;
}

void p9_call_put_qid(struct p9_call *call, const struct statx *st)
{
	struct p9_qid qid;

	p9_host_qid(&call->server->host, st, &qid);
	p9_put_qid(&call->out, &qid);
}

/* For a fid that is not in the table any more. */
static void release_fid(struct p9_server *server, struct p9_fid *fid)
{
	if (fid->kind == P9_FID_DIR)
		p9_listing_forget(server, fid);
	if (fid->kind == P9_FID_FILE)
		p9_locks_forget(&server->locks, fid);
	if (fid->kind == P9_FID_XATTR)
		server->xattrs--;
	p9_fid_release(&server->nodes, fid);
}

int p9_server_clunk(struct p9_server *server, struct p9_fid *fid)
{
	int error = fid->kind == P9_FID_XATTR ? p9_xattr_finish(server, fid) : 0;

	p9_table_remove(&server->fids, &fid->link);
	release_fid(server, fid);
	return error;
}

/* --- requests ------------------------------------------------------------------------------------------------------
 */

static u32 load32(const u8 *at)
{
	u32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/*
 * Delimits the message in server->message, of which `copied` bytes are there. Older clients leave Twrite's data out of
 * its size: p9_write() takes them from what there is.
 */
static int delimit(struct p9_call *call, u8 type, u32 size, u64 copied)
{
	const u8 *message = call->server->message;

	if (type == P9_TWRITE) {
		size = copied < P9_WRITE_HEADER_SIZE ? (u32)copied : P9_WRITE_HEADER_SIZE;
	} else {
		if (size < P9_HEADER_SIZE || size > call->out_bytes)
			return -EINVAL;
		if (size > P9_MESSAGE_MAX)
			return -EMSGSIZE;
	}
	call->in = (struct p9_reader){.at = message + P9_HEADER_SIZE, .end = message + size};
	return 0;
}

static int run(struct p9_call *call, u8 type, u32 size, u64 copied)
{
	const struct p9_server *server = call->server;
	int error = delimit(call, type, size, copied);

	if (error)
		return error;
	if (type >= ARRAY_SIZE(operations) || !operations[type].run)
		return -EOPNOTSUPP;
	if (!server->msize && type != P9_TVERSION)
		return -EPROTO;
	if (server->far_away && !call->wait)
		return -P9_LATER;
	if (server->readonly && operations[type].changes)
		return -EROFS;
	error = operations[type].run(call);
	if (!error && call->out.full)
		return -EMSGSIZE;
	return error;
}

static u64 reply(struct p9_call *call, u8 type, u16 tag, int error)
{
	struct p9_server *server = call->server;
	struct p9_writer *out = &call->out;
	u64 size;

	if (error) {
		*out = (struct p9_writer){.start = out->start, .at = out->start, .end = out->end};
		p9_put32(out, (u32)-error);
		call->data_bytes = 0;
		type = P9_RLERROR - 1;
	}
	size = P9_HEADER_SIZE + p9_written(out);

	struct p9_writer header = {server->reply, server->reply, server->reply + P9_HEADER_SIZE, false};

	p9_put32(&header, (u32)(size + call->data_bytes));
	p9_put8(&header, (u8)(type + 1));
	p9_put16(&header, tag);
	p9_iov_copy_to(call->request->in, call->request->in_count, 0, server->reply, size);
	return size + call->data_bytes;
}

s64 p9_handle(struct p9_server *server, const struct p9_request *request, bool wait)
{
	struct p9_call call = {.server = server, .request = request, .wait = wait};
	u64 copied = p9_iov_copy_from(request->out, request->out_count, 0, server->message, sizeof(server->message));
	u64 room;
	u16 tag;

	call.out_bytes = p9_iov_bytes(request->out, request->out_count);
	call.in_bytes = p9_iov_bytes(request->in, request->in_count);
	if (copied < P9_HEADER_SIZE || call.in_bytes < P9_ERROR_SIZE)
		return P9_NO_REPLY;
	room = server->msize ? server->msize : P9_MSIZE_MIN;
	if (call.in_bytes > room)
		call.in_bytes = room;
	room = call.in_bytes < sizeof(server->reply) ? call.in_bytes : sizeof(server->reply);
	call.out.start = call.out.at = server->reply + P9_HEADER_SIZE;
	call.out.end = server->reply + room;
	p9_nodes_reclaim(&server->nodes);
	memcpy(&tag, server->message + 5, sizeof(tag));

	u8 type = server->message[4];
	int error = run(&call, type, load32(server->message), copied);

	return error == -P9_LATER ? P9_WOULD_WAIT : (s64)reply(&call, type, tag, error);
}

/* --- life ----------------------------------------------------------------------------------------------------------
 */

u32 p9_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return DESCRIPTORS_MIN;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur < P9_FIDS_MAX ? (u32)(limit.rlim_cur - limit.rlim_cur / 4) : P9_FIDS_MAX;
}

/* Network file systems, and those that a program serves. */
static bool is_far_away(int fd)
{
	static const u32 types[] = {
		0x6969 /* NFS */,        0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */, 0x517b /* SMB */,
		0x65735546 /* FUSE */,   0x00c36400 /* Ceph */, 0x5346414f /* AFS */,  0x73757245 /* Coda */,
		0x0bd00bd0 /* Lustre */, P9_STATFS_TYPE,
	};
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if ((u32)st.f_type == types[i])
			return true;
	return false;
}

static int open_root(struct p9_server *server, const struct p9_config *config, struct err *err)
{
	u32 limit = config->descriptors ? config->descriptors : p9_descriptors();
	struct statx st;
	int fd = open(config->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int error = fd < 0 ? -errno : p9_host_stat(fd, &st);

	if (!error)
		error = p9_nodes_init(&server->nodes, fd, &st, limit < DESCRIPTORS_MIN ? DESCRIPTORS_MIN : limit);
	if (error) {
		if (fd >= 0)
			close(fd);
		return err_set(err, "cannot share '%s': %s", config->path, strerror(-error));
	}
	server->host.root_dev = p9_stat_dev(&st);
	server->host.root_ino = st.stx_ino;
	fd = p9_host_reopen(&server->host, fd, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return err_set(err, "cannot read '%s': %s", config->path, strerror(-fd));
	server->far_away = is_far_away(fd);
	close(fd);
	return 0;
}

static int open_all(struct p9_server *server, const struct p9_config *config, struct err *err)
{
	server->host.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (server->host.proc < 0)
		return err_set(err, "cannot share '%s' without '/proc/self/fd': %s", config->path, strerror(errno));
	server->readonly = config->readonly;
	server->host.umask = umask(0777);
	umask(server->host.umask);
	server->host.uid = geteuid();
	if (p9_table_init(&server->fids) < 0 || p9_locks_init(&server->locks) < 0)
		return err_set(err, "out of memory");
	return open_root(server, config, err);
}

struct p9_server *p9_create(const struct p9_config *config, struct err *err)
{
	struct p9_server *server = calloc(1, sizeof(*server));

	if (!server) {
		err_set(err, "out of memory");
		return NULL;
	}
	server->host.proc = -1;
	if (open_all(server, config, err) < 0) {
		p9_destroy(server);
		return NULL;
	}
	return server;
}

void p9_reset(struct p9_server *server)
{
	struct p9_link *link;
	u32 cursor = 0;

	while ((link = p9_table_take(&server->fids, &cursor)))
		release_fid(server, P9_TABLE_OF(link, struct p9_fid, link));
	server->msize = 0;
}

void p9_destroy(struct p9_server *server)
{
	if (server->fids.buckets)
		p9_reset(server);
	p9_locks_release(&server->locks);
	p9_nodes_release(&server->nodes);
	p9_table_release(&server->fids);
	if (server->host.proc >= 0)
		close(server->host.proc);
	free(server);
}
