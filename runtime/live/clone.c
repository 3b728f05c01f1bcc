/* Making templates and clones. */
#include "live/clone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "debug/perf_map.h"
#include "live/aot_template.h"
#include "live/code_pages.h"
#include "live/record.h"
#include "translate/translate.h"
#include "vm.h"

#define SEGMENT_LEAST   0x10000u /* bytes */
#define SEGMENT_MOST    0x200000u
#define SEGMENTS        64u /* of a code cache that is large enough */
#define SEGMENTS_AHEAD  4u  /* whose memory is made ready: a boot fills one in 15 ms */
/* Bytes of code for a clone and a link of the smallest sort, at most; measured are 1,300 and 250. */
#define BYTES_PER_CLONE 400u
#define BYTES_PER_LINK  40u
#define PAGES_MAX       65536u /* records; more have all clones forgotten */

/* Where one template is made: 64 instructions. */
#define FORM_CODE    0x40000u
#define FORM_RECORDS 0x4000u
#define FORM_MEMORY  (FORM_CODE + FORM_RECORDS * 64)

/* Clones that are made together, because the one that was asked for led to the others when it ran before. */
#define TOGETHER_MAX 64u

/* --- memory ------------------------------------------------------------------------------------------------------ */

static u32 segment_size(u64 code_size)
{
	u64 size = code_size / SEGMENTS;

	return (u32)(size < SEGMENT_LEAST ? SEGMENT_LEAST : size > SEGMENT_MOST ? SEGMENT_MOST : size);
}

u32 clones_unit_max(u64 code_size)
{
	u32 size = segment_size(code_size);

	return (u32)(code_size / size) * (size / BYTES_PER_CLONE);
}

/* The store that templates are made in. Its instruction records and counters are used by clones: live_create() has put
 * them where code can name them. */
static int create_forms(struct live *live, struct err *err)
{
	struct store *forms = &live->clones->forms;
	u8 *memory = malloc(FORM_CODE);

	forms->code_rw = forms->code = memory;
	forms->units = calloc(2, sizeof(*forms->units));
	forms->pcs = calloc(FORM_RECORDS, sizeof(*forms->pcs));
	forms->entries = calloc(FORM_RECORDS, sizeof(*forms->entries));
	forms->links = calloc(FORM_RECORDS, sizeof(*forms->links));
	forms->fixups = calloc(FORM_RECORDS, sizeof(*forms->fixups));
	forms->goals = calloc(FORM_RECORDS, sizeof(*forms->goals));
	if (!memory || !forms->units || !forms->pcs || !forms->entries || !forms->links || !forms->fixups ||
	    !forms->goals)
		return err_set(err, "out of memory");
	forms->size = FORM_CODE;
	forms->unit_max = forms->bound_first = 2;
	forms->pc_max = forms->entry_max = forms->link_max = forms->fixup_max = forms->goal_max = FORM_RECORDS;
	forms->insns = live->form_insns;
	forms->insn_max = live->form_insn_max;
	forms->counters = live->form_counters;
	forms->counter_max = live->form_counter_max;
	forms->bmi2 = live->store.bmi2;
	forms->counted = live->store.counted;
	forms->recording = live->store.recording;
	forms->exact_flags = live->store.exact_flags;
	forms->returns_host = live->store.returns_host;
	forms->origin = ORIGIN_LIVE;
	forms->relocatable = true;
	return 0;
}

static void destroy_forms(struct store *forms)
{
	free(forms->code_rw);
	free(forms->units);
	free(forms->pcs);
	free(forms->entries);
	free(forms->links);
	free(forms->fixups);
	free(forms->goals);
}

