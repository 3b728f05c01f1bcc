#include "live/template.h"

#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#include "x86/mode.h"

_Static_assert(sizeof(struct pc_entry) == sizeof(struct tcache_pc), "pc records of caches are used as they are");
_Static_assert((int)FIXUP_KINDS == (int)TCACHE_FIXUP_KINDS, "and fix-ups");

#define HASH_BITS 14
#define KEY_BYTES 8

/* Memory that lives until all templates go. */
struct chunk {
	struct chunk *next;
	u64 used, size;
	u64 data[];
};

#define CHUNK_SIZE (1u << 20)

struct templates {
	struct template *hash[1 << HASH_BITS];
	struct group *groups;
	struct chunk *chunks;
	u64 bytes, limit;
};

struct templates *templates_create(u64 limit)
{
	struct templates *templates = calloc(1, sizeof(*templates));

	if (templates)
		templates->limit = limit;
	return templates;
}

void templates_destroy(struct templates *templates)
{
	if (!templates)
		return;
	templates_clear(templates);
	free(templates);
}

static void free_sets(struct group *group)
{
	for (struct number_set *set = group->sets, *next; set; set = next) {
		next = set->next;
		free(set->numbers);
		free(set);
	}
	group->sets = NULL;
}

void templates_clear_sets(struct templates *templates)
{
	for (struct group *group = templates->groups; group; group = group->next)
		free_sets(group);
}

