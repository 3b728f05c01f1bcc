/* Finding and dropping translations: what must work while the guest's vector registers are live. */
#include "live/aot.h"
#include "live/aot_module.h"
#include "live/clone.h"
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

static u32 *frame_head(struct live *live, u64 gpa)
{
	struct ram *ram = &live->vm->ram;
	const u8 *host = ram_at(ram, gpa);

	return host ? &live->frame_head[(u64)(host - ram->host) >> PAGE_SHIFT] : NULL;
}

/* Is the code of the unit, which has v->rip in it, what that (at gpa) means here and now? */
static bool entry_fits(struct vcpu *v, const struct unit *unit, u64 gpa, u32 mode)
{
	u64 next;

	if (unit->dropped || unit->mode != mode || unit->gpa + (v->rip - unit->pc) != gpa)
		return false;
	return unit->gpa_next == NO_FRAME ||
	       (mmu_fetch(v, PAGE_BASE(v->rip) + PAGE_SIZE, &next) == EXEC_OK && next == unit->gpa_next);
}

/* A translation for v->rip; with `whole` only one that begins there. */
static struct found find(struct vcpu *v, bool whole, u32 mode)
{
	struct live *live = v->vm->live;
	struct found found = {UNIT_NONE, 0};
	u64 gpa;

	if (mmu_fetch(v, v->rip, &gpa) != EXEC_OK)
		return found;
	if (fixup_moves(v->rip, mode)) {
		found = clones_find(v, gpa, whole, mode, 0);
		if (found.unit != UNIT_NONE)
			return found;
	}
	const u32 *head = frame_head(live, gpa);

	if (!head || !*head) /* nothing was made of this frame */
		return found;
	for (u32 i = live->hash[live_entry_hash(v->rip)]; i; i = live->store.entries[i].next) {
		const struct entry *entry = &live->store.entries[i];

		if (entry->pc != v->rip)
			continue; /* the unit need not come from memory */
		const struct unit *unit = &live->store.units[entry->unit];

		if ((!whole || unit->pc == v->rip) && entry_fits(v, unit, gpa, mode))
			return (struct found){entry->unit, entry->code};
	}
	return found;
}

void *live_lookup(struct vcpu *v)
{
	struct live *live = v->vm->live;
	struct found found = find(v, false, vcpu_mode(v));

	if (found.unit == UNIT_NONE)
		return NULL;
	const struct unit *unit = &live->store.units[found.unit];

	/* other entries than the unit's first are landings, which returns find by themselves */
	view_set_jump(v->view, v->rip, unit->pc + unit->guest_bytes - 1, found.code,
		      unit->pc == v->rip ? live->store.code + unit->saved : NULL);
	return live->store.code + found.code;
}

void live_note_target(struct vcpu *v, u32 number, u32 found, bool saved)
{
	struct live *live = v->vm->live;
	const struct unit *unit = &live->store.units[found];

	view_set_target(v->view, number, v->rip, unit->pc + unit->guest_bytes - 1,
			live->store.code + (saved ? unit->saved : unit->body));
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
	struct found found = find(v, true, vcpu_mode(v) | MODE_CAREFUL);

	return found.unit != UNIT_NONE ? v->vm->live->store.code + found.code : NULL;
}

static struct careful *careful_of(struct live *live, const void *back)
{
	return &live->careful[((u64)back * 0x9e3779b97f4a7c15ULL >> 32) % CAREFULS];
}

void *live_recall_careful(struct vcpu *v, const void *back)
{
	struct live *live = v->vm->live;
	const struct careful *careful = careful_of(live, back);
	const struct unit *unit = &live->store.units[careful->unit];
	u64 gpa;

	if (careful->back != back || careful->generation != live->generation || careful->from->pc != careful->from_pc ||
	    unit->dropped || unit->pc != careful->pc || unit->mode != (vcpu_mode(v) | MODE_CAREFUL) ||
	    unit->gpa_next != NO_FRAME || mmu_fetch(v, careful->pc, &gpa) != EXEC_OK || gpa != unit->gpa ||
	    (is_clone(live, careful->unit) && !clone_may_run(v, careful->unit)))
		return NULL;
	v->rip = careful->pc;
	return live->store.code + unit->code;
}

void *live_lookup_careful_at(struct vcpu *v, const struct unit *from, const void *back)
{
	struct live *live = v->vm->live;
	struct found found = find(v, true, vcpu_mode(v) | MODE_CAREFUL);

	if (found.unit == UNIT_NONE)
		return NULL;
	*careful_of(live, back) = (struct careful){.back = back,
						   .generation = live->generation,
						   .pc = v->rip,
						   .unit = found.unit,
						   .from = from,
						   .from_pc = from->pc};
	return live->store.code + found.code;
}

u32 live_lookup_unit(struct vcpu *v)
{
	return find(v, true, vcpu_mode(v)).unit;
}

/* Units that are not bound ones lie in the code cache in the order of their numbers. */
bool live_find_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	u32 low = 1, high = live->store.unit_count;

	if (aot_owns(live, offset))
		return aot_find_pc(live, offset, found, entry);
	if (clones_own(live, offset))
		return clones_find_pc(live, offset, found, entry);
	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (live->store.units[middle].code_end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == live->store.unit_count || offset < live->store.units[low].code)
		return aot_find_copied_pc(live, offset, found, entry);
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

void live_forget_frame(struct live *live, u64 gpa)
{
	u32 *head = frame_head(live, gpa);

	if (!head)
		return;
	struct ram *ram = &live->vm->ram;

	*head = 0;
	ram->frames[head - live->frame_head] &= (u8)~FRAME_CODE;
}

void live_release_frame(struct live *live, u64 gpa)
{
	u32 *head = frame_head(live, gpa);

	if (head && !*head)
		live_forget_frame(live, gpa);
}

/* Seconds, more or less: 2^32 cycles of the host. */
static u32 drop_time(void)
{
	return (u32)(__builtin_ia32_rdtsc() >> 32) & 0xffffff;
}

#define DROPS_SECONDS 16

unsigned live_frame_drops(const struct live *live, u64 frame)
{
	return live->frame_drops[frame] & 0xff;
}

/* Counts drops of a frame that follow each other soon: memory is used again for something else, now and then. */
static void note_drop(struct live *live, u64 frame)
{
	u32 *drops = &live->frame_drops[frame], now = drop_time(), count = *drops & 0xff;

	if (now - (*drops >> 8) > DROPS_SECONDS)
		count = 0;
	*drops = now << 8 | (count < 0xff ? count + 1 : count);
}

void live_drop_frame(struct vcpu *v, u64 gpa)
{
	struct live *live = v->vm->live;
	u32 *head = frame_head(live, gpa);

	if (!head)
		return;
	u64 page = 1; /* the last that jumps were dropped for: none */

	clones_drop_frame(v, (u64)(head - live->frame_head));
	aot_modules_forget(live, gpa);
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
			/* clones' numbers of targets are not found by address */
			if (fixup_moves(unit->pc, unit->mode) && PAGE_BASE(unit->pc) != page)
				mmu_drop_page_jumps(v, page = PAGE_BASE(unit->pc));
		}
		number = unit->next_frame[second];
	}
	live_forget_frame(live, gpa);
	note_drop(live, (u64)(head - live->frame_head));
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