static int carve(struct live *live, struct err *err)
{
	struct clones *clones = live->clones;
	u64 units = (u64)clones->segment_count * clones->segment_units;
	struct {
		void **table;
		u64 bytes;
	} tables[] = {
		{(void **)&clones->segments, clones->segment_count * sizeof(*clones->segments)},
		{(void **)&clones->clones, units * sizeof(*clones->clones)},
		{(void **)&clones->instances, (u64)clones->segment_count * clones->segment_instances},
		{(void **)&clones->pages, clones->page_max * sizeof(*clones->pages)},
		{(void **)&clones->page_of, live->frame_count * sizeof(*clones->page_of)},
		{(void **)&clones->targets, TARGET_SIZE * sizeof(*clones->targets)},
		{(void **)&clones->hash, sizeof(*clones->hash) << INSTANCE_HASH_BITS},
	};
	u8 *at;

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		clones->memory_size += align_up(tables[i].bytes, PAGE_SIZE);
	at = mmap(NULL, clones->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		  0);
	if (at == MAP_FAILED)
		return err_set(err, "no memory for tables of translations: %s", strerror(errno));
	clones->memory = at;
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		*tables[i].table = at;
		at += align_up(tables[i].bytes, PAGE_SIZE);
	}
	return 0;
}

int clones_create(struct live *live, struct err *err)
{
	struct clones *clones = live->clones = calloc(1, sizeof(*clones));

	if (!clones)
		return err_set(err, "out of memory");
	clones->segment_size = segment_size(live->code_size);
	clones->segment_count = (u32)(live->code_size / clones->segment_size);
	clones->first = (clones->segment_count + 1) / 2;
	clones->segment_units = clones->segment_size / BYTES_PER_CLONE;
	clones->segment_links = clones->segment_size / BYTES_PER_LINK;
	clones->segment_instances = clones->segment_size / 4;
	clones->unit_first = live->store.unit_max;
	clones->page_max = PAGES_MAX;
	clones->templates = templates_create(2 * live->code_size);
	if (!clones->templates)
		return err_set(err, "out of memory");
	if (carve(live, err) < 0 || create_forms(live, err) < 0)
		return -1;
	live->store.size = (u64)clones->first * clones->segment_size;
	return 0;
}

void clones_destroy(struct live *live)
{
	struct clones *clones = live->clones;

	if (!clones)
		return;
	templates_destroy(clones->templates);
	destroy_forms(&clones->forms);
	if (clones->memory)
		munmap(clones->memory, clones->memory_size);
	free(clones);
	live->clones = NULL;
}

static u64 frame_number(const struct live *live, u64 gpa)
{
	const struct ram *ram = &live->vm->ram;

	return (u64)(ram_at(ram, gpa) - ram->host) >> PAGE_SHIFT;
}

/* --- forgetting -------------------------------------------------------------------------------------------------- */

static void clear_tables(struct live *live)
{
	struct clones *clones = live->clones;

	for (u32 i = 1; i < clones->page_count; i++) {
		struct clone_page *page = &clones->pages[i];

		if (page->group) {
			clones->page_of[frame_number(live, page->gpa)] = 0;
			live_release_frame(live, page->gpa);
		}
		*page = (struct clone_page){0};
	}
	clones->page_count = 1;
	clones->page_free = 0;
	for (u32 i = 0; i < clones->segment_count; i++)
		clones->segments[i] = (struct clone_segment){0};
	memset(clones->hash, 0, sizeof(*clones->hash) << INSTANCE_HASH_BITS);
	clones->current = clones->segment_count - 1; /* the first one is the next */
	clones->target_first = live->store.target_max = TARGET_SIZE;
	clones->base_count = 0;
	templates_clear_sets(clones->templates);
}

/* Numbers of targets and bases get other meanings, whatever they lead to: so no view may remember any. */
void clones_flush(struct live *live)
{
	mmu_clear_jumps(live->vm->vcpu);
	live_reset_predictions(live->vm->vcpu, true);
	live->dropped_code = true;
	live->generation++;
	clear_tables(live);
	live->vm->stats.clone_flushes++;
}

static void forget_templates(struct live *live)
{
	clones_flush(live);
	if (live->recorder)
		recorder_harvest(live->recorder, true);
	templates_clear(live->clones->templates);
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (live->aot_templates[i])
			aot_templates_forget(live->aot_templates[i]);
	}
	live->clones->forms.insn_count = 0;
	live->clones->forms.counter_count = 0;
}

bool clones_yield(struct live *live)
{
	struct clones *clones = live->clones;
	u32 step = clones->segment_count / 16 ? clones->segment_count / 16 : 1;

	if (clones->first + step > clones->segment_count - clones->segment_count / 4)
		return false;
	clones_flush(live);
	clones->first += step;
	live->store.size = (u64)clones->first * clones->segment_size;
	return true;
}

