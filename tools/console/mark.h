/* When a text first appears on a console. */
#ifndef AVANT_TOOLS_CONSOLE_MARK_H
#define AVANT_TOOLS_CONSOLE_MARK_H

#include "util/err.h"
#include "util/types.h"

#define MARK_MAX 255 /* bytes */

/* Looks for a text in a stream (Knuth, Morris, Pratt): `fallback[n]` is where to go on after n matching bytes. */
struct mark {
	u8 text[MARK_MAX];
	u8 fallback[MARK_MAX + 1];
	u32 length; /* 0: nothing to look for, or found */
	u32 matched;
	u64 found_ns; /* monotonic, 0: not yet */
};

/* 0, or -1 with a message in err: the text is empty or too long. */
int mark_init(struct mark *mark, const char *text, struct err *err);

/* The next byte of the stream. General registers only. */
void mark_feed(struct mark *mark, u8 byte);

#endif
