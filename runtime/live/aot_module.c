#include "live/aot_module.h"

#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#include "live/code_pages.h"
#include "translate/module_code.h"
#include "util/err.h"
#include "vm.h"

/* A frame is looked for in all pages so often. */
#define SEARCHES_MAX   4u
/* Of pages that have a unit which fits so many are looked at, and so many units of each. */
#define CANDIDATES_MAX 8u
#define SAMPLES        32u

_Static_assert((int)MODULE_ADDRESS == (int)TCACHE_MODULE_ADDRESS && (int)MODULE_WIDE == (int)TCACHE_MODULE_WIDE &&
		       (int)MODULE_MINUS == (int)TCACHE_MODULE_MINUS && (int)MODULE_TAG == (int)TCACHE_MODULE_TAG &&
		       (int)MODULE_NUMBER == (int)TCACHE_MODULE_NUMBER && (int)MODULE_LINK == (int)TCACHE_MODULE_LINK &&
		       (int)MODULE_INSN == (int)TCACHE_MODULE_INSN && (int)MODULE_FIXUPS == (int)TCACHE_MODULE_JUMP,
	       "fix-ups of caches are used as they are");
_Static_assert((int)MODULE_FROM_PAGE == (int)TCACHE_MODULE_FROM_PAGE &&
		       (int)MODULE_FROM_RELATIVE == (int)TCACHE_MODULE_FROM_RELATIVE &&
		       (int)MODULE_FROM_ABSOLUTE == (int)TCACHE_MODULE_FROM_ABSOLUTE &&
		       (int)MODULE_FROM_WIDE == (int)TCACHE_MODULE_FROM_WIDE,
	       "and what they are made of");

int aot_modules_add(struct live *live, struct tcache *cache)
{
	struct aot_modules *modules = live->modules;

	if (!tcache_module_units_count(cache))
		return 0;
	if (!modules) {
		modules = live->modules = calloc(1, sizeof(*modules));
		if (!modules)
			return -1;
		for (unsigned i = 0; i < ARRAY_SIZE(modules->frames); i++)
			modules->frames[i].gpa = NO_FRAME;
	}
	modules->seen[modules->count] = calloc(tcache_module_pages_count(cache) / 8 + 1, 1);
	if (!modules->seen[modules->count])
		return -1;
	modules->cache[modules->count++] = cache;
	return 0;
}

void aot_modules_destroy(struct aot_modules *modules)
{
	for (unsigned i = 0; modules && i < modules->count; i++)
		free(modules->seen[i]);
	free(modules);
}

u64 aot_modules_count(const struct live *live)
{
	u64 count = 0;

	for (unsigned i = 0; live->modules && i < live->modules->count; i++)
		count += tcache_module_units_count(live->modules->cache[i]);
	return count;
}

/* --- finding ----------------------------------------------------------------------------------------------------- */

/* The guest's page that v->rip is in. */
struct wanted {
	struct vcpu *v;
	struct aot_modules *modules;
	const u8 *page;
	u32 offset, mode;
};

/* Says so if it is not for lack of it that something was not found. */
static bool found(const struct wanted *w, struct tcache *cache, enum tcache_status status)
{
	if (status != TCACHE_OK && status != TCACHE_ERR_RANGE) {
		w->v->vm->stats.aot_rejected_damage++;
		if (!w->modules->damage_said)
			warn("%s; what is damaged is translated at run time instead", tcache_error(cache));
		w->modules->damage_said = true;
	}
	return status == TCACHE_OK;
}

/* The unit of this page of a cache that fits. */
static bool find_in_page(const struct wanted *w, struct tcache *cache, u32 page, u32 *number)
{
	u32 first, end;

	if (!found(w, cache, tcache_module_at(cache, page, w->offset, &first, &end)))
		return false;
	for (*number = first; *number < end; ++*number) {
		if (found(w, cache,
			  tcache_module_fits(cache, *number, w->offset, w->mode, w->page + w->offset,
					     PAGE_SIZE - w->offset)))
			return true;
	}
	return false;
}

/* How many of the page's units fit, of some of them. */
static unsigned rate(const struct wanted *w, struct tcache *cache, u32 page)
{
	const struct tcache_module_page *record = tcache_module_pages(cache, page, 1);
	const struct tcache_module_unit *units =
		record ? tcache_module_units(cache, record->first, record->count) : NULL;
	unsigned fitting = 0, step = record ? record->count / SAMPLES + 1 : 1;

	for (u32 i = 0; units && i < record->count; i += step) {
		const u32 offset = units[i].offset % PAGE_SIZE; /* it has not been checked */

		fitting += tcache_module_fits(cache, record->first + i, offset, w->mode, w->page + offset,
					      PAGE_SIZE - offset) == TCACHE_OK;
	}
	return fitting;
}

