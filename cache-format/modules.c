/* Code of kernel modules: finding it, and what FORMAT.md demands of all that belongs to a unit. */
#include <inttypes.h>
#include <string.h>

#include "changed.h"
#include "internal.h"

#define KEY_BYTES  16u
/* The runtime writes a jump over each place where a unit that is no more could be entered. */
#define JUMP_SIZE  5u
/* Bytes that a fix-up changes at least, landings excepted. */
#define FIXUP_SIZE 4u

int tcache_module_compare(const void *a, const void *b)
{
	const struct tcache_module_unit *x = a, *y = b;

	COMPARE(x->page, y->page);
	COMPARE(x->offset, y->offset);
	COMPARE(x->mode, y->mode);
	COMPARE(x->guest_length, y->guest_length);
	COMPARE(x->hash[1], y->hash[1]);
	COMPARE(x->hash[0], y->hash[0]);
	return 0;
}

int tcache_module_page_compare(const void *a, const void *b)
{
	const struct tcache_module_page *x = a, *y = b;

	COMPARE(x->hash[1], y->hash[1]);
	COMPARE(x->hash[0], y->hash[0]);
	return 0;
}

int tcache_module_key_compare(const void *a, const void *b)
{
	const struct tcache_module_key *x = a, *y = b;

	COMPARE(x->offset, y->offset);
	COMPARE(x->mask, y->mask);
	COMPARE(x->hash, y->hash);
	COMPARE(x->unit, y->unit);
	return 0;
}

/* ---- holes ---- */

