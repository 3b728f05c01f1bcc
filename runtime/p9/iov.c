#include "p9/iov.h"

#include <string.h>

u64 p9_iov_bytes(const struct iovec *iov, unsigned count)
{
	u64 bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* The part of a piece behind `*offset`, at most `size` bytes; *offset is what is to be skipped after it. */
static struct iovec clip(const struct iovec *piece, u64 *offset, u64 size)
{
	struct iovec part = {0};

	if (*offset >= piece->iov_len) {
		*offset -= piece->iov_len;
		return part;
	}
	part.iov_base = (u8 *)piece->iov_base + *offset;
	part.iov_len = piece->iov_len - *offset;
	if (part.iov_len > size)
		part.iov_len = size;
	*offset = 0;
	return part;
}

u64 p9_iov_copy_from(const struct iovec *iov, unsigned count, u64 offset, void *to, u64 size)
{
	u64 done = 0;

	for (unsigned i = 0; i < count && done < size; i++) {
		struct iovec part = clip(&iov[i], &offset, size - done);

		if (part.iov_len)
			memcpy((u8 *)to + done, part.iov_base, part.iov_len);
		done += part.iov_len;
	}
	return done;
}

u64 p9_iov_copy_to(const struct iovec *iov, unsigned count, u64 offset, const void *from, u64 size)
{
	u64 done = 0;

	for (unsigned i = 0; i < count && done < size; i++) {
		struct iovec part = clip(&iov[i], &offset, size - done);

		if (part.iov_len)
			memcpy(part.iov_base, (const u8 *)from + done, part.iov_len);
		done += part.iov_len;
	}
	return done;
}

unsigned p9_iov_part(const struct iovec *iov, unsigned count, u64 offset, u64 size, struct iovec *part)
{
	unsigned pieces = 0;

	for (unsigned i = 0; i < count && size; i++) {
		struct iovec piece = clip(&iov[i], &offset, size);

		if (!piece.iov_len)
			continue;
		part[pieces++] = piece;
		size -= piece.iov_len;
	}
	return pieces;
}
