#include "image/reader/ext4_journal.h"

#include <endian.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>

enum block_type { DESCRIPTOR = 1, COMMIT = 2, SUPERBLOCK_V1 = 3, SUPERBLOCK_V2 = 4, REVOKE = 5 };

enum incompat {
	INCOMPAT_REVOKE = 1,
	INCOMPAT_64BIT = 2,
	INCOMPAT_ASYNC = 4,
	INCOMPAT_CSUM_V2 = 8,
	INCOMPAT_CSUM_V3 = 16,
	INCOMPAT_FAST_COMMIT = 32
};
#define INCOMPAT_KNOWN                                                                                                 \
	(INCOMPAT_REVOKE | INCOMPAT_64BIT | INCOMPAT_ASYNC | INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3 | INCOMPAT_FAST_COMMIT)

enum tag_flag { TAG_ESCAPED = 1, TAG_SAME_UUID = 2, TAG_DELETED = 4, TAG_LAST = 8 };

/* All numbers of a journal are big-endian. */
struct header {
	u32 magic, type, sequence;
};

struct superblock {
	struct header header;
	u32 block_size, length, first; /* blocks; the first that is part of the ring */
	u32 sequence, start;           /* of the oldest transaction; 0: nothing to replay */
	u32 error;
	u32 compat, incompat, ro_compat;
	u8 uuid[16];
	u32 users, dynamic_super, max_transaction, max_data;
	u8 checksum_type, padding[3];
	u32 fast_commit_blocks, head;
	u32 reserved[40];
	u32 checksum;
};

struct tail {
	u32 checksum;
};

#define CHECKSUM_IN_COMMIT 16u /* offset of the checksum in a commit block */

/* A block that a transaction has, or that one has revoked: not to be replayed from it or any older one. */
struct record {
	u64 number, source;
	u32 sequence;
	bool escaped, revoked;
};

struct log {
	const struct ext4_disk *disk;
	const struct content *journal;
	u32 block_size, first, end; /* the ring's blocks: [first, end) */
	u32 incompat;
	u32 seed;   /* of checksums */
	u32 walked; /* blocks so far: the ring is gone round once at most */
	struct record *record;
	u32 record_count, record_room;
	u32 committed; /* records of finished transactions */
	u8 *block;     /* one block */
};

static u32 be32(const void *at)
{
	u32 value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static u16 be16(const void *at)
{
	u16 value;

	memcpy(&value, at, sizeof(value));
	return be16toh(value);
}

/* Where the journal's block lies in the file system, as a block number. */
static int locate(const struct log *log, u32 number, u64 *found, struct err *err)
{
	u64 offset = (u64)number * log->block_size, at = 0;

	for (u32 i = 0; i < log->journal->piece_count; i++) {
		const struct content_piece *piece = &log->journal->piece[i];

		if (offset < at + piece->length && piece->offset != CONTENT_HOLE) {
			*found = (piece->offset + (offset - at)) / log->block_size;
			return 0;
		}
		at += piece->length;
	}
	return err_set(err, "its journal ends early");
}

static int read_block(const struct log *log, u32 number, struct err *err)
{
	u64 at = 0;

	if (locate(log, number, &at, err) < 0)
		return -1;
	return ext4_disk_read(log->disk, at * log->block_size, log->block, log->block_size, err);
}

static bool has_checksums(const struct log *log)
{
	return log->incompat & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3);
}

/* The block's checksum, which lies at `at` in it, is right, or there are none. */
static bool checksum_ok(const struct log *log, u32 at)
{
	static const u8 zeros[sizeof(u32)];
	u32 sum;

	if (!has_checksums(log))
		return true;
	sum = ext2fs_crc32c_le(log->seed, log->block, at);
	sum = ext2fs_crc32c_le(sum, zeros, sizeof(zeros));
	sum = ext2fs_crc32c_le(sum, log->block + at + sizeof(u32), log->block_size - at - sizeof(u32));
	return sum == be32(log->block + at);
}