/* How many of the page's holes begin before this offset. */
static uint32_t holes_before(const uint16_t *holes, uint32_t count, uint32_t offset)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (TCACHE_HOLE_AT(holes[middle]) < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Are bytes of a page from `offset` on the same in both, but for the holes? */
static bool same_bytes(const uint8_t *guest, const uint8_t *bytes, uint32_t offset, uint32_t length,
		       const uint16_t *holes, uint32_t count)
{
	const uint32_t end = offset + length;
	uint32_t at = offset;

	for (uint32_t i = holes_before(holes, count, offset); i < count && TCACHE_HOLE_AT(holes[i]) < end; i++) {
		const uint32_t hole = TCACHE_HOLE_AT(holes[i]);

		/* an empty range if the holes are not in order */
		if (hole > at && memcmp(guest + at - offset, bytes + at - offset, hole - at))
			return false;
		if (hole + TCACHE_HOLE_SIZE(holes[i]) > at)
			at = hole + TCACHE_HOLE_SIZE(holes[i]);
	}
	return at >= end || !memcmp(guest + at - offset, bytes + at - offset, end - at);
}

static uint32_t hash_masked(const uint8_t *bytes, size_t length, uint32_t mask)
{
	uint8_t key[KEY_BYTES] = {0};
	uint64_t hash[2];

	for (uint32_t i = 0; i < KEY_BYTES && i < length; i++)
		if (mask >> i & 1)
			key[i] = bytes[i];
	tcache_hash(key, sizeof(key), hash);
	return (uint32_t)hash[0];
}

struct tcache_module_key tcache_module_key_of(const struct tcache_module_unit *unit, uint32_t number,
					      const uint8_t *guest, const uint16_t *holes, uint32_t hole_count)
{
	const uint32_t length = unit->guest_length < KEY_BYTES ? unit->guest_length : KEY_BYTES;
	uint32_t mask = (1u << length) - 1;

	for (uint32_t i = holes_before(holes, hole_count, unit->offset);
	     i < hole_count && TCACHE_HOLE_AT(holes[i]) < unit->offset + length; i++)
		mask &= ~(((1u << TCACHE_HOLE_SIZE(holes[i])) - 1) << (TCACHE_HOLE_AT(holes[i]) - unit->offset));
	return (struct tcache_module_key){.offset = unit->offset,
					  .mask = (uint16_t)mask,
					  .hash = hash_masked(guest, length, mask),
					  .unit = number};
}

/* ---- one unit ---- */

static enum tcache_status check_record(struct tcache *cache, const struct tcache_module_unit *u, uint32_t number)
{
	if ((u->flags & ~TCACHE_UNIT_COLD) != TCACHE_UNIT_COPIED)
		return FAIL_RECORD(cache, "module unit %u has the flags 0x%x", number, u->flags);
	if (!u->guest_length || u->offset >= TCACHE_PAGE || u->guest_length > TCACHE_PAGE - u->offset ||
	    !u->instruction_count || u->instruction_count > u->guest_length)
		return FAIL_RECORD(cache, "module unit %u has %u instructions in %u bytes at offset %u", number,
				   u->instruction_count, u->guest_length, u->offset);
	if (u->mode & ~u->mode_mask)
		return FAIL_RECORD(cache, "module unit %u has a mode that its mask does not cover", number);
	if (u->code_length < JUMP_SIZE || u->code_length > TCACHE_MAX_TEMPLATE_CODE)
		return FAIL_RECORD(cache, "module unit %u has %u bytes of code", number, u->code_length);
	if (u->body_offset > u->code_length - JUMP_SIZE || u->saved_offset > u->code_length - JUMP_SIZE ||
	    u->stale_offset >= u->code_length || u->stale_saved_offset >= u->code_length)
		return FAIL_RECORD(cache, "an entry of module unit %u lies outside of its code", number);
	if (u->entry_count > u->instruction_count || u->insn_count > u->instruction_count)
		return FAIL_RECORD(cache, "module unit %u has %u entries and %u instruction records, which is too much",
				   number, u->entry_count, u->insn_count);
	if (u->fixup_count > u->code_length / FIXUP_SIZE + u->instruction_count)
		return FAIL_RECORD(cache, "module unit %u has %u fix-ups, which is too much", number, u->fixup_count);
	if (u->page >= tcache_module_pages_count(cache))
		return FAIL_RECORD(cache, "module unit %u is of page %u, which does not exist", number, u->page);
	if (!u->guest_offset)
		return FAIL_RECORD(cache, "module unit %u has no guest bytes", number);
	return TCACHE_OK;
}

/* Does what the fix-up is made of lie in the guest bytes? */
static bool field_good(const struct tcache_module_unit *u, const struct tcache_module_fixup *f)
{
	const uint32_t at = TCACHE_MODULE_FIELD_AT(f->value);
	uint32_t size = f->from == TCACHE_MODULE_FROM_WIDE ? 8 : 4;

	if (f->from == TCACHE_MODULE_FROM_PAGE)
		return f->kind != TCACHE_MODULE_WIDE;
	if (f->from >= TCACHE_MODULE_FROMS || (f->kind == TCACHE_MODULE_WIDE) != (f->from == TCACHE_MODULE_FROM_WIDE))
		return false;
	size += TCACHE_MODULE_FIELD_BEHIND(f->value);
	return at < u->guest_length && size <= u->guest_length - at;
}

static bool value_good(const struct tcache_module_view *v, const struct tcache_module_fixup *f)
{
	switch ((enum tcache_module_kind)f->kind) {
	case TCACHE_MODULE_LINK:
		return !f->from && f->value < v->jumps;
	case TCACHE_MODULE_INSN:
		return !f->from && f->value < v->record->insn_count;
	case TCACHE_MODULE_JUMP:
	case TCACHE_MODULE_JUMP_SAVED:
		return !f->from && f->value < TCACHE_PAGE;
	case TCACHE_MODULE_LANDING:
		return !f->from && !f->value;
	default:
		return f->kind < TCACHE_MODULE_KINDS && field_good(v->record, f);
	}
}

static enum tcache_status check_fixups(struct tcache *cache, const struct tcache_module_view *v, uint32_t number)
{
	const struct tcache_module_unit *u = v->record;
	struct changed changed;
	uint32_t landings = 0;

	changed_begin(&changed, u->code_length);
	for (uint32_t i = 0; i < u->fixup_count; i++) {
		const struct tcache_module_fixup *f = &v->fixups[i];

		if (!value_good(v, f))
			return FAIL_RECORD(cache, "fix-up %u of module unit %u is made of nothing", i, number);
		if (f->kind == TCACHE_MODULE_LANDING
			    ? f->at > u->code_length - JUMP_SIZE
			    : !changed_take(&changed, f->at, f->kind == TCACHE_MODULE_WIDE ? 8 : FIXUP_SIZE))
			return FAIL_RECORD(cache, "fix-up %u of module unit %u is out of bounds or overlaps", i,
					   number);
		landings += f->kind == TCACHE_MODULE_LANDING;
	}
	if (landings > u->instruction_count)
		return FAIL_RECORD(cache, "module unit %u has %u landings, which is too much", number, landings);
	return TCACHE_OK;
}

/* Entered where its bytes begin, at its first instruction, and everywhere with room for a jump. */
static enum tcache_status check_entries(struct tcache *cache, const struct tcache_module_view *v, uint32_t number)
{
	bool found = false;

	for (uint32_t i = 0; i < v->record->entry_count; i++) {
		if (v->entries[i].code > v->record->code_length - JUMP_SIZE ||
		    (!v->entries[i].code && v->entries[i].guest))
			return FAIL_RECORD(cache, "entry %u of module unit %u is at the end of its code, or wrong", i,
					   number);
		found |= !v->entries[i].code;
	}
	return found ? TCACHE_OK : FAIL_RECORD(cache, "module unit %u has no entry at its beginning", number);
}

static enum tcache_status check_holes(struct tcache *cache, const uint16_t *holes, uint32_t count, uint32_t page)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (holes[i] & ~(TCACHE_HOLE_WIDE | 0xfffu) || TCACHE_HOLE_AT(holes[i]) < end)
			return FAIL_RECORD(cache, "hole %u of module page %u is out of order, or has unknown bits", i,
					   page);
		end = TCACHE_HOLE_AT(holes[i]) + TCACHE_HOLE_SIZE(holes[i]);
	}
	if (end > TCACHE_PAGE)
		return FAIL_RECORD(cache, "the last hole of module page %u leaves it", page);
	return TCACHE_OK;
}

