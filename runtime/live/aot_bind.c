/* Putting units of caches to use where the guest has the code that they are made of, and taking them back. */
#include "live/aot_internal.h"

#include <string.h>

#include "live/aot_index.h"
#include "live/code_pages.h"
#include "vm.h"

#define REBINDS_MAX 8 /* between two frames at one address; then this unit is left to live translation */

#define NO_CODE UINT32_MAX

/* Copies its code to the code cache, for it depends on no address of its own. The copy's offset; NO_CODE: no room. */
static u32 copy_code(struct live *live, u32 number, const struct tcache_unit_view *view)
{
	struct store *store = &live->store;
	u32 at = (u32)store->used, length = view->unit->code_length;

	/* a quarter is left to live translation: when that has no room, everything is forgotten */
	if (store->used + length > store->size - store->size / 4 || live->copied_count == AOT_UNITS_MAX)
		return NO_CODE;
	code_pages_want(live, at, at + CODE_PAGE, store->size);
	memcpy(store->code_rw + at, view->code, length);
	store->used = align_up(store->used + length, 16);
	live->copied[live->copied_count++] = number;
	return at;
}

/* All links of the copy go through their cells. */
static void use_cells(const struct live *live, const struct aot *aot, const struct tcache_unit_view *view, u32 code)
{
	for (u32 i = 0; i < view->unit->link_count; i++) {
		const u64 *cell = &aot->cells[view->unit->link_first + i];

		tcache_site_set_cell(live->store.code_rw + code + view->links[i].site, (u32)(uintptr_t)cell);
	}
}

/*
 * Where the code of what will be unit `number` of the live tables is. Code that no recorded run executed lies between
 * such code as nobody may ever want: run from there, it would be spread over as many of the host's pages as there are
 * units. NO_CODE: what is bound alone has to be copied, and there is no room.
 */
static u32 take_code(struct live *live, const struct aot *aot, u32 number, const struct tcache_unit_view *view,
		     bool alone)
{
	u32 original = aot->code + view->unit->code_offset, copy;

	if (!alone && !(view->unit->flags & TCACHE_UNIT_COLD))
		return original;
	copy = copy_code(live, number, view);
	if (!alone)
		return copy == NO_CODE ? original : copy;
	if (copy != NO_CODE)
		use_cells(live, aot, view, copy);
	return copy;
}

static bool has_room(const struct store *store, const struct tcache_unit *unit)
{
	return store->unit_count < store->bound_first &&
	       store->entry_count + (u64)unit->entry_count <= store->entry_max;
}

/* There is room. */
static struct unit *new_unit(struct live *live, const struct aot *aot, u32 number, const struct tcache_unit_view *view,
			     u32 code)
{
	struct store *store = &live->store;
	const struct tcache_unit *from = view->unit;
	u32 n = --store->bound_first;
	struct unit *unit = &store->units[n];

	*unit = (struct unit){
		.pc = from->pc,
		.gpa_next = NO_FRAME,
		.code = code,
		.body = code + from->body_offset,
		.saved = code + from->saved_offset,
		.code_end = code + from->code_length,
		.entries = store->entry_count,
		.entries_count = from->entry_count,
		.landings = store->landing_count,
		.links = from->link_first,
		.links_count = from->link_count,
		.cached = number + 1,
		.cache_id = aot->id,
		.instructions = (u16)from->instruction_count,
		.guest_bytes = (u16)from->guest_length,
		.origin = ORIGIN_AOT_COPIED, /* lifted parts count by themselves */
	};
	for (u32 i = 0; i < from->entry_count; i++)
		store_add_entry(store, n, from->pc + view->entries[i].guest, code + view->entries[i].code);
	return unit;
}

/* Copies go through cells only, and nothing jumps straight into them. */
static bool is_copy(const struct aot *aot, const struct unit *unit)
{
	return unit->code < aot->code;
}

