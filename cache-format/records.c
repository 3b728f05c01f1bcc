/* Records: access within bounds, and what FORMAT.md demands of each kind. */
#include <inttypes.h>
#include <string.h>

#include "internal.h"

#define FAIL_RECORD(cache, ...) tcache_fail(&(cache)->report, TCACHE_ERR_RECORD, __VA_ARGS__)

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

/* ---- units ---- */

#define COMPARE(a, b)                                                                                                  \
	do {                                                                                                           \
		if ((a) != (b))                                                                                        \
			return (a) < (b) ? -1 : 1;                                                                     \
	} while (0)

int tcache_unit_compare(const void *a, const void *b)
{
	const struct tcache_unit *x = a, *y = b;
	int first = memcmp(x->first, y->first, sizeof(x->first));

	COMPARE(x->page_offset, y->page_offset);
	COMPARE(first, 0);
	COMPARE(x->hash[1], y->hash[1]);
	COMPARE(x->hash[0], y->hash[0]);
	COMPARE(x->mode, y->mode);
	return 0;
}

static enum tcache_status check_unit(struct tcache *cache, const struct tcache_unit *u, uint32_t number)
{
	uint32_t engine = u->flags & (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED);

	if ((u->flags & ~TCACHE_UNIT_FLAGS) || !engine || engine == (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED))
		return FAIL_RECORD(cache, "unit %u has the flags 0x%x", number, u->flags);
	if (!u->guest_length || u->guest_length > TCACHE_MAX_GUEST_LENGTH || u->page_offset >= TCACHE_PAGE ||
	    !u->instruction_count || u->instruction_count > u->guest_length)
		return FAIL_RECORD(cache, "unit %u has %u instructions in %u bytes at page offset %u", number,
				   u->instruction_count, u->guest_length, u->page_offset);
	if (u->first_length > TCACHE_FIRST_BYTES || u->first_length > u->guest_length ||
	    !tcache_zero(u->first + u->first_length, TCACHE_FIRST_BYTES - u->first_length))
		return FAIL_RECORD(cache, "unit %u has wrong first bytes", number);
	if (!u->code_length || u->body_offset >= u->code_length)
		return FAIL_RECORD(cache, "unit %u has no code, or its second entry lies outside of it", number);
	if (u->image > tcache_images_count(cache))
		return FAIL_RECORD(cache, "unit %u is of image %u, which does not exist", number, u->image - 1);
	if (u->reserved0 || !tcache_zero(u->reserved, sizeof(u->reserved)))
		return FAIL_RECORD(cache, "reserved fields of unit %u are not zero", number);
	return TCACHE_OK;
}

static enum tcache_status check_unit_pcs(struct tcache *cache, const struct tcache_unit_view *v, uint32_t number)
{
	for (uint32_t i = 0; i < v->unit->pc_count; i++) {
		const struct tcache_pc *pc = &v->pcs[i];

		if (pc->code >= v->unit->code_length || pc->guest >= v->unit->guest_length || pc->reserved ||
		    (i && pc->code <= pc[-1].code))
			return FAIL_RECORD(cache, "pc record %u of unit %u is out of bounds or out of order", i,
					   number);
	}
	return TCACHE_OK;
}

static enum tcache_status check_unit_relos(struct tcache *cache, const struct tcache_unit_view *v, uint32_t number)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i < v->unit->relo_count; i++) {
		const struct tcache_relo *relo = &v->relos[i];

		if (!relo->size || relo->size > 8 || (relo->size & (relo->size - 1)) || !relo->kind ||
		    relo->kind >= TCACHE_RELO_KINDS)
			return FAIL_RECORD(cache, "relocated field %u of unit %u has kind %u and size %u", i, number,
					   relo->kind, relo->size);
		if (relo->offset < end || (uint32_t)relo->offset + relo->size > v->unit->guest_length)
			return FAIL_RECORD(cache, "relocated field %u of unit %u is out of bounds or out of order", i,
					   number);
		/* the key must not depend on bytes that the loader changes */
		if (!i && v->unit->first_length > relo->offset)
			return FAIL_RECORD(cache, "first bytes of unit %u contain a relocated field", number);
		end = (uint32_t)relo->offset + relo->size;
	}
	return TCACHE_OK;
}