/* A unit's holes; NULL: damaged. */
static const uint16_t *view_holes(struct tcache *cache, const struct tcache_module_unit *u, uint32_t *count)
{
	const struct tcache_module_page *page = tcache_module_pages(cache, u->page, 1);

	if (!page)
		return NULL;
	*count = page->hole_count;
	return tcache_module_holes(cache, page->hole_first, page->hole_count);
}

static bool view_chunks(struct tcache *cache, struct tcache_module_view *v)
{
	const struct tcache_module_unit *u = v->record;

	return (v->code = tcache_module_code(cache, u->code_offset, u->code_length)) &&
	       (v->pcs = tcache_pcs(cache, u->pc_first, u->pc_count)) &&
	       (v->entries = tcache_entries(cache, u->entry_first, u->entry_count)) &&
	       (v->insns = tcache_module_insns(cache, u->insn_first, u->insn_count)) &&
	       (v->fixups = tcache_module_fixups(cache, u->fixup_first, u->fixup_count)) &&
	       (v->holes = view_holes(cache, u, &v->hole_count)) &&
	       (v->guest = tcache_guest(cache, u->guest_offset - 1, u->guest_length));
}

enum tcache_status tcache_module_view(struct tcache *cache, uint32_t number, struct tcache_module_view *view)
{
	const struct tcache_module_unit *u = tcache_module_units(cache, number, 1);
	enum tcache_status status;

	*view = (struct tcache_module_view){.record = u};
	if (!u)
		return cache->last;
	status = check_record(cache, u, number);
	if (status)
		return status;
	if (!view_chunks(cache, view))
		return cache->last;
	for (uint32_t i = 0; i < u->fixup_count; i++)
		view->jumps +=
			view->fixups[i].kind == TCACHE_MODULE_JUMP || view->fixups[i].kind == TCACHE_MODULE_JUMP_SAVED;
	status = check_holes(cache, view->holes, view->hole_count, u->page);
	if (!status)
		status = tcache_check_pcs(cache, view->pcs, u->pc_count, u->code_length, u->guest_length, "module unit",
					  number);
	if (!status)
		status = tcache_check_entries(cache, view->entries, u->entry_count, u->code_length, u->guest_length,
					      "module unit", number);
	if (!status)
		status = tcache_check_insns(cache, view->insns, u->insn_first, u->insn_count);
	if (!status)
		status = check_entries(cache, view, number);
	return status ? status : check_fixups(cache, view, number);
}

/* ---- finding ---- */

static enum tcache_status none(struct tcache *cache)
{
	return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no such module unit");
}

