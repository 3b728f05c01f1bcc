/* The fixed parts of a cache: header, table of contents, footer. Checks what is in memory; opens nothing. */
#include <inttypes.h>
#include <string.h>

#include "internal.h"

bool tcache_zero(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t any = 0;

	for (size_t i = 0; i < size; i++)
		any |= bytes[i];
	return !any;
}

/* Printable, and zero from its end to the end of the field. */
static bool text_valid(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	for (size_t i = 0; i < length; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return length < size && tcache_zero(text + length, size - length);
}

static enum tcache_status check_header_fields(const struct tcache_header *h, const struct report *report)
{
	const struct tcache_fingerprint *f = &h->fingerprint;

	if (h->header_size != TCACHE_HEADER_SIZE || h->page_size != TCACHE_PAGE || h->group_size != TCACHE_GROUP)
		return tcache_fail(report, TCACHE_ERR_HEADER, "header, page or group size is wrong (%u, %u, %u)",
				   h->header_size, h->page_size, h->group_size);
	if (h->flags & ~TCACHE_HEADER_FLAGS)
		return tcache_fail(report, TCACHE_ERR_HEADER, "header has unknown flags (0x%x)", h->flags);
	if (h->group_digest != TCACHE_DIGEST_XXH3 && h->group_digest != TCACHE_DIGEST_BLAKE2B)
		return tcache_fail(report, TCACHE_ERR_HEADER, "header names an unknown digest (%u)", h->group_digest);
	if ((h->flags & TCACHE_SIGNED) && h->group_digest != TCACHE_DIGEST_BLAKE2B)
		return tcache_fail(report, TCACHE_ERR_HEADER, "is signed, but its digests can be forged");
	if (!text_valid(f->translator, sizeof(f->translator)) || !text_valid(f->guest_cpu, sizeof(f->guest_cpu)))
		return tcache_fail(report, TCACHE_ERR_HEADER, "header has a malformed text");
	return TCACHE_OK;
}

static enum tcache_status check_header_sizes(const struct tcache_header *h, const struct report *report)
{
	if (h->chunk_count > TCACHE_MAX_CHUNKS || h->group_count > TCACHE_MAX_GROUPS)
		return tcache_fail(report, TCACHE_ERR_LIMIT, "has too many chunks or page groups (%u, %u)",
				   h->chunk_count, h->group_count);
	if (h->tail % TCACHE_PAGE || h->tail < TCACHE_PAGE || h->tail > h->length ||
	    h->length - h->tail != tail_size(h->chunk_count, h->group_count))
		return tcache_fail(report, TCACHE_ERR_HEADER,
				   "table of contents cannot be at offset %" PRIu64 " (of %" PRIu64 ")", h->tail,
				   h->length);
	return TCACHE_OK;
}

enum tcache_status tcache_check_head(const uint8_t head[TCACHE_PAGE], uint64_t file_size, const struct report *report)
{
	const struct tcache_header *h = (const struct tcache_header *)head;
	enum tcache_status status;

	if (!file_size)
		return tcache_fail(report, TCACHE_ERR_TRUNCATED, "is empty");
	if (file_size < sizeof(h->magic) || memcmp(h->magic, TCACHE_MAGIC, sizeof(h->magic)))
		return tcache_fail(report, TCACHE_ERR_MAGIC, "is not a translated-code cache");
	if (file_size < TCACHE_PAGE)
		return tcache_fail(report, TCACHE_ERR_TRUNCATED, "is cut off after %" PRIu64 " bytes", file_size);
	if (h->version != TCACHE_VERSION)
		return tcache_fail(report, TCACHE_ERR_VERSION, "written by format version %u, this is version %u",
				   h->version, TCACHE_VERSION);
	if (h->length > TCACHE_MAX_LENGTH)
		return tcache_fail(report, TCACHE_ERR_LIMIT, "claims to be %" PRIu64 " bytes long", h->length);
	if (h->length != file_size)
		return tcache_fail(report, TCACHE_ERR_TRUNCATED, "has %" PRIu64 " bytes, its header says %" PRIu64,
				   file_size, h->length);
	status = check_header_fields(h, report);
	if (status)
		return status;
	if (!tcache_zero(h->reserved, TCACHE_PAGE - offsetof(struct tcache_header, reserved)))
		return tcache_fail(report, TCACHE_ERR_HEADER, "reserved bytes of the header are not zero");
	return check_header_sizes(h, report);
}

void tcache_root_digest(const uint8_t *head, const uint8_t *tail, uint64_t tail_bytes,
			uint8_t digest[TCACHE_DIGEST_SIZE])
{
	uint64_t covered = tail_bytes - sizeof(struct tcache_footer) + offsetof(struct tcache_footer, digest);

	tcache_digest2(head, TCACHE_PAGE, tail, covered, digest);
}

enum tcache_status tcache_check_footer(const uint8_t *head, const uint8_t *tail, const struct report *report)
{
	const struct tcache_header *h = (const struct tcache_header *)head;
	uint64_t bytes = h->length - h->tail;
	const struct tcache_footer *footer = (const struct tcache_footer *)(tail + bytes - sizeof(*footer));
	uint64_t tables =
		h->chunk_count * sizeof(struct tcache_toc_entry) + h->group_count * sizeof(struct tcache_group);
	uint8_t digest[TCACHE_DIGEST_SIZE];

	if (memcmp(footer->magic, TCACHE_FOOTER_MAGIC, sizeof(footer->magic)))
		return tcache_fail(report, TCACHE_ERR_FOOTER, "does not end with a footer: not written to its end");
	tcache_root_digest(head, tail, bytes, digest);
	if (memcmp(digest, footer->digest, sizeof(digest)))
		return tcache_fail(report, TCACHE_ERR_DIGEST,
				   "header, table of contents or footer is damaged (digest mismatch)");
	if (footer->length != h->length || footer->version != h->version)
		return tcache_fail(report, TCACHE_ERR_FOOTER, "footer contradicts the header");
	if (footer->reserved0 || !tcache_zero(footer->reserved, sizeof(footer->reserved)) ||
	    !tcache_zero(tail + tables, bytes - tables - sizeof(*footer)))
		return tcache_fail(report, TCACHE_ERR_FOOTER, "reserved bytes in or before the footer are not zero");
	if (h->flags & TCACHE_SIGNED) {
		if (!tcache_signature_valid(footer))
			return tcache_fail(report, TCACHE_ERR_SIGNATURE, "signature is not valid");
	} else if (!tcache_zero(footer->public_key, sizeof(footer->public_key)) ||
		   !tcache_zero(footer->signature, sizeof(footer->signature))) {
		return tcache_fail(report, TCACHE_ERR_FOOTER, "has a signature, but is not marked as signed");
	}
	return TCACHE_OK;
}

/* Chunks lie one after the other, each on the first page after the one before: no overlap and no gap is possible. */
static enum tcache_status check_place(const struct tcache_toc_entry *entry, uint64_t expected, uint64_t tail,
				      const struct report *report)
{
	struct type_name name = tcache_type_name(entry->type);

	if (entry->offset % TCACHE_PAGE)
		return tcache_fail(report, TCACHE_ERR_TOC, "chunk %s is not aligned to a page", name.text);
	if (entry->offset > tail || entry->length > tail - entry->offset)
		return tcache_fail(report, TCACHE_ERR_TOC, "chunk %s reaches beyond the chunks' end", name.text);
	if (entry->offset < expected)
		return tcache_fail(report, TCACHE_ERR_TOC, "chunk %s overlaps what is before it", name.text);
	if (entry->offset > expected)
		return tcache_fail(report, TCACHE_ERR_TOC, "there is a gap before chunk %s", name.text);
	return TCACHE_OK;
}

static enum tcache_status check_entry(const struct tcache_toc_entry *entry, const struct report *report)
{
	struct type_name name = tcache_type_name(entry->type);

	if ((entry->flags & ~TCACHE_CHUNK_FLAGS) || !tcache_zero(entry->reserved, sizeof(entry->reserved)))
		return tcache_fail(report, TCACHE_ERR_TOC, "chunk %s has unknown flags or reserved fields", name.text);
	if (!entry->element_size || entry->length % entry->element_size)
		return tcache_fail(report, TCACHE_ERR_TOC, "chunk %s is not a whole number of records", name.text);
	if ((entry->flags & TCACHE_CRITICAL) && !tcache_understood(entry))
		return tcache_fail(report, TCACHE_ERR_UNKNOWN, "chunk %s, schema %u, is needed but not known here",
				   name.text, entry->schema);
	if (entry->length / entry->element_size > UINT32_MAX && entry->element_size > 1)
		return tcache_fail(report, TCACHE_ERR_LIMIT, "chunk %s has too many records", name.text);
	if (entry->type == TCACHE_TYPE_code && entry->length > TCACHE_MAX_CODE)
		return tcache_fail(report, TCACHE_ERR_LIMIT, "chunk %s is too long", name.text);
	return TCACHE_OK;
}

enum tcache_status tcache_check_toc(const uint8_t *head, const uint8_t *tail, const struct report *report)
{
	const struct tcache_header *h = (const struct tcache_header *)head;
	const struct tcache_toc_entry *toc = (const struct tcache_toc_entry *)tail;
	uint64_t offset = TCACHE_PAGE;
	uint64_t group = 0;

	for (uint32_t i = 0; i < h->chunk_count; i++) {
		const struct tcache_kind *kind = tcache_kind(toc[i].type);
		struct type_name name = tcache_type_name(toc[i].type);
		enum tcache_status status = check_place(&toc[i], offset, h->tail, report);

		if (!status)
			status = check_entry(&toc[i], report);
		if (status)
			return status;
		for (uint32_t k = 0; kind && kind->single && tcache_understood(&toc[i]) && k < i; k++)
			if (toc[k].type == toc[i].type && tcache_understood(&toc[k]))
				return tcache_fail(report, TCACHE_ERR_TOC, "has more than one chunk %s", name.text);
		if (toc[i].first_group != group || toc[i].group_count != groups_of(toc[i].length))
			return tcache_fail(report, TCACHE_ERR_TOC, "page groups of chunk %s do not fit its length",
					   name.text);
		group += toc[i].group_count;
		offset += pages_up(toc[i].length);
	}
	if (offset != h->tail || group != h->group_count)
		return tcache_fail(report, TCACHE_ERR_TOC, "chunks do not fill the file up to the table of contents");
	return TCACHE_OK;
}