/* --- segments ---------------------------------------------------------------------------------------------------- */

static u64 instance_bytes(u32 room)
{
	return align_up(sizeof(struct instance) + room * sizeof(u16), 16);
}

static struct instance *instances_of(const struct clones *clones, u32 segment)
{
	return (struct instance *)(clones->instances + (u64)segment * clones->segment_instances);
}

static void empty_segment(struct live *live, u32 number)
{
	struct clones *clones = live->clones;
	struct clone_segment *segment = &clones->segments[number];
	u8 *at = (u8 *)instances_of(clones, number), *end = at + segment->instance_bytes;

	while (at < end) {
		struct instance *instance = (struct instance *)at;

		if (instance->page)
			instance_unlink(clones, instance);
		at += instance_bytes(instance->room);
	}
	if (segment->age) {
		mmu_drop_code(live->vm->vcpu, live->store.code, number * clones->segment_size,
			      (number + 1) * clones->segment_size);
		live_reset_predictions(live->vm->vcpu, true);
		live->dropped_code = true;
		live->generation++;
		live->vm->stats.clone_segments_emptied++;
	}
	*segment = (struct clone_segment){0};
}

static void next_segment(struct live *live)
{
	struct clones *clones = live->clones;

	if (++clones->current >= clones->segment_count)
		clones->current = clones->first;
	empty_segment(live, clones->current);
	code_pages_want(live, (u64)clones->current * clones->segment_size,
			(u64)(clones->current + SEGMENTS_AHEAD) * clones->segment_size, live->code_size);
	clones->segments[clones->current].age = ++clones->clock;
}

static struct clone_segment *current_segment(const struct clones *clones)
{
	return &clones->segments[clones->current];
}

/* Bytes of code that the template takes in a segment. */
static u64 room_of(const struct template *t)
{
	return align_up(t->code_length, 16);
}

/* Is there room for it in an empty segment, and for more? A cache may have any. */
static bool is_modest(const struct clones *clones, const struct template *t)
{
	return room_of(t) <= clones->segment_size / 2 && t->link_count <= clones->segment_links / 2;
}

static bool has_room(const struct clones *clones, const struct template *t)
{
	const struct clone_segment *segment = current_segment(clones);

	return segment->age && segment->used + room_of(t) <= clones->segment_size &&
	       segment->units < clones->segment_units && segment->links + (u64)t->link_count <= clones->segment_links;
}

bool clones_begin_piece(const struct live *live, struct emitter *e)
{
	const struct clones *clones = live->clones;
	u8 *begin = live->store.code_rw + (u64)clones->current * clones->segment_size;

	*e = (struct emitter){begin, begin + current_segment(clones)->used, begin + clones->segment_size, false};
	return current_segment(clones)->age;
}

void clones_end_piece(struct live *live, const struct emitter *e)
{
	current_segment(live->clones)->used = (u32)align_up((u64)(e->at - e->start), 16);
}

/* --- page frames ------------------------------------------------------------------------------------------------- */

static struct clone_page *page_at(const struct live *live, u64 gpa)
{
	u32 number = live->clones->page_of[frame_number(live, gpa)];

	return number ? &live->clones->pages[number] : NULL;
}

static struct clone_page *add_page(struct live *live, u64 gpa, struct group *group)
{
	struct clones *clones = live->clones;
	u32 number = clones->page_free;

	if (!number && clones->page_count == clones->page_max)
		clones_flush(live);
	if (number)
		clones->page_free = clones->pages[number].next_free;
	else
		number = clones->page_count++;
	clones->pages[number] = (struct clone_page){.group = group, .gpa = PAGE_BASE(gpa)};
	clones->page_of[frame_number(live, gpa)] = number;
	mmu_protect_frame(live->vm->vcpu, gpa);
	return &clones->pages[number];
}

static bool is_verified(const struct clone_page *page, const struct template *t)
{
	return t->index < CLONE_VERIFIED && page->verified[t->index / 64] >> (t->index % 64) & 1;
}

static void set_verified(struct clone_page *page, const struct template *t)
{
	if (t->index < CLONE_VERIFIED)
		page->verified[t->index / 64] |= BIT(t->index % 64);
}

