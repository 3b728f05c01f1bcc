/* Templates: finding them, and what FORMAT.md demands of all that belongs to one. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "changed.h"
#include "internal.h"

static bool is_cold(const struct tcache_template *t)
{
	return t->flags & TCACHE_UNIT_COLD;
}

static int compare_content(const struct tcache_template *x, const struct tcache_template *y)
{
	COMPARE(x->offset, y->offset);
	COMPARE(x->first, y->first);
	COMPARE(x->guest_length, y->guest_length);
	COMPARE(x->mode, y->mode);
	COMPARE(x->hash[1], y->hash[1]);
	COMPARE(x->hash[0], y->hash[0]);
	return 0;
}

int tcache_template_compare(const void *a, const void *b)
{
	const struct tcache_template *x = a, *y = b;

	COMPARE(x->page, y->page);
	COMPARE(is_cold(x), is_cold(y));
	return compare_content(x, y);
}

int tcache_template_compare_content(const void *a, const void *b)
{
	const struct tcache_template *x = a, *y = b;
	int order = compare_content(x, y);

	if (order)
		return order;
	COMPARE(x->page, y->page);
	return 0;
}

int tcache_page_compare(const void *a, const void *b)
{
	const struct tcache_page *x = a, *y = b;

	COMPARE(x->hash[1], y->hash[1]);
	COMPARE(x->hash[0], y->hash[0]);
	return 0;
}

/* The first eight of these bytes as a number. */
static uint64_t first_bytes(const uint8_t *bytes, size_t length)
{
	uint64_t first = 0;

	for (size_t i = 0; i < 8 && i < length; i++)
		first |= (uint64_t)bytes[i] << 8 * i;
	return first;
}

/* ---- one template ---- */

static enum tcache_status check_record(struct tcache *cache, const struct tcache_template *t, uint32_t number)
{
	uint32_t engine = t->flags & (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED);

	if ((t->flags & ~TCACHE_UNIT_FLAGS) || !engine || engine == (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED))
		return FAIL_RECORD(cache, "template %u has the flags 0x%x", number, t->flags);
	if (!t->guest_length || t->offset >= TCACHE_PAGE || t->guest_length > TCACHE_PAGE - t->offset ||
	    !t->instruction_count || t->instruction_count > t->guest_length)
		return FAIL_RECORD(cache, "template %u has %u instructions in %u bytes at offset %u", number,
				   t->instruction_count, t->guest_length, t->offset);
	if (t->mode & ~t->mode_mask)
		return FAIL_RECORD(cache, "template %u has a mode that its mask does not cover", number);
	if (!t->code_length || t->body_offset >= t->code_length || t->saved_offset >= t->code_length)
		return FAIL_RECORD(cache, "template %u has no code, or its second entry lies outside of it", number);
	if (t->code_length > TCACHE_MAX_TEMPLATE_CODE || t->entry_count > t->instruction_count ||
	    t->insn_count > t->instruction_count)
		return FAIL_RECORD(cache,
				   "template %u has %u bytes of code, %u entries and %u instruction records, which is "
				   "too much",
				   number, t->code_length, t->entry_count, t->insn_count);
	if (t->page >= tcache_pages_count(cache) || t->image > tcache_images_count(cache))
		return FAIL_RECORD(cache, "template %u is of page %u or image %u, which does not exist", number,
				   t->page, t->image - 1);
	if (!t->guest_offset)
		return FAIL_RECORD(cache, "template %u has no guest bytes", number);
	if (t->fixup_count[TCACHE_FIXUP_KINDS])
		return FAIL_RECORD(cache, "template %u has fix-ups of unknown kind", number);
	return TCACHE_OK;
}

static uint32_t dword_at(const uint8_t *code, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, code + offset, sizeof(value));
	return value;
}

/* What the code has where only one of few values makes sense. */
static enum tcache_status check_value(struct tcache *cache, const struct tcache_template *t, unsigned kind,
				      uint32_t value, uint32_t number)
{
	const struct tcache_placement *place;

	if (kind == TCACHE_FIXUP_LINK && value >= t->link_count)
		return FAIL_RECORD(cache, "template %u leaves by its link %u, which it does not have", number, value);
	if (kind != TCACHE_FIXUP_INSN)
		return TCACHE_OK;
	place = tcache_place(cache);
	if (!place)
		return cache->last;
	/* the area lies below 2 GiB */
	value -= (uint32_t)place->insns_address;
	if (value % place->insn_size || value / place->insn_size - t->insn_first >= t->insn_count)
		return FAIL_RECORD(cache, "template %u names an instruction record that is not its own", number);
	return TCACHE_OK;
}

