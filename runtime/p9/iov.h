/* Copying from and to scattered buffers, and parts of them. */
#ifndef AVANT_P9_IOV_H
#define AVANT_P9_IOV_H

#include <sys/uio.h>

#include "util/types.h"

u64 p9_iov_bytes(const struct iovec *iov, unsigned count);

/* Copy `size` bytes, or as many as there are behind byte `offset`; return how many. */
u64 p9_iov_copy_from(const struct iovec *iov, unsigned count, u64 offset, void *to, u64 size);
u64 p9_iov_copy_to(const struct iovec *iov, unsigned count, u64 offset, const void *from, u64 size);

/*
 * Describes bytes [offset, offset + size) of iov in `part`, which has room for `count` pieces; less if iov is shorter.
 * Returns the number of pieces.
 */
unsigned p9_iov_part(const struct iovec *iov, unsigned count, u64 offset, u64 size, struct iovec *part);

#endif