/* Are these the page's bytes? Compared once. */
static bool verify(const struct live *live, struct clone_page *page, const struct template *t)
{
	if (is_verified(page, t))
		return true;
	if (memcmp(ram_at(&live->vm->ram, page->gpa) + t->offset, t->guest, t->guest_length) != 0)
		return false;
	set_verified(page, t);
	return true;
}

static struct template *known(const struct live *live, struct clone_page *page, u32 offset, u32 mode)
{
	const struct group *group = page->group;

	for (u32 i = group_place(group, offset); i < group->place_count && group->places[i].offset == offset; i++) {
		struct template *t = group->templates[group->places[i].template];

		if (!group->places[i].code && !((t->mode ^ mode) & t->mode_mask) && verify(live, page, t))
			return t;
	}
	return NULL;
}

/* --- templates --------------------------------------------------------------------------------------------------- */

/* Translates what is at v->rip; the unit's number in `forms`, or UNIT_NONE. */
static u32 make_form(struct vcpu *v, const u8 *bytes, u32 mode)
{
	struct live *live = v->vm->live;
	struct store *forms = &live->clones->forms;
	struct scan *scan = translation_scan(live->translation);
	struct scan_options options = translate_scan_options(forms, mode);
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(v->rip));

	/* an instruction that reaches into the next page is not for templates */
	if (scan_unit(scan, v->rip, bytes, in_page, in_page, &options) < 0)
		return UNIT_NONE;
	forms->used = 0;
	forms->unit_count = 1;
	forms->pc_count = forms->entry_count = forms->link_count = forms->fixup_count = forms->goal_count = 0;
	return translate_unit(live->translation, forms, mode);
}

static struct template *make_template(struct vcpu *v, const u8 *bytes, u32 mode, struct group *group)
{
	struct live *live = v->vm->live;
	struct clones *clones = live->clones;
	struct vm_stats *stats = &v->vm->stats;
	u32 form = make_form(v, bytes, mode);
	struct template *t;

	if (form == UNIT_NONE)
		return NULL;
	if (!group)
		group = group_create(clones->templates);
	if (!group)
		return NULL;
	t = template_add(clones->templates, group, &clones->forms, form,
			 translate_mode_mask(translation_scan(live->translation)), bytes);
	if (!t)
		return NULL;
	if (live->recorder)
		recorder_add(live->recorder, &clones->forms.units[form],
			     clones->forms.counters + clones->forms.units[form].counters, bytes, bytes - t->offset);
	stats->units_translated++;
	stats->instructions_translated += t->instructions;
	stats->code_bytes += t->code_length;
	return t;
}

/* The record of a page frame that has none yet, if some group, live or of a cache, has its code at this offset. */
static struct clone_page *recognize(struct live *live, u64 gpa, u32 mode)
{
	struct templates *templates = live->clones->templates;
	u32 offset = (u32)PAGE_OFFSET(gpa);
	const u8 *page = ram_at(&live->vm->ram, PAGE_BASE(gpa));
	struct group *group = NULL;

	for (unsigned i = 0; i < live->aot_count && !group; i++) {
		if (live->aot_templates[i])
			group = aot_templates_find(live->aot_templates[i], templates, page, offset, mode);
	}
	if (!group) {
		const struct template *t =
			templates_find(templates, offset, mode, page + offset, (u32)PAGE_SIZE - offset);

		group = t ? t->group : NULL;
	}
	return group ? add_page(live, gpa, group) : NULL;
}

/* The template for v->rip at gpa, and the record of its page frame. NULL: there is none. */
static struct template *template_for(struct vcpu *v, u64 gpa, u32 mode, struct clone_page **page)
{
	struct live *live = v->vm->live;
	struct template *t = NULL;
	u32 offset = (u32)PAGE_OFFSET(gpa);

	*page = page_at(live, gpa);
	if (!*page)
		*page = recognize(live, gpa, mode);
	if (*page)
		t = known(live, *page, offset, mode);
	if (!t && *page) {
		t = aot_templates_more(live->clones->templates, (*page)->group, offset, mode, ram_at(&v->vm->ram, gpa),
				       (u32)PAGE_SIZE - offset);
		if (t)
			set_verified(*page, t);
	}
	if (!t) {
		t = make_template(v, ram_at(&v->vm->ram, gpa), mode, *page ? (*page)->group : NULL);
		if (!t)
			return NULL;
		if (!*page)
			*page = add_page(live, gpa, t->group);
		set_verified(*page, t);
	}
	return t;
}

