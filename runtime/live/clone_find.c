/* Finding and dropping clones: what must work while the guest's vector registers are live. */
#include "live/clone.h"
#include "util/err.h"
#include "vm.h"

static void unhash(struct clones *clones, const struct instance *instance)
{
	struct instance **at = instance_chain(clones, instance->base, instance->gpa);

	while (*at != instance)
		at = &(*at)->next_hashed;
	*at = instance->next_hashed;
}

void instance_link(struct clones *clones, struct instance *instance)
{
	struct instance **first = &instance->page->first;
	struct instance **head = instance_chain(clones, instance->base, instance->gpa);

	instance->next = *first;
	instance->before = first;
	if (*first)
		(*first)->before = &instance->next;
	*first = instance;
	instance->next_hashed = *head;
	*head = instance;
}

void instance_unlink(struct clones *clones, struct instance *instance)
{
	*instance->before = instance->next;
	if (instance->next)
		instance->next->before = instance->before;
	unhash(clones, instance);
}

u64 clone_age(const struct live *live, u32 unit)
{
	const struct clones *clones = live->clones;

	return clones->segments[(unit - clones->unit_first) / clones->segment_units].age;
}

/* The instance's clone that is entered at this offset. */
static struct found find_in(struct live *live, const struct instance *instance, u32 offset, bool whole, bool careful)
{
	const struct clones *clones = live->clones;
	const struct group *group = instance->group;

	for (u32 i = group_place(group, offset); i < group->place_count && group->places[i].offset == offset; i++) {
		const struct place *place = &group->places[i];

		if (place->template >= instance->room || !instance->units[place->template] || (whole && place->code) ||
		    place->careful != careful)
			continue;
		u32 unit = clones->unit_first + instance->segment * clones->segment_units +
			   instance->units[place->template] - 1;

		return (struct found){unit, live->store.units[unit].code + place->code};
	}
	return (struct found){UNIT_NONE, 0};
}

struct found clones_find(struct vcpu *v, u64 gpa, bool whole, u32 mode, u64 age)
{
	struct live *live = v->vm->live;
	bool careful = mode & MODE_CAREFUL;
	struct found found;

	for (const struct instance *instance = *instance_chain(live->clones, v->rip, gpa); instance;
	     instance = instance->next_hashed) {
		if (instance->base != PAGE_BASE(v->rip) || instance->gpa != PAGE_BASE(gpa) ||
		    instance->mode != (mode & ~MODE_CAREFUL) || live->clones->segments[instance->segment].age < age)
			continue;
		found = find_in(live, instance, (u32)PAGE_OFFSET(v->rip), whole, careful);
		if (found.unit != UNIT_NONE && view_take_base(v->view, instance->set->base, instance->base))
			return found;
	}
	return (struct found){UNIT_NONE, 0};
}

/*
 * Code of clones is not written to: every way into it is taken back. Links to it come from its own page only;
 * predicted returns are forgotten before the next one can run.
 */
void clones_drop_frame(struct vcpu *v, u64 frame)
{
	struct live *live = v->vm->live;
	struct clones *clones = live->clones;
	u32 number = clones->page_of[frame];
	struct clone_page *page = &clones->pages[number];

	if (!number)
		return;
	for (struct instance *instance = page->first; instance; instance = instance->next) {
		u32 first = clones->unit_first + instance->segment * clones->segment_units;

		for (u32 i = 0; i < instance->room; i++) {
			if (instance->units[i])
				live->store.units[first + instance->units[i] - 1].dropped = true;
		}
		mmu_drop_page_jumps(v, instance->base);
		unhash(clones, instance);
		instance->page = NULL;
		v->forget_user = true;
	}
	clones->page_of[frame] = 0;
	*page = (struct clone_page){.next_free = clones->page_free};
	clones->page_free = number;
}

bool clone_may_run(struct vcpu *v, u32 unit)
{
	const struct clones *clones = v->vm->live->clones;
	const struct instance *instance = clones->clones[unit - clones->unit_first].instance;

	return view_take_base(v->view, instance->set->base, instance->base);
}

bool clones_find_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	const struct clones *clones = live->clones;
	u32 segment = offset / clones->segment_size;
	u32 start = clones->unit_first + segment * clones->segment_units;
	u32 low = start, high = start + clones->segments[segment].units;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (live->store.units[middle].code_end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == start + clones->segments[segment].units || offset < live->store.units[low].code)
		return false;
	const struct template *template = clones->clones[low - clones->unit_first].template;
	u32 first = 0, last = template->pc_count;

	/* the last entry at or before offset */
	offset -= live->store.units[low].code;
	while (first < last) {
		u32 middle = first + (last - first) / 2;

		if (template->pcs[middle].code <= offset)
			first = middle + 1;
		else
			last = middle;
	}
	*found = &live->store.units[low];
	*entry = first ? &template->pcs[first - 1] : NULL;
	return true;
}

/* The clone that the link belongs to. */
static u32 link_owner(const struct live *live, u32 number)
{
	const struct clones *clones = live->clones;
	u32 segment = (number - CLONE_FIRST_LINK) / clones->segment_links;
	u32 low = clones->unit_first + segment * clones->segment_units, high = low + clones->segments[segment].units;

	/* the last one whose links begin at or before it: those without links share their beginning with the next */
	while (low + 1 < high) {
		u32 middle = low + (high - low) / 2;

		if (live->store.units[middle].links <= number)
			low = middle;
		else
			high = middle;
	}
	return low;
}

struct link clone_link(const struct live *live, u32 number)
{
	u32 owner = link_owner(live, number);
	const struct unit *unit = &live->store.units[owner];
	const struct template *template = live->clones->clones[owner - live->clones->unit_first].template;
	const struct template_link *link = &template->links[number - unit->links];

	return (struct link){.unit = owner,
			     .patch = unit->code + link->patch,
			     .target = PAGE_BASE(unit->pc) + link->target,
			     .saved = link->saved};
}

bool clones_agree(const struct live *live, u32 one, u32 other)
{
	const struct clones *clones = live->clones;
	const struct instance *a = clones->clones[one - clones->unit_first].instance;
	const struct instance *b = clones->clones[other - clones->unit_first].instance;

	return a->page == b->page && a->base == b->base && a->set == b->set;
}

void clone_note_link(struct live *live, u32 number, u32 to, bool direct)
{
	u32 owner = link_owner(live, number);
	const struct clone *from = &live->clones->clones[owner - live->clones->unit_first];
	struct template_link *link = &from->template->links[number - live->store.units[owner].links];
	const struct template *template;

	link->taken = true;
	from->instance->tied |= !direct || !is_clone(live, to);
	if (!is_clone(live, to))
		return;
	template = live->clones->clones[to - live->clones->unit_first].template;
	if (template->group == from->template->group)
		link->to = (u16)(template->index + 1);
}

bool clone_target_pc(struct vcpu *v, u32 number, u64 *pc, bool *saved)
{
	const struct clones *clones = v->vm->live->clones;
	const struct clone_target *target = &clones->targets[number];

	if (number < clones->target_first)
		return false;
	if (!view_get_base(v->view, target->base, pc))
		BUG("target %u of code whose address is not known", number);
	*pc += (u64)target->target;
	*saved = target->saved;
	return true;
}