/* Its links lead nowhere yet. */
static void reset_cells(struct aot *aot, struct binding *binding, const struct unit *unit)
{
	bool copied = is_copy(aot, unit);

	if (binding->dirty || copied) {
		for (u32 i = unit->links; i < unit->links + unit->links_count; i++)
			aot->cells[i] = LIVE_CODE_ADDRESS + unit->code + aot->links[i].cold;
	}
	binding->dirty = copied;
}

/* Does it lie in the guest's page `page`, and was executed in the training run? */
static bool lies_in(const struct aot *aot, u32 n, u32 mode, const u8 *page)
{
	const struct tcache_unit *unit = &aot->units[n];
	u64 hash[2];

	if (unit->flags & TCACHE_UNIT_COLD || (unit->mode ^ mode) & unit->mode_mask || aot->bindings[n].rejected ||
	    tcache_unit_straddles(unit))
		return false;
	tcache_hash(page + PAGE_OFFSET(unit->pc), unit->guest_length, hash);
	return hash[0] == unit->hash[0] && hash[1] == unit->hash[1];
}

/* One frame, or mode, is served at a time. False: it has changed too often. */
static bool leave_old_place(struct vcpu *v, struct binding *binding)
{
	if (!binding->bound)
		return true;
	if (++binding->rebinds > REBINDS_MAX) {
		v->vm->stats.aot_rejected_frame++;
		binding->rejected = true;
		return false;
	}
	live_drop_frame(v, v->vm->live->store.units[binding->unit].gpa);
	return true;
}

static bool is_bound_here(const struct live *live, const struct aot *aot, u32 number, u64 page, u32 mode)
{
	const struct binding *binding = &aot->bindings[number];

	if (!binding->bound)
		return false;
	const struct unit *unit = &live->store.units[binding->unit];

	return unit->mode == mode && PAGE_BASE(unit->gpa) == page;
}

static void begin_marks(struct aot *aot)
{
	if (++aot->mark)
		return;
	for (u32 i = 0; i < aot->unit_count; i++)
		aot->bindings[i].mark = 0;
	aot->mark = 1;
}

/*
 * The unit, which fits, and those that must be bound along with it because they are jumped straight into, by it or by
 * each other, and are not bound here yet. Returns how many, at most AOT_TOGETHER; 0: one of them does not fit, or is a
 * copy.
 */
static u32 collect(const struct vcpu *v, struct aot *aot, u32 number, u64 gpa, u32 mode, u32 group[AOT_TOGETHER])
{
	const u8 *page = ram_at(&v->vm->ram, PAGE_BASE(gpa));
	u32 count = 1;

	group[0] = number;
	begin_marks(aot);
	aot->bindings[number].mark = aot->mark;
	for (u32 i = 0; i < count; i++) {
		const struct tcache_unit *unit = &aot->units[group[i]];

		if ((u64)unit->link_first + unit->link_count > aot->link_count)
			return 0;
		for (u32 n = unit->link_first; n < unit->link_first + unit->link_count; n++) {
			const u64 pc = unit->pc + (u64)(s64)aot->links[n].target;

			if (!(aot->links[n].flags & TCACHE_LINK_DIRECT))
				continue;
			if (unit->flags & TCACHE_UNIT_COLD) /* it would be copied */
				return 0;
			const u32 to = aot_index_first(aot->index, pc);

			if (to == aot->unit_count || aot->units[to].pc != pc ||
			    PAGE_BASE(pc) != PAGE_BASE(aot->units[number].pc))
				return 0;
			if (aot->bindings[to].mark == aot->mark)
				continue;
			if (is_bound_here(v->vm->live, aot, to, PAGE_BASE(gpa), mode)) {
				if (is_copy(aot, &v->vm->live->store.units[aot->bindings[to].unit]))
					return 0;
				continue;
			}
			if (count == AOT_TOGETHER || !lies_in(aot, to, mode, page))
				return 0;
			aot->bindings[to].mark = aot->mark;
			group[count++] = to;
		}
	}
	return count;
}

