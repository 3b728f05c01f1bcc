#include "image/wire.h"

#include <string.h>

/* `length` bytes at the current place, or NULL. */
static u8 *take(struct wire *wire, u64 length)
{
	u8 *at = wire->data + wire->at;

	if (wire->bad || length > wire->size - wire->at) {
		wire->bad = true;
		return NULL;
	}
	wire->at += (u32)length;
	return at;
}

static void put(struct wire *wire, const void *from, u64 length)
{
	u8 *to = take(wire, length);

	if (to)
		memcpy(to, from, length);
}

void wire_put_u32(struct wire *wire, u32 value)
{
	put(wire, &value, sizeof(value));
}

void wire_put_u64(struct wire *wire, u64 value)
{
	put(wire, &value, sizeof(value));
}

void wire_put_text(struct wire *wire, const char *text)
{
	size_t length = strlen(text);

	if (length > wire->size) {
		wire->bad = true;
		return;
	}
	wire_put_u32(wire, (u32)length);
	put(wire, text, length + 1);
}

u32 wire_get_u32(struct wire *wire)
{
	const u8 *from = take(wire, sizeof(u32));
	u32 value = 0;

	if (from)
		memcpy(&value, from, sizeof(value));
	return value;
}

u64 wire_get_u64(struct wire *wire)
{
	const u8 *from = take(wire, sizeof(u64));
	u64 value = 0;

	if (from)
		memcpy(&value, from, sizeof(value));
	return value;
}

const char *wire_get_text(struct wire *wire)
{
	u32 length = wire_get_u32(wire);
	const char *text = (const char *)take(wire, length + 1ULL);

	if (text && !text[length] && strlen(text) == length)
		return text;
	wire->bad = true;
	return "";
}

bool wire_done(const struct wire *wire)
{
	return !wire->bad && wire->at == wire->size;
}
