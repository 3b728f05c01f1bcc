#include "kept.h"

#include <string.h>

#include "direct_link.h"

/* Each table of the store has room for so many elements more. */
static bool has_room(u32 count, u32 max, u32 more)
{
	return count <= max && more <= max - count;
}

static void add_pcs(struct store *store, struct unit *unit, const struct tcache_pc *pcs, u32 count)
{
	unit->pcs = store->pc_count;
	unit->pcs_count = count;
	for (u32 i = 0; i < count; i++)
		*store_add_pc(store) = (struct pc_entry){.code = unit->code + pcs[i].code,
							 .guest = pcs[i].guest,
							 .home = pcs[i].home,
							 .left = pcs[i].left};
}

static void add_entries(struct store *store, struct unit *unit, const struct tcache_entry *entries, u32 count)
{
	unit->entries = store->entry_count;
	unit->entries_count = count;
	for (u32 i = 0; i < count; i++)
		store_add_entry(store, store->unit_count, unit->pc + entries[i].guest, unit->code + entries[i].code);
}

static bool links_are_free(const struct store *store, const struct tcache_unit *record)
{
	for (u32 i = 0; i < record->link_count; i++)
		if (store->links[record->link_first + i].unit)
			return false;
	return true;
}

static u32 max(u32 a, u32 b)
{
	return a > b ? a : b;
}

u32 kept_add_unit(struct store *store, const struct tcache_unit_view *view)
{
	const struct tcache_unit *record = view->unit;
	struct unit *unit = &store->units[store->unit_count];

	if (!has_room(store->unit_count, store->bound_first, 1) ||
	    (u64)record->code_offset + record->code_length > store->size ||
	    !has_room(store->pc_count, store->pc_max, record->pc_count) ||
	    !has_room(store->entry_count, store->entry_max, record->entry_count) ||
	    !has_room(record->link_first, store->link_max, record->link_count) ||
	    !has_room(record->insn_first, store->insn_max, record->insn_count) || !links_are_free(store, record))
		return UNIT_NONE;
	*unit = (struct unit){.pc = record->pc,
			      .gpa_next = NO_FRAME,
			      .mode = record->mode,
			      .code = record->code_offset,
			      .code_end = record->code_offset + record->code_length,
			      .body = record->code_offset + record->body_offset,
			      .saved = record->code_offset + record->saved_offset,
			      .links = record->link_first,
			      .links_count = record->link_count,
			      .insns = record->insn_first,
			      .insns_count = record->insn_count,
			      .instructions = (u16)record->instruction_count,
			      .guest_bytes = (u16)record->guest_length};
	memcpy(store->code_rw + unit->code, view->code, record->code_length);
	add_pcs(store, unit, view->pcs, record->pc_count);
	add_entries(store, unit, view->entries, record->entry_count);
	for (u32 i = 0; i < record->link_count; i++) {
		const struct tcache_link *link = &view->links[i];

		store->links[unit->links + i] = (struct link){.unit = store->unit_count,
							      .patch = unit->code + link->cold,
							      .target = unit->pc + (u64)(s64)link->target,
							      .site = unit->code + link->site,
							      .saved = link->flags & TCACHE_LINK_SAVED};
		store->cells[unit->links + i] = view->cells[i];
		/* whether that unit is kept as well, and is the only one still, is to be seen */
		if (link->flags & TCACHE_LINK_DIRECT)
			direct_link_undo(store, unit->links + i);
	}
	store->link_count = max(store->link_count, unit->links + unit->links_count);
	store->insn_count = max(store->insn_count, unit->insns + unit->insns_count);
	if (store->used < unit->code_end)
		store->used = align_up(unit->code_end, 16);
	return store->unit_count++;
}

static void add_jumps(struct store *store, struct unit *unit, const struct tcache_template_view *view)
{
	const struct tcache_template *record = view->record;

	unit->links = store->link_count;
	unit->links_count = record->link_count;
	for (u32 i = 0; i < record->link_count; i++)
		*store_add_link(store) = (struct link){.unit = store->unit_count,
						       .patch = unit->code + view->links[i].patch,
						       .target = TCACHE_TEMPLATE_BASE + view->links[i].target,
						       .saved = view->links[i].flags & TCACHE_LINK_SAVED};
	unit->goals = store->goal_count;
	unit->goals_count = record->goal_count;
	for (u32 i = 0; i < record->goal_count; i++)
		*store_add_goal(store) = (struct goal){.number = view->goals[i].number,
						       .entry = view->goals[i].entry,
						       .target = view->goals[i].target,
						       .saved = view->goals[i].flags & TCACHE_LINK_SAVED};
}

static u32 fixup_total(const struct tcache_template *record)
{
	u32 total = 0;

	for (unsigned kind = 0; kind < TCACHE_FIXUP_KINDS; kind++)
		total += record->fixup_count[kind];
	return total;
}

static void add_fixups(struct store *store, struct unit *unit, const struct tcache_template_view *view)
{
	const u32 *at = view->fixups;

	unit->fixups = store->fixup_count;
	unit->fixups_count = fixup_total(view->record);
	for (u32 kind = 0; kind < TCACHE_FIXUP_KINDS; kind++)
		for (u32 n = view->record->fixup_count[kind]; n; n--)
			*store_add_fixup(store) = (struct fixup){.at = *at++, .kind = kind};
}

