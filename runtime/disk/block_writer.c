#include "disk/block_writer.h"

#include "disk/internal.h"
#include "disk/pieces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A block at the begin or end of what is written, completed by what was there before. */
struct edge {
	struct disk_request request;
	struct iovec iov;
	u64 offset, length; /* of the block; the disk may end in it */
};

struct block_write {
	struct block_writer *writer;
	struct disk_request *request;
	struct block_write *next, **link;
	u64 first, end; /* blocks */
	struct edge edges[2];
	unsigned edge_count;
	struct disk_request middle; /* what lies between: whole blocks, or those whose rest nobody needs */
	struct iovec *middle_iov;   /* or NULL, if it is the request's */
	unsigned under_way;         /* requests of this step, and one while it is being made */
	int error;
	bool writing; /* the second step */
	u8 data[];    /* of the edges */
};

static u64 end_of(const struct disk_request *request)
{
	return request->offset + request->length;
}

static void begin(struct block_writer *writer, struct disk_request *request);

/* Those that waited try again; some will wait again. */
static void wake(struct block_writer *writer)
{
	struct disk_request *request = writer->waiting;

	writer->waiting = NULL;
	writer->waiting_last = &writer->waiting;
	while (request) {
		struct disk_request *next = request->next;

		begin(writer, request);
		request = next;
	}
}

static void finish(struct block_write *write)
{
	struct block_writer *writer = write->writer;
	struct disk_request *request = write->request;
	const int error = write->error;

	if (!error && writer->written)
		writer->written(writer->owner, write->first, write->end);
	*write->link = write->next;
	if (write->next)
		write->next->link = write->link;
	free(write->middle_iov);
	free(write);
	writer->in_flight--;
	/* the disk below has told of the error */
	request->done(request, error);
	wake(writer);
}

static void write_blocks(struct block_write *write);

/* A part of the step is done; after the last one comes the next step. */
static void put(struct block_write *write)
{
	if (--write->under_way)
		return;
	if (write->writing || write->error)
		finish(write);
	else
		write_blocks(write);
}

static void part_done(struct disk_request *part, int error)
{
	struct block_write *write = part->opaque;

	if (error && !write->error)
		write->error = error;
	put(write);
}

static void submit_edge(struct block_write *write, struct edge *edge, enum disk_op op, struct disk *disk)
{
	edge->request = (struct disk_request){
		.op = op,
		.offset = edge->offset,
		.length = edge->length,
		.iov = &edge->iov,
		.iov_count = 1,
		.done = part_done,
		.opaque = write,
	};
	write->under_way++;
	disk_submit(disk, &edge->request);
}

/* Puts the request's data into the block. */
static void patch(const struct block_write *write, const struct edge *edge)
{
	const struct disk_request *request = write->request;
	u64 start = request->offset > edge->offset ? request->offset : edge->offset;
	u64 end = edge->offset + edge->length;
	u8 *to = (u8 *)edge->iov.iov_base + (start - edge->offset);

	if (end > end_of(request))
		end = end_of(request);
	if (request->op == DISK_WRITE)
		pieces_gather(request->iov, request->iov_count, start - request->offset, to, end - start);
	else
		memset(to, 0, end - start);
}

static void submit_middle(struct block_write *write)
{
	if (!write->middle.length)
		return;
	write->under_way++;
	disk_submit(write->writer->to, &write->middle);
}

static void write_blocks(struct block_write *write)
{
	write->writing = true;
	write->under_way = 1;
	for (unsigned i = 0; i < write->edge_count; i++) {
		patch(write, &write->edges[i]);
		submit_edge(write, &write->edges[i], DISK_WRITE, write->writer->to);
	}
	submit_middle(write);
	put(write);
}

static void read_edges(struct block_write *write)
{
	write->under_way = 1;
	for (unsigned i = 0; i < write->edge_count; i++)
		submit_edge(write, &write->edges[i], DISK_READ, write->writer->from);
	put(write);
}

static void add_edge(struct block_write *write, u64 number)
{
	const struct block_writer *writer = write->writer;
	struct edge *edge = &write->edges[write->edge_count];
	u64 left;

	edge->offset = number * writer->block;
	left = writer->owner->size - edge->offset;
	edge->length = left < writer->block ? left : writer->block;
	edge->iov.iov_base = write->data + (u64)write->edge_count * writer->block;
	edge->iov.iov_len = edge->length;
	write->edge_count++;
}

/* Does the request touch only a part of this block, and is the rest needed? */
static bool is_edge(const struct block_writer *writer, const struct disk_request *request, u64 number)
{
	u64 start = number * writer->block, end = start + writer->block;

	if (end > writer->owner->size)
		end = writer->owner->size;
	return (request->offset > start || end_of(request) < end) && writer->is_needed(writer->owner, number);
}

/* What lies between [start, end) needs no completion. False: out of memory. */
static bool set_middle(struct block_write *write, u64 start, u64 end)
{
	const struct disk_request *request = write->request;

	write->middle = *request;
	write->middle.offset = start;
	write->middle.length = end > start ? end - start : 0;
	write->middle.done = part_done;
	write->middle.opaque = write;
	if (!write->middle.length || write->middle.length == request->length || request->op != DISK_WRITE)
		return true;
	write->middle_iov = malloc(request->iov_count * sizeof(struct iovec));
	write->middle.iov = write->middle_iov;
	if (!write->middle_iov)
		return false;
	write->middle.iov_count = pieces_cut(request->iov, request->iov_count, start - request->offset,
					     write->middle.length, write->middle_iov, request->iov_count);
	return true;
}

/* NULL: out of memory. */
static struct block_write *make(struct block_writer *writer, struct disk_request *request)
{
	const u64 first = request->offset / writer->block, last = (end_of(request) - 1) / writer->block;
	const bool head = is_edge(writer, request, first), tail = last > first && is_edge(writer, request, last);
	struct block_write *write = malloc(sizeof(*write) + (u64)(head + tail) * writer->block);

	if (!write)
		return NULL;
	*write = (struct block_write){.writer = writer, .request = request, .first = first, .end = last + 1};
	if (head)
		add_edge(write, first);
	if (tail)
		add_edge(write, last);
	if (set_middle(write, head ? (first + 1) * writer->block : request->offset,
		       tail ? last * writer->block : end_of(request)))
		return write;
	free(write);
	return NULL;
}

static bool must_wait(const struct block_writer *writer, const struct disk_request *request)
{
	const u64 first = request->offset / writer->block, end = (end_of(request) - 1) / writer->block + 1;

	for (const struct block_write *write = writer->writes; write; write = write->next) {
		if (first < write->end && write->first < end)
			return true;
	}
	return false;
}

static void begin(struct block_writer *writer, struct disk_request *request)
{
	struct block_write *write;

	if (must_wait(writer, request)) {
		request->next = NULL;
		*writer->waiting_last = request;
		writer->waiting_last = &request->next;
		return;
	}
	write = make(writer, request);
	if (!write) {
		writer->in_flight--;
		disk_done(writer->owner, request, ENOMEM);
		return;
	}
	write->link = &writer->writes;
	write->next = writer->writes;
	if (write->next)
		write->next->link = &write->next;
	writer->writes = write;
	if (write->edge_count)
		read_edges(write);
	else
		write_blocks(write);
}

void block_writer_init(struct block_writer *writer)
{
	writer->waiting_last = &writer->waiting;
}

void block_writer_submit(struct block_writer *writer, struct disk_request *request)
{
	writer->in_flight++;
	begin(writer, request);
}