/* --- instances --------------------------------------------------------------------------------------------------- */

static struct number_set *add_set(struct live *live, struct group *group)
{
	struct clones *clones = live->clones;
	struct number_set *set;

	if (clones->base_count == VIEW_BASES)
		return NULL;
	set = calloc(1, sizeof(*set));
	if (!set)
		return NULL;
	set->base = clones->base_count++;
	set->next = group->sets;
	group->sets = set;
	return set;
}

/*
 * A set whose base is, or may be, this one in the view in force: that of clones which the page has at this address, if
 * possible, for others could not jump to them.
 */
static struct number_set *set_for(struct vcpu *v, const struct clone_page *page, u64 base)
{
	struct group *group = page->group;
	struct number_set *set = group->sets;

	for (const struct instance *i = *instance_chain(v->vm->live->clones, base, page->gpa); i; i = i->next_hashed) {
		if (i->page == page && i->base == base && view_take_base(v->view, i->set->base, base))
			return i->set;
	}

	while (set && !view_take_base(v->view, set->base, base))
		set = set->next;
	if (set)
		return set;
	set = add_set(v->vm->live, group);
	if (set)
		view_take_base(v->view, set->base, base);
	return set;
}

/* The page's instance in the current segment that has room for the template; NULL if there is none. */
static struct instance *find_instance(struct vcpu *v, const struct clone_page *page, u64 base, u32 mode,
				      const struct template *t)
{
	const struct clones *clones = v->vm->live->clones;

	for (struct instance *i = *instance_chain(clones, base, page->gpa); i; i = i->next_hashed) {
		if (i->page == page && i->segment == clones->current && i->base == base && i->mode == mode &&
		    t->index < i->room && view_take_base(v->view, i->set->base, base))
			return i;
	}
	return NULL;
}

/* Has the page clones at this address, in whatever segment? */
static bool has_instance(const struct clones *clones, const struct clone_page *page, u64 base, u32 mode)
{
	for (const struct instance *i = *instance_chain(clones, base, page->gpa); i; i = i->next_hashed) {
		if (i->page == page && i->base == base && i->mode == mode)
			return true;
	}
	return false;
}

/* NULL: no room in the segment, or no memory. */
static struct instance *add_instance(struct vcpu *v, struct clone_page *page, u64 base, u32 mode)
{
	struct clones *clones = v->vm->live->clones;
	struct clone_segment *segment = current_segment(clones);
	u32 room = page->group->template_count + 8;
	struct number_set *set;
	struct instance *i;

	if (segment->instance_bytes + instance_bytes(room) > clones->segment_instances)
		return NULL;
	set = set_for(v, page, base);
	if (!set)
		return NULL;
	i = (struct instance *)((u8 *)instances_of(clones, clones->current) + segment->instance_bytes);
	segment->instance_bytes += (u32)instance_bytes(room);
	*i = (struct instance){.page = page,
			       .group = page->group,
			       .set = set,
			       .base = base,
			       .gpa = page->gpa,
			       .mode = mode,
			       .segment = clones->current,
			       .room = room,
			       .learns = group_begin_instance(page->group)};
	memset(i->units, 0, room * sizeof(u16));
	instance_link(clones, i);
	return i;
}

/* Gives the set numbers for all that the group's templates jump to. False: there are no more, or no memory. */
static bool give_numbers(struct live *live, const struct group *group, struct number_set *set)
{
	struct clones *clones = live->clones;
	u32 more = group->slot_count - set->count;
	u32 *numbers;

	if (!more)
		return true;
	if (clones->target_first - live->store.target_count < more)
		return false;
	numbers = realloc(set->numbers, group->slot_count * sizeof(*numbers));
	if (!numbers)
		return false;
	set->numbers = numbers;
	for (; set->count < group->slot_count; set->count++) {
		const struct slot_target *slot = &group->slots[set->count];

		numbers[set->count] = --clones->target_first;
		clones->targets[clones->target_first] =
			(struct clone_target){.base = set->base, .saved = slot->saved, .target = slot->target};
	}
	live->store.target_max = clones->target_first;
	return true;
}

