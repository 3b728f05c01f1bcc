/*
 * A disk whose writes are kept aside and dropped at the end. A sparse temporary file without a name holds what was
 * written, at the same offsets; a bitmap says which clusters are there. The disk below is only read.
 */
#include "disk/internal.h"

#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER 4096u

struct snapshot {
	struct disk disk;
	struct disk *base, *overlay;
	u8 *present; /* a bit for each cluster */
};

/* A request that is passed on in parts; done when all parts are. */
struct whole {
	struct snapshot *snapshot;
	struct disk_request *request;
	unsigned parts; /* under way, and one while parts are still being made */
	int error;
};

struct part {
	struct disk_request request;
	struct whole *whole;
	struct iovec iov[];
};

static struct snapshot *snapshot_of(struct disk *disk)
{
	return (struct snapshot *)disk;
}

static bool is_present(const struct snapshot *snapshot, u64 cluster)
{
	return snapshot->present[cluster / 8] >> cluster % 8 & 1;
}

static void set_present(struct snapshot *snapshot, u64 first, u64 end)
{
	for (u64 cluster = first; cluster < end; cluster++)
		snapshot->present[cluster / 8] |= (u8)(1u << cluster % 8);
}

static void whole_put(struct whole *whole)
{
	struct snapshot *snapshot = whole->snapshot;
	struct disk_request *request = whole->request;
	int error = whole->error;

	if (--whole->parts)
		return;
	free(whole);
	if (!error && request->op != DISK_READ && request->length)
		set_present(snapshot, request->offset / CLUSTER,
			    (request->offset + request->length + CLUSTER - 1) / CLUSTER);
	disk_done(&snapshot->disk, request, error);
}

static void part_done(struct disk_request *request, int error)
{
	struct part *part = request->opaque;
	struct whole *whole = part->whole;

	if (error && !whole->error)
		whole->error = error;
	free(part);
	whole_put(whole);
}

/* The pieces of `from` that cover [skip, skip+length); their number. */
static unsigned slice(const struct iovec *from, unsigned count, u64 skip, u64 length, struct iovec *to)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && length; i++) {
		u64 size = from[i].iov_len;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		size -= skip;
		if (size > length)
			size = length;
		to[n++] = (struct iovec){.iov_base = (u8 *)from[i].iov_base + skip, .iov_len = size};
		length -= size;
		skip = 0;
	}
	return n;
}

/* Passes [offset, offset+length) of the request on to `disk`. */
static void pass(struct whole *whole, struct disk *disk, enum disk_op op, u64 offset, u64 length)
{
	const struct disk_request *from = whole->request;
	struct part *part = malloc(sizeof(*part) + from->iov_count * sizeof(struct iovec));

	if (!part) {
		whole->error = ENOMEM;
		return;
	}
	part->whole = whole;
	part->request = (struct disk_request){.op = op,
					      .offset = offset,
					      .length = length,
					      .iov = part->iov,
					      .unmap = true,
					      .done = part_done,
					      .opaque = part};
	part->request.iov_count = slice(from->iov, from->iov_count, offset - from->offset, length, part->iov);
	whole->parts++;
	disk_submit(disk, &part->request);
}

/* Runs of clusters that lie in the same file are one part. */
static void read_parts(struct whole *whole)
{
	struct snapshot *snapshot = whole->snapshot;
	u64 at = whole->request->offset, end = at + whole->request->length;

	while (at < end) {
		bool present = is_present(snapshot, at / CLUSTER);
		u64 next = at;

		while (next < end && is_present(snapshot, next / CLUSTER) == present)
			next = (next / CLUSTER + 1) * CLUSTER;
		if (next > end)
			next = end;
		pass(whole, present ? snapshot->overlay : snapshot->base, DISK_READ, at, next - at);
		at = next;
	}
}

struct waiting {
	bool done;
	int error;
};

static void wait_done(struct disk_request *request, int error)
{
	*(struct waiting *)request->opaque = (struct waiting){.done = true, .error = error};
}

/* One request and its end. */
static int do_and_wait(struct disk *disk, enum disk_op op, u64 offset, u8 *data, u64 length)
{
	struct waiting waiting = {0};
	struct iovec iov = {.iov_base = data, .iov_len = length};
	struct disk_request request = {.op = op,
				       .offset = offset,
				       .length = length,
				       .iov = &iov,
				       .iov_count = 1,
				       .done = wait_done,
				       .opaque = &waiting};

	disk_submit(disk, &request);
	if (!waiting.done)
		disk_drain(disk);
	return waiting.error;
}