u32 kept_add_template(struct store *store, const struct tcache_template_view *view)
{
	const struct tcache_template *record = view->record;
	struct unit *unit = &store->units[store->unit_count];

	if (!has_room(store->unit_count, store->bound_first, 1) || store->used + record->code_length > store->size ||
	    !has_room(store->pc_count, store->pc_max, record->pc_count) ||
	    !has_room(store->entry_count, store->entry_max, record->entry_count) ||
	    !has_room(store->link_count, store->link_max, record->link_count) ||
	    !has_room(store->goal_count, store->goal_max, record->goal_count) ||
	    !has_room(store->fixup_count, store->fixup_max, fixup_total(record)) ||
	    !has_room(record->insn_first, store->insn_max, record->insn_count))
		return UNIT_NONE;
	*unit = (struct unit){.pc = TCACHE_TEMPLATE_BASE + record->offset,
			      .gpa_next = NO_FRAME,
			      .mode = record->mode,
			      .code = (u32)store->used,
			      .code_end = (u32)store->used + record->code_length,
			      .body = (u32)store->used + record->body_offset,
			      .saved = (u32)store->used + record->saved_offset,
			      .insns = record->insn_first,
			      .insns_count = record->insn_count,
			      .instructions = record->instruction_count,
			      .guest_bytes = record->guest_length};
	memcpy(store->code_rw + unit->code, view->code, record->code_length);
	add_pcs(store, unit, view->pcs, record->pc_count);
	add_entries(store, unit, view->entries, record->entry_count);
	add_jumps(store, unit, view);
	add_fixups(store, unit, view);
	store->insn_count = max(store->insn_count, unit->insns + unit->insns_count);
	store->used = align_up(unit->code_end, 16);
	return store->unit_count++;
}

/* Those of the translator come first, then jumps and landings (unit_records.h). */
static void add_module_fixups(struct store *store, struct unit *unit, const struct tcache_module_view *view)
{
	unit->fixups = store->fixup_count;
	unit->links = store->link_count;
	unit->landings = store->landing_count;
	for (u32 i = 0; i < view->record->fixup_count; i++) {
		const struct tcache_module_fixup *from = &view->fixups[i];

		if (from->kind == TCACHE_MODULE_LANDING)
			store_add_landing(store, unit->code + from->at);
		else if (from->kind == TCACHE_MODULE_JUMP || from->kind == TCACHE_MODULE_JUMP_SAVED)
			*store_add_link(store) = (struct link){.unit = store->unit_count,
							       .patch = unit->code + from->at,
							       .target = PAGE_BASE(unit->pc) + from->value,
							       .saved = from->kind == TCACHE_MODULE_JUMP_SAVED};
		else
			*store_add_fixup(store) = (struct fixup){from->at, from->kind, from->from, from->value};
	}
	unit->fixups_count = store->fixup_count - unit->fixups;
	unit->links_count = store->link_count - unit->links;
	unit->landings_count = store->landing_count - unit->landings;
}

u32 kept_add_module(struct store *store, const struct tcache_module_view *view)
{
	const struct tcache_module_unit *record = view->record;
	struct unit *unit = &store->units[store->unit_count];

	if (!has_room(store->unit_count, store->bound_first, 1) || store->used + record->code_length > store->size ||
	    !has_room(store->pc_count, store->pc_max, record->pc_count) ||
	    !has_room(store->entry_count, store->entry_max, record->entry_count) ||
	    !has_room(store->fixup_count, store->fixup_max, record->fixup_count) ||
	    !has_room(store->link_count, store->link_max, record->fixup_count) ||
	    !has_room(store->landing_count, store->landing_max, record->instruction_count) ||
	    !has_room(store->insn_count, store->insn_max, record->insn_count))
		return UNIT_NONE;
	*unit = (struct unit){.pc = TCACHE_MODULE_BASE + record->offset,
			      .gpa_next = NO_FRAME,
			      .mode = record->mode,
			      .code = (u32)store->used,
			      .code_end = (u32)store->used + record->code_length,
			      .body = (u32)store->used + record->body_offset,
			      .saved = (u32)store->used + record->saved_offset,
			      .stale = (u32)store->used + record->stale_offset,
			      .stale_saved = (u32)store->used + record->stale_saved_offset,
			      .insns = store->insn_count,
			      .insns_count = record->insn_count,
			      .instructions = record->instruction_count,
			      .guest_bytes = record->guest_length};
	memcpy(store->code_rw + unit->code, view->code, record->code_length);
	add_pcs(store, unit, view->pcs, record->pc_count);
	add_entries(store, unit, view->entries, record->entry_count);
	add_module_fixups(store, unit, view);
	for (u32 i = 0; i < record->insn_count; i++)
		*store_add_insn(store) = kept_insn(&view->insns[i]);
	store->used = align_up(unit->code_end, 16);
	return store->unit_count++;
}
