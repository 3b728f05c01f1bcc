/* Finding and dropping translations: what must work while the guest's vector registers are live. */
#include "live/aot.h"
#include "live/live.h"
#include "mem/mem.h"
#include "util/bytes.h"
#include "vm.h"

void live_check_mode(struct vcpu *v)
{
	struct live *live = v->vm->live;
	u32 mode = vcpu_mode(v) & ~MODE_USER, changed = mode ^ live->mode;

	if (!changed)
		return;
	live->mode = mode;
	if (changed == MODE_TS) {
		/* kernels that switch vector state lazily do this all the time; units of both modes stay */
		mmu_clear_jumps(v);
		v->forget_user = v->forget_kernel = true;
		return;
	}
	/* while booting; a unit of a cache can be bound in one mode only, and is wanted in the new one from now on */
	vcpu_fpu_put(v);
	live_flush(live);
}

void live_reset_predictions(struct vcpu *v, bool user)
{
	v->prediction_sp[user] = PREDICTION_ADDRESS + (user + 1) * PREDICTION_SIZE - 16;
}

/* Is the entry's code what v->rip (at gpa) means here and now? */
static bool entry_fits(struct vcpu *v, const struct entry *entry, const struct unit *unit, u64 gpa, u32 mode)
{
	u64 next;

	if (entry->pc != v->rip || unit->dropped || unit->mode != mode || unit->gpa + (v->rip - unit->pc) != gpa)
		return false;
	return unit->gpa_next == NO_FRAME ||
	       (mmu_fetch(v, PAGE_BASE(v->rip) + PAGE_SIZE, &next) == EXEC_OK && next == unit->gpa_next);
}

/* The number of a fitting entry, 0 if there is none; with `whole` only one at a unit's beginning. */
static u32 find_entry(struct vcpu *v, bool whole, u32 mode)
{
	struct live *live = v->vm->live;
	u64 gpa;

	if (mmu_fetch(v, v->rip, &gpa) != EXEC_OK)
		return 0;
	for (u32 i = live->hash[live_entry_hash(v->rip)]; i; i = live->store.entries[i].next) {
		const struct entry *entry = &live->store.entries[i];
		const struct unit *unit = &live->store.units[entry->unit];

		if ((!whole || unit->pc == v->rip) && entry_fits(v, entry, unit, gpa, mode))
			return i;
	}
	return 0;
}

void *live_lookup(struct vcpu *v)
{
	struct live *live = v->vm->live;
	u32 found = find_entry(v, false, vcpu_mode(v));

	if (!found)
		return NULL;
	const struct entry *entry = &live->store.entries[found];
	const struct unit *unit = &live->store.units[entry->unit];

	/* other entries than the unit's first are landings, which returns find by themselves */
	view_set_jump(v->view, v->rip, unit->pc + unit->guest_bytes - 1, entry->code,
		      unit->pc == v->rip ? live->store.code + unit->saved : NULL);
	return live->store.code + entry->code;
}

void *live_note_unit(struct vcpu *v, u32 number)
{
	struct live *live = v->vm->live;
	const struct unit *unit = &live->store.units[number];

	view_set_jump(v->view, v->rip, unit->pc + unit->guest_bytes - 1, unit->code, live->store.code + unit->saved);
	return live->store.code + unit->code;
}

void *live_lookup_careful(struct vcpu *v)
{
	struct live *live = v->vm->live;
	u32 found = find_entry(v, true, vcpu_mode(v) | MODE_CAREFUL);

	return found ? live->store.code + live->store.entries[found].code : NULL;
}

u32 live_lookup_unit(struct vcpu *v)
{
	u32 found = find_entry(v, true, vcpu_mode(v));

	return found ? v->vm->live->store.entries[found].unit : UNIT_NONE;
}

/* Units that are not bound ones lie in the code cache in the order of their numbers. */
bool live_find_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	u32 low = 1, high = live->store.unit_count;

	if (aot_owns(live, offset))
		return aot_find_pc(live, offset, found, entry);
	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (live->store.units[middle].code_end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == live->store.unit_count || offset < live->store.units[low].code)
		return false;
	const struct unit *unit = &live->store.units[low];
	u32 first = unit->pcs, last = unit->pcs + unit->pcs_count;

	/* the last entry at or before offset */
	while (first < last) {
		u32 middle = first + (last - first) / 2;

		if (live->store.pcs[middle].code <= offset)
			first = middle + 1;
		else
			last = middle;
	}
	*found = unit;
	*entry = first > unit->pcs ? &live->store.pcs[first - 1] : NULL;
	return true;
}

