/* What the back ends of disks share. */
#ifndef AVANT_DISK_INTERNAL_H
#define AVANT_DISK_INTERNAL_H

#include "disk/disk.h"

#define DISK_TOLD_MAX 8

struct disk_ops {
	void (*submit)(struct disk *disk, struct disk_request *request);
	void (*drain)(struct disk *disk);
	void (*close)(struct disk *disk); /* after drain */
	/* What was submitted since goes to the host now. NULL: nothing is held back. */
	void (*end_batch)(struct disk *disk);
};

/* The beginning of every back end's own struct. */
struct disk {
	const struct disk_ops *ops;
	const char *path; /* for messages */
	u64 size;         /* bytes */
	bool readonly, can_discard;
	bool batch; /* between disk_begin_batch() and disk_end_batch() */
	/* kinds of errors that were told already */
	struct {
		enum disk_op op;
		int error;
	} told[DISK_TOLD_MAX];
	unsigned told_count;
};

/* Finishes a request; an error is told on stderr, once of each kind. */
void disk_done(struct disk *disk, struct disk_request *request, int error);

/* Back ends. NULL with a message in err that names config->path. */
struct disk *raw_open(const struct disk_config *config, struct poller *poller, struct err *err);
/* A raw disk on an open file of `size` bytes; the descriptor is the disk's also if this fails. */
struct disk *raw_open_fd(int fd, const char *path, u64 size, bool readonly, struct poller *poller, struct err *err);
/* Takes `base`, also if it fails. */
struct disk *snapshot_open(struct disk *base, struct poller *poller, struct err *err);

/* disk_lock.c: keeps others from writing, or from using at all, what this process uses. 0, or -1 with a message in err.
 */
int disk_lock(int fd, const char *path, bool writer, struct err *err);

#endif
