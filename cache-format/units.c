/* Units: finding them, and what FORMAT.md demands of all that belongs to one. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

int tcache_unit_compare(const void *a, const void *b)
{
	const struct tcache_unit *x = a, *y = b;

	COMPARE(x->pc, y->pc);
	COMPARE(x->mode, y->mode);
	COMPARE(x->hash[1], y->hash[1]);
	COMPARE(x->hash[0], y->hash[0]);
	return 0;
}

/* ---- one unit ---- */

static enum tcache_status check_unit(struct tcache *cache, const struct tcache_unit *u, uint32_t number)
{
	uint32_t engine = u->flags & (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED);

	if ((u->flags & ~TCACHE_UNIT_FLAGS) || !engine || engine == (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED))
		return FAIL_RECORD(cache, "unit %u has the flags 0x%x", number, u->flags);
	if (!u->guest_length || u->guest_length > TCACHE_MAX_GUEST_LENGTH ||
	    u->pc % TCACHE_PAGE + u->guest_length > 2 * TCACHE_PAGE || u->pc > UINT64_MAX - (u->guest_length - 1) ||
	    !u->instruction_count || u->instruction_count > u->guest_length)
		return FAIL_RECORD(cache, "unit %u has %u instructions in %u bytes at 0x%" PRIx64, number,
				   u->instruction_count, u->guest_length, u->pc);
	if (u->mode & ~u->mode_mask)
		return FAIL_RECORD(cache, "unit %u has a mode that its mask does not cover", number);
	if (!u->code_length || u->body_offset >= u->code_length || u->saved_offset >= u->code_length)
		return FAIL_RECORD(cache, "unit %u has no code, or its second entry lies outside of it", number);
	if (u->image > tcache_images_count(cache))
		return FAIL_RECORD(cache, "unit %u is of image %u, which does not exist", number, u->image - 1);
	if (!tcache_zero(u->reserved, sizeof(u->reserved)))
		return FAIL_RECORD(cache, "reserved fields of unit %u are not zero", number);
	return TCACHE_OK;
}

enum tcache_status tcache_check_pcs(struct tcache *cache, const struct tcache_pc *pcs, uint32_t count,
				    uint32_t code_length, uint32_t guest_length, const char *what, uint32_t number)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct tcache_pc *pc = &pcs[i];

		if (pc->code >= code_length || pc->guest >= guest_length || pc->reserved ||
		    (i && pc->code <= pc[-1].code))
			return FAIL_RECORD(cache, "pc record %u of %s %u is out of bounds or out of order", i, what,
					   number);
	}
	return TCACHE_OK;
}

enum tcache_status tcache_check_entries(struct tcache *cache, const struct tcache_entry *entries, uint32_t count,
					uint32_t code_length, uint32_t guest_length, const char *what, uint32_t number)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct tcache_entry *entry = &entries[i];

		if (entry->code >= code_length || entry->guest >= guest_length || entry->reserved)
			return FAIL_RECORD(cache, "entry %u of %s %u is out of bounds", i, what, number);
	}
	return TCACHE_OK;
}

static enum tcache_status check_links(struct tcache *cache, const struct tcache_unit_view *v, uint32_t number)
{
	uint64_t code = cache->placement.code_address + v->unit->code_offset;

	for (uint32_t i = 0; i < v->unit->link_count; i++) {
		const struct tcache_link *link = &v->links[i];

		if (link->flags & ~(TCACHE_LINK_SAVED | TCACHE_LINK_DIRECT))
			return FAIL_RECORD(cache, "link %u of unit %u has unknown flags", i, number);
		if (link->cold >= v->unit->code_length)
			return FAIL_RECORD(cache, "cold path of link %u of unit %u is out of bounds", i, number);
		if (v->unit->code_length < TCACHE_LINK_SITE || link->site > v->unit->code_length - TCACHE_LINK_SITE)
			return FAIL_RECORD(cache, "jump of link %u of unit %u is out of bounds", i, number);
		if (v->cells[i] != code + v->links[i].cold)
			return FAIL_RECORD(cache, "link %u of unit %u does not lead to its cold path at first", i,
					   number);
	}
	return TCACHE_OK;
}

enum tcache_status tcache_check_insns(struct tcache *cache, const struct tcache_insn *insns, uint64_t first,
				      uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		const struct tcache_insn *insn = &insns[i];

		if (!insn->length || insn->length > sizeof(insn->bytes) ||
		    !tcache_zero(insn->bytes + insn->length, sizeof(insn->bytes) - insn->length))
			return FAIL_RECORD(cache, "instruction %" PRIu64 " has %u bytes, or bytes after its end",
					   first + i, insn->length);
	}
	return TCACHE_OK;
}

