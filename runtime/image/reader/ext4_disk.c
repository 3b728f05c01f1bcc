#include "image/reader/ext4_disk.h"

#include <string.h>

#include "image/reader/bytes.h"
#include "image/reader/ext4_journal.h"

/* The first block of the overlay with this number or a higher one. */
static u32 first_from(const struct ext4_disk *disk, u64 number)
{
	u32 low = 0, high = disk->block_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (disk->block[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool ext4_disk_replaced(const struct ext4_disk *disk, u64 offset, u64 size)
{
	u32 i;

	if (!disk->block_count || !size)
		return false;
	i = first_from(disk, offset / disk->block_size);
	return i < disk->block_count && disk->block[i].number <= (offset + size - 1) / disk->block_size;
}

static int read_raw(const struct ext4_disk *disk, u64 offset, void *to, u64 size, struct err *err)
{
	if (offset > disk->size || size > disk->size - offset)
		return err_set(err, "it refers to what lies beyond its end");
	return bytes_read(disk->fd, disk->offset + offset, to, size, err);
}

/* What of [offset, offset+size) lies in the overlay's block. */
static int read_replaced(const struct ext4_disk *disk, const struct ext4_block *block, u64 offset, u8 *to, u64 size,
			 struct err *err)
{
	u64 start = block->number * disk->block_size, end = start + disk->block_size;
	u64 from = start > offset ? start : offset, until = end < offset + size ? end : offset + size;

	if (read_raw(disk, block->source * disk->block_size + (from - start), to + (from - offset), until - from, err) <
	    0)
		return -1;
	if (block->escaped)
		for (u64 at = from; at < until && at - start < sizeof(u32); at++)
			to[at - offset] = (u8)(JOURNAL_MAGIC >> (24 - 8 * (at - start)));
	return 0;
}

int ext4_disk_read(const struct ext4_disk *disk, u64 offset, void *to, u64 size, struct err *err)
{
	if (read_raw(disk, offset, to, size, err) < 0)
		return -1;
	if (!ext4_disk_replaced(disk, offset, size))
		return 0;
	for (u32 i = first_from(disk, offset / disk->block_size); i < disk->block_count; i++) {
		if (disk->block[i].number > (offset + size - 1) / disk->block_size)
			break;
		if (read_replaced(disk, &disk->block[i], offset, to, size, err) < 0)
			return -1;
	}
	return 0;
}