/* Also of slots that belong to no unit. */
static enum tcache_status check_slots(struct tcache *cache, const struct tcache_slot *slots, uint64_t first,
				      uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		const struct tcache_slot *slot = &slots[i];

		if (!slot->kind || slot->kind >= TCACHE_SLOT_KINDS || slot->reserved)
			return FAIL_RECORD(cache, "slot %" PRIu64 " is of unknown kind %u", first + i, slot->kind);
		if (slot->kind == TCACHE_SLOT_LINK && slot->target >= tcache_units_count(cache))
			return FAIL_RECORD(cache, "slot %" PRIu64 " leads to unit %u, which does not exist", first + i,
					   slot->target);
	}
	return TCACHE_OK;
}

enum tcache_status tcache_unit_view(struct tcache *cache, uint32_t number, struct tcache_unit_view *view)
{
	enum tcache_status status;

	view->unit = tcache_units(cache, number, 1);
	if (!view->unit)
		return cache->last;
	status = check_unit(cache, view->unit, number);
	if (status)
		return status;
	view->code = tcache_code(cache, view->unit->code_offset, view->unit->code_length);
	view->pcs = tcache_pcs(cache, view->unit->pc_first, view->unit->pc_count);
	view->relos = tcache_relos(cache, view->unit->relo_first, view->unit->relo_count);
	view->slots = tcache_slots(cache, view->unit->slot_first, view->unit->slot_count);
	view->name = tcache_string(cache, view->unit->name);
	if (!view->code || !view->pcs || !view->relos || !view->slots || !view->name)
		return cache->last;
	status = check_unit_pcs(cache, view, number);
	if (!status)
		status = check_unit_relos(cache, view, number);
	if (!status)
		status = check_slots(cache, view->slots, view->unit->slot_first, view->unit->slot_count);
	return status;
}

/* First unit whose page offset is not below this one. Fails on damage only. */
static enum tcache_status lower_bound(struct tcache *cache, uint32_t page_offset, uint32_t *result)
{
	uint32_t low = 0, high = (uint32_t)tcache_units_count(cache);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tcache_unit *unit = tcache_units(cache, middle, 1);

		if (!unit)
			return cache->last;
		if (unit->page_offset < page_offset)
			low = middle + 1;
		else
			high = middle;
	}
	*result = low;
	return TCACHE_OK;
}

enum tcache_status tcache_unit_bucket(struct tcache *cache, uint16_t page_offset, uint32_t *first, uint32_t *count)
{
	uint32_t end = 0;
	enum tcache_status status = lower_bound(cache, page_offset, first);

	if (!status)
		status = lower_bound(cache, page_offset + 1u, &end);
	/* in a file whose units are out of order the bounds may be too */
	*count = !status && end > *first ? end - *first : 0;
	return status;
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

static enum tcache_status check_units(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_units_count(cache);
	struct tcache_unit_view view, previous = {0};

	for (uint32_t i = 0; i < count; i++) {
		enum tcache_status status = tcache_unit_view(cache, i, &view);

		if (status)
			return status;
		if (i && tcache_unit_compare(previous.unit, view.unit) >= 0)
			return FAIL_RECORD(cache, "unit %u is out of order, or there twice", i);
		previous = view;
	}
	return TCACHE_OK;
}

static enum tcache_status check_all_slots(struct tcache *cache)
{
	uint64_t count = tcache_slots_count(cache);
	const struct tcache_slot *slots = tcache_slots(cache, 0, count);

	return slots ? check_slots(cache, slots, 0, count) : cache->last;
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
	COMPARE(a->hash[1], b->hash[1]);
	COMPARE(a->hash[0], b->hash[0]);
	COMPARE(a->mode, b->mode);
	COMPARE(a->page_offset, b->page_offset);
	return 0;
}

static enum tcache_status check_profile(struct tcache *cache)
{
	uint64_t count = tcache_profile_count(cache);
	const struct tcache_profile *p = tcache_profile(cache, 0, count);

	if (!p)
		return cache->last;
	for (uint64_t i = 0; i < count; i++) {
		if (p[i].page_offset >= TCACHE_PAGE || p[i].reserved)
			return FAIL_RECORD(cache, "profile record %" PRIu64 " has wrong fields", i);
		if (i && compare_profile(&p[i - 1], &p[i]) >= 0)
			return FAIL_RECORD(cache, "profile record %" PRIu64 " is out of order, or there twice", i);
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
		check_strings, check_images, check_units, check_all_slots, check_verdicts, check_profile,
	};
	enum tcache_status status = TCACHE_OK;

	for (uint32_t i = 0; !status && i < cache->header->chunk_count; i++)
		status = tcache_verify_range(cache, i, 0, cache->toc[i].length);
	for (size_t i = 0; !status && i < sizeof(checks) / sizeof(checks[0]); i++)
		status = checks[i](cache);
	return status;
}
