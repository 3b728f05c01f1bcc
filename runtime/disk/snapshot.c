/*
 * A disk whose writes are kept aside and dropped at the end. A sparse temporary file without a name holds what was
 * written, at the same offsets; a bitmap says which clusters are there. The disk below is only read.
 */
#include "disk/internal.h"

#include "disk/block_writer.h"
#include "disk/pieces.h"
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
	char *overlay_name; /* for messages */
	u8 *present;        /* in the overlay: a bit for each cluster */
	unsigned in_flight; /* requests that were divided */
	struct block_writer writer;
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

static void set_present(struct disk *disk, u64 first, u64 end)
{
	u8 *present = snapshot_of(disk)->present;

	for (; first < end && first % 8; first++)
		present[first / 8] |= (u8)(1u << first % 8);
	if (end - first >= 8) {
		memset(present + first / 8, 0xff, (end - first) / 8);
		first += (end - first) / 8 * 8;
	}
	for (; first < end; first++)
		present[first / 8] |= (u8)(1u << first % 8);
}

static bool is_missing(const struct disk *disk, u64 cluster)
{
	return !is_present((const struct snapshot *)disk, cluster);
}

/* The end of the run of clusters from `at` on that lie in the same file, `end` at most. */
static u64 end_of_run(const struct snapshot *snapshot, u64 at, u64 end)
{
	const bool present = is_present(snapshot, at / CLUSTER);

	while (at < end && is_present(snapshot, at / CLUSTER) == present)
		at = (at / CLUSTER + 1) * CLUSTER;
	return at < end ? at : end;
}

/* --- requests in parts -------------------------------------------------------------------------------------------- */

static void whole_put(struct whole *whole)
{
	struct disk_request *request = whole->request;
	int error = whole->error;

	if (--whole->parts)
		return;
	whole->snapshot->in_flight--;
	free(whole);
	request->done(request, error); /* the disk below has told of it */
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

/* Passes [offset, offset+length) of the request on to `disk`. */
static void pass(struct whole *whole, struct disk *disk, u64 offset, u64 length)
{
	const struct disk_request *from = whole->request;
	struct part *part = malloc(sizeof(*part) + from->iov_count * sizeof(struct iovec));

	if (!part) {
		whole->error = ENOMEM;
		return;
	}
	part->whole = whole;
	part->request = (struct disk_request){
		.op = from->op,
		.offset = offset,
		.length = length,
		.iov = part->iov,
		.done = part_done,
		.opaque = part,
	};
	part->request.iov_count =
		pieces_cut(from->iov, from->iov_count, offset - from->offset, length, part->iov, from->iov_count);
	whole->parts++;
	disk_submit(disk, &part->request);
}

static struct whole *whole_get(struct snapshot *snapshot, struct disk_request *request)
{
	struct whole *whole = malloc(sizeof(*whole));

	if (!whole) {
		disk_done(&snapshot->disk, request, ENOMEM);
		return NULL;
	}
	*whole = (struct whole){.snapshot = snapshot, .request = request, .parts = 1};
	snapshot->in_flight++;
	return whole;
}

static void read_parts(struct snapshot *snapshot, struct disk_request *request)
{
	struct whole *whole = whole_get(snapshot, request);
	u64 at = request->offset, end = at + request->length;

	if (!whole)
		return;
	while (at < end) {
		u64 next = end_of_run(snapshot, at, end);

		pass(whole, is_present(snapshot, at / CLUSTER) ? snapshot->overlay : snapshot->base, at, next - at);
		at = next;
	}
	whole_put(whole);
}

/* Frees what was written. What the disk below has there is seen again or not: the guest must not care. */
static void discard(struct snapshot *snapshot, struct disk_request *request)
{
	u64 first = (request->offset + CLUSTER - 1) / CLUSTER, end = (request->offset + request->length) / CLUSTER;
	struct whole *whole;

	if (first >= end) {
		request->done(request, 0);
		return;
	}
	whole = whole_get(snapshot, request);
	if (!whole)
		return;
	pass(whole, snapshot->overlay, first * CLUSTER, (end - first) * CLUSTER);
	whole_put(whole);
}

/* --- the disk ----------------------------------------------------------------------------------------------------- */

static void snapshot_submit(struct disk *disk, struct disk_request *request)
{
	struct snapshot *snapshot = snapshot_of(disk);
	const u64 end = request->offset + request->length;
	bool whole, present;

	if (request->op == DISK_FLUSH || !request->length) {
		request->done(request, 0); /* nothing is to outlive the process */
		return;
	}
	if (request->op == DISK_DISCARD) {
		discard(snapshot, request);
		return;
	}
	whole = end_of_run(snapshot, request->offset, end) == end;
	present = is_present(snapshot, request->offset / CLUSTER);
	if (request->op == DISK_READ) {
		if (whole)
			disk_submit(present ? snapshot->overlay : snapshot->base, request);
		else
			read_parts(snapshot, request);
	} else if (whole && present) {
		disk_submit(snapshot->overlay, request);
	} else {
		block_writer_submit(&snapshot->writer, request);
	}
}

/* What the one finishes may ask for something of the other. */
static void snapshot_drain(struct disk *disk)
{
	struct snapshot *snapshot = snapshot_of(disk);

	do {
		disk_drain(snapshot->base);
		disk_drain(snapshot->overlay);
	} while (snapshot->in_flight || snapshot->writer.in_flight);
}

static void snapshot_begin_batch(struct disk *disk)
{
	disk_begin_batch(snapshot_of(disk)->base);
	disk_begin_batch(snapshot_of(disk)->overlay);
}

static void snapshot_end_batch(struct disk *disk)
{
	disk_end_batch(snapshot_of(disk)->base);
	disk_end_batch(snapshot_of(disk)->overlay);
}

static void snapshot_close(struct disk *disk)
{
	struct snapshot *snapshot = snapshot_of(disk);

	if (snapshot->overlay)
		disk_close(snapshot->overlay);
	disk_close(snapshot->base);
	free(snapshot->overlay_name);
	free(snapshot->present);
	free(snapshot);
}

static const struct disk_ops snapshot_ops = {
	.submit = snapshot_submit,
	.drain = snapshot_drain,
	.close = snapshot_close,
	.begin_batch = snapshot_begin_batch,
	.end_batch = snapshot_end_batch,
};

/* --- opening ------------------------------------------------------------------------------------------------------ */

static const char *temporary_folder(void)
{
	const char *folder = getenv("TMPDIR");

	return folder && *folder ? folder : "/var/tmp"; /* /tmp is often memory */
}

/* A file that has no name, or -1 with errno. */
static int temporary_file(const char *folder, u64 size)
{
	char path[4096];
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && snprintf(path, sizeof(path), "%s/avant-XXXXXX", folder) < (int)sizeof(path)) {
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
	}
	if (fd >= 0 && ftruncate(fd, (off_t)size) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		fd = -1;
	}
	return fd;
}

