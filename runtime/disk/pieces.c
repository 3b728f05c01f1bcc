#include "disk/pieces.h"

#include <string.h>

unsigned pieces_cut(const struct iovec *from, unsigned count, u64 skip, u64 length, struct iovec *to, unsigned room)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && length && n < room; i++) {
		u64 size = from[i].iov_len;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		size -= skip;
		if (size > length)
			size = length;
		to[n++] = (struct iovec){.iov_base = (u8 *)from[i].iov_base + skip, .iov_len = size};
		length -= size;
		skip = 0;
	}
	return n;
}

/* Copies between bytes [skip, skip+length) of the pieces and `flat`. */
static void walk(const struct iovec *pieces, unsigned count, u64 skip, u8 *flat, u64 length, bool gather)
{
	for (unsigned i = 0; i < count && length; i++) {
		u64 size = pieces[i].iov_len;
		u8 *piece = (u8 *)pieces[i].iov_base + skip;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		size -= skip;
		if (size > length)
			size = length;
		if (gather)
			memcpy(flat, piece, size);
		else
			memcpy(piece, flat, size);
		flat += size;
		length -= size;
		skip = 0;
	}
}

void pieces_gather(const struct iovec *from, unsigned count, u64 skip, u8 *to, u64 length)
{
	walk(from, count, skip, to, length, true);
}

void pieces_scatter(const struct iovec *to, unsigned count, u64 skip, const u8 *from, u64 length)
{
	walk(to, count, skip, (u8 *)(uintptr_t)from, length, false);
}
