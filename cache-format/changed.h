/* The bytes of code that are changed when it is copied: a bit for each. */
#ifndef TCACHE_CHANGED_H
#define TCACHE_CHANGED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tcache_disk.h"

struct changed {
	uint64_t bits[TCACHE_MAX_TEMPLATE_CODE / 64];
	uint32_t length; /* of the code */
};

/* Of so much code, at most TCACHE_MAX_TEMPLATE_CODE, no byte is changed so far. */
static inline void changed_begin(struct changed *changed, uint32_t length)
{
	memset(changed->bits, 0, (length + 63) / 64 * sizeof(changed->bits[0]));
	changed->length = length;
}

/* Takes `size` bytes, at most 8, at this offset. False: they are not all code, or taken already. */
static inline bool changed_take(struct changed *changed, uint32_t offset, uint32_t size)
{
	const uint64_t ones = (1ULL << size) - 1;
	const unsigned shift = offset % 64;
	uint64_t *word;

	if (offset >= changed->length || size > changed->length - offset)
		return false;
	word = &changed->bits[offset / 64];
	if (word[0] & ones << shift)
		return false;
	word[0] |= ones << shift;
	if (shift + size <= 64)
		return true;
	if (word[1] & ones >> (64 - shift))
		return false;
	word[1] |= ones >> (64 - shift);
	return true;
}

#endif