enum tcache_status tcache_module_fits(struct tcache *cache, uint32_t number, uint32_t offset, uint32_t mode,
				      const uint8_t *bytes, size_t length)
{
	const struct tcache_module_unit *u = tcache_module_units(cache, number, 1);
	const uint16_t *holes;
	const uint8_t *guest;
	uint32_t count;

	if (!u)
		return cache->last;
	if (u->offset != offset || ((u->mode ^ mode) & u->mode_mask) || u->guest_length > length)
		return none(cache);
	holes = view_holes(cache, u, &count);
	guest = holes ? tcache_guest(cache, (uint64_t)u->guest_offset - 1, u->guest_length) : NULL;
	if (!guest)
		return cache->last;
	return same_bytes(guest, bytes, u->offset, u->guest_length, holes, count) ? TCACHE_OK : none(cache);
}

/* The first key that does not come before `wanted`. Fails on damage only. */
static enum tcache_status lower_bound(struct tcache *cache, const struct tcache_module_key *wanted, uint32_t from,
				      uint32_t *result)
{
	uint32_t high = (uint32_t)tcache_module_keys_count(cache);

	while (from < high) {
		uint32_t middle = from + (high - from) / 2;
		const struct tcache_module_key *key = tcache_module_keys(cache, middle, 1);

		if (!key)
			return cache->last;
		if (tcache_module_key_compare(key, wanted) < 0)
			from = middle + 1;
		else
			high = middle;
	}
	*result = from;
	return TCACHE_OK;
}

enum tcache_status tcache_module_find(struct tcache *cache, uint32_t offset, uint32_t mode, const uint8_t *bytes,
				      size_t length, uint32_t *cursor, uint32_t *number)
{
	struct tcache_module_key wanted = {.offset = (uint16_t)offset};
	const uint32_t count = (uint32_t)tcache_module_keys_count(cache);
	bool hashed = false;
	uint32_t at = *cursor;
	enum tcache_status status = *cursor ? TCACHE_OK : lower_bound(cache, &wanted, 0, &at);

	while (!status && at < count) {
		const struct tcache_module_key *key = tcache_module_keys(cache, at, 1);

		if (!key)
			return cache->last;
		if (key->offset != offset)
			break;
		if (!hashed || key->mask != wanted.mask)
			wanted.hash = hash_masked(bytes, length, key->mask);
		hashed = true;
		wanted.mask = key->mask;
		if (key->hash == wanted.hash) {
			*cursor = ++at;
			*number = key->unit;
			status = tcache_module_fits(cache, *number, offset, mode, bytes, length);
			if (status != TCACHE_ERR_RANGE)
				return status;
			status = TCACHE_OK;
		} else if (key->hash < wanted.hash) {
			status = lower_bound(cache, &wanted, at + 1, &at);
		} else if (key->mask == UINT16_MAX) {
			break;
		} else {
			const struct tcache_module_key next = {.offset = (uint16_t)offset,
							       .mask = (uint16_t)(key->mask + 1)};

			status = lower_bound(cache, &next, at + 1, &at);
		}
	}
	return status ? status : none(cache);
}