static enum tcache_status check_fixups(struct tcache *cache, const struct tcache_template_view *v, uint32_t number,
				       struct changed *changed)
{
	const struct tcache_template *t = v->record;
	const uint32_t *at = v->fixups;

	for (unsigned kind = 0; kind < TCACHE_FIXUP_KINDS; kind++) {
		uint32_t size = kind <= TCACHE_FIXUP_MINUS ? 8 : 4;

		for (uint32_t i = 0; i < t->fixup_count[kind]; i++, at++) {
			enum tcache_status status;

			if (!changed_take(changed, *at, size))
				return FAIL_RECORD(cache,
						   "fix-up %u of kind %u of template %u is out of bounds or "
						   "overlaps",
						   i, kind, number);
			status = check_value(cache, t, kind, dword_at(v->code, *at), number);
			if (status)
				return status;
		}
	}
	return TCACHE_OK;
}

static enum tcache_status check_jumps(struct tcache *cache, const struct tcache_template_view *v, uint32_t number,
				      struct changed *changed)
{
	for (uint32_t i = 0; i < v->record->link_count; i++) {
		const struct tcache_template_link *link = &v->links[i];

		if ((link->flags & ~(TCACHE_LINK_SAVED | TCACHE_TEMPLATE_LINK_TAKEN)) || link->target >= TCACHE_PAGE)
			return FAIL_RECORD(cache, "link %u of template %u leaves the page or has unknown flags", i,
					   number);
		if (!changed_take(changed, link->patch, 4))
			return FAIL_RECORD(cache, "link %u of template %u is out of bounds or overlaps", i, number);
	}
	for (uint32_t i = 0; i < v->record->goal_count; i++) {
		const struct tcache_goal *goal = &v->goals[i];

		if ((goal->flags & ~TCACHE_LINK_SAVED) || goal->reserved)
			return FAIL_RECORD(cache, "goal %u of template %u has unknown flags or reserved fields", i,
					   number);
		if (!changed_take(changed, goal->number, 4) || !changed_take(changed, goal->entry, 4))
			return FAIL_RECORD(cache, "goal %u of template %u is out of bounds or overlaps", i, number);
	}
	return TCACHE_OK;
}

/* A template is entered where its bytes begin, at its first instruction. */
static enum tcache_status check_beginning(struct tcache *cache, const struct tcache_template_view *v, uint32_t number)
{
	bool found = false;

	for (uint32_t i = 0; i < v->record->entry_count; i++) {
		if (v->entries[i].code)
			continue;
		if (v->entries[i].guest)
			return FAIL_RECORD(cache, "entry %u of template %u leads to another instruction", i, number);
		found = true;
	}
	return found ? TCACHE_OK : FAIL_RECORD(cache, "template %u has no entry at its beginning", number);
}

/* Everything that is changed in its code lies there, once. */
static enum tcache_status check_changes(struct tcache *cache, const struct tcache_template_view *v, uint32_t number)
{
	struct changed changed;
	enum tcache_status status;

	changed_begin(&changed, v->record->code_length);
	status = check_fixups(cache, v, number, &changed);
	return status ? status : check_jumps(cache, v, number, &changed);
}

static uint32_t fixups_of(const struct tcache_template *t)
{
	uint32_t count = 0;

	for (unsigned kind = 0; kind < TCACHE_FIXUP_KINDS; kind++)
		count += t->fixup_count[kind];
	return count;
}

static bool view_chunks(struct tcache *cache, struct tcache_template_view *v)
{
	const struct tcache_template *t = v->record;

	return (v->code = tcache_template_code(cache, t->code_offset, t->code_length)) &&
	       (v->pcs = tcache_pcs(cache, t->pc_first, t->pc_count)) &&
	       (v->entries = tcache_entries(cache, t->entry_first, t->entry_count)) &&
	       (v->insns = tcache_insns(cache, t->insn_first, t->insn_count)) &&
	       (v->links = tcache_template_links(cache, t->link_first, t->link_count)) &&
	       (v->goals = tcache_goals(cache, t->goal_first, t->goal_count)) &&
	       (v->fixups = tcache_fixups(cache, t->fixup_first, fixups_of(t))) &&
	       (v->guest = tcache_guest(cache, t->guest_offset - 1, t->guest_length));
}

