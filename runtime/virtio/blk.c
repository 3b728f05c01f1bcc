/*
 * Disks (virtio 1.2, 5.2). A request is a header of 16 bytes, data, and a status byte, cut into pieces as the driver
 * likes. What is behind the disk (disk/disk.h) may answer at once or later, in any order.
 */
#include "virtio/virtio.h"

#include "disk/disk.h"
#include "util/err.h"
#include "virtio/devices.h"
#include "vm.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 256

#define F_SEG_MAX      BIT(2)
#define F_RO           BIT(5)
#define F_BLK_SIZE     BIT(6)
#define F_FLUSH        BIT(9)
#define F_TOPOLOGY     BIT(10)
#define F_DISCARD      BIT(13)
#define F_WRITE_ZEROES BIT(14)

enum request_type {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_GET_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
};

enum status { STATUS_OK, STATUS_IOERR, STATUS_UNSUPPORTED };

struct header {
	u32 type, reserved;
	u64 sector;
};

/* What discard and write-zeroes are about. */
struct blk_range {
	u64 sector;
	u32 count;
	u32 flags;
};
#define RANGE_UNMAP BIT(0)

#define ID_SIZE         20
#define SEGMENTS_MAX    32
#define SEGMENT_SECTORS (1u << 22) /* 2 GiB: the host may do that at once and still hear of the next request */

#define PHYSICAL_EXPONENT 3 /* 4 KiB, as the host's file systems have it */

/* 5.2.4 */
struct config {
	u64 capacity;
	u32 size_max, seg_max;
	u16 cylinders;
	u8 heads, sectors;
	u32 blk_size;
	u8 physical_block_exp, alignment_offset;
	u16 min_io_size;
	u32 opt_io_size;
	u8 writeback, unused0;
	u16 num_queues;
	u32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
	u32 max_write_zeroes_sectors, max_write_zeroes_seg;
	u8 write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));

_Static_assert(sizeof(struct config) == 60 && offsetof(struct config, max_discard_sectors) == 36,
	       "as the manual has it");

struct blk {
	struct virtio_device device;
	struct config config;
	struct disk *disk;
	char serial[ID_SIZE]; /* without an end if it is that long */
	struct request *unused;
	bool in_kick; /* the driver is told of what is done when all is */
};

struct request {
	struct blk *blk;
	struct request *next; /* while unused */
	struct virtio_chain chain;
	struct disk_request disk;
	struct header header;
	struct iovec *shortened; /* the piece that the status byte was cut from, or NULL */
	u8 *status;
	bool flushing; /* the driver knows no flush: a write is done when it is safe */
	unsigned segment, segment_count;
	struct blk_range segments[SEGMENTS_MAX];
};

static struct request *request_get(struct blk *blk)
{
	struct request *request = blk->unused;

	if (request) {
		blk->unused = request->next;
		return request;
	}
	request = calloc(1, sizeof(*request));
	if (!request || virtio_chain_init(&request->chain) < 0) {
		free(request);
		virtio_broken(&blk->device, "no memory is left for another request");
		return NULL;
	}
	request->blk = blk;
	return request;
}

static void request_put(struct request *request)
{
	request->next = request->blk->unused;
	request->blk->unused = request;
}

/* --- the end of a request ---------------------------------------------------------------------------------------- */

/* Of what could not be read nothing is left to be found: some of it may have been written to the guest's buffers. */
static void clear_data(struct virtio_chain *chain)
{
	for (unsigned i = 0; i < chain->in_count; i++)
		memset(chain->in[i].iov_base, 0, chain->in[i].iov_len);
}

static void complete(struct request *request, enum status status)
{
	struct blk *blk = request->blk;

	if (request->shortened)
		request->shortened->iov_len++;
	if (status != STATUS_OK)
		clear_data(&request->chain);
	*request->status = (u8)status;
	virtio_push(&blk->device, 0, &request->chain, (u32)request->chain.in_bytes);
	request_put(request);
	if (!blk->in_kick)
		virtio_notify(&blk->device, 0);
}

static void submit_segment(struct request *request);

static void disk_done(struct disk_request *disk, int error)
{
	struct request *request = disk->opaque;
	struct blk *blk = request->blk;

	if (error) {
		complete(request, STATUS_IOERR);
	} else if (disk->op == DISK_WRITE && !(blk->device.features & F_FLUSH)) {
		disk->op = DISK_FLUSH;
		disk->offset = disk->length = 0;
		disk_submit(blk->disk, disk);
	} else if (request->segment < request->segment_count) {
		submit_segment(request);
	} else {
		complete(request, STATUS_OK);
	}
}

