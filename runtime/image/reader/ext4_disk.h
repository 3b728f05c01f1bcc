/*
 * The bytes of a file system as they are after its journal was replayed: those of the image, and over them the blocks
 * of finished transactions. Nothing is written.
 */
#ifndef AVANT_IMAGE_EXT4_DISK_H
#define AVANT_IMAGE_EXT4_DISK_H

#include "util/err.h"
#include "util/types.h"

struct ext4_block {
	u64 number;   /* in the file system */
	u64 source;   /* block of the journal that has its contents, by its number in the file system */
	bool escaped; /* its first 4 bytes were replaced by zeros: they are the journal's magic number */
};

struct ext4_disk {
	int fd;
	u64 offset, size;         /* bytes, of the file system within fd */
	u32 block_size;           /* bytes; counts once there are blocks below */
	struct ext4_block *block; /* by number */
	u32 block_count;
};

/* Reads bytes of the file system. 0, or -1 with a message in err. */
int ext4_disk_read(const struct ext4_disk *disk, u64 offset, void *to, u64 size, struct err *err);

/* Whether any of the bytes come from the journal. */
bool ext4_disk_replaced(const struct ext4_disk *disk, u64 offset, u64 size);

#endif
