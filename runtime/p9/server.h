/* What the operations of the server share. Each is a function on a struct p9_call, in a file by subject. */
#ifndef AVANT_P9_SERVER_H
#define AVANT_P9_SERVER_H

#include <limits.h>

#include "p9/fid.h"
#include "p9/host.h"
#include "p9/lock.h"
#include "p9/message.h"
#include "p9/node.h"
#include "p9/p9.h"
#include "p9/protocol.h"

#define P9_MSIZE_MIN    4096
#define P9_MSIZE_MAX    (1U << 20)
#define P9_MESSAGE_MAX  8192  /* of a request, but for the data of a Twrite */
#define P9_REPLY_MAX    65536 /* of a reply, but for the data of an Rread */
#define P9_DIRENTS_SIZE 32768
#define P9_XATTRS_MAX   64 /* open at a time: each may need 64 KiB */

/* Entries of the directory that was read last, so that the next request for more need not read them again. */
struct p9_listing {
	const struct p9_fid *fid; /* or NULL */
	u64 next;                 /* offset of the entry at `at`, as the client knows it */
	u32 at, end;              /* in entries */
	u8 entries[P9_DIRENTS_SIZE] __attribute__((aligned(8)));
};

struct p9_server {
	struct p9_host host;
	struct p9_nodes nodes;
	struct p9_table fids;
	struct p9_locks locks;
	bool readonly;
	bool far_away; /* on a file system whose every operation may take long */
	u32 msize;     /* 0: no session yet */
	u32 xattrs;
	struct p9_listing listing;
	struct iovec part[IOV_MAX];
	u8 message[P9_MESSAGE_MAX], reply[P9_REPLY_MAX];
};

struct p9_call {
	struct p9_server *server;
	const struct p9_request *request;
	u64 out_bytes, in_bytes; /* in_bytes: room for the reply, at most msize */
	struct p9_reader in;     /* the message behind its header */
	struct p9_writer out;    /* the reply behind its header */
	u32 data_bytes;          /* Tread: what is in request->in already, behind `out` */
	int error;               /* the first one that was found in the message's fields, or 0 */
	bool wait;               /* the operation may take long; without it: -P9_LATER before anything was done */
};

#define P9_LATER 4096 /* no errno */

/* An operation: 0, or -errno for an Rlerror. */
typedef int p9_operation(struct p9_call *call);

/* session.c */
p9_operation p9_version, p9_auth, p9_attach, p9_flush, p9_walk, p9_clunk;
/* file.c */
p9_operation p9_lopen, p9_lcreate, p9_read, p9_write, p9_fsync;
/* directory.c */
p9_operation p9_readdir;
/* attribute.c */
p9_operation p9_getattr, p9_setattr, p9_statfs, p9_readlink;
/* names.c */
p9_operation p9_mkdir, p9_mknod, p9_symlink, p9_link, p9_rename, p9_renameat, p9_unlinkat, p9_remove;
/* xattr.c */
p9_operation p9_xattrwalk, p9_xattrcreate;
/* lock.c */
p9_operation p9_lock, p9_getlock;

/*
 * The fields of a message. What is wrong with one is found by p9_call_end(), after the last: -EINVAL if the message is
 * not as long as its fields, or what the first bad field got: -EBADF, -ENAMETOOLONG, …
 */
struct p9_fid *p9_call_fid(struct p9_call *call);                 /* NULL: there is no such fid */
void p9_call_string(struct p9_call *call, char *to, u32 size);    /* of less than `size` bytes */
void p9_call_name(struct p9_call *call, char name[NAME_MAX + 1]); /* of an entry; see p9_name_check() */
int p9_call_end(const struct p9_call *call);

/* A descriptor for the file, good for what O_PATH descriptors are good for; not to be closed. Or -errno. */
int p9_call_open(struct p9_call *call, const struct p9_fid *fid);

/* The same for a directory by whose entries something is to be done: -ENOTDIR if it is none. */
int p9_call_open_dir(struct p9_call *call, const struct p9_fid *fid);

void p9_call_put_qid(struct p9_call *call, const struct statx *st);

/* Forgets a fid, with everything that hangs on it. An attribute that was to be set is set: 0 or -errno. */
int p9_server_clunk(struct p9_server *server, struct p9_fid *fid);

/* xattr.c: a fid of kind P9_FID_XATTR is read, written and clunked. */
int p9_xattr_read(struct p9_call *call, const struct p9_fid *fid, u64 offset, u32 count);
int p9_xattr_write(struct p9_call *call, struct p9_fid *fid, u64 offset, u32 count);
int p9_xattr_finish(struct p9_server *server, struct p9_fid *fid);

/* directory.c: what is known of a fid's entries is forgotten. */
void p9_listing_forget(struct p9_server *server, const struct p9_fid *fid);

#endif
