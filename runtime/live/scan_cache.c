#include "live/scan_cache.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_BITS 12 /* 4,096 scans of 3 KiB in the mean: 12 MiB when full */
#define KEY_BYTES 8

/* The scan's items, then the bytes that they were decoded from. */
struct noted {
	u16 offset; /* in the page */
	u16 bytes;
	u16 count;
	struct scan_options options;
	struct scan_item item[];
};

struct scan_cache {
	struct noted *slot[1 << SLOT_BITS];
};

struct scan_cache *scan_cache_create(void)
{
	return calloc(1, sizeof(struct scan_cache));
}

void scan_cache_destroy(struct scan_cache *cache)
{
	if (!cache)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(cache->slot); i++)
		free(cache->slot[i]);
	free(cache);
}

static struct noted **slot_of(struct scan_cache *cache, u64 pc, const u8 *bytes, unsigned length)
{
	u64 key = 0;

	memcpy(&key, bytes, length < KEY_BYTES ? length : KEY_BYTES);
	key = (key ^ PAGE_OFFSET(pc) << 40) * 0x9e3779b97f4a7c15ULL;
	return &cache->slot[key >> (64 - SLOT_BITS)];
}

static const u8 *bytes_of(const struct noted *noted)
{
	return (const u8 *)&noted->item[noted->count];
}

static bool same(const struct scan_options *a, const struct scan_options *b)
{
	return a->calls_end == b->calls_end && a->exact_flags == b->exact_flags && a->max == b->max;
}

bool scan_cache_find(struct scan_cache *cache, struct scan *scan, u64 pc, const u8 *bytes, unsigned length,
		     const struct scan_options *options)
{
	const struct noted *noted = cache ? *slot_of(cache, pc, bytes, length) : NULL;

	/* what follows the scanned bytes decides at most that more could have been scanned */
	if (!noted || noted->offset != PAGE_OFFSET(pc) || noted->bytes > length || !same(&noted->options, options) ||
	    memcmp(bytes_of(noted), bytes, noted->bytes) != 0)
		return false;
	scan->pc = pc;
	scan->count = noted->count;
	scan->bytes = noted->bytes;
	scan->straddles = false;
	memcpy(scan->item, noted->item, noted->count * sizeof(scan->item[0]));
	return true;
}

void scan_cache_note(struct scan_cache *cache, const struct scan *scan, const u8 *bytes,
		     const struct scan_options *options)
{
	u64 items = scan->count * sizeof(scan->item[0]);
	struct noted *noted, **slot;

	if (!cache || scan->straddles)
		return;
	noted = malloc(sizeof(*noted) + items + scan->bytes);
	if (!noted)
		return;
	*noted = (struct noted){.offset = (u16)PAGE_OFFSET(scan->pc),
				.bytes = (u16)scan->bytes,
				.count = (u16)scan->count,
				.options = *options};
	memcpy(noted->item, scan->item, items);
	memcpy(noted->item + scan->count, bytes, scan->bytes);
	slot = slot_of(cache, scan->pc, bytes, scan->bytes);
	free(*slot);
	*slot = noted;
}
