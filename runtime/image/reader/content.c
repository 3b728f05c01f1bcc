#include "image/reader/content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/reader/bytes.h"

int content_add(struct content *content, u64 offset, u64 length, struct err *err)
{
	struct content_piece *last = content->piece_count ? &content->piece[content->piece_count - 1] : NULL, *grown;
	bool hole = offset == CONTENT_HOLE;

	if (!length)
		return 0;
	content->size += length;
	if (last && (hole ? last->offset == CONTENT_HOLE
			  : last->offset != CONTENT_HOLE && last->offset + last->length == offset)) {
		last->length += length;
		return 0;
	}
	/* doubled whenever the count is a power of two */
	if (!(content->piece_count & (content->piece_count - 1))) {
		u64 room = content->piece_count ? content->piece_count * 2ULL : 1;

		grown = realloc(content->piece, room * sizeof(*grown));
		if (!grown)
			return err_set(err, "not enough memory");
		content->piece = grown;
	}
	content->piece[content->piece_count++] = (struct content_piece){offset, length};
	return 0;
}

int content_begin_copy(struct content *content, struct err *err)
{
	*content = (struct content){.fd = memfd_create("file", MFD_CLOEXEC)};
	return content->fd < 0 ? err_set(err, "not enough memory: %s", strerror(errno)) : 0;
}

int content_write(struct content *content, const void *data, u64 length, struct err *err)
{
	for (u64 done = 0; done < length;) {
		ssize_t n = write(content->fd, (const u8 *)data + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, "not enough memory for the file: %s", strerror(n < 0 ? errno : ENOSPC));
		done += (u64)n;
	}
	return content_add(content, content->size, length, err);
}

char *content_text(const struct content *content, int image_fd, struct err *err)
{
	char *text = malloc(content->size + 1);
	u64 at = 0;

	if (!text) {
		err_set(err, "not enough memory");
		return NULL;
	}
	for (u32 i = 0; i < content->piece_count; at += content->piece[i++].length) {
		const struct content_piece *piece = &content->piece[i];

		if (piece->offset == CONTENT_HOLE) {
			memset(text + at, 0, piece->length);
		} else if (bytes_read(content->fd < 0 ? image_fd : content->fd, piece->offset, text + at, piece->length,
				      err) < 0) {
			free(text);
			return NULL;
		}
	}
	text[at] = '\0';
	return text;
}

void content_release(struct content *content)
{
	if (content->fd >= 0)
		close(content->fd);
	free(content->piece);
	*content = (struct content){.fd = -1};
}