static bool tail_ok(const struct log *log)
{
	return checksum_ok(log, log->block_size - (u32)sizeof(struct tail));
}

static u32 tag_size(const struct log *log)
{
	u32 size = 12;

	if (log->incompat & INCOMPAT_CSUM_V3)
		return 16;
	if (log->incompat & INCOMPAT_CSUM_V2)
		size += 2;
	return log->incompat & INCOMPAT_64BIT ? size : size - 4;
}

static int add_record(struct log *log, const struct record *record, struct err *err)
{
	if (log->record_count == log->record_room) {
		u32 room = log->record_room ? log->record_room * 2 : 256;
		struct record *grown = realloc(log->record, (u64)room * sizeof(*grown));

		if (!grown)
			return err_set(err, "not enough memory for its journal");
		log->record = grown;
		log->record_room = room;
	}
	log->record[log->record_count++] = *record;
	return 0;
}

static u32 next_block(struct log *log, u32 number)
{
	log->walked++;
	return number + 1 == log->end ? log->first : number + 1;
}

static bool gone_round(const struct log *log)
{
	return log->walked >= log->end - log->first;
}

/* A descriptor block, which is in log->block: its tags stand for the data blocks behind it. *at: behind these. */
static int read_descriptor(struct log *log, u32 sequence, u32 *at, struct err *err)
{
	u32 size = tag_size(log),
	    tags = has_checksums(log) ? log->block_size - (u32)sizeof(struct tail) : log->block_size;

	for (u32 offset = sizeof(struct header); offset + size <= tags && !gone_round(log);) {
		const u8 *tag = log->block + offset;
		u32 flags = log->incompat & INCOMPAT_CSUM_V3 ? be32(tag + 4) : be16(tag + 6);
		struct record record = {.number = be32(tag), .sequence = sequence, .escaped = flags & TAG_ESCAPED};

		if (log->incompat & INCOMPAT_64BIT)
			record.number |= (u64)be32(tag + 8) << 32;
		if (locate(log, *at, &record.source, err) < 0)
			return -1;
		if (!(flags & TAG_DELETED) && add_record(log, &record, err) < 0)
			return -1;
		*at = next_block(log, *at);
		if (flags & TAG_LAST)
			break;
		offset += size + (flags & TAG_SAME_UUID ? 0 : 16);
	}
	return 0;
}

static int read_revokes(struct log *log, u32 sequence, struct err *err)
{
	u32 size = log->incompat & INCOMPAT_64BIT ? 8 : 4, used = be32(log->block + sizeof(struct header));

	if (used > log->block_size)
		return err_set(err, "its journal is damaged");
	for (u32 offset = sizeof(struct header) + 4; offset + size <= used; offset += size) {
		struct record record = {.number = be32(log->block + offset), .sequence = sequence, .revoked = true};

		if (size == 8)
			record.number = record.number << 32 | be32(log->block + offset + 4);
		if (add_record(log, &record, err) < 0)
			return -1;
	}
	return 0;
}

/*
 * Follows the transactions as long as there are finished ones. The log ends where a block does not continue it: it was
 * never written, or is left over from an earlier round. Reading errors are errors.
 */
static int scan(struct log *log, u32 start, u32 sequence, u32 *transactions, struct err *err)
{
	for (u32 at = start; !gone_round(log);) {
		if (read_block(log, at, err) < 0)
			return -1;
		if (be32(log->block) != JOURNAL_MAGIC || be32(log->block + 8) != sequence)
			return 0;
		at = next_block(log, at);
		switch (be32(log->block + 4)) {
		case DESCRIPTOR:
			if (!tail_ok(log))
				return 0;
			if (read_descriptor(log, sequence, &at, err) < 0)
				return -1;
			break;
		case REVOKE:
			if (!tail_ok(log))
				return 0;
			if (read_revokes(log, sequence, err) < 0)
				return -1;
			break;
		case COMMIT:
			if (!checksum_ok(log, CHECKSUM_IN_COMMIT))
				return 0;
			log->committed = log->record_count;
			sequence++;
			(*transactions)++;
			break;
		default:
			return 0;
		}
	}
	return 0;
}