static u32 bind(struct vcpu *v, struct aot *aot, u32 number, u64 gpa, u64 next, u32 mode, bool alone, bool *full)
{
	struct live *live = v->vm->live;
	struct binding *binding = &aot->bindings[number];
	struct tcache_unit_view view;
	struct unit *unit;

	/* instructions are decoded when they are first executed: too late to find out that they are damaged */
	if (tcache_unit_run_view(aot->file, number, &view) != TCACHE_OK ||
	    !tcache_insns(aot->file, view.unit->insn_first, view.unit->insn_count)) {
		v->vm->stats.aot_rejected_damage++;
		if (!aot->damage_said)
			warn("%s; what is damaged is translated at run time instead", tcache_error(aot->file));
		aot->damage_said = true;
		binding->rejected = true;
		return UNIT_NONE;
	}
	if (!has_room(&live->store, view.unit)) {
		*full = true;
		return UNIT_NONE;
	}
	u32 code = take_code(live, aot, live->store.bound_first - 1, &view, alone);

	if (code == NO_CODE)
		return UNIT_NONE;
	unit = new_unit(live, aot, number, &view, code);
	unit->gpa = gpa;
	unit->gpa_next = next;
	unit->mode = mode; /* of this use: links are made by it */
	reset_cells(aot, binding, unit);
	if (view.unit->pc_count)
		aot->host_pcs = view.pcs - view.unit->pc_first;
	binding->bound = true;
	binding->unit = live->store.bound_first;
	v->vm->stats.aot_bound++;
	return binding->unit;
}

static bool is_any_bound(const struct aot *aot, const u32 *group, u32 count)
{
	for (u32 i = 0; i < count; i++) {
		if (aot->bindings[group[i]].bound)
			return true;
	}
	return false;
}

/* collect(), and none of them is bound elsewhere any more; 0 as well if they are more than `max`. */
static u32 collect_unbound(struct vcpu *v, struct aot *aot, u32 number, u64 gpa, u32 mode, unsigned max, u32 *group)
{
	u32 count = collect(v, aot, number, gpa, mode, group);

	if (count > max)
		return 0;
	if (!is_any_bound(aot, group, count))
		return count;
	for (u32 i = 0; i < count; i++) {
		if (!leave_old_place(v, &aot->bindings[group[i]]))
			return 0;
	}
	/* in another mode it was bound here, where everything has been dropped now */
	count = collect(v, aot, number, gpa, mode, group);
	return count > max || is_any_bound(aot, group, count) ? 0 : count;
}

/* Binds what was collected; `next` is for the first. All, or none: then 0. */
static unsigned bind_group(struct vcpu *v, struct aot *aot, const u32 *group, u32 count, u64 gpa, u64 next, u32 mode,
			   u32 *numbers, bool *full)
{
	for (u32 i = 0; i < count; i++) {
		u64 at = PAGE_BASE(gpa) + PAGE_OFFSET(aot->units[group[i]].pc);

		numbers[i] = bind(v, aot, group[i], at, i ? NO_FRAME : next, mode, false, full);
		if (numbers[i] != UNIT_NONE)
			continue;
		/* nobody knows of the others yet */
		while (i--) {
			v->vm->live->store.units[numbers[i]].dropped = true;
			aot_unbind(v->vm->live, &v->vm->live->store.units[numbers[i]]);
		}
		return 0;
	}
	return count;
}

/* A unit that fits, while not all that it needs does. */
struct candidate {
	struct aot *aot; /* NULL: there is none */
	u32 number;
	u64 next;
};

/*
 * Kernels patch their code while they start up: what was there in the recorded run may not be there yet, or not any
 * more. Returns how many.
 */
static unsigned bind_alone(struct vcpu *v, const struct candidate *candidate, u64 gpa, u32 mode, u32 *numbers,
			   bool *full)
{
	struct aot *aot = candidate->aot;
	struct binding *binding = aot ? &aot->bindings[candidate->number] : NULL;

	if (!binding || binding->rejected || !leave_old_place(v, binding))
		return 0;
	numbers[0] = bind(v, aot, candidate->number, gpa, candidate->next, mode, true, full);
	v->vm->stats.aot_bound_alone += numbers[0] != UNIT_NONE;
	return numbers[0] != UNIT_NONE;
}