/* --- clones ------------------------------------------------------------------------------------------------------ */

/* Copies the template; its links are not complete yet. There is room. */
static u32 copy(struct live *live, struct instance *instance, const struct template *t)
{
	struct clones *clones = live->clones;
	struct clone_segment *segment = current_segment(clones);
	u32 index = segment->units++;
	u32 number = clones->unit_first + clones->current * clones->segment_units + index;
	u32 code = clones->current * clones->segment_size + segment->used;
	u8 *to = live->store.code_rw + code;
	struct fixup_move move = {.pages = instance->base - t->base,
				  .first_link =
					  CLONE_FIRST_LINK + clones->current * clones->segment_links + segment->links};

	memcpy(to, t->code, t->code_length);
	fixup_apply(to, &t->fixups, &move);
	for (u32 i = 0; i < t->goal_count; i++)
		fixup_goal(to, t->goals[i].number, t->goals[i].entry, instance->set->numbers[t->goals[i].slot]);
	live->store.units[number] = (struct unit){.pc = instance->base + t->offset,
						  .gpa = instance->gpa + t->offset,
						  .gpa_next = NO_FRAME,
						  .mode = instance->mode | (t->mode & MODE_CAREFUL),
						  .code = code,
						  .body = code + t->body,
						  .saved = code + t->saved,
						  .code_end = code + t->code_length,
						  .links = move.first_link,
						  .links_count = t->link_count,
						  .guest_bytes = t->guest_length,
						  .instructions = t->instructions,
						  .origin = t->origin};
	clones->clones[number - clones->unit_first] = (struct clone){.instance = instance, .template = t};
	instance->units[t->index] = (u16)(index + 1);
	segment->used += (u32)room_of(t);
	segment->links += t->link_count;
	live->vm->stats.units_cloned++;
	live->vm->stats.aot_cloned += t->origin != ORIGIN_LIVE;
	perf_map_add(live->vm, (u64)live->store.code + code, t->code_length, instance->base + t->offset);
	return number;
}

/* The instance's clone that a link leads to, or UNIT_NONE. */
static u32 linked(const struct live *live, const struct instance *instance, const struct template_link *link)
{
	const struct clones *clones = live->clones;
	const struct template *t;

	if (!link->to || link->to > instance->room || !instance->units[link->to - 1])
		return UNIT_NONE;
	t = instance->group->templates[link->to - 1];
	/* it may have led to one of other bytes or another mode */
	if (t->offset != link->target || t->mode & MODE_CAREFUL)
		return UNIT_NONE;
	return clones->unit_first + instance->segment * clones->segment_units + instance->units[link->to - 1] - 1;
}

void clone_complete_links(struct live *live, u32 number)
{
	const struct clone *clone = &live->clones->clones[number - live->clones->unit_first];
	const struct unit *from = &live->store.units[number];

	for (u32 i = 0; i < clone->template->link_count; i++) {
		const struct template_link *link = &clone->template->links[i];
		u32 to = linked(live, clone->instance, link);

		if (to == UNIT_NONE)
			continue;
		const struct unit *unit = &live->store.units[to];

		emit_patch(live->store.code_rw + from->code + link->patch,
			   live->store.code_rw + (link->saved ? unit->saved : unit->body));
	}
}

/* Can this one be made along with others, and is it not there yet? */
static bool may_follow(const struct live *live, const struct instance *instance, const struct template *t)
{
	return t->index < instance->room && !instance->units[t->index] &&
	       !((t->mode ^ instance->mode) & t->mode_mask) && has_room(live->clones, t) &&
	       verify(live, instance->page, t);
}

/* A clone that is wanted. */
static u32 copy_wanted(struct live *live, struct instance *instance, struct template *t)
{
	t->uses += instance->learns;
	return copy(live, instance, t);
}

/* Makes what is most often wanted when this page is run. */
static u32 copy_together(struct live *live, struct instance *instance, u32 *numbers, u32 count)
{
	const struct group *group = instance->group;

	for (u32 i = 0; i < group->together_count && count < TOGETHER_MAX; i++) {
		const struct template *t = group->templates[group->together[i]];

		if (may_follow(live, instance, t))
			numbers[count++] = copy(live, instance, t);
	}
	return count;
}

