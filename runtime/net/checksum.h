/* The Internet checksum (RFC 1071): sums of 16-bit words in one's complement, in the byte order of the data. */
#ifndef AVANT_NET_CHECKSUM_H
#define AVANT_NET_CHECKSUM_H

#include "util/types.h"

/*
 * Adds `size` bytes to a sum that was begun with 0, or with what an earlier call returned. All calls but the last need
 * an even size.
 */
u64 checksum_add(u64 sum, const void *data, size_t size);

/* The sum's 16 bits, neither complemented nor swapped. */
u16 checksum_fold(u64 sum);

/* What is stored in a header: the complement, and never 0, which means "none" in UDP (RFC 768). */
u16 checksum_finish(u64 sum);

/* `checksum` of a header after one of its 16-bit words, at an even offset, changed (RFC 1624). */
u16 checksum_update(u16 checksum, u16 from, u16 to);

#endif
