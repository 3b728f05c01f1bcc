/* Parts of scattered buffers. */
#ifndef AVANT_DISK_PIECES_H
#define AVANT_DISK_PIECES_H

#include <sys/uio.h>

#include "util/types.h"

/*
 * The pieces of `from` that hold its bytes [skip, skip+length), into `to`; at most `room` of them, so that the end may
 * be missing. Their number.
 */
unsigned pieces_cut(const struct iovec *from, unsigned count, u64 skip, u64 length, struct iovec *to, unsigned room);

/* Copies of bytes [skip, skip+length), which must be there. */
void pieces_gather(const struct iovec *from, unsigned count, u64 skip, u8 *to, u64 length);
void pieces_scatter(const struct iovec *to, unsigned count, u64 skip, const u8 *from, u64 length);

#endif