/* --- its beginning ----------------------------------------------------------------------------------------------- */

/* Is [sector, sector + length bytes) a part of the disk that can be transferred? */
static bool is_inside(const struct blk *blk, u64 sector, u64 length)
{
	return length % DISK_SECTOR == 0 && sector <= blk->config.capacity &&
	       length / DISK_SECTOR <= blk->config.capacity - sector;
}

static void submit(struct request *request, enum disk_op op, u64 offset, u64 length)
{
	request->disk.op = op;
	request->disk.offset = offset;
	request->disk.length = length;
	request->disk.done = disk_done;
	request->disk.opaque = request;
	disk_submit(request->blk->disk, &request->disk);
}

static void transfer(struct request *request, enum disk_op op, u64 length)
{
	const u64 sector = request->header.sector;

	if (!is_inside(request->blk, sector, length))
		complete(request, STATUS_IOERR);
	else if (length == 0)
		complete(request, STATUS_OK);
	else
		submit(request, op, sector * DISK_SECTOR, length);
}

static void start_read(struct request *request)
{
	struct virtio_chain *chain = &request->chain;

	request->disk.iov = chain->in;
	/* the status byte is the end of the last piece, or all of it */
	request->disk.iov_count = chain->in_count;
	request->shortened = &chain->in[chain->in_count - 1];
	request->shortened->iov_len--;
	if (request->shortened->iov_len == 0)
		request->disk.iov_count--;
	transfer(request, DISK_READ, chain->in_bytes - 1);
}

static void start_write(struct request *request)
{
	struct virtio_chain *chain = &request->chain;
	struct iovec *piece = chain->out;
	u64 skip = sizeof(struct header);

	if (disk_readonly(request->blk->disk)) {
		complete(request, STATUS_IOERR);
		return;
	}
	while (skip && skip >= piece->iov_len)
		skip -= piece++->iov_len;
	if (skip) {
		piece->iov_base = (u8 *)piece->iov_base + skip;
		piece->iov_len -= skip;
	}
	request->disk.iov = piece;
	request->disk.iov_count = (unsigned)(chain->out + chain->out_count - piece);
	transfer(request, DISK_WRITE, chain->out_bytes - sizeof(struct header));
}

static void submit_segment(struct request *request)
{
	const struct blk_range *segment = &request->segments[request->segment++];
	const bool zeroes = request->header.type == TYPE_WRITE_ZEROES;

	request->disk.unmap = segment->flags & RANGE_UNMAP;
	submit(request, zeroes ? DISK_WRITE_ZEROES : DISK_DISCARD, segment->sector * DISK_SECTOR,
	       (u64)segment->count * DISK_SECTOR);
}

static enum status check_segment(const struct request *request, const struct blk_range *segment)
{
	const u32 known = request->header.type == TYPE_WRITE_ZEROES ? RANGE_UNMAP : 0;

	if (segment->flags & ~known)
		return STATUS_UNSUPPORTED;
	if (segment->count > SEGMENT_SECTORS ||
	    !is_inside(request->blk, segment->sector, (u64)segment->count * DISK_SECTOR))
		return STATUS_IOERR;
	return STATUS_OK;
}

/* Discard and write-zeroes: nothing is done unless all of it can be. */
static void start_segments(struct request *request)
{
	const u64 size = request->chain.out_bytes - sizeof(struct header);
	enum status status = STATUS_OK;

	if (size == 0 || size % sizeof(struct blk_range) || size > sizeof(request->segments))
		status = STATUS_IOERR;
	else if (disk_readonly(request->blk->disk))
		status = STATUS_IOERR;
	if (status == STATUS_OK) {
		virtio_copy_from(&request->chain, sizeof(struct header), request->segments, size);
		request->segment_count = (unsigned)(size / sizeof(struct blk_range));
	}
	for (unsigned i = 0; i < request->segment_count && status == STATUS_OK; i++)
		status = check_segment(request, &request->segments[i]);
	if (status == STATUS_OK)
		submit_segment(request);
	else
		complete(request, status);
}

static void answer_id(struct request *request)
{
	const u64 room = request->chain.in_bytes - 1;

	virtio_copy_to(&request->chain, 0, request->blk->serial, room < ID_SIZE ? room : ID_SIZE);
	complete(request, STATUS_OK);
}

