#include "case.h"

#include <string.h>

#include "random.h"

#define XSTATE_BV 512
#define YMM_HIGH  576

const struct region regions[REGIONS] = {
	{CODE, CODE_PAGES, 0, true, false},
	{DATA, 2, 2, false, false},
	{EDGE, 2, 4, false, true},
	{STACK, 2, 6, false, false},
	{HIGH_CODE, CODE_PAGES, 8, true, false},
	{HIGH_DATA, 2, 10, false, false},
};

static struct image template;

s64 image_offset(u64 address)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		if (address - regions[i].address < regions[i].pages * PAGE_SIZE)
			return (s64)(regions[i].first * PAGE_SIZE + (address - regions[i].address));
	}
	return -1;
}

/* Random bytes, among them small numbers and floating-point values. */
void image_set_template(u64 seed)
{
	struct random r = {seed};

	for (unsigned i = 0; i < BYTES; i += 8) {
		u64 value = random_interesting(&r);

		memcpy(template.bytes + i, &value, 8);
	}
}

static void store(struct image *image, u64 address, const void *from, unsigned length)
{
	for (unsigned i = 0; i < length; i++) {
		s64 at = image_offset(address + i);

		if (at >= 0)
			image->bytes[at] = ((const u8 *)from)[i];
	}
}

void image_prepare(struct image *image, const struct insn_case *c)
{
	*image = template;
	for (unsigned i = 0; i < c->patches; i++)
		store(image, c->patch[i].address, &c->patch[i].value, 8);
	store(image, c->start, c->code, c->length);
}

void vectors_unpack(struct vectors *to, const u8 *area)
{
	u64 present;

	memset(to, 0, sizeof(*to));
	memcpy(&present, area + XSTATE_BV, 8);
	to->fcw = 0x37f;
	memcpy(&to->mxcsr, area + 24, 4);
	if (present & 1) {
		memcpy(&to->fcw, area, 2);
		memcpy(&to->fsw, area + 2, 2);
		to->ftw = area[4];
		for (unsigned i = 0; i < 8; i++)
			memcpy(to->st[i], area + 32 + 16 * i, 10);
	}
	for (unsigned i = 0; i < 16; i++) {
		if (present & 2)
			memcpy(to->ymm[i], area + 160 + 16 * i, 16);
		if (present & 4)
			memcpy(to->ymm[i] + 16, area + YMM_HIGH + 16 * i, 16);
	}
}

void vectors_default(u8 *area)
{
	memset(area, 0, VECTOR_AREA);
	area[0] = 0x7f;
	area[1] = 0x03;
	area[24] = 0x80;
	area[25] = 0x1f;
	area[XSTATE_BV] = 7;
}