/*
 * A cluster that is only partly written is completed first, and that is waited for: then writes to its other sectors
 * need not know of each other. File systems write whole clusters, so it is rare.
 */
static int copy_up(struct snapshot *snapshot, u64 cluster)
{
	u64 offset = cluster * CLUSTER, left = snapshot->disk.size - offset;
	u64 length = left < CLUSTER ? left : CLUSTER;
	u8 data[CLUSTER];
	int error;

	if (is_present(snapshot, cluster))
		return 0;
	error = do_and_wait(snapshot->base, DISK_READ, offset, data, length);
	if (!error)
		error = do_and_wait(snapshot->overlay, DISK_WRITE, offset, data, length);
	if (!error)
		set_present(snapshot, cluster, cluster + 1);
	return error;
}

static int complete_edges(struct snapshot *snapshot, u64 offset, u64 length)
{
	u64 end = offset + length;
	int error = 0;

	if (offset % CLUSTER)
		error = copy_up(snapshot, offset / CLUSTER);
	if (!error && end % CLUSTER && end != snapshot->disk.size)
		error = copy_up(snapshot, end / CLUSTER);
	return error;
}

static void snapshot_submit(struct disk *disk, struct disk_request *request)
{
	struct snapshot *snapshot = snapshot_of(disk);
	struct whole *whole;
	int error = 0;

	if (request->op == DISK_FLUSH || !request->length) {
		disk_done(disk, request, 0); /* nothing is to outlive the process */
		return;
	}
	if (request->op != DISK_READ)
		error = complete_edges(snapshot, request->offset, request->length);
	whole = error ? NULL : malloc(sizeof(*whole));
	if (!whole) {
		disk_done(disk, request, error ? error : ENOMEM);
		return;
	}
	*whole = (struct whole){.snapshot = snapshot, .request = request, .parts = 1};
	if (request->op == DISK_READ)
		read_parts(whole);
	else /* what was discarded reads as zeros: it may not show what was there before */
		pass(whole, snapshot->overlay, request->op == DISK_WRITE ? DISK_WRITE : DISK_WRITE_ZEROES,
		     request->offset, request->length);
	whole_put(whole);
}

/* What the one finishes may have asked for something of the other. */
static void snapshot_drain(struct disk *disk)
{
	disk_drain(snapshot_of(disk)->base);
	disk_drain(snapshot_of(disk)->overlay);
	disk_drain(snapshot_of(disk)->base);
}

static void snapshot_end_batch(struct disk *disk)
{
	disk_end_batch(snapshot_of(disk)->base);
	disk_end_batch(snapshot_of(disk)->overlay);
}

static void snapshot_close(struct disk *disk)
{
	struct snapshot *snapshot = snapshot_of(disk);

	disk_close(snapshot->overlay);
	disk_close(snapshot->base);
	free(snapshot->present);
	free(snapshot);
}

static const struct disk_ops snapshot_ops = {
	.submit = snapshot_submit,
	.drain = snapshot_drain,
	.close = snapshot_close,
	.end_batch = snapshot_end_batch,
};

/* A file that has no name, or -1 with a message. */
static int temporary(u64 size, struct err *err)
{
	const char *folder = getenv("TMPDIR");
	char path[4096];
	int fd;

	if (!folder || !*folder)
		folder = "/var/tmp"; /* /tmp is often memory */
	fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && snprintf(path, sizeof(path), "%s/avant-XXXXXX", folder) < (int)sizeof(path)) {
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
	}
	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		return fd;
	err_set(err, "cannot create a temporary file for a snapshot in '%s': %s", folder, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

struct disk *snapshot_open(struct disk *base, struct poller *poller, struct err *err)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	int fd = temporary(base->size, err);

	if (snapshot && fd >= 0) {
		snapshot->disk = (struct disk){
			.ops = &snapshot_ops, .path = base->path, .size = base->size, .can_discard = true};
		snapshot->base = base;
		snapshot->present = calloc(base->size / CLUSTER / 8 + 1, 1);
		snapshot->overlay =
			snapshot->present ? raw_open_fd(fd, base->path, base->size, false, poller, err) : NULL;
		if (snapshot->overlay)
			return &snapshot->disk;
		if (!snapshot->present) {
			close(fd);
			err_set(err, "not enough memory for a snapshot of '%s'", base->path);
		}
		free(snapshot->present);
	} else if (!snapshot) {
		err_set(err, "out of memory");
		if (fd >= 0)
			close(fd);
	}
	free(snapshot);
	disk_close(base);
	return NULL;
}
