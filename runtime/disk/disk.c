/* Disks as the devices see them: finds the back end. */
#include "disk/internal.h"

#include "util/err.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static const char *const op_text[] = {
	[DISK_READ] = "read",
	[DISK_WRITE] = "write",
	[DISK_FLUSH] = "flush",
	[DISK_DISCARD] = "discard",
	[DISK_WRITE_ZEROES] = "write zeroes",
};

bool disk_is_remote(const char *path)
{
	static const char *const schemes[] = {"nbd:", "nbds:", "nbd+unix:", "nbds+unix:", "nbd+vsock:", "nbds+vsock:"};

	for (unsigned i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (strncmp(path, schemes[i], strlen(schemes[i])) == 0)
			return true;
	}
	return false;
}

struct disk *disk_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	struct disk *disk;

	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow any more is an error of the guest's write */
	disk = disk_is_remote(config->path) ? nbd_open(config, poller, err) : raw_open(config, poller, err);
	return disk && config->snapshot ? snapshot_open(disk, poller, err) : disk;
}

void disk_close(struct disk *disk)
{
	if (!disk)
		return;
	disk_drain(disk);
	disk->ops->close(disk);
}

void disk_drain(struct disk *disk)
{
	disk_end_batch(disk);
	disk->ops->drain(disk);
}

/* The request must lie in the disk: a device that passes others on has not looked. */
static bool fits(const struct disk *disk, const struct disk_request *request)
{
	return request->op == DISK_FLUSH ||
	       (request->offset <= disk->size && request->length <= disk->size - request->offset &&
		(request->offset | request->length) % DISK_SECTOR == 0);
}

void disk_submit(struct disk *disk, struct disk_request *request)
{
	/* these two are nobody's error on the host: not worth a message */
	if (!fits(disk, request))
		request->done(request, EINVAL);
	else if (disk->readonly && request->op != DISK_READ && request->op != DISK_FLUSH)
		request->done(request, EROFS);
	else
		disk->ops->submit(disk, request);
}

void disk_begin_batch(struct disk *disk)
{
	disk->batch = true;
	if (disk->ops->begin_batch)
		disk->ops->begin_batch(disk);
}

void disk_end_batch(struct disk *disk)
{
	disk->batch = false;
	if (disk->ops->end_batch)
		disk->ops->end_batch(disk);
}

static bool is_new(struct disk *disk, enum disk_op op, int error)
{
	for (unsigned i = 0; i < disk->told_count; i++) {
		if (disk->told[i].op == op && disk->told[i].error == error)
			return false;
	}
	if (disk->told_count == DISK_TOLD_MAX)
		return false;
	disk->told[disk->told_count].op = op;
	disk->told[disk->told_count++].error = error;
	return true;
}

void disk_done(struct disk *disk, struct disk_request *request, int error)
{
	if (error && is_new(disk, request->op, error))
		warn("disk '%s': cannot %s %llu bytes at %llu: %s (more errors of this kind are not reported)",
		     disk->path, op_text[request->op], (unsigned long long)request->length,
		     (unsigned long long)request->offset, strerror(error));
	request->done(request, error);
}

u64 disk_size(const struct disk *disk)
{
	return disk->size;
}

bool disk_readonly(const struct disk *disk)
{
	return disk->readonly;
}

bool disk_can_discard(const struct disk *disk)
{
	return disk->can_discard;
}