static void write_jump(struct live *live, u32 from, u32 to)
{
	s32 displacement = (s32)(to - (from + 5));

	live->store.code_rw[from] = 0xe9;
	bytes_copy(live->store.code_rw + from + 1, &displacement, 4);
}

/* Takes the unit's entries out of the hash: code that is rewritten all the time would make its chains endless. */
static void unhash(struct live *live, const struct unit *unit)
{
	for (u32 i = unit->entries; i < unit->entries + unit->entries_count; i++) {
		u32 *at = &live->hash[live_entry_hash(live->store.entries[i].pc)];

		while (*at && *at != i)
			at = &live->store.entries[*at].next;
		if (*at)
			*at = live->store.entries[i].next;
	}
}

/* Whoever still holds the address of an entry or a landing is sent to look for the current translation. */
static void poison(struct live *live, const struct unit *unit)
{
	for (u32 i = unit->entries; i < unit->entries + unit->entries_count; i++)
		write_jump(live, live->store.entries[i].code, CACHE_STALE_ENTRY);
	write_jump(live, unit->body, unit->stale);
	if (unit->saved >= unit->body + 5) /* else it is the same, or leads to it */
		write_jump(live, unit->saved, unit->stale_saved);
	for (u32 i = unit->landings; i < unit->landings + unit->landings_count; i++)
		write_jump(live, live->store.landings[i], CACHE_STALE_LANDING);
}

static void drop_target(struct vcpu *v, u64 pc)
{
	const struct store *store = &v->vm->live->store;

	for (u32 number = store_find_target(store, pc); number; number = store_find_target_again(store, number))
		mmu_drop_target(v, number);
}

/* Jumps must not go on meeting the poison: they would never find the next translation. */
static void drop_jumps(struct vcpu *v, const struct unit *unit)
{
	drop_target(v, unit->pc);
	drop_target(v, unit->pc ^ TARGET_SAVED);
	mmu_drop_jump(v, unit->pc);
}

/*
 * A cache's code is not written to: every way into it is taken back instead. Links to it come from its own page only,
 * whose units are all dropped together; predicted returns are forgotten before the next one can run.
 */
static void leave_cached(struct vcpu *v, const struct unit *unit)
{
	struct live *live = v->vm->live;

	for (u32 i = unit->entries; i < unit->entries + unit->entries_count; i++)
		mmu_drop_jump(v, live->store.entries[i].pc);
	v->forget_user = v->forget_kernel = true;
	aot_unbind(live, unit);
}

static u32 *frame_head(struct live *live, u64 gpa)
{
	struct ram *ram = &live->vm->ram;
	const u8 *host = ram_at(ram, gpa);

	return host ? &live->frame_head[(u64)(host - ram->host) >> PAGE_SHIFT] : NULL;
}

void live_forget_frame(struct live *live, u64 gpa)
{
	u32 *head = frame_head(live, gpa);

	if (!head)
		return;
	struct ram *ram = &live->vm->ram;

	*head = 0;
	ram->frames[head - live->frame_head] &= (u8)~FRAME_CODE;
}

void live_drop_frame(struct vcpu *v, u64 gpa)
{
	struct live *live = v->vm->live;
	u32 *head = frame_head(live, gpa);

	if (!head)
		return;
	for (u32 number = *head; number;) {
		struct unit *unit = &live->store.units[number];
		bool second = PAGE_BASE(unit->gpa) != PAGE_BASE(gpa);

		if (!unit->dropped) {
			unit->dropped = true;
			if (unit->cached)
				leave_cached(v, unit);
			else
				poison(live, unit);
			unhash(live, unit);
			drop_jumps(v, unit);
		}
		number = unit->next_frame[second];
	}
	live_forget_frame(live, gpa);
	live->frame_dropped[head - live->frame_head] = 1;
	live->dropped_code = true;
	v->vm->stats.invalidations++;
}

void smc_write(struct vcpu *v, u64 gpa, unsigned length)
{
	(void)length;
	v->vm->stats.smc_writes++;
	if (v->vm->live)
		live_drop_frame(v, gpa);
}