/* A unit that fits, and how well its page does; 0: none has been found. */
struct candidate {
	u32 number, page;
	u8 cache;
	unsigned rating;
};

/* Among all units of a cache that fit the one whose page fits best; sets *best if it is better than that. */
static void search_cache(const struct wanted *w, unsigned n, struct candidate *best)
{
	struct tcache *cache = w->modules->cache[n];
	u32 cursor = 0, number;

	for (unsigned i = 0; i < CANDIDATES_MAX; i++) {
		const struct tcache_module_unit *unit;
		unsigned rating;

		if (!found(w, cache,
			   tcache_module_find(cache, w->offset, w->mode, w->page + w->offset, PAGE_SIZE - w->offset,
					      &cursor, &number)))
			return;
		unit = tcache_module_units(cache, number, 1);
		rating = unit ? 1 + rate(w, cache, unit->page) : 0;
		if (rating > best->rating)
			*best = (struct candidate){number, unit->page, (u8)n, rating};
	}
}

/* As that of a unit that fits: its page exists. */
static void recognize(const struct wanted *w, struct module_frame *frame, const struct candidate *as)
{
	u8 *seen = &w->modules->seen[as->cache][as->page / 8], bit = (u8)(1u << as->page % 8);

	w->v->vm->stats.aot_module_pages += !(*seen & bit);
	*seen |= bit;
	frame->page = as->page;
	frame->cache = as->cache;
	frame->known = true;
}

/*
 * A unit that fits: most often in a page that has been recognized. What another page has is used too; but the frame is
 * that page only if it fits better: ends of functions are the same in many pages.
 */
static bool find(const struct wanted *w, struct module_frame *frame, struct candidate *result)
{
	*result = (struct candidate){.page = frame->page, .cache = frame->cache};
	if (frame->known && find_in_page(w, w->modules->cache[frame->cache], frame->page, &result->number))
		return true;
	if (frame->searches == SEARCHES_MAX)
		return false;
	frame->searches++;
	for (unsigned i = 0; i < w->modules->count; i++)
		search_cache(w, i, result);
	if (result->rating &&
	    (!frame->known || result->rating > 1 + rate(w, w->modules->cache[frame->cache], frame->page)))
		recognize(w, frame, result);
	return result->rating;
}

/* --- making ------------------------------------------------------------------------------------------------------ */

/* A unit that is being added to the live store. */
struct making {
	struct live *live;
	struct tcache_module_view view;
	struct module_place place;
	u32 at; /* offset of its code */
};

static bool has_room(const struct store *store, const struct tcache_module_view *view)
{
	const struct tcache_module_unit *from = view->record;

	/* there are as many landings as instructions at most */
	return store->unit_count != store->bound_first && store->used + from->code_length <= store->size &&
	       store->pc_count + (u64)from->pc_count <= store->pc_max &&
	       store->entry_count + (u64)from->entry_count <= store->entry_max &&
	       store->insn_count + (u64)from->insn_count <= store->insn_max &&
	       store->link_count + (u64)view->jumps <= store->link_max &&
	       store->landing_count + (u64)from->instruction_count <= store->landing_max;
}

static bool decode_insns(struct store *store, const struct tcache_module_view *view)
{
	for (u32 i = 0; i < view->record->insn_count; i++) {
		const struct tcache_insn *from = &view->insns[i];
		struct insn *insn = &store->insns[store->insn_count + i];

		if (insn_decode(insn, from->bytes, from->length) != 0 || insn->length != from->length)
			return false;
	}
	return true;
}

/* All that can fail. The code is where it belongs afterwards. */
static bool place_code(struct making *m)
{
	struct store *store = &m->live->store;
	const struct tcache_module_view *view = &m->view;
	u8 *code = store->code_rw + m->at;

	code_pages_want(m->live, m->at, m->at + CODE_PAGE, store->size);
	memcpy(code, view->code, view->record->code_length);
	for (u32 i = 0; i < view->record->fixup_count; i++) {
		const struct tcache_module_fixup *from = &view->fixups[i];
		const struct fixup fixup = {from->at, from->kind, from->from, from->value};

		if (fixup.kind < MODULE_FIXUPS && !module_fix(code, &fixup, &m->place))
			return false;
	}
	return decode_insns(store, view);
}

