/*
 * Tlock and Tgetlock. The guest's kernel sees to it that its programs do not lock against each other; for everybody
 * else on the host, other guests included, the guest is one owner: what its programs have locked together is locked on
 * a descriptor that belongs to nothing else (F_OFD_SETLK), so that closing a file does not unlock it.
 */
#ifndef AVANT_P9_LOCK_H
#define AVANT_P9_LOCK_H

#include "p9/table.h"

struct p9_fid;

#define P9_LOCKS_MAX 1024 /* of one guest: each request looks at all of a file's */

struct p9_locks {
	struct p9_table files; /* with a lock on them */
	u32 count;             /* of locks */
};

/* 0 or -ENOMEM */
int p9_locks_init(struct p9_locks *locks);
void p9_locks_release(struct p9_locks *locks);

/* A fid of kind P9_FID_FILE goes away, and its locks with it. */
void p9_locks_forget(struct p9_locks *locks, const struct p9_fid *fid);

#endif