enum tcache_status tcache_template_view(struct tcache *cache, uint32_t number, struct tcache_template_view *view)
{
	const struct tcache_template *t = tcache_templates(cache, number, 1);
	enum tcache_status status;

	*view = (struct tcache_template_view){.record = t};
	if (!t)
		return cache->last;
	status = check_record(cache, t, number);
	if (status)
		return status;
	if (!view_chunks(cache, view))
		return cache->last;
	status = tcache_check_pcs(cache, view->pcs, t->pc_count, t->code_length, t->guest_length, "template", number);
	if (!status)
		status = tcache_check_entries(cache, view->entries, t->entry_count, t->code_length, t->guest_length,
					      "template", number);
	if (!status)
		status = tcache_check_insns(cache, view->insns, t->insn_first, t->insn_count);
	if (!status)
		status = check_beginning(cache, view, number);
	return status ? status : check_changes(cache, view, number);
}

/* ---- finding ---- */

enum tcache_status tcache_page_find(struct tcache *cache, const uint64_t hash[2], uint32_t *number)
{
	const struct tcache_page wanted = {.hash = {hash[0], hash[1]}};
	uint32_t low = 0, high = (uint32_t)tcache_pages_count(cache);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tcache_page *page = tcache_pages(cache, middle, 1);
		int order = page ? tcache_page_compare(page, &wanted) : 0;

		if (!page)
			return cache->last;
		*number = middle;
		if (!order)
			return TCACHE_OK;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no such page");
}

enum tcache_status tcache_page_templates(struct tcache *cache, uint32_t page, struct tcache_page_range *range)
{
	const struct tcache_page *record = tcache_pages(cache, page, 1);
	const struct tcache_template *t;
	uint32_t low = 0, high;

	*range = (struct tcache_page_range){0};
	if (!record)
		return cache->last;
	t = tcache_templates(cache, record->first, record->count);
	if (!t)
		return cache->last;
	for (high = record->count; low < high;) {
		uint32_t middle = low + (high - low) / 2;

		if (is_cold(&t[middle]))
			high = middle;
		else
			low = middle + 1;
	}
	*range = (struct tcache_page_range){record->first, record->first + low, record->first + record->count};
	return TCACHE_OK;
}

enum tcache_status tcache_page_at(struct tcache *cache, uint32_t from, uint32_t end, uint32_t offset, uint32_t *number)
{
	while (from < end) {
		uint32_t middle = from + (end - from) / 2;
		const struct tcache_template *t = tcache_templates(cache, middle, 1);

		if (!t)
			return cache->last;
		if (t->offset < offset)
			from = middle + 1;
		else
			end = middle;
	}
	*number = from;
	return TCACHE_OK;
}

/* The template that number `at` of TBYC names. NULL: damaged. */
static const struct tcache_template *by_content(struct tcache *cache, uint32_t at, uint32_t *number)
{
	const uint32_t *record = tcache_by_content(cache, at, 1);

	if (!record)
		return NULL;
	*number = *record;
	return tcache_templates(cache, *record, 1);
}

/* The first record of TBYC whose template does not come before `wanted`. Fails on damage only. */
static enum tcache_status lower_bound(struct tcache *cache, const struct tcache_template *wanted, uint32_t *result)
{
	uint32_t low = 0, high = (uint32_t)tcache_by_content_count(cache), number;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tcache_template *t = by_content(cache, middle, &number);