/* By number; of one number the newest first, a revocation before the block of the same transaction. */
static int compare(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	if (x->sequence != y->sequence)
		return (s32)(x->sequence - y->sequence) > 0 ? -1 : 1;
	if (x->revoked != y->revoked)
		return x->revoked ? -1 : 1;
	return x->source > y->source ? -1 : x->source < y->source; /* not in one transaction; any order will do */
}

static int make_overlay(struct log *log, struct ext4_disk *disk, struct err *err)
{
	u32 count = 0;

	if (!log->committed)
		return 0;
	qsort(log->record, log->committed, sizeof(*log->record), compare);
	disk->block = malloc((u64)log->committed * sizeof(*disk->block));
	if (!disk->block)
		return err_set(err, "not enough memory for its journal");
	for (u32 i = 0; i < log->committed; i++) {
		const struct record *record = &log->record[i];

		if (i && record[-1].number == record->number)
			continue;
		if (record->revoked || record->number >= disk->size / log->block_size)
			continue;
		disk->block[count++] = (struct ext4_block){record->number, record->source, record->escaped};
	}
	disk->block_size = log->block_size;
	disk->block_count = count;
	return 0;
}

static int read_superblock(struct log *log, u32 *start, u32 *sequence, struct err *err)
{
	struct superblock super;

	if (read_block(log, 0, err) < 0)
		return -1;
	memcpy(&super, log->block, sizeof(super));
	if (be32toh(super.header.magic) != JOURNAL_MAGIC ||
	    (be32toh(super.header.type) != SUPERBLOCK_V1 && be32toh(super.header.type) != SUPERBLOCK_V2) ||
	    be32toh(super.block_size) != log->block_size)
		return err_set(err, "its journal is damaged");
	if (be32toh(super.header.type) == SUPERBLOCK_V2)
		log->incompat = be32toh(super.incompat);
	if (log->incompat & ~(u32)INCOMPAT_KNOWN)
		return err_set(err, "its journal has features that are not supported (0x%x)",
			       log->incompat & ~(u32)INCOMPAT_KNOWN);
	log->first = be32toh(super.first);
	log->end = be32toh(super.length);
	if (log->incompat & INCOMPAT_FAST_COMMIT) {
		u32 fast = be32toh(super.fast_commit_blocks);

		log->end -= fast && fast < log->end ? fast : log->end > 256 ? 256 : 0;
	}
	*start = be32toh(super.start);
	*sequence = be32toh(super.sequence);
	if (log->end > log->journal->size / log->block_size || log->first >= log->end ||
	    (*start && (*start < log->first || *start >= log->end)))
		return err_set(err, "its journal is damaged");
	log->seed = ext2fs_crc32c_le(~0U, super.uuid, sizeof(super.uuid));
	return 0;
}

int ext4_journal_replay(struct ext4_disk *disk, u32 block_size, const struct content *journal, u32 *transactions,
			struct err *err)
{
	struct log log = {.disk = disk, .journal = journal, .block_size = block_size, .block = malloc(block_size)};
	u32 start = 0, sequence = 0;
	int result = -1;

	*transactions = 0;
	if (block_size < sizeof(struct superblock))
		err_set(err, "its blocks are too small");
	else if (!log.block)
		err_set(err, "not enough memory for its journal");
	else if (read_superblock(&log, &start, &sequence, err) == 0)
		result = start ? scan(&log, start, sequence, transactions, err) : 0;
	if (result == 0)
		result = make_overlay(&log, disk, err);
	free(log.record);
	free(log.block);
	return result;
}