unsigned aot_bind(struct vcpu *v, u64 gpa, u32 mode, u32 *numbers, unsigned max, bool *full)
{
	struct live *live = v->vm->live;
	struct candidate alone = {0};
	u32 group[AOT_TOGETHER];

	*full = false;
	for (unsigned i = 0; i < live->aot_count; i++) {
		struct aot *aot = live->aot[i];
		u32 number, cursor = 0;
		bool found = false;
		u64 next;

		while ((number = aot_index_find(aot->index, v, gpa, mode, &cursor, &next)) != AOT_INDEX_NONE) {
			found = true;
			if (aot->bindings[number].rejected)
				continue;
			u32 needed = collect_unbound(v, aot, number, gpa, mode, max, group);
			unsigned count = bind_group(v, aot, group, needed, gpa, next, mode, numbers, full);

			if (count || *full)
				return count;
			if (!alone.aot)
				alone = (struct candidate){aot, number, next};
		}
		/* or the mode, which is rare */
		v->vm->stats.aot_rejected_bytes += !found && aot_index_has(aot->index, v->rip);
	}
	return bind_alone(v, &alone, gpa, mode, numbers, full);
}

unsigned aot_bind_page(struct vcpu *v, u64 gpa, u32 mode, u32 *numbers, unsigned max)
{
	struct live *live = v->vm->live;
	const u64 begin = PAGE_BASE(v->rip);
	const u8 *page = ram_at(&v->vm->ram, PAGE_BASE(gpa));
	u32 group[AOT_TOGETHER];
	unsigned count = 0;
	bool full = false;

	for (unsigned i = 0; page && i < live->aot_count; i++) {
		struct aot *aot = live->aot[i];

		for (u32 n = aot_index_first(aot->index, begin);
		     n < aot->unit_count && aot->units[n].pc - begin < PAGE_SIZE; n++) {
			if (aot->bindings[n].bound || !lies_in(aot, n, mode, page))
				continue;
			if (count == max)
				return count;
			u32 needed = collect(v, aot, n, gpa, mode, group);

			/* nobody has asked for it: what is in use elsewhere stays there */
			if (needed > max - count || is_any_bound(aot, group, needed))
				continue;
			count += bind_group(v, aot, group, needed, gpa, NO_FRAME, mode, numbers + count, &full);
			if (full)
				return count;
		}
	}
	return count;
}

/* A unit among these that begins at pc. */
static const struct unit *unit_at(const struct live *live, const u32 *numbers, unsigned count, u64 pc)
{
	for (unsigned i = 0; i < count; i++) {
		const struct unit *unit = &live->store.units[numbers[i]];

		if (unit->pc == pc)
			return unit->gpa_next == NO_FRAME ? unit : NULL;
	}
	return NULL;
}

void aot_link_page(struct live *live, const u32 *numbers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct unit *from = &live->store.units[numbers[i]];
		struct aot *aot = live->aot[from->cache_id];

		for (u32 n = from->links; n < from->links + from->links_count; n++) {
			const struct tcache_link *link = &aot->links[n];

			if (link->flags & TCACHE_LINK_DIRECT && !is_copy(aot, from))
				continue;
			const struct unit *to = unit_at(live, numbers, count, from->pc + (u64)(s64)link->target);
			u32 code = !to ? 0 : link->flags & TCACHE_LINK_SAVED ? to->saved : to->body;

			if (!code)
				continue;
			aot->cells[n] = (u64)(uintptr_t)live->store.code + code;
			aot->bindings[from->cached - 1].dirty = true;
		}
	}
}

void aot_unbind(struct live *live, const struct unit *unit)
{
	struct aot *aot = live->aot[unit->cache_id];

	aot->bindings[unit->cached - 1].bound = false;
}

void aot_unbind_all(struct live *live)
{
	const struct store *store = &live->store;

	for (u32 i = store->bound_first; i < store->unit_max; i++) {
		const struct unit *unit = &store->units[i];
		struct binding *binding = &live->aot[unit->cache_id]->bindings[unit->cached - 1];

		binding->bound = false;
		binding->unit = UNIT_NONE;
	}
}