static void add_jumps(struct making *m, u32 number)
{
	struct store *store = &m->live->store;

	for (u32 i = 0; i < m->view.record->fixup_count; i++) {
		const struct tcache_module_fixup *from = &m->view.fixups[i];

		if (from->kind == TCACHE_MODULE_LANDING)
			store_add_landing(store, m->at + from->at);
		else if (from->kind == TCACHE_MODULE_JUMP || from->kind == TCACHE_MODULE_JUMP_SAVED)
			*store_add_link(store) = (struct link){.unit = number,
							       .patch = m->at + from->at,
							       .target = PAGE_BASE(m->place.pc) + from->value,
							       .saved = from->kind == TCACHE_MODULE_JUMP_SAVED};
	}
}

static void add_tables(struct making *m, u32 number)
{
	struct store *store = &m->live->store;
	const struct tcache_module_view *view = &m->view;
	const struct tcache_module_unit *from = view->record;

	for (u32 i = 0; i < from->pc_count; i++)
		*store_add_pc(store) = (struct pc_entry){.code = m->at + view->pcs[i].code,
							 .guest = view->pcs[i].guest,
							 .home = view->pcs[i].home,
							 .left = view->pcs[i].left};
	for (u32 i = 0; i < from->entry_count; i++)
		store_add_entry(store, number, m->place.pc + view->entries[i].guest, m->at + view->entries[i].code);
	store->insn_count += from->insn_count;
	add_jumps(m, number);
}

static u32 add_unit(struct making *m, u64 gpa, u32 mode)
{
	struct store *store = &m->live->store;
	const struct tcache_module_unit *from = m->view.record;
	const u32 number = store->unit_count++;
	struct unit *unit = &store->units[number];

	*unit = (struct unit){.pc = m->place.pc,
			      .gpa = gpa,
			      .gpa_next = NO_FRAME,
			      .mode = mode,
			      .code = m->at,
			      .body = m->at + from->body_offset,
			      .saved = m->at + from->saved_offset,
			      .stale = m->at + from->stale_offset,
			      .stale_saved = m->at + from->stale_saved_offset,
			      .code_end = m->at + from->code_length,
			      .guest_bytes = from->guest_length,
			      .instructions = from->instruction_count,
			      .origin = ORIGIN_AOT_COPIED,
			      .pcs = store->pc_count,
			      .pcs_count = from->pc_count,
			      .entries = store->entry_count,
			      .entries_count = from->entry_count,
			      .landings = store->landing_count,
			      .links = store->link_count,
			      .links_count = m->view.jumps,
			      .insns = store->insn_count,
			      .insns_count = from->insn_count};
	add_tables(m, number);
	unit->landings_count = store->landing_count - unit->landings;
	store->used = align_up((u64)unit->code_end, 16);
	return number;
}

static u32 make(const struct wanted *w, struct tcache *cache, u32 number, u64 gpa)
{
	struct live *live = w->v->vm->live;
	struct store *store = &live->store;
	struct making m = {.live = live, .at = (u32)store->used};

	if (!found(w, cache, tcache_module_view(cache, number, &m.view)) || !has_room(store, &m.view))
		return UNIT_NONE;
	m.place = (struct module_place){.pc = w->v->rip,
					.bytes = w->page + w->offset,
					.numbers = store,
					.first_link = store->link_count,
					.first_insn = (u32)(uintptr_t)&store->insns[store->insn_count]};
	return place_code(&m) ? add_unit(&m, gpa, w->mode) : UNIT_NONE;
}

u32 aot_modules_make(struct vcpu *v, u64 gpa, u32 mode)
{
	struct vm_stats *stats = &v->vm->stats;
	struct aot_modules *modules = v->vm->live->modules;
	struct module_frame *frame = module_frame(modules, gpa);
	const struct wanted w = {.v = v,
				 .modules = modules,
				 .page = ram_at(&v->vm->ram, PAGE_BASE(gpa)),
				 .offset = (u32)PAGE_OFFSET(gpa),
				 .mode = mode};
	struct candidate from;
	u32 unit = UNIT_NONE;

	if (!w.page)
		return UNIT_NONE;
	if (frame->gpa != PAGE_BASE(gpa))
		*frame = (struct module_frame){.gpa = PAGE_BASE(gpa)};
	if (find(&w, frame, &from))
		unit = make(&w, modules->cache[from.cache], from.number, gpa);
	stats->aot_bound += unit != UNIT_NONE;
	stats->aot_module_bound += unit != UNIT_NONE;
	stats->aot_module_missed += unit == UNIT_NONE && frame->known;
	stats->aot_module_unknown += unit == UNIT_NONE && !frame->known;
	return unit;
}
