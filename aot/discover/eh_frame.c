/* .eh_frame: where functions start (LSB Core, "Exception Frames"; DWARF 4, section 6.4). */
#include "internal.h"

#define FORMAT(encoding) ((encoding)&0x0f)
#define RELATIVE_TO_PC   0x10
#define APPLICATION      0x70
#define INDIRECT         0x80
#define OMITTED          0xff

struct cursor {
	const u8 *at, *end;
	bool failed;
};

static u64 take(struct cursor *c, unsigned size)
{
	u64 value = 0;

	if ((u64)(c->end - c->at) < size) {
		c->failed = true;
		c->at = c->end;
		return 0;
	}
	memcpy(&value, c->at, size);
	c->at += size;
	return value;
}

/* Numbers of variable length: here only to be passed over, or small. */
static u64 take_leb(struct cursor *c)
{
	u64 value = 0;
	unsigned shift = 0;
	u8 byte;

	do {
		byte = (u8)take(c, 1);
		if (shift < 63)
			value |= (u64)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80 && !c->failed);
	return value;
}

/* A pointer by its format: 8 bytes absolute, or 2, 4, 8 bytes, signed or not. */
static u64 take_pointer(struct cursor *c, u8 encoding)
{
	switch (FORMAT(encoding)) {
	case 0x00:
	case 0x04:
	case 0x0c:
		return take(c, 8);
	case 0x02:
		return take(c, 2);
	case 0x03:
		return take(c, 4);
	case 0x0a:
		return (u64)(s64)(s16)take(c, 2);
	case 0x0b:
		return (u64)(s64)(s32)take(c, 4);
	default:
		c->failed = true;
		return 0;
	}
}

/* How a common entry says that its functions' addresses are written; OMITTED if it cannot be read. */
static u8 pointer_encoding(const u8 *bytes, u64 size)
{
	struct cursor c = {bytes, bytes + size, false};
	u8 version = (u8)take(&c, 1), encoding = 0;
	const char *augmentation = (const char *)c.at;
	const u8 *zero = memchr(c.at, 0, (u64)(c.end - c.at));

	if (!zero || (version != 1 && version != 3))
		return OMITTED;
	c.at = zero + 1;
	if (!augmentation[0])
		return 0;
	if (augmentation[0] != 'z')
		return OMITTED;
	take_leb(&c);
	take_leb(&c);
	if (version == 1)
		take(&c, 1);
	else
		take_leb(&c);
	take_leb(&c);
	for (const char *a = augmentation + 1; *a && !c.failed; a++) {
		if (*a == 'R')
			encoding = (u8)take(&c, 1);
		else if (*a == 'L')
			take(&c, 1);
		else if (*a == 'P')
			take_pointer(&c, (u8)take(&c, 1));
		else if (*a != 'S' && *a != 'B')
			break;
	}
	return c.failed ? OMITTED : encoding;
}

u32 eh_frame_read(const struct image *image, u64 address, u64 size, void (*found)(void *context, u64 start, u64 length),
		  void *context)
{
	const u8 *bytes = image_at(image, address, size);
	u64 known = UINT64_MAX;
	u8 encoding = OMITTED;
	u32 count = 0;

	for (u64 at = 0; bytes && within(at, 8, size);) {
		u64 length = get32(bytes + at), body = at + 4;
		struct cursor c;
		u64 common, start;

		if (length == 0)
			break;
		if (length == 0xffffffff || length < 4 || !within(body, length, size))
			break; /* the 64-bit form is never used on x86-64 */
		at = body + length;
		common = get32(bytes + body);
		if (common == 0 || common > body)
			continue; /* a common entry: looked at when a function names it */
		common = body - common;
		if (common != known) {
			u64 common_length = within(common, 8, size) ? get32(bytes + common) : 0;

			known = common;
			encoding = OMITTED;
			if (common_length > 4 && within(common + 4, common_length, size) &&
			    get32(bytes + common + 4) == 0)
				encoding = pointer_encoding(bytes + common + 8, common_length - 4);
		}
		if (encoding == OMITTED || encoding & INDIRECT)
			continue;
		c = (struct cursor){bytes + body + 4, bytes + at, false};
		start = take_pointer(&c, encoding);
		if ((encoding & APPLICATION) == RELATIVE_TO_PC)
			start += address + body + 4;
		else if ((encoding & APPLICATION) != 0)
			continue;
		length = take_pointer(&c, FORMAT(encoding));
		if (c.failed)
			continue;
		found(context, start, length);
		count++;
	}
	return count;
}
