/* Fids: the client's numbers for files, open or not (Plan 9 manual, intro(5)). */
#ifndef AVANT_P9_FID_H
#define AVANT_P9_FID_H

#include "p9/node.h"
#include "p9/table.h"

#define P9_FIDS_MAX (1U << 20)

struct p9_xattr;

enum p9_fid_kind {
	P9_FID_PATH,  /* not open */
	P9_FID_FILE,  /* a regular file, open */
	P9_FID_DIR,   /* a directory, open */
	P9_FID_XATTR, /* an extended attribute, or the list of them */
};

struct p9_fid {
	struct p9_link link;
	u32 number;
	enum p9_fid_kind kind;
	struct p9_node *node; /* referenced */
	int fd;               /* FILE, DIR */
	bool writable;        /* FILE */
	bool synchronous;     /* FILE: writes wait for the disk */
	bool cache_unknown;   /* FILE: nobody says what of it is in memory */
	struct p9_xattr *xattr;
};

/* NULL: no such fid. */
struct p9_fid *p9_fid_find(const struct p9_table *fids, u32 number);

/* A new fid, not open, with a reference to the node; -EBADF if the number is in use or NOFID, -ENFILE, -ENOMEM. */
int p9_fid_create(struct p9_table *fids, u32 number, struct p9_node *node, struct p9_fid **fid);

/* Forgets it; closes what it has open. */
void p9_fid_release(struct p9_nodes *nodes, struct p9_fid *fid);

#endif
