/*
 * The bytes of a file wherever they lie: a file of the host's, the pieces of one inside a disk image, or several one
 * after the other (an initramfs may consist of parts).
 */
#ifndef AVANT_BOOT_BLOB_H
#define AVANT_BOOT_BLOB_H

#include "util/err.h"
#include "util/types.h"

#define BLOB_HOLE (-1) /* instead of a descriptor: zeros */

struct blob_piece {
	int fd;
	u64 offset, length; /* bytes */
};

struct blob {
	char *name; /* for messages */
	u64 size;   /* bytes: the sum of the pieces */
	struct blob_piece *piece;
	u32 piece_count;
	int *fd; /* closed by blob_release(); pieces may also refer to descriptors of others */
	u32 fd_count;
};

/* An empty blob. All functions that return int return 0, or -1 with a message in err. */
int blob_init(struct blob *blob, const char *name, struct err *err);

/* A regular file. `what` names its role in messages ("kernel"). On failure there is nothing to release. */
int blob_open(struct blob *blob, const char *path, const char *what, struct err *err);

/* Adds a piece at the end. The descriptor must stay open as long as the blob. */
int blob_add(struct blob *blob, int fd, u64 offset, u64 length, struct err *err);

/* The blob closes fd from now on; if this fails, it stays the caller's. */
int blob_own(struct blob *blob, int fd, struct err *err);

/* Moves the other's bytes to the end, after zeros up to a multiple of `align`. The other is empty afterwards. */
int blob_append(struct blob *blob, struct blob *other, u64 align, struct err *err);

/* Reads [offset, offset+size), which must lie within. */
int blob_read(const struct blob *blob, u64 offset, void *to, u64 size, struct err *err);

/* All bytes, for reading; undone with munmap(data, size). Mapped where the pieces allow it, else copied. */
const u8 *blob_map(const struct blob *blob, struct err *err);

void blob_release(struct blob *blob);

#endif
