/*
 * Taking 9P messages apart and putting them together. Integers are little-endian, a string is a 16-bit length and as
 * many bytes. A reader works on a copy of the message: the guest cannot change it any more.
 */
#ifndef AVANT_P9_MESSAGE_H
#define AVANT_P9_MESSAGE_H

#include "util/types.h"

/* Once something was missing, everything that is read is 0 and `bad` stays set: it is looked at after the last field.
 */
struct p9_reader {
	const u8 *at, *end;
	bool bad;
};

u8 p9_get8(struct p9_reader *reader);
u16 p9_get16(struct p9_reader *reader);
u32 p9_get32(struct p9_reader *reader);
u64 p9_get64(struct p9_reader *reader);

/*
 * A string into `to`, with a zero byte behind it. 0; -EINVAL if the message ends before it or it holds a zero byte;
 * -ENAMETOOLONG if it has `size` bytes or more: it is skipped then.
 */
int p9_get_string(struct p9_reader *reader, char *to, u32 size);
void p9_skip_string(struct p9_reader *reader);

/* Everything was there, and nothing was left over: 0 or -EINVAL. */
int p9_get_end(const struct p9_reader *reader);

/* Once there was no room, nothing more is written and `full` stays set. */
struct p9_writer {
	u8 *start, *at, *end;
	bool full;
};

struct p9_qid {
	u8 type;
	u32 version;
	u64 path;
};

void p9_put8(struct p9_writer *writer, u8 value);
void p9_put16(struct p9_writer *writer, u16 value);
void p9_put32(struct p9_writer *writer, u32 value);
void p9_put64(struct p9_writer *writer, u64 value);
void p9_put_string(struct p9_writer *writer, const char *text, u32 length);
void p9_put_qid(struct p9_writer *writer, const struct p9_qid *qid);

static inline u32 p9_written(const struct p9_writer *writer)
{
	return (u32)(writer->at - writer->start);
}

#endif
