/* Archives, through libarchive: tar, cpio (an initramfs of several parts as well), zip, 7-Zip, ISO 9660, compressed or
 * not. */
#ifndef AVANT_IMAGE_ARCHIVE_H
#define AVANT_IMAGE_ARCHIVE_H

#include "image/reader/tree.h"

/*
 * Reads the names in the archive of `size` bytes from `offset` on. *format: what kind it is. *note: what was refused or
 * could not be read, or empty. NULL with a message in err; *unknown: because it is no archive.
 */
struct tree *archive_open(int fd, u64 offset, u64 size, char *format, size_t format_size, char *note, size_t note_size,
			  bool *unknown, struct err *err);

#endif