void templates_clear(struct templates *templates)
{
	for (struct group *group = templates->groups, *next; group; group = next) {
		next = group->next;
		free_sets(group);
		free(group->templates);
		free(group->places);
		free(group->slots);
		free(group->together);
		free(group);
	}
	for (struct chunk *chunk = templates->chunks, *next; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	memset(templates->hash, 0, sizeof(templates->hash));
	templates->groups = NULL;
	templates->chunks = NULL;
	templates->bytes = 0;
}

bool templates_full(const struct templates *templates)
{
	return templates->bytes > templates->limit;
}

static void *keep(struct templates *templates, const void *data, u64 size)
{
	struct chunk *chunk = templates->chunks;
	u64 rounded = align_up(size, 16);

	if (!chunk || chunk->used + rounded > chunk->size) {
		u64 room = rounded > CHUNK_SIZE ? rounded : CHUNK_SIZE;

		chunk = malloc(sizeof(*chunk) + room);
		if (!chunk)
			return NULL;
		chunk->next = templates->chunks;
		chunk->used = 0;
		chunk->size = room;
		templates->chunks = chunk;
	}
	u8 *at = (u8 *)chunk->data + chunk->used;

	chunk->used += rounded;
	templates->bytes += rounded;
	if (data)
		memcpy(at, data, size);
	return at;
}

/* Room for one element more behind `count`; false: out of memory. */
static bool reserve(void *array, u32 count, u32 *room, size_t size)
{
	void *more;

	if (count < *room)
		return true;
	more = realloc(*(void **)array, (*room * 2 + 8) * size);
	if (!more)
		return false;
	*(void **)array = more;
	*room = *room * 2 + 8;
	return true;
}

struct group *group_create(struct templates *templates)
{
	struct group *group = calloc(1, sizeof(*group));

	if (!group)
		return NULL;
	group->next = templates->groups;
	templates->groups = group;
	return group;
}

/* Templates are found by their first eight bytes, shorter ones by their first one. */
static u32 hash_of(u32 offset, const u8 *bytes, u32 length)
{
	u64 key = 0;

	memcpy(&key, bytes, length < KEY_BYTES ? 1 : KEY_BYTES);
	key = (key ^ (u64)offset << 40 ^ (u64)(length < KEY_BYTES) << 60) * 0x9e3779b97f4a7c15ULL;
	return (u32)(key >> (64 - HASH_BITS));
}

static bool add_place(struct group *group, u32 offset, const struct template *t, u32 code)
{
	u32 at;

	if (!reserve(&group->places, group->place_count, &group->place_room, sizeof(struct place)))
		return false;
	at = group_place(group, offset);
	memmove(&group->places[at + 1], &group->places[at], (group->place_count - at) * sizeof(struct place));
	group->places[at] = (struct place){
		.offset = (u16)offset, .template = t->index, .code = code, .careful = t->mode & MODE_CAREFUL};
	group->place_count++;
	return true;
}

/* The slot of this target; slot_count if there is no memory for a new one. */
static u32 slot_of(struct group *group, s64 target, bool saved)
{
	u32 i = 0;

	while (i < group->slot_count && (group->slots[i].target != target || group->slots[i].saved != saved))
		i++;
	if (i < group->slot_count || !reserve(&group->slots, i, &group->slot_room, sizeof(struct slot_target)))
		return i;
	group->slots[group->slot_count++] = (struct slot_target){.target = target, .saved = saved};
	return i;
}

static bool keep_pcs(struct templates *templates, struct template *t, const struct store *store,
		     const struct unit *unit)
{
	struct pc_entry *pcs = keep(templates, store->pcs + unit->pcs, unit->pcs_count * sizeof(*pcs));

	if (!pcs)
		return false;
	for (u32 i = 0; i < unit->pcs_count; i++)
		pcs[i].code -= unit->code;
	t->pcs = pcs;
	t->pc_count = unit->pcs_count;
	return true;
}

static bool keep_links(struct templates *templates, struct template *t, const struct store *store,
		       const struct unit *unit)
{
	t->links = keep(templates, NULL, unit->links_count * sizeof(*t->links));
	if (!t->links)
		return false;
	t->link_count = unit->links_count;
	for (u32 i = 0; i < unit->links_count; i++) {
		const struct link *link = &store->links[unit->links + i];

		t->links[i] = (struct template_link){.patch = link->patch - unit->code,
						     .target = (u16)PAGE_OFFSET(link->target),
						     .saved = link->saved};
	}
	return true;
}

static bool keep_goals(struct templates *templates, struct template *t, const struct store *store,
		       const struct unit *unit)
{
	struct template_goal *goals = keep(templates, NULL, unit->goals_count * sizeof(*goals));

	if (!goals)
		return false;
	t->goals = goals;
	t->goal_count = unit->goals_count;
	for (u32 i = 0; i < unit->goals_count; i++) {
		const struct goal *goal = &store->goals[unit->goals + i];
		u32 slot = slot_of(t->group, goal->target, goal->saved);

		if (slot == t->group->slot_count)
			return false;
		goals[i] = (struct template_goal){.number = goal->number, .entry = goal->entry, .slot = slot};
	}
	return true;
}

static bool keep_fixups(struct templates *templates, struct template *t, const struct store *store,
			const struct unit *unit)
{
	u32 *at = keep(templates, NULL, unit->fixups_count * sizeof(*at));

	t->fixups.at = at;
	return at && fixup_sort(store, unit, at, t->fixups.count);
}

/* Makes it known to its group. */
static bool join(struct templates *templates, struct group *group, struct template *t)
{
	if (group->template_count == GROUP_TEMPLATES_MAX ||
	    !reserve(&group->templates, group->template_count, &group->template_room, sizeof(t)))
		return false;
	group->templates[group->template_count++] = t;

	struct template **head = &templates->hash[hash_of(t->offset, t->guest, t->guest_length)];

	t->next = *head;
	*head = t;
	return true;
}

static bool add_places(struct template *t, const struct store *store, const struct unit *unit)
{
	for (u32 i = unit->entries; i < unit->entries + unit->entries_count; i++) {
		const struct entry *entry = &store->entries[i];

		if (!add_place(t->group, (u32)PAGE_OFFSET(entry->pc), t, entry->code - unit->code))
			return false;
	}
	return true;
}

struct template *template_add(struct templates *templates, struct group *group, const struct store *store, u32 number,
			      u32 mode_mask, const u8 *bytes)
{
	const struct unit *unit = &store->units[number];
	struct template *t = keep(templates, NULL, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct template){.group = group,
			       .base = PAGE_BASE(unit->pc),
			       .mode = unit->mode & mode_mask,
			       .mode_mask = mode_mask,
			       .offset = (u16)PAGE_OFFSET(unit->pc),
			       .guest_length = unit->guest_bytes,
			       .instructions = unit->instructions,
			       .index = (u16)group->template_count,
			       .code_length = unit->code_end - unit->code,
			       .body = unit->body - unit->code,
			       .saved = unit->saved - unit->code,
			       .origin = unit->origin};
	t->code = keep(templates, store->code_rw + unit->code, t->code_length);
	t->guest = keep(templates, bytes, unit->guest_bytes);
	if (!t->code || !t->guest || !keep_pcs(templates, t, store, unit) || !keep_links(templates, t, store, unit) ||
	    !keep_goals(templates, t, store, unit) || !keep_fixups(templates, t, store, unit) ||
	    !join(templates, group, t))
		return NULL;
	return add_places(t, store, unit) ? t : NULL;
}

static bool import_jumps(struct templates *templates, struct template *t, const struct tcache_template_view *view)
{
	struct template_link *links = keep(templates, NULL, t->link_count * sizeof(*links));
	struct template_goal *goals = keep(templates, NULL, t->goal_count * sizeof(*goals));

	if (!links || !goals)
		return false;
	for (u32 i = 0; i < t->link_count; i++)
		links[i] = (struct template_link){.patch = view->links[i].patch,
						  .target = view->links[i].target,
						  .saved = view->links[i].flags & TCACHE_LINK_SAVED,
						  .taken = view->links[i].flags & TCACHE_TEMPLATE_LINK_TAKEN};
	for (u32 i = 0; i < t->goal_count; i++) {
		const struct tcache_goal *goal = &view->goals[i];
		u32 slot = slot_of(t->group, goal->target, goal->flags & TCACHE_LINK_SAVED);

		if (slot == t->group->slot_count)
			return false;
		goals[i] = (struct template_goal){.number = goal->number, .entry = goal->entry, .slot = slot};
	}
	t->links = links;
	t->goals = goals;
	return true;
}

struct template *template_import(struct templates *templates, struct group *group,
				 const struct tcache_template_view *view)
{
	const struct tcache_template *from = view->record;
	struct template *t = keep(templates, NULL, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct template){.group = group,
			       .base = TCACHE_TEMPLATE_BASE,
			       .mode = from->mode,
			       .mode_mask = from->mode_mask,
			       .offset = from->offset,
			       .guest_length = from->guest_length,
			       .instructions = from->instruction_count,
			       .index = (u16)group->template_count,
			       .code_length = from->code_length,
			       .body = from->body_offset,
			       .saved = from->saved_offset,
			       .pc_count = from->pc_count,
			       .link_count = from->link_count,
			       .goal_count = from->goal_count,
			       .origin = ORIGIN_AOT_COPIED,
			       .fixups.at = view->fixups,
			       .code = view->code,
			       .guest = view->guest,
			       .pcs = (const struct pc_entry *)view->pcs};
	memcpy(t->fixups.count, from->fixup_count, sizeof(t->fixups.count));
	if (!import_jumps(templates, t, view) || !join(templates, group, t))
		return NULL;
	for (u32 i = 0; i < from->entry_count; i++) {
		if (!add_place(group, from->offset + (u32)view->entries[i].guest, t, view->entries[i].code))
			return NULL;
	}
	return t;
}

/* The group's first template that begins at this offset and is not for one access only: 1 + its index, or 0. */
static u16 template_at(const struct group *group, u32 offset)
{
	for (u32 i = group_place(group, offset); i < group->place_count && group->places[i].offset == offset; i++) {
		if (!group->places[i].code && !group->places[i].careful)
			return (u16)(group->places[i].template + 1);
	}
	return 0;
}

void group_resolve_links(struct group *group)
{
	for (u32 i = 0; i < group->template_count; i++) {
		struct template *t = group->templates[i];

		for (u32 n = 0; n < t->link_count; n++) {
			if (t->links[n].taken)
				t->links[n].to = template_at(group, t->links[n].target);
		}
	}
}

/* Those that were wanted in more than half of the instances that learned. */
static void choose_together(struct group *group)
{
	u16 *together = realloc(group->together, group->template_count * sizeof(*together));

	group->together_count = 0;
	if (!together)
		return;
	group->together = together;
	for (u32 i = 0; i < group->template_count; i++) {
		if (group->templates[i]->uses * 2 > group->learnt)
			together[group->together_count++] = (u16)i;
	}
}

/* The first one, and then now and then, for programs come and go. */
#define LEARN_EVERY 8

bool group_begin_instance(struct group *group)
{
	u32 number = group->instance_count++;

	if (number % LEARN_EVERY == 1)
		choose_together(group);
	if (number % LEARN_EVERY)
		return false;
	group->learnt++;
	return true;
}

bool template_fits(const struct template *template, u32 offset, u32 mode, const u8 *bytes, u32 length)
{
	return template->offset == offset && !((template->mode ^ mode) & template->mode_mask) &&
	       template->guest_length <= length && !memcmp(template->guest, bytes, template->guest_length);
}

struct template *group_find(const struct group *group, u32 offset, u32 mode, const u8 *bytes, u32 length)
{
	for (u32 i = group_place(group, offset); i < group->place_count && group->places[i].offset == offset; i++) {
		struct template *template = group->templates[group->places[i].template];

		if (!group->places[i].code && template_fits(template, offset, mode, bytes, length))
			return template;
	}
	return NULL;
}

static struct template *find_in(struct template *chain, u32 offset, u32 mode, const u8 *bytes, u32 length)
{
	while (chain && !template_fits(chain, offset, mode, bytes, length))
		chain = chain->next;
	return chain;
}

struct template *templates_find(const struct templates *templates, u32 offset, u32 mode, const u8 *bytes, u32 length)
{
	struct template *found = NULL;

	if (length >= KEY_BYTES)
		found = find_in(templates->hash[hash_of(offset, bytes, KEY_BYTES)], offset, mode, bytes, length);
	return found ? found : find_in(templates->hash[hash_of(offset, bytes, 1)], offset, mode, bytes, length);
}
