/* ext2, ext3 and ext4 file systems, through libext2fs. */
#ifndef AVANT_IMAGE_EXT4_H
#define AVANT_IMAGE_EXT4_H

#include "image/reader/tree.h"

/*
 * Opens the file system in `size` bytes of fd from `offset` on. A journal that was not written back is replayed in
 * memory; *note says so, in `note_size` bytes, or is empty. NULL with a message in err.
 */
struct tree *ext4_open(int fd, u64 offset, u64 size, char *note, size_t note_size, struct err *err);

#endif