enum tcache_status tcache_module_at(struct tcache *cache, uint32_t page, uint32_t offset, uint32_t *first,
				    uint32_t *end)
{
	const struct tcache_module_page *record = tcache_module_pages(cache, page, 1);
	const struct tcache_module_unit *units =
		record ? tcache_module_units(cache, record->first, record->count) : NULL;
	uint32_t low = 0, high;

	*first = *end = 0;
	if (!units)
		return cache->last;
	for (high = record->count; low < high;) {
		uint32_t middle = low + (high - low) / 2;

		if (units[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	while (high < record->count && units[high].offset == offset)
		high++;
	*first = record->first + low;
	*end = record->first + high;
	return TCACHE_OK;
}

/* ---- all ---- */

/* With its holes filled, as its hash says. */
static enum tcache_status check_guest(struct tcache *cache, const struct tcache_module_view *v, uint32_t number)
{
	const struct tcache_module_unit *u = v->record;
	const uint32_t end = (uint32_t)u->offset + u->guest_length;
	uint64_t hash[2];

	tcache_hash(v->guest, u->guest_length, hash);
	if (memcmp(hash, u->hash, sizeof(hash)))
		return FAIL_RECORD(cache, "guest bytes of module unit %u do not have its hash", number);
	for (uint32_t i = holes_before(v->holes, v->hole_count, u->offset);
	     i < v->hole_count && TCACHE_HOLE_AT(v->holes[i]) < end; i++) {
		for (uint32_t n = 0; n < TCACHE_HOLE_SIZE(v->holes[i]); n++) {
			uint32_t at = TCACHE_HOLE_AT(v->holes[i]) + n;

			if (at >= end || v->guest[at - u->offset] != TCACHE_HOLE_FILLING)
				return FAIL_RECORD(cache, "a hole of module unit %u is not filled", number);
		}
	}
	return TCACHE_OK;
}

static enum tcache_status check_each(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_module_units_count(cache);
	struct tcache_module_view view, previous = {0};

	for (uint32_t i = 0; i < count; i++) {
		enum tcache_status status = tcache_module_view(cache, i, &view);

		if (!status)
			status = check_guest(cache, &view, i);
		if (status)
			return status;
		if (i && tcache_module_compare(previous.record, view.record) >= 0)
			return FAIL_RECORD(cache, "module unit %u is out of order, or there twice", i);
		previous = view;
	}
	return TCACHE_OK;
}

/* The pages' units are all units, one page after the other, and each names its page. */
static enum tcache_status check_pages(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_module_pages_count(cache);
	const struct tcache_module_page *pages = tcache_module_pages(cache, 0, count);
	uint64_t sum = 0;

	if (!pages)
		return cache->last;
	for (uint32_t i = 0; i < count; i++) {
		const struct tcache_module_unit *units = tcache_module_units(cache, pages[i].first, pages[i].count);
		const uint16_t *holes = tcache_module_holes(cache, pages[i].hole_first, pages[i].hole_count);
		enum tcache_status status;

		if (!units || !holes)
			return cache->last;
		if (i && tcache_module_page_compare(&pages[i - 1], &pages[i]) >= 0)
			return FAIL_RECORD(cache, "module page %u is out of order, or there twice", i);
		if (pages[i].first != sum)
			return FAIL_RECORD(cache, "units of module page %u are not where those before end", i);
		for (uint32_t n = 0; n < pages[i].count; n++)
			if (units[n].page != i)
				return FAIL_RECORD(cache, "module unit %" PRIu64 " is not of page %u, which holds it",
						   sum + n, i);
		status = check_holes(cache, holes, pages[i].hole_count, i);
		if (status)
			return status;
		sum += pages[i].count;
	}
	if (sum != tcache_module_units_count(cache))
		return FAIL_RECORD(cache, "has %" PRIu64 " module units, but %" PRIu64 " in pages",
				   tcache_module_units_count(cache), sum);
	return TCACHE_OK;
}

/* In order, as many as units, each that of the unit it names: one for each. */
static enum tcache_status check_keys(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_module_keys_count(cache);
	const struct tcache_module_key *keys = tcache_module_keys(cache, 0, count);

	if (!keys)
		return cache->last;
	if (count != tcache_module_units_count(cache))
		return FAIL_RECORD(cache, "has %" PRIu64 " module units, and %u keys of them",
				   tcache_module_units_count(cache), count);
	for (uint32_t i = 0; i < count; i++) {
		struct tcache_module_view view;
		struct tcache_module_key key;
		enum tcache_status status = tcache_module_view(cache, keys[i].unit, &view);

		if (status)
			return status;
		if (i && tcache_module_key_compare(&keys[i - 1], &keys[i]) >= 0)
			return FAIL_RECORD(cache, "module key %u is out of order, or there twice", i);
		key = tcache_module_key_of(view.record, keys[i].unit, view.guest, view.holes, view.hole_count);
		if (memcmp(&key, &keys[i], sizeof(key)))
			return FAIL_RECORD(cache, "module key %u is not that of unit %u", i, keys[i].unit);
	}
	return TCACHE_OK;
}

enum tcache_status tcache_check_modules(struct tcache *cache)
{
	enum tcache_status status = check_each(cache);

	if (!status)
		status = check_pages(cache);
	return status ? status : check_keys(cache);
}
