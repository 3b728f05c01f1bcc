/* Archives inside a descriptor, for libarchive to read: opened as often as needed, each time from the beginning. */
#ifndef AVANT_IMAGE_ARCHIVE_SOURCE_H
#define AVANT_IMAGE_ARCHIVE_SOURCE_H

#include "util/err.h"
#include "util/types.h"

struct archive;

#define ARCHIVE_UNPACKED_MOST (64ULL << 30) /* bytes, all files together: beyond it is an archive made to harm */

struct archive_source {
	int fd;
	u64 offset, size; /* bytes, of the archive within fd */
	u64 at;           /* within it: read next */
	u8 buffer[65536];
};

/* NULL with a message in err. */
struct archive *archive_source_open(struct archive_source *source, struct err *err);

/* Compressed, so that what is passed over must be unpacked all the same. */
bool archive_source_packed(struct archive *archive);

#endif
