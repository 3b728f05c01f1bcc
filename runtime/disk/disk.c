/* Raw files, one request after the other. */
#include "disk/disk.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct disk {
	int fd;
	u64 size;
	bool readonly;
};

struct disk *disk_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	off_t end;

	(void)poller;
	if (!disk) {
		err_set(err, "out of memory for '%s'", config->path);
		return NULL;
	}
	disk->readonly = config->readonly;
	disk->fd = open(config->path, (config->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	end = disk->fd < 0 ? -1 : lseek(disk->fd, 0, SEEK_END);
	if (config->snapshot || end < 0 || end % DISK_SECTOR) {
		err_set(err, "cannot use '%s' as a disk: %s", config->path,
			end < 0 ? strerror(errno)
				: "snapshots are not supported yet, nor sizes that are not of sectors");
		disk_close(disk);
		return NULL;
	}
	disk->size = (u64)end;
	return disk;
}

void disk_close(struct disk *disk)
{
	if (disk->fd >= 0)
		close(disk->fd);
	free(disk);
}

static int transfer(struct disk *disk, const struct disk_request *request)
{
	u64 offset = request->offset;

	for (unsigned i = 0; i < request->iov_count; i++) {
		u8 *at = request->iov[i].iov_base;

		for (u64 left = request->iov[i].iov_len; left;) {
			const ssize_t n = request->op == DISK_READ ? pread(disk->fd, at, left, (off_t)offset)
								   : pwrite(disk->fd, at, left, (off_t)offset);

			if (n <= 0)
				return n < 0 ? errno : EIO;
			at += n;
			offset += (u64)n;
			left -= (u64)n;
		}
	}
	return 0;
}

static int punch(struct disk *disk, const struct disk_request *request)
{
	const bool keep = request->op == DISK_WRITE_ZEROES && !request->unmap;
	const int mode = keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;

	return fallocate(disk->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)request->offset, (off_t)request->length) < 0
		       ? errno
		       : 0;
}

void disk_submit(struct disk *disk, struct disk_request *request)
{
	int error;

	switch (request->op) {
	case DISK_READ:
	case DISK_WRITE:
		error = transfer(disk, request);
		break;
	case DISK_FLUSH:
		error = fdatasync(disk->fd) < 0 ? errno : 0;
		break;
	default:
		error = punch(disk, request);
		break;
	}
	request->done(request, error);
}

void disk_drain(struct disk *disk)
{
	(void)disk;
}

void disk_begin_batch(struct disk *disk)
{
	(void)disk;
}

void disk_end_batch(struct disk *disk)
{
	(void)disk;
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
	(void)disk;
	return true;
}
