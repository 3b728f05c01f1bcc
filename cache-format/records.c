/* Records: access within bounds, and what FORMAT.md demands of each kind. */
#include <inttypes.h>
#include <string.h>

#include "internal.h"

uint64_t tcache_record_count(const struct tcache *cache, uint32_t type)
{
	uint32_t chunk = tcache_find(cache, type);

	return chunk == TCACHE_NO_CHUNK ? 0 : cache->toc[chunk].length / cache->toc[chunk].element_size;
}

const void *tcache_records(struct tcache *cache, uint32_t type, uint64_t first, uint64_t count)
{
	/* what an empty range of a missing chunk points to */
	static const uint64_t nothing[16];
	uint32_t chunk = tcache_find(cache, type);
	uint64_t have = tcache_record_count(cache, type);
	uint32_t size;

	if (first > have || count > have - first) {
		tcache_fail(&cache->report, TCACHE_ERR_RANGE,
			    "has no records %" PRIu64 " to %" PRIu64 " in chunk %s (it holds %" PRIu64 ")", first,
			    first + count, tcache_type_name(type).text, have);
		return NULL;
	}
	if (chunk == TCACHE_NO_CHUNK)
		return nothing;
	size = cache->toc[chunk].element_size;
	return tcache_range(cache, chunk, first * size, count * size);
}

const char *tcache_string(struct tcache *cache, uint32_t offset)
{
	uint64_t have = tcache_strings_count(cache);
	uint64_t limit;
	const char *text;

	if (!offset)
		return "";
	if (offset >= have) {
		tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no string at %u", offset);
		return NULL;
	}
	limit = have - offset < TCACHE_MAX_STRING + 1 ? have - offset : TCACHE_MAX_STRING + 1;
	text = tcache_strings(cache, offset, limit);
	if (text && !memchr(text, 0, limit)) {
		FAIL_RECORD(cache, "string at %u does not end", offset);
		return NULL;
	}
	return text;
}

/* ---- images ---- */

static enum tcache_status check_image(struct tcache *cache, const struct tcache_image *image, uint64_t number)
{
	const struct tcache_toc_entry *entry = image->data ? tcache_toc(cache, image->data - 1) : NULL;

	if (!image->kind || image->kind >= TCACHE_IMAGE_KINDS)
		return FAIL_RECORD(cache, "image %" PRIu64 " is of unknown kind %u", number, image->kind);
	if (image->reserved0 || image->reserved1)
		return FAIL_RECORD(cache, "reserved fields of image %" PRIu64 " are not zero", number);
	if (image->data && (!entry || entry->type != TCACHE_TYPE_kernel || !tcache_understood(entry) ||
			    entry->length != image->data_size))
		return FAIL_RECORD(cache, "unpacked bytes of image %" PRIu64 " are not where it says", number);
	if (!image->data && image->data_size)
		return FAIL_RECORD(cache, "unpacked bytes of image %" PRIu64 " are missing", number);
	if (!tcache_string(cache, image->name))
		return cache->last;
	return TCACHE_OK;
}

enum tcache_status tcache_unpacked(struct tcache *cache, const uint8_t digest[TCACHE_DIGEST_SIZE], const void **data,
				   uint64_t *length)
{
	uint64_t count = tcache_images_count(cache);
	const struct tcache_image *images = tcache_images(cache, 0, count);

	*data = NULL;
	*length = 0;
	if (!images)
		return cache->last;
	for (uint64_t i = 0; i < count; i++) {
		enum tcache_status status;

		if (!images[i].data || memcmp(images[i].digest, digest, TCACHE_DIGEST_SIZE))
			continue;
		status = check_image(cache, &images[i], i);
		if (status)
			return status;
		*data = tcache_chunk(cache, images[i].data - 1, length);
		return *data ? TCACHE_OK : cache->last;
	}
	return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "holds nothing unpacked from this image");
}

/* ---- everything ---- */

static enum tcache_status check_images(struct tcache *cache)
{
	uint64_t count = tcache_images_count(cache);
	const struct tcache_image *images = tcache_images(cache, 0, count);
	enum tcache_status status = images ? TCACHE_OK : cache->last;