/* Finds the parts of a unit in the other chunks; stops at the first that is out of range or damaged. */
static bool view_chunks(struct tcache *cache, struct tcache_unit_view *v)
{
	const struct tcache_unit *u = v->unit;

	if (!(v->code = tcache_code(cache, u->code_offset, u->code_length)) ||
	    !(v->pcs = tcache_pcs(cache, u->pc_first, u->pc_count)) ||
	    !(v->entries = tcache_entries(cache, u->entry_first, u->entry_count)) ||
	    !(v->links = tcache_links(cache, u->link_first, u->link_count)) ||
	    !(v->cells = tcache_cells(cache, u->link_first, u->link_count)))
		return false;
	/* all of them are about to be looked at, and come from memory most often */
	__builtin_prefetch(v->pcs);
	__builtin_prefetch(v->entries);
	__builtin_prefetch(v->links);
	__builtin_prefetch(v->cells);
	return true;
}

/* The same for what only describes it. */
static bool view_descriptions(struct tcache *cache, struct tcache_unit_view *v)
{
	const struct tcache_unit *u = v->unit;

	if (!(v->insns = tcache_insns(cache, u->insn_first, u->insn_count)) ||
	    !(v->name = tcache_string(cache, u->name)))
		return false;
	if (!u->guest_offset || tcache_find(cache, TCACHE_TYPE_guest) == TCACHE_NO_CHUNK)
		return true;
	v->guest = tcache_guest(cache, u->guest_offset - 1, u->guest_length);
	return v->guest;
}

enum tcache_status tcache_unit_run_view(struct tcache *cache, uint32_t number, struct tcache_unit_view *view)
{
	const struct tcache_unit *unit = tcache_units(cache, number, 1);
	enum tcache_status status;

	*view = (struct tcache_unit_view){.unit = unit};
	if (!unit || !tcache_place(cache))
		return cache->last;
	status = check_unit(cache, unit, number);
	if (status)
		return status;
	if (!view_chunks(cache, view))
		return cache->last;
	status = tcache_check_pcs(cache, view->pcs, unit->pc_count, unit->code_length, unit->guest_length, "unit",
				  number);
	if (!status)
		status = tcache_check_entries(cache, view->entries, unit->entry_count, unit->code_length,
					      unit->guest_length, "unit", number);
	if (!status)
		status = check_links(cache, view, number);
	return status;
}

enum tcache_status tcache_unit_view(struct tcache *cache, uint32_t number, struct tcache_unit_view *view)
{
	enum tcache_status status = tcache_unit_run_view(cache, number, view);

	if (status)
		return status;
	if (!view_descriptions(cache, view))
		return cache->last;
	return tcache_check_insns(cache, view->insns, view->unit->insn_first, view->unit->insn_count);
}

/* ---- finding units ---- */

/* First unit whose pc is not below this one (after: above this one). Fails on damage only. */
static enum tcache_status bound(struct tcache *cache, uint64_t pc, bool after, uint32_t *result)
{
	uint32_t low = 0, high = (uint32_t)tcache_units_count(cache);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tcache_unit *unit = tcache_units(cache, middle, 1);

		if (!unit)
			return cache->last;
		if (unit->pc < pc || (after && unit->pc == pc))
			low = middle + 1;
		else
			high = middle;
	}
	*result = low;
	return TCACHE_OK;
}

enum tcache_status tcache_unit_find(struct tcache *cache, uint64_t pc, uint32_t *first, uint32_t *count)
{
	uint32_t end = 0;
	enum tcache_status status;

	*first = 0;
	status = bound(cache, pc, false, first);
	if (!status)
		status = bound(cache, pc, true, &end);
	/* in a file whose units are out of order the bounds may be too */
	*count = !status && end > *first ? end - *first : 0;
	return status;
}

/* Record `index` of BYCO, and the unit that it names. */
static const struct tcache_unit *unit_by_code(struct tcache *cache, uint32_t index, uint32_t *number)
{
	const uint32_t *record = tcache_by_code(cache, index, 1);

	if (!record)
		return NULL;
	*number = *record;
	return tcache_units(cache, *number, 1);
}

enum tcache_status tcache_unit_at_code(struct tcache *cache, uint64_t offset, uint32_t *number)
{
	uint32_t low = 0, high = (uint32_t)tcache_by_code_count(cache);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tcache_unit *unit = unit_by_code(cache, middle, number);

		if (!unit)
			return cache->last;
		if (offset < unit->code_offset)
			high = middle;
		else if (offset - unit->code_offset >= unit->code_length)
			low = middle + 1;
		else
			return TCACHE_OK;
	}
	*number = 0;
	return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no unit at code offset 0x%" PRIx64, offset);
}

/* ---- all units ---- */

/* Does the unit jump, or call, through the link's cell? */
static bool leads_to_cell(const struct tcache *cache, const struct tcache_unit_view *v, uint32_t i)
{
	uint64_t cell = cache->placement.cells_address + 8 * ((uint64_t)v->unit->link_first + i);

	return tcache_site_is_cell(v->code + v->links[i].site, (uint32_t)cell);
}

