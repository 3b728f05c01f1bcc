/*
 * The journal of an ext3 or ext4 file system that was not unmounted (jbd2; Documentation/filesystems/ext4/journal.rst).
 * libext2fs reads past it; what was committed but not yet written to its place would be missing.
 */
#ifndef AVANT_IMAGE_EXT4_JOURNAL_H
#define AVANT_IMAGE_EXT4_JOURNAL_H

#include "image/reader/content.h"
#include "image/reader/ext4_disk.h"

#define JOURNAL_MAGIC 0xc03b3998u

/*
 * Puts the blocks of all finished transactions into the disk's overlay, which is empty so far. `journal`: where the
 * journal's file lies in the file system, in bytes of it. Tells how many transactions there were. Returns 0, or -1 with
 * a message in err and no overlay.
 */
int ext4_journal_replay(struct ext4_disk *disk, u32 block_size, const struct content *journal, u32 *transactions,
			struct err *err);

#endif
