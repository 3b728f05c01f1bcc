/*
 * Messages between the process that reads images and its client: numbers and texts one after the other, in one bounded
 * buffer. Either side takes the other for hostile or broken: reading never leaves the buffer, and what does not fit
 * makes the whole message `bad`, which is looked at once at the end.
 */
#ifndef AVANT_IMAGE_WIRE_H
#define AVANT_IMAGE_WIRE_H

#include "util/types.h"

struct wire {
	u8 *data;
	u32 size; /* bytes of data: room while writing, the message while reading */
	u32 at;   /* written or read so far */
	bool bad;
};

void wire_put_u32(struct wire *wire, u32 value);
void wire_put_u64(struct wire *wire, u64 value);
void wire_put_text(struct wire *wire, const char *text);

/* Zero, or an empty text, once the message is bad. Texts lie in the message and end with a NUL. */
u32 wire_get_u32(struct wire *wire);
u64 wire_get_u64(struct wire *wire);
const char *wire_get_text(struct wire *wire);

/* Nothing is left and nothing was wrong. */
bool wire_done(const struct wire *wire);

#endif
