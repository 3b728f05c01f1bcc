/*
 * What is behind a disk of the guest's: a raw file, a block device, an NBD server. The device in front (virtio/blk.c)
 * sees requests only. All functions are called on the vCPU's thread.
 */
#ifndef AVANT_DISK_DISK_H
#define AVANT_DISK_DISK_H

#include <sys/uio.h>

#include "util/types.h"

struct disk;
struct err;
struct poller;

#define DISK_SECTOR 512

struct disk_config {
	const char *path; /* a file, a block device, or an NBD URI (nbd://, nbd+unix://, …) */
	bool readonly;
	bool snapshot;         /* writes are kept aside and dropped at the end; the file is opened for reading only */
	bool locked_elsewhere; /* no lock is taken: somebody else holds it for us */
};

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES };

/*
 * One request, owned by the caller until done() is called; `iov` and what it points to must stay until then. done() is
 * called exactly once, on the vCPU's thread, from within disk_submit() if the data was at hand, else later.
 */
struct disk_request {
	enum disk_op op;
	u64 offset, length; /* bytes, multiples of DISK_SECTOR, within the disk; length is the sum of iov for reads and
			       writes */
	const struct iovec *iov;
	unsigned iov_count;
	bool unmap;                                            /* DISK_WRITE_ZEROES: the host may free the space */
	void (*done)(struct disk_request *request, int error); /* 0 or an errno value */
	void *opaque;
	struct disk_request *next; /* the disk's, while the request is under way */
	int error;                 /* the disk's */
};

/*
 * Opens what config names. NULL with a message in err that names it: not there, not a disk, in use by another writer, a
 * size that is not a multiple of 512. `config->path` must stay. The poller announces finished requests; it must outlive
 * the disk.
 */
struct disk *disk_open(const struct disk_config *config, struct poller *poller, struct err *err);

/* Waits for requests under way, then closes. Unflushed writes were handed to the host's kernel at least. */
void disk_close(struct disk *disk);

/* Waits until every request that was submitted is done; calls done() of each. */
void disk_drain(struct disk *disk);

void disk_submit(struct disk *disk, struct disk_request *request);

/* Requests submitted between the two may be handed to the host together. */
void disk_begin_batch(struct disk *disk);
void disk_end_batch(struct disk *disk);

/* Is this the URI of an NBD server, and not a file's name? */
bool disk_is_remote(const char *path);

u64 disk_size(const struct disk *disk); /* bytes */
bool disk_readonly(const struct disk *disk);
bool disk_can_discard(const struct disk *disk);

#endif
