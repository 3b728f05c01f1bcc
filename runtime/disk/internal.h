/* What the back ends of disks share. */
#ifndef AVANT_DISK_INTERNAL_H
#define AVANT_DISK_INTERNAL_H

#include "disk/disk.h"
#include "disk/io.h"

#define DISK_TOLD_MAX 8

struct disk_ops {
	void (*submit)(struct disk *disk, struct disk_request *request);
	void (*drain)(struct disk *disk);
	void (*close)(struct disk *disk); /* after drain */
	/* May be NULL. What was submitted in between goes to the host at the end at the latest. */
	void (*begin_batch)(struct disk *disk);
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
struct disk *nbd_open(const struct disk_config *config, struct poller *poller, struct err *err);
/* How long a server may be silent though it was asked. */
void nbd_set_patience(struct disk *disk, u64 ms);

/*
 * A raw disk on an open file or block device, and a descriptor to be held meanwhile, or -1. Both are the disk's, also
 * if this fails. `path` must stay.
 */
struct disk *raw_open_fd(int fd, int lock_fd, const char *path, enum io_kind kind, bool readonly, struct poller *poller,
			 struct err *err);
/* How it works in the background. */
struct io *raw_io(const struct disk *disk);
/* A write at once took so long: the next ones are done in the background. */
void raw_was_slow(struct disk *disk, u64 ns);

/* What stands on another disk takes `base`, also if it fails. NULL with a message in err. */
struct disk *snapshot_open(struct disk *base, struct poller *poller, struct err *err);
/* Requests of any sectors for a disk that takes only multiples of `block` bytes, a power of two above DISK_SECTOR. */
struct disk *align_open(struct disk *base, u32 block, struct err *err);

/*
 * Keeps others from writing, or from using at all, what is open as `fd`. A descriptor that holds the locks until it is
 * closed, or -1 with a message in err.
 */
int disk_lock(int fd, const char *path, bool writer, struct err *err);

#endif