	for (uint64_t i = 0; !status && i < count; i++)
		status = check_image(cache, &images[i], i);
	return status;
}

static enum tcache_status check_verdicts(struct tcache *cache)
{
	uint64_t count = tcache_verdicts_count(cache);
	const struct tcache_verdict *v = tcache_verdicts(cache, 0, count);

	if (!v)
		return cache->last;
	for (uint64_t i = 0; i < count; i++) {
		if ((v[i].flags & ~TCACHE_VERDICT_FLAGS) || v[i].reserved || v[i].image >= tcache_images_count(cache))
			return FAIL_RECORD(cache, "page verdict %" PRIu64 " has wrong fields", i);
		if (i && (v[i].image < v[i - 1].image || (v[i].image == v[i - 1].image && v[i].page <= v[i - 1].page)))
			return FAIL_RECORD(cache, "page verdict %" PRIu64 " is out of order, or there twice", i);
	}
	return TCACHE_OK;
}

static int compare_profile(const struct tcache_profile *a, const struct tcache_profile *b)
{
	COMPARE(a->pc, b->pc);
	COMPARE(a->mode, b->mode);
	COMPARE(a->hash[1], b->hash[1]);
	COMPARE(a->hash[0], b->hash[0]);
	return 0;
}

static enum tcache_status check_profile(struct tcache *cache)
{
	uint64_t count = tcache_profile_count(cache);
	const struct tcache_profile *p = tcache_profile(cache, 0, count);

	if (!p)
		return cache->last;
	for (uint64_t i = 0; i < count; i++) {
		if (p[i].reserved)
			return FAIL_RECORD(cache, "profile record %" PRIu64 " has reserved fields in use", i);
		if (i && compare_profile(&p[i - 1], &p[i]) >= 0)
			return FAIL_RECORD(cache, "profile record %" PRIu64 " is out of order, or there twice", i);
	}
	return TCACHE_OK;
}

static enum tcache_status check_executed(struct tcache *cache)
{
	uint64_t count = tcache_executed_count(cache), pages = tcache_recorded_pages_count(cache);
	const struct tcache_executed *e = tcache_executed(cache, 0, count);

	if (!e)
		return cache->last;
	for (uint64_t i = 0; i < count; i++) {
		if (!e[i].guest_length || e[i].guest_length > TCACHE_MAX_GUEST_LENGTH)
			return FAIL_RECORD(cache, "executed code %" PRIu64 " has %u bytes", i, e[i].guest_length);
		if (e[i].page > pages)
			return FAIL_RECORD(cache, "executed code %" PRIu64 " was in page %u, which does not exist", i,
					   e[i].page - 1);
		if (!tcache_guest(cache, e[i].bytes_first, e[i].guest_length) ||
		    !tcache_counts(cache, e[i].count_first, e[i].count_count))
			return cache->last;
	}
	return TCACHE_OK;
}

static enum tcache_status check_strings(struct tcache *cache)
{
	uint64_t count = tcache_strings_count(cache);
	const char *strings = tcache_strings(cache, 0, count);

	if (!strings)
		return cache->last;
	if (count && (strings[0] || strings[count - 1]))
		return FAIL_RECORD(cache, "strings do not begin and end with a zero byte");
	return TCACHE_OK;
}

enum tcache_status tcache_verify_all(struct tcache *cache)
{
	static enum tcache_status (*const checks[])(struct tcache * cache) = {
		check_strings,      check_images,           tcache_check_placement,
		tcache_check_units, tcache_check_templates, tcache_check_modules,
		check_verdicts,     check_profile,          check_executed,
	};
	enum tcache_status status = TCACHE_OK;

	for (uint32_t i = 0; !status && i < cache->header->chunk_count; i++)
		status = tcache_verify_range(cache, i, 0, cache->toc[i].length);
	for (size_t i = 0; !status && i < sizeof(checks) / sizeof(checks[0]); i++)
		status = checks[i](cache);
	return status;
}