static int open_overlay(struct snapshot *snapshot, struct poller *poller, struct err *err)
{
	const char *folder = temporary_folder();
	int fd;

	if (asprintf(&snapshot->overlay_name, "%s, written parts in %s", snapshot->base->path, folder) < 0) {
		snapshot->overlay_name = NULL;
		return err_set(err, "out of memory");
	}
	fd = temporary_file(folder, snapshot->disk.size);
	if (fd < 0)
		return err_set(err, "cannot create a temporary file of %llu bytes for a snapshot in '%s': %s",
			       (unsigned long long)snapshot->disk.size, folder, strerror(errno));
	snapshot->overlay = raw_open_fd(fd, -1, snapshot->overlay_name, IO_ANY, false, poller, err);
	return snapshot->overlay ? 0 : -1;
}

struct disk *snapshot_open(struct disk *base, struct poller *poller, struct err *err)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

	if (!snapshot) {
		err_set(err, "out of memory");
		disk_close(base);
		return NULL;
	}
	snapshot->base = base;
	snapshot->disk =
		(struct disk){.ops = &snapshot_ops, .path = base->path, .size = base->size, .can_discard = true};
	snapshot->present = calloc(base->size / CLUSTER / 8 + 1, 1);
	if (!snapshot->present)
		err_set(err, "not enough memory for a snapshot of '%s'", base->path);
	if (!snapshot->present || open_overlay(snapshot, poller, err) < 0) {
		snapshot_close(&snapshot->disk);
		return NULL;
	}
	snapshot->writer = (struct block_writer){
		.owner = &snapshot->disk,
		.from = base,
		.to = snapshot->overlay,
		.block = CLUSTER,
		.is_needed = is_missing,
		.written = set_present,
	};
	block_writer_init(&snapshot->writer);
	return &snapshot->disk;
}
