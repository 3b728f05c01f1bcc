#include "p9/message.h"

#include <errno.h>
#include <string.h>

static const u8 *take(struct p9_reader *reader, u32 size)
{
	const u8 *at = reader->at;

	if (reader->bad || (u64)(reader->end - at) < size) {
		reader->bad = true;
		return NULL;
	}
	reader->at += size;
	return at;
}

static u64 get(struct p9_reader *reader, u32 size)
{
	const u8 *at = take(reader, size);
	u64 value = 0;

	if (at)
		memcpy(&value, at, size); /* the host is little-endian, too */
	return value;
}

u8 p9_get8(struct p9_reader *reader)
{
	return (u8)get(reader, 1);
}

u16 p9_get16(struct p9_reader *reader)
{
	return (u16)get(reader, 2);
}

u32 p9_get32(struct p9_reader *reader)
{
	return (u32)get(reader, 4);
}

u64 p9_get64(struct p9_reader *reader)
{
	return get(reader, 8);
}

int p9_get_string(struct p9_reader *reader, char *to, u32 size)
{
	u32 length = p9_get16(reader);
	const u8 *at = take(reader, length);

	to[0] = '\0';
	if (!at || memchr(at, '\0', length)) {
		reader->bad = true;
		return -EINVAL;
	}
	if (length >= size)
		return -ENAMETOOLONG;
	memcpy(to, at, length);
	to[length] = '\0';
	return 0;
}

void p9_skip_string(struct p9_reader *reader)
{
	take(reader, p9_get16(reader));
}

int p9_get_end(const struct p9_reader *reader)
{
	return reader->bad || reader->at != reader->end ? -EINVAL : 0;
}

static void put(struct p9_writer *writer, const void *from, u32 size)
{
	if (writer->full || (u64)(writer->end - writer->at) < size) {
		writer->full = true;
		return;
	}
	memcpy(writer->at, from, size);
	writer->at += size;
}

void p9_put8(struct p9_writer *writer, u8 value)
{
	put(writer, &value, sizeof(value));
}

void p9_put16(struct p9_writer *writer, u16 value)
{
	put(writer, &value, sizeof(value));
}

void p9_put32(struct p9_writer *writer, u32 value)
{
	put(writer, &value, sizeof(value));
}

void p9_put64(struct p9_writer *writer, u64 value)
{
	put(writer, &value, sizeof(value));
}

void p9_put_string(struct p9_writer *writer, const char *text, u32 length)
{
	p9_put16(writer, (u16)length);
	put(writer, text, length);
}

void p9_put_qid(struct p9_writer *writer, const struct p9_qid *qid)
{
	p9_put8(writer, qid->type);
	p9_put32(writer, qid->version);
	p9_put64(writer, qid->path);
}