static void start(struct request *request)
{
	const struct blk *blk = request->blk;

	switch ((enum request_type)request->header.type) {
	case TYPE_IN:
		start_read(request);
		return;
	case TYPE_OUT:
		start_write(request);
		return;
	case TYPE_FLUSH:
		submit(request, DISK_FLUSH, 0, 0);
		return;
	case TYPE_GET_ID:
		answer_id(request);
		return;
	case TYPE_DISCARD:
		if (!(blk->device.features & F_DISCARD))
			break;
		start_segments(request);
		return;
	case TYPE_WRITE_ZEROES:
		if (!(blk->device.features & F_WRITE_ZEROES))
			break;
		start_segments(request);
		return;
	}
	complete(request, STATUS_UNSUPPORTED);
}

/* Takes the header and finds the status byte. False: broken, there is nowhere to say what is wrong. */
static bool parse(struct request *request)
{
	struct virtio_chain *chain = &request->chain;
	const struct iovec *last;

	request->shortened = NULL;
	request->segment = request->segment_count = 0;
	request->disk.iov = NULL;
	request->disk.iov_count = 0;
	request->disk.unmap = false;
	if (virtio_copy_from(chain, 0, &request->header, sizeof(request->header)) < sizeof(request->header) ||
	    chain->in_bytes == 0) {
		virtio_broken(&request->blk->device, "a request without header or status");
		return false;
	}
	last = &chain->in[chain->in_count - 1];
	request->status = (u8 *)last->iov_base + last->iov_len - 1;
	return true;
}

/* --- the device -------------------------------------------------------------------------------------------------- */

static void kick(struct virtio_device *device, unsigned queue)
{
	struct blk *blk = (struct blk *)device;
	struct request *request;

	blk->in_kick = true;
	disk_begin_batch(blk->disk);
	while ((request = request_get(blk))) {
		if (!virtio_pop(device, queue, &request->chain) || !parse(request)) {
			request_put(request);
			break;
		}
		start(request);
	}
	disk_end_batch(blk->disk);
	/* what is done when must not depend on the host */
	if (device->vm->clock.source == CLOCK_SOURCE_INSTRUCTIONS)
		disk_drain(blk->disk);
	blk->in_kick = false;
	virtio_notify(device, queue);
}

static void reset(struct virtio_device *device)
{
	struct blk *blk = (struct blk *)device;

	disk_drain(blk->disk);
}

static void release(struct virtio_device *device)
{
	struct blk *blk = (struct blk *)device;
	struct request *next;

	if (blk->disk)
		disk_close(blk->disk);
	for (struct request *request = blk->unused; request; request = next) {
		next = request->next;
		virtio_chain_release(&request->chain);
		free(request);
	}
	free(blk);
}

static void describe(struct blk *blk)
{
	blk->config = (struct config){
		.capacity = disk_size(blk->disk) / DISK_SECTOR,
		.seg_max = VIRTIO_CHAIN_MAX - 2, /* header and status are not counted */
		.blk_size = DISK_SECTOR,
		.physical_block_exp = PHYSICAL_EXPONENT,
		.min_io_size = 1 << PHYSICAL_EXPONENT,
		.num_queues = 1,
		.max_discard_sectors = SEGMENT_SECTORS,
		.max_discard_seg = SEGMENTS_MAX,
		.discard_sector_alignment = 1 << PHYSICAL_EXPONENT,
		.max_write_zeroes_sectors = SEGMENT_SECTORS,
		.max_write_zeroes_seg = SEGMENTS_MAX,
		.write_zeroes_may_unmap = 1,
	};
	blk->device.config = (u8 *)&blk->config;
	blk->device.offered = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY;
	if (disk_readonly(blk->disk))
		blk->device.offered |= F_RO;
	else
		blk->device.offered |= F_WRITE_ZEROES | (disk_can_discard(blk->disk) ? F_DISCARD : 0);
}

int virtio_blk_create(struct vm *vm, const struct vm_disk *disk, struct err *err)
{
	static const struct virtio_ops ops = {
		.name = "virtio-blk",
		.id = VIRTIO_ID_BLOCK,
		.pci_class = 0x010000,
		.queue_count = 1,
		.queue_size = QUEUE_SIZE,
		.config_size = sizeof(struct config),
		.reset = reset,
		.kick = kick,
		.release = release,
	};
	struct blk *blk = calloc(1, sizeof(*blk));

	if (!blk)
		return err_set(err, "out of memory for '%s'", disk->config.path);
	blk->device.ops = &ops;
	blk->device.vm = vm;
	if (disk->serial)
		memcpy(blk->serial, disk->serial, strnlen(disk->serial, ID_SIZE));
	blk->disk = disk_open(&disk->config, vm->poller, err);
	if (!blk->disk) {
		release(&blk->device);
		return -1;
	}
	describe(blk);
	if (virtio_add(&blk->device, err) < 0) {
		release(&blk->device);
		return -1;
	}
	return 0;
}
