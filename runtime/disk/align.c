/*
 * Requests of any sectors for a disk that takes only multiples of larger blocks. The guest is not told of these: what
 * is on the disk, a partition table for one, was made for sectors of 512 bytes.
 */
#include "disk/internal.h"

#include "disk/block_writer.h"
#include "disk/pieces.h"
#include "util/err.h"

#include <errno.h>
#include <stdlib.h>

struct align {
	struct disk disk;
	struct disk *base;
	struct block_writer writer;
	unsigned in_flight; /* beside the writer's */
};

/* A request to the base in place of another. */
struct substitute {
	struct disk_request request, *original;
	struct align *align;
	struct iovec iov;
	u8 data[];
};

static struct align *align_of(struct disk *disk)
{
	return (struct align *)disk;
}

static void substitute_done(struct disk_request *request, int error)
{
	struct substitute *substitute = request->opaque;
	struct disk_request *original = substitute->original;

	substitute->align->in_flight--;
	if (!error && original->op == DISK_READ)
		pieces_scatter(original->iov, original->iov_count, 0,
			       substitute->data + (original->offset - request->offset), original->length);
	free(substitute);
	original->done(original, error);
}

/* Asks the base for [start, end) in place of what was asked for, with `room` bytes of memory. */
static void substitute(struct align *align, struct disk_request *original, u64 start, u64 end, u64 room)
{
	struct substitute *new = malloc(sizeof(*new) + room);

	if (!new) {
		disk_done(&align->disk, original, ENOMEM);
		return;
	}
	new->original = original;
	new->align = align;
	new->iov = (struct iovec){.iov_base = new->data, .iov_len = room};
	new->request = *original;
	new->request.offset = start;
	new->request.length = end - start;
	new->request.iov = &new->iov;
	new->request.iov_count = 1;
	new->request.done = substitute_done;
	new->request.opaque = new;
	align->in_flight++;
	disk_submit(align->base, &new->request);
}

static void align_submit(struct disk *disk, struct disk_request *request)
{
	struct align *align = align_of(disk);
	const u64 mask = align->writer.block - 1, end = request->offset + request->length;
	u64 inner = (request->offset + mask) & ~mask;

	if (request->op == DISK_WRITE || request->op == DISK_WRITE_ZEROES) {
		if (request->length)
			block_writer_submit(&align->writer, request);
		else
			request->done(request, 0);
	} else if (request->op == DISK_FLUSH || ((request->offset | end) & mask) == 0) {
		disk_submit(align->base, request);
	} else if (request->op == DISK_READ) {
		u64 start = request->offset & ~mask, outer = (end + mask) & ~mask;

		substitute(align, request, start, outer, outer - start);
	} else if (inner < (end & ~mask)) {
		substitute(align, request, inner, end & ~mask, 0);
	} else {
		request->done(request, 0); /* no whole block to discard */
	}
}

static void align_drain(struct disk *disk)
{
	struct align *align = align_of(disk);

	do
		disk_drain(align->base);
	while (align->in_flight || align->writer.in_flight);
}

static void align_begin_batch(struct disk *disk)
{
	disk_begin_batch(align_of(disk)->base);
}

static void align_end_batch(struct disk *disk)
{
	disk_end_batch(align_of(disk)->base);
}

static void align_close(struct disk *disk)
{
	disk_close(align_of(disk)->base);
	free(disk);
}

static bool is_needed(const struct disk *disk, u64 block)
{
	(void)disk;
	(void)block;
	return true;
}

static const struct disk_ops align_ops = {
	.submit = align_submit,
	.drain = align_drain,
	.close = align_close,
	.begin_batch = align_begin_batch,
	.end_batch = align_end_batch,
};

struct disk *align_open(struct disk *base, u32 block, struct err *err)
{
	struct align *align = NULL;

	if (base->size % block)
		err_set(err, "the size of disk '%s', %llu, is not a multiple of its blocks of %u bytes", base->path,
			(unsigned long long)base->size, block);
	else if (!(align = calloc(1, sizeof(*align))))
		err_set(err, "out of memory");
	if (!align) {
		disk_close(base);
		return NULL;
	}
	align->disk = (struct disk){
		.ops = &align_ops,
		.path = base->path,
		.size = base->size,
		.readonly = base->readonly,
		.can_discard = base->can_discard,
	};
	align->base = base;
	align->writer = (struct block_writer){
		.owner = &align->disk, .from = base, .to = base, .block = block, .is_needed = is_needed};
	block_writer_init(&align->writer);
	return &align->disk;
}