		if (!t)
			return cache->last;
		if (tcache_template_compare_content(t, wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*result = low;
	return TCACHE_OK;
}

/* One of those with this offset and these first bytes. */
static enum tcache_status find_with(struct tcache *cache, uint32_t offset, uint64_t first, uint32_t mode,
				    const uint8_t *bytes, size_t length, uint32_t *number)
{
	const struct tcache_template wanted = {.offset = (uint16_t)offset, .first = first};
	uint64_t count = tcache_by_content_count(cache), hash[2];
	uint32_t at = 0;
	enum tcache_status status = lower_bound(cache, &wanted, &at);

	for (; !status && at < count; at++) {
		const struct tcache_template *t = by_content(cache, at, number);

		if (!t)
			return cache->last;
		if (t->offset != offset || t->first != first)
			break;
		if (((t->mode ^ mode) & t->mode_mask) || t->guest_length > length)
			continue;
		tcache_hash(bytes, t->guest_length, hash);
		if (hash[0] == t->hash[0] && hash[1] == t->hash[1])
			return TCACHE_OK;
	}
	return status ? status : tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no such template");
}

enum tcache_status tcache_template_find(struct tcache *cache, uint32_t offset, uint32_t mode, const uint8_t *bytes,
					size_t length, uint32_t *number)
{
	enum tcache_status status = TCACHE_ERR_RANGE;

	/* those that are shorter than eight bytes have zeros where the guest has something else */
	for (size_t known = length < 8 ? length : 8; known && status == TCACHE_ERR_RANGE; known--)
		status = find_with(cache, offset, first_bytes(bytes, known), mode, bytes, length, number);
	return status;
}

/* ---- all ---- */

static enum tcache_status check_each(struct tcache *cache, uint64_t *executed)
{
	uint32_t count = (uint32_t)tcache_templates_count(cache);
	struct tcache_template_view view, previous = {0};

	for (uint32_t i = 0; i < count; i++) {
		enum tcache_status status = tcache_template_view(cache, i, &view);
		uint64_t hash[2];

		if (status)
			return status;
		if (!tcache_string(cache, view.record->name))
			return cache->last;
		if (i && tcache_template_compare(previous.record, view.record) >= 0)
			return FAIL_RECORD(cache, "template %u is out of order, or there twice", i);
		tcache_hash(view.guest, view.record->guest_length, hash);
		if (memcmp(hash, view.record->hash, sizeof(hash)) ||
		    view.record->first != first_bytes(view.guest, view.record->guest_length))
			return FAIL_RECORD(cache, "guest bytes of template %u are not those of its key", i);
		*executed += !is_cold(view.record);
		previous = view;
	}
	return TCACHE_OK;
}

/* The pages' templates are all templates, one page after the other, and each names its page. */
static enum tcache_status check_page(struct tcache *cache, uint32_t number, uint64_t *sum)
{
	struct tcache_page_range range;
	enum tcache_status status = tcache_page_templates(cache, number, &range);

	if (status)
		return status;
	if (range.first != *sum)
		return FAIL_RECORD(cache, "templates of page %u are not where those of the page before end", number);
	for (uint32_t i = range.first; i < range.end; i++) {
		const struct tcache_template *t = tcache_templates(cache, i, 1);

		if (!t)
			return cache->last;
		if (t->page != number)
			return FAIL_RECORD(cache, "template %u is not of page %u, which holds it", i, number);
	}
	*sum = range.end;
	return TCACHE_OK;
}

/* In order, none twice, as many as were executed: all of them. */
static enum tcache_status check_by_content(struct tcache *cache, uint64_t executed)
{
	uint32_t count = (uint32_t)tcache_by_content_count(cache), number;
	const struct tcache_template *previous = NULL;

	for (uint32_t i = 0; i < count; i++) {
		const struct tcache_template *t = by_content(cache, i, &number);

		if (!t)
			return cache->last;
		if (is_cold(t))
			return FAIL_RECORD(cache, "template %u by content, %u, was not executed", i, number);
		if (previous && tcache_template_compare_content(previous, t) >= 0)
			return FAIL_RECORD(cache, "template %u by content, %u, is out of order, or there twice", i,
					   number);
		previous = t;
	}
	if (count != executed)
		return FAIL_RECORD(cache, "has %" PRIu64 " executed templates, %u of them by content", executed, count);
	return TCACHE_OK;
}

enum tcache_status tcache_check_templates(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_pages_count(cache);
	uint64_t sum = 0, executed = 0;
	enum tcache_status status = check_each(cache, &executed);

	for (uint32_t i = 0; !status && i < count; i++) {
		if (i && tcache_page_compare(tcache_pages(cache, i - 1, 1), tcache_pages(cache, i, 1)) >= 0)
			return FAIL_RECORD(cache, "page %u is out of order, or there twice", i);
		status = check_page(cache, i, &sum);
	}
	if (!status && sum != tcache_templates_count(cache))
		return FAIL_RECORD(cache, "has %" PRIu64 " templates, but %" PRIu64 " in pages",
				   tcache_templates_count(cache), sum);
	return status ? status : check_by_content(cache, executed);
}