/* Does it straight to this unit? What is copied elsewhere when it runs, or need not be in one page, must not. */
static bool leads_to_unit(const struct tcache_unit_view *v, uint32_t i, const struct tcache_unit *to)
{
	const struct tcache_link *link = &v->links[i];
	uint32_t from = v->unit->code_offset + link->site + TCACHE_LINK_SITE, entry;

	if (!to || (v->unit->flags | to->flags) & TCACHE_UNIT_COLD || tcache_unit_straddles(v->unit) ||
	    tcache_unit_straddles(to) || to->pc / TCACHE_PAGE != v->unit->pc / TCACHE_PAGE)
		return false;
	entry = to->code_offset + (link->flags & TCACHE_LINK_SAVED ? to->saved_offset : to->body_offset);
	return tcache_site_is_direct(v->code + link->site, entry - from);
}

/* Code goes where its links say. */
static enum tcache_status check_sites(struct tcache *cache, const struct tcache_unit_view *v, uint32_t number)
{
	for (uint32_t i = 0; i < v->unit->link_count; i++) {
		bool good;

		if (v->links[i].flags & TCACHE_LINK_DIRECT) {
			uint32_t to, count;

			if (tcache_unit_find(cache, v->unit->pc + (uint64_t)(int64_t)v->links[i].target, &to, &count))
				return cache->last;
			good = count == 1 && leads_to_unit(v, i, tcache_units(cache, to, 1));
		} else {
			good = leads_to_cell(cache, v, i);
		}
		if (!good)
			return FAIL_RECORD(cache, "link %u of unit %u is no jump to where it leads", i, number);
	}
	return TCACHE_OK;
}

static enum tcache_status check_each(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_units_count(cache);
	struct tcache_unit_view view, previous = {0};

	for (uint32_t i = 0; i < count; i++) {
		enum tcache_status status = tcache_unit_view(cache, i, &view);
		uint64_t hash[2];

		if (status)
			return status;
		if (i && tcache_unit_compare(previous.unit, view.unit) >= 0)
			return FAIL_RECORD(cache, "unit %u is out of order, or there twice", i);
		if (view.guest) {
			tcache_hash(view.guest, view.unit->guest_length, hash);
			if (memcmp(hash, view.unit->hash, sizeof(hash)))
				return FAIL_RECORD(cache, "guest bytes of unit %u do not have its hash", i);
		}
		status = check_sites(cache, &view, i);
		if (status)
			return status;
		previous = view;
	}
	return TCACHE_OK;
}

/* Starts that ascend strictly cannot be of the same unit: as many of them as units are a permutation. */
static enum tcache_status check_by_code(struct tcache *cache)
{
	uint32_t count = (uint32_t)tcache_by_code_count(cache);
	uint64_t end = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t number;
		const struct tcache_unit *unit = unit_by_code(cache, i, &number);

		if (!unit)
			return cache->last;
		if (unit->code_offset < end)
			return FAIL_RECORD(cache, "unit %u is there twice in the order of code, or overlaps", number);
		end = (uint64_t)unit->code_offset + unit->code_length;
	}
	return TCACHE_OK;
}

/* Also cells that belong to no unit. */
static enum tcache_status check_cells(struct tcache *cache)
{
	uint64_t count = tcache_cells_count(cache), code = cache->placement.code_address;
	const uint64_t *cells = tcache_cells(cache, 0, count);

	if (!cells)
		return cache->last;
	for (uint64_t i = 0; i < count; i++)
		if (cells[i] < code || cells[i] - code >= tcache_code_count(cache))
			return FAIL_RECORD(cache, "cell %" PRIu64 " leads out of the code", i);
	return TCACHE_OK;
}

/* Also those that belong to no unit. */
static enum tcache_status check_all_insns(struct tcache *cache)
{
	uint64_t count = tcache_insns_count(cache);
	const struct tcache_insn *insns = tcache_insns(cache, 0, count);

	return insns ? tcache_check_insns(cache, insns, 0, count) : cache->last;
}

static int compare_pcs(const void *a, const void *b)
{
	COMPARE(*(const uint64_t *)a, *(const uint64_t *)b);
	return 0;
}

static enum tcache_status check_targets(struct tcache *cache)
{
	uint64_t count = tcache_targets_count(cache);
	const uint64_t *targets = tcache_targets(cache, 0, count);
	uint64_t *sorted;
	enum tcache_status status = TCACHE_OK;

	if (!targets)
		return cache->last;
	if (!count)
		return TCACHE_OK;
	sorted = malloc(count * sizeof(*sorted));
	if (!sorted)
		return tcache_fail(&cache->report, TCACHE_ERR_MEMORY, "out of memory");
	memcpy(sorted, targets, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare_pcs);
	for (uint64_t i = 1; !status && i < count; i++)
		if (sorted[i] == sorted[i - 1])
			status = FAIL_RECORD(cache, "target 0x%" PRIx64 " is there twice", sorted[i]);
	free(sorted);
	return status;
}

enum tcache_status tcache_check_units(struct tcache *cache)
{
	static enum tcache_status (*const checks[])(struct tcache * cache) = {
		check_each, check_by_code, check_cells, check_all_insns, check_targets,
	};
	enum tcache_status status = TCACHE_OK;

	for (size_t i = 0; !status && i < sizeof(checks) / sizeof(checks[0]); i++)
		status = checks[i](cache);
	return status;
}
