/*
 * Writes of any sectors where only whole blocks can be written: the rest of the first and of the last block is read
 * first. Writes that touch the same block are done one after the other, so that none brings back what another replaced.
 */
#ifndef AVANT_DISK_BLOCK_WRITER_H
#define AVANT_DISK_BLOCK_WRITER_H

#include "disk/disk.h"

struct block_write;

struct block_writer {
	/* set by the owner */
	struct disk *owner;
	struct disk *from, *to; /* what is missing of a block is read from one disk; blocks are written to the other */
	u32 block;              /* bytes, a power of two */
	/* Is the rest of that block needed, if only a part of it is written? */
	bool (*is_needed)(const struct disk *owner, u64 block);
	/* Blocks [first, end) have been written. May be NULL. */
	void (*written)(struct disk *owner, u64 first, u64 end);
	/* the writer's */
	struct block_write *writes;   /* under way */
	struct disk_request *waiting; /* for these, in the order of their arrival */
	struct disk_request **waiting_last;
	unsigned in_flight; /* all of them */
};

/* The fields of the owner have been set. */
void block_writer_init(struct block_writer *writer);

/* A DISK_WRITE or DISK_WRITE_ZEROES of at least a sector, within the disks. */
void block_writer_submit(struct block_writer *writer, struct disk_request *request);

#endif
