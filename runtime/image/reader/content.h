/* Where the bytes of a file lie: in pieces of the image, or, if it holds them in another form, in memory of our own. */
#ifndef AVANT_IMAGE_CONTENT_H
#define AVANT_IMAGE_CONTENT_H

#include "util/err.h"
#include "util/types.h"

#define CONTENT_HOLE UINT64_MAX /* as the offset of a piece: zeros */

struct content_piece {
	u64 offset, length; /* bytes */
};

struct content {
	u64 size; /* bytes */
	int fd;   /* the descriptor that the pieces lie in, the content's own; or -1: the image */
	struct content_piece *piece;
	u32 piece_count;
};

#define CONTENT_INIT                                                                                                   \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}

/* Adds a piece at the end; pieces that follow each other become one. Returns 0, or -1 with a message in err. */
int content_add(struct content *content, u64 offset, u64 length, struct err *err);

/* Makes the content a new, empty file in memory; content_write() appends to it. */
int content_begin_copy(struct content *content, struct err *err);
int content_write(struct content *content, const void *data, u64 length, struct err *err);

/* All bytes, with a NUL behind them; the caller frees them. NULL with a message in err. */
char *content_text(const struct content *content, int image_fd, struct err *err);

void content_release(struct content *content);

#endif
