/* Chunks: finding them, checking their page groups. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

uint32_t tcache_chunk_count(const struct tcache *cache)
{
	return cache->header->chunk_count;
}

const struct tcache_toc_entry *tcache_toc(const struct tcache *cache, uint32_t chunk)
{
	return chunk < cache->header->chunk_count ? &cache->toc[chunk] : NULL;
}

uint32_t tcache_find(const struct tcache *cache, uint32_t type)
{
	uint32_t number = tcache_kind_number(type);

	return number < tcache_kind_count ? cache->found[number] : TCACHE_NO_CHUNK;
}

bool tcache_find_all(struct tcache *cache)
{
	cache->found = malloc(tcache_kind_count * sizeof(*cache->found));
	if (!cache->found)
		return false;
	for (uint32_t n = 0; n < tcache_kind_count; n++)
		cache->found[n] = TCACHE_NO_CHUNK;
	for (uint32_t i = cache->header->chunk_count; i-- > 0;)
		if (tcache_understood(&cache->toc[i]))
			cache->found[tcache_kind_number(cache->toc[i].type)] = i;
	return true;
}

/* Group n of a chunk; its bytes reach to the end of the last page, beyond the chunk's length. */
static enum tcache_status verify_group(struct tcache *cache, const struct tcache_toc_entry *entry, uint64_t n)
{
	const uint8_t *chunk = cache->map + entry->offset;
	uint64_t padded = pages_up(entry->length);
	uint64_t start = n * TCACHE_GROUP;
	uint64_t size = padded - start < TCACHE_GROUP ? padded - start : TCACHE_GROUP;
	uint64_t number = entry->first_group + n;
	uint8_t digest[TCACHE_DIGEST_SIZE];

	if (cache->verified[number / 8] >> number % 8 & 1)
		return TCACHE_OK;
	tcache_group_digest(cache->header->group_digest, chunk + start, size, digest);
	if (memcmp(digest, cache->groups[number].digest, sizeof(digest)))
		return tcache_fail(&cache->report, TCACHE_ERR_DIGEST,
				   "chunk %s is damaged at file offset %" PRIu64 " … %" PRIu64 " (digest mismatch)",
				   tcache_type_name(entry->type).text, entry->offset + start,
				   entry->offset + start + size - 1);
	if (start + size == padded && !tcache_zero(chunk + entry->length, padded - entry->length))
		return tcache_fail(&cache->report, TCACHE_ERR_RECORD, "bytes after chunk %s are not zero",
				   tcache_type_name(entry->type).text);
	cache->verified[number / 8] |= (uint8_t)(1u << number % 8);
	return TCACHE_OK;
}

enum tcache_status tcache_verify_range(struct tcache *cache, uint32_t chunk, uint64_t offset, uint64_t length)
{
	const struct tcache_toc_entry *entry = tcache_toc(cache, chunk);

	if (!entry)
		return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no chunk %u", chunk);
	if (offset > entry->length || length > entry->length - offset)
		return tcache_fail(&cache->report, TCACHE_ERR_RANGE,
				   "chunk %s has no bytes %" PRIu64 " to %" PRIu64 " (its length is %" PRIu64 ")",
				   tcache_type_name(entry->type).text, offset, offset + length, entry->length);
	if (!length)
		return TCACHE_OK;
	tcache_join_ahead(cache, chunk);
	for (uint64_t n = offset / TCACHE_GROUP; n <= (offset + length - 1) / TCACHE_GROUP; n++) {
		enum tcache_status status = verify_group(cache, entry, n);

		if (status)
			return status;
	}
	return TCACHE_OK;
}

const void *tcache_range(struct tcache *cache, uint32_t chunk, uint64_t offset, uint64_t length)
{
	if (tcache_verify_range(cache, chunk, offset, length))
		return NULL;
	return cache->map + cache->toc[chunk].offset + offset;
}

const void *tcache_chunk(struct tcache *cache, uint32_t chunk, uint64_t *length)
{
	const struct tcache_toc_entry *entry = tcache_toc(cache, chunk);

	*length = entry ? entry->length : 0;
	return tcache_range(cache, chunk, 0, *length);
}

void tcache_forget(struct tcache *cache, uint32_t chunk)
{
	const struct tcache_toc_entry *entry = tcache_toc(cache, chunk);

	tcache_stop_ahead(cache, chunk);
	if (entry && entry->length)
		madvise((void *)(cache->map + entry->offset), pages_up(entry->length), MADV_DONTNEED);
}