/* Makes what these, and those made because of them, have led to before within the page. */
static u32 follow_links(struct live *live, struct instance *instance, u32 *numbers, u32 count)
{
	for (u32 n = 0; n < count; n++) {
		const struct template *from = live->clones->clones[numbers[n] - live->clones->unit_first].template;

		for (u32 i = 0; i < from->link_count && count < TOGETHER_MAX; i++) {
			const struct template_link *link = &from->links[i];

			if (!link->taken || !link->to)
				continue;
			struct template *t = instance->group->templates[link->to - 1];

			if (t->offset == link->target && may_follow(live, instance, t))
				numbers[count++] = copy_wanted(live, instance, t);
		}
	}
	return count;
}

/* The instance to put a clone into, with room and numbers for it. NULL: something is full. */
static struct instance *prepare(struct vcpu *v, struct clone_page *page, u64 base, u32 mode, const struct template *t)
{
	struct live *live = v->vm->live;
	struct instance *instance;

	if (!has_room(live->clones, t))
		next_segment(live);
	instance = find_instance(v, page, base, mode, t);
	if (!instance)
		instance = add_instance(v, page, base, mode);
	if (!instance) {
		next_segment(live);
		instance = add_instance(v, page, base, mode);
	}
	return instance && give_numbers(live, instance->group, instance->set) ? instance : NULL;
}

static u32 make(struct vcpu *v, struct clone_page *page, u64 gpa, u32 mode, struct template *t)
{
	struct live *live = v->vm->live;
	u64 base = PAGE_BASE(v->rip);
	u32 plain = mode & ~MODE_CAREFUL, numbers[TOGETHER_MAX], count = 1;
	bool fresh = !has_instance(live->clones, page, base, plain);
	struct instance *instance;

	if (fresh) {
		clones_take_over(v, page, base, plain);
		u32 taken = clones_find(v, gpa, true, mode, 0).unit;

		if (taken != UNIT_NONE)
			return taken;
		fresh = !has_instance(live->clones, page, base, plain);
	}
	instance = prepare(v, page, base, plain, t);
	if (!instance)
		return UNIT_NONE;
	if (instance->units[t->index])
		return live->clones->unit_first + instance->segment * live->clones->segment_units +
		       instance->units[t->index] - 1;
	numbers[0] = copy_wanted(live, instance, t);
	if (fresh && !instance->learns)
		count = copy_together(live, instance, numbers, count);
	if (!(mode & MODE_CAREFUL))
		count = follow_links(live, instance, numbers, count);
	for (u32 i = 0; i < count; i++)
		clone_complete_links(live, numbers[i]);
	return numbers[0];
}

/*
 * Something is full. Where it is numbers of targets, the larger part of those that are given goes: other code's are
 * absolute addresses, which every exec adds to and nothing but forgetting that code takes back. They would leave so few
 * that clones had to be forgotten all the time.
 */
static void make_room(struct live *live)
{
	u32 shared = TARGET_SIZE - live->targets_kept;

	if (live->store.target_count - live->targets_kept > shared / 2)
		live_flush(live);
	else
		clones_flush(live);
}

u32 clones_make(struct vcpu *v, u64 gpa, u32 mode)
{
	struct live *live = v->vm->live;
	struct template *t;
	struct clone_page *page;
	u32 number = UNIT_NONE;

	if (!ram_at(&v->vm->ram, gpa))
		return UNIT_NONE;
	if (templates_full(live->clones->templates) ||
	    live->clones->forms.insn_count + SCAN_ROOM > live->clones->forms.insn_max ||
	    (live->store.recording && live->clones->forms.counter_count + SCAN_ROOM > live->clones->forms.counter_max))
		forget_templates(live);
	/* a second time if it takes forgetting what others have */
	for (unsigned attempt = 0; attempt < 2 && number == UNIT_NONE; attempt++) {
		t = template_for(v, gpa, mode, &page);
		if (!t || !is_modest(live->clones, t))
			return UNIT_NONE;
		number = make(v, page, gpa, mode, t);
		if (number == UNIT_NONE)
			make_room(live);
	}
	return number;
}
