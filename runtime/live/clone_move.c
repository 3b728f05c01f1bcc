/*
 * Clones of processes that are gone, moved to where their page is now. An exec maps most of what the last one mapped,
 * somewhere else: to move the clones that this one has left is less work than to copy templates again, and they are in
 * the processor's caches.
 */
#include <string.h>

#include "debug/perf_map.h"
#include "live/clone.h"
#include "mem/mem.h"
#include "vm.h"

#define FAMILY 32u /* instances that are moved at a time */

static u32 unit_of(const struct clones *clones, const struct instance *instance, u32 template)
{
	return clones->unit_first + instance->segment * clones->segment_units + instance->units[template] - 1;
}

/* What is completed leads to code for the old address: links are as in the template again. */
static void reset_links(struct live *live, const struct template *t, const struct unit *unit)
{
	for (u32 i = 0; i < t->link_count; i++) {
		u32 at = t->links[i].patch;

		memcpy(live->store.code_rw + unit->code + at, t->code + at, sizeof(u32));
	}
}

static void move_unit(struct live *live, const struct instance *instance, u32 number, u64 distance)
{
	const struct template *t = live->clones->clones[number - live->clones->unit_first].template;
	struct unit *unit = &live->store.units[number];
	const struct fixup_move move = {.pages = distance};

	fixup_apply(live->store.code_rw + unit->code, &t->fixups, &move);
	if (instance->tied)
		reset_links(live, t, unit);
	unit->pc += distance;
	live->vm->stats.units_moved++;
	perf_map_add(live->vm, (u64)live->store.code + unit->code, t->code_length, unit->pc);
}

/*
 * Has the host's processor load what will be needed soon, which is in none of its near caches: what leads to the rest
 * is first, then the rest.
 */
static void expect_records(const struct live *live, u32 number)
{
	__builtin_prefetch(&live->clones->clones[number - live->clones->unit_first]);
	__builtin_prefetch(&live->store.units[number]);
	__builtin_prefetch((const u8 *)(&live->store.units[number] + 1) - 1);
}

static void expect_template(const struct live *live, u32 number)
{
	__builtin_prefetch(&live->clones->clones[number - live->clones->unit_first].template->fixups);
}

static void expect_code(const struct live *live, u32 number)
{
	const struct template *t = live->clones->clones[number - live->clones->unit_first].template;
	const struct unit *unit = &live->store.units[number];

	for (u32 at = unit->code; at < unit->code_end; at += 64)
		__builtin_prefetch(live->store.code_rw + at, 1);
	for (const u32 *at = t->fixups.at; at < t->fixups.at + 64; at += 16)
		__builtin_prefetch(at);
}

static void move_instance(struct live *live, struct instance *instance, u64 base)
{
	struct clones *clones = live->clones;
	u64 distance = base - instance->base;
	u32 numbers[GROUP_TEMPLATES_MAX], count = 0;

	for (u32 i = 0; i < instance->room; i++) {
		if (instance->units[i])
			numbers[count++] = unit_of(clones, instance, i);
	}
	for (u32 i = 0; i < count + 6; i++) {
		if (i < count)
			expect_records(live, numbers[i]);
		if (i - 2 < count)
			expect_template(live, numbers[i - 2]);
		if (i - 4 < count)
			expect_code(live, numbers[i - 4]);
		if (i - 6 < count)
			move_unit(live, instance, numbers[i - 6], distance);
	}
	for (u32 i = 0; instance->tied && i < count; i++)
		clone_complete_links(live, numbers[i]);
	instance->tied = instance->learns = false;
	instance_unlink(clones, instance);
	instance->base = base;
	instance_link(clones, instance);
}

/* May it be moved to `base` in the view in force? */
static bool is_free(const struct vcpu *v, const struct instance *i, u64 base, u32 mode)
{
	u64 now;

	return i->mode == mode && i->base != base && !view_get_base(v->view, i->set->base, &now) &&
	       bases_free(v->vm->mmu.bases, i->set->base, i->base);
}

/* What the program has left that this address space was for before. */
static struct instance *find_left(const struct vcpu *v, const struct clone_page *page, u64 base, u32 mode)
{
	for (const struct number_set *set = page->group->sets; set; set = set->next) {
		u64 old = view_left_base(v->view, set->base);
		struct instance *i = old ? *instance_chain(v->vm->live->clones, old, page->gpa) : NULL;

		for (; i; i = i->next_hashed) {
			if (i->page == page && i->base == old && i->set == set && is_free(v, i, base, mode))
				return i;
		}
	}
	return NULL;
}

/*
 * No view has an entry for the old address, for that takes its base (view_take_base()), and goes with it. No predicted
 * return leads there that will be followed: whatever empties a view has predictions forgotten, before anything returns.
 * Jumps from others are of the page's clones with the same base and numbers, which are moved along, the oldest first.
 */
void clones_take_over(struct vcpu *v, struct clone_page *page, u64 base, u32 mode)
{
	struct clones *clones = v->vm->live->clones;
	const struct instance *first = find_left(v, page, base, mode);
	struct instance *family[FAMILY];
	u32 count;

	if (!first || !view_take_base(v->view, first->set->base, base))
		return;
	const struct number_set *set = first->set;
	u64 old = first->base;

	do {
		count = 0;
		for (struct instance *i = *instance_chain(clones, old, page->gpa); i && count < FAMILY;
		     i = i->next_hashed) {
			if (i->page == page && i->mode == mode && i->base == old && i->set == set)
				family[count++] = i;
		}
		for (u32 i = count; i; i--)
			move_instance(v->vm->live, family[i - 1], base);
	} while (count == FAMILY);
}
