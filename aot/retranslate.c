#include "retranslate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tcache.h>

#include "direct_link.h"
#include "plan.h"
#include "translate/fingerprint.h"
#include "translate/fixup.h"
#include "translate/translate.h"
#include "unit_records.h"

/* Of one unit, which has 64 instructions at most. */
#define UNIT_PCS     65536u
#define UNIT_ENTRIES 4096u
#define UNIT_CODE    (1u << 20)
/* Host code may be kept this long before its memory is given back. */
#define KEEP_CODE    (16u << 20)

struct area {
	void *at;
	u64 size;
};

struct work {
	struct tcache *cache;
	struct store store;
	struct translation *translation;
	struct unit units[2];
	struct store forms;   /* templates, one at a time */
	struct store modules; /* code of kernel modules, likewise */
	u32 *fixups;
	struct area code, cells, insns; /* the latter two at the addresses that the code names */
	u64 kept;                       /* offset in the code that memory was last given back at */
};

static bool map_area(struct area *area, u64 address, u64 size, int flags)
{
	if (!size)
		return true;
	area->at = mmap((void *)address, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
	if (area->at == MAP_FAILED) {
		area->at = NULL;
		return false;
	}
	area->size = size;
	return true;
}

static int check_fingerprint(struct work *w, struct err *err)
{
	const struct tcache_fingerprint *made = &tcache_header(w->cache)->fingerprint;
	struct tcache_fingerprint mine;

	translator_fingerprint(&w->store, "", &mine);
	if (memcmp(made->translator, mine.translator, sizeof(made->translator)) != 0)
		return err_set(err, "'%s' was made by translator '%.48s', this is '%.48s'", tcache_name(w->cache),
			       made->translator, mine.translator);
	if (!translator_find_options(&w->store, made))
		return err_set(err, "'%s' was made with options that are not known", tcache_name(w->cache));
	return 0;
}

/* Everything that the code refers to by number or address is where the cache has it. */
static int prepare_store(struct work *w, struct err *err)
{
	struct tcache *cache = w->cache;
	struct store *store = &w->store;
	const struct tcache_placement *place = tcache_place(cache);
	u64 targets = tcache_targets_count(cache);
	const u64 *pcs = tcache_targets(cache, 0, targets);

	if (!place || !pcs)
		return err_set(err, "%s", tcache_error(cache));
	if (place->insn_size != sizeof(struct insn) || !place->first_target ||
	    place->first_target + targets > TARGET_SIZE)
		return err_set(err, "'%s' has decoded instructions or jump targets of another kind",
			       tcache_name(cache));
	if (!map_area(&w->code, 0, tcache_code_size(cache) + UNIT_CODE, 0) ||
	    !map_area(&w->cells, place->cells_address, tcache_cells_size(cache), MAP_FIXED_NOREPLACE) ||
	    !map_area(&w->insns, place->insns_address, tcache_insns_size(cache), MAP_FIXED_NOREPLACE))
		return err_set(err, "'%s': cannot use the addresses that it was made for: %s", tcache_name(cache),
			       strerror(errno));
	store->code = (u8 *)place->code_address;
	store->code_rw = w->code.at;
	store->size = w->code.size;
	/* not NULL: that would mean a live store, whose code has another form */
	store->cells = (u64 *)place->cells_address;
	store->insns = (struct insn *)place->insns_address;
	store->first_link = place->first_link;
	store->link_max = (u32)tcache_links_count(cache);
	store->insn_max = (u32)tcache_insns_count(cache);
	store->target_count = place->first_target;
	store->target_max = place->first_target + (u32)targets;
	store->units = w->units;
	store->unit_max = store->bound_first = 2;
	store->pc_max = UNIT_PCS;
	store->entry_max = UNIT_ENTRIES;
	store->bmi2 = true;
	store->origin = ORIGIN_AOT_COPIED;
	store->pcs = calloc(UNIT_PCS, sizeof(*store->pcs));
	store->entries = calloc(UNIT_ENTRIES, sizeof(*store->entries));
	store->links = calloc(store->link_max + 1, sizeof(*store->links));
	store->targets = calloc(TARGET_SIZE, sizeof(*store->targets));
	store->target_hash = calloc(1u << TARGET_HASH_BITS, sizeof(*store->target_hash));
	w->translation = translation_create();
	if (!store->pcs || !store->entries || !store->links || !store->targets || !store->target_hash ||
	    !w->translation)
		return err_set(err, "out of memory");
	for (u32 i = 0; i < targets; i++)
		store_set_target(store, place->first_target + i, pcs[i]);
	return 0;
}

/* Templates lie anywhere; of what they refer to, only instruction records have a place. */
static int prepare_forms(struct work *w, struct err *err)
{
	struct store *forms = &w->forms;

	*forms = w->store;
	forms->relocatable = true;
	forms->cells = NULL;
	forms->first_link = 0;
	forms->code = forms->code_rw = malloc(UNIT_CODE);
	forms->size = UNIT_CODE;
	forms->link_max = forms->fixup_max = forms->goal_max = UNIT_PCS;
	forms->links = calloc(UNIT_PCS, sizeof(*forms->links));
	forms->fixups = calloc(UNIT_PCS, sizeof(*forms->fixups));
	forms->goals = calloc(UNIT_PCS, sizeof(*forms->goals));
	w->fixups = calloc(UNIT_PCS, sizeof(*w->fixups));
	if (!forms->code || !forms->links || !forms->fixups || !forms->goals || !w->fixups)
		return err_set(err, "out of memory");
	return 0;
}

static int prepare_modules(struct work *w, struct err *err)
{
	struct store *store = &w->modules;

	*store = w->forms;
	store->relocatable = false;
	store->module = true;
	store->insn_max = store->landing_max = UNIT_ENTRIES;
	store->insns = calloc(UNIT_ENTRIES, sizeof(*store->insns));
	store->landings = calloc(UNIT_ENTRIES, sizeof(*store->landings));
	return store->insns && store->landings ? 0 : err_set(err, "out of memory");
}

static void release(struct work *w)
{
	struct area *areas[] = {&w->code, &w->cells, &w->insns};

	for (unsigned i = 0; i < ARRAY_SIZE(areas); i++) {
		if (areas[i]->at)
			munmap(areas[i]->at, areas[i]->size);
	}
	free(w->store.pcs);
	free(w->store.entries);
	free(w->store.links);
	free(w->store.targets);
	free(w->store.target_hash);
	free(w->forms.code_rw);
	free(w->forms.links);
	free(w->forms.fixups);
	free(w->forms.goals);
	free(w->fixups);
	free(w->modules.insns);
	free(w->modules.landings);
	translation_destroy(w->translation);
}

/* Makes the unit again, at its place; NULL, or what prevents it. */
static const char *make_again(struct work *w, const struct tcache_unit_view *view)
{
	struct store *store = &w->store;
	const struct tcache_unit *unit = view->unit;
	struct scan *scan = translation_scan(w->translation);

	if (!view->guest)
		return "guest bytes are missing";
	if (!plan_scan(store, scan, unit->pc, unit->mode, view->guest, unit->guest_length))
		return "guest bytes are not those of one unit";
	if (translate_mode_mask(scan) != unit->mode_mask)
		return "mode mask differs";
	store->unit_count = 1;
	store->pc_count = store->entry_count = 1;
	store->link_count = unit->link_first;
	store->insn_count = unit->insn_first;
	store->used = unit->code_offset;
	if (translate_unit(w->translation, store, unit->mode) == UNIT_NONE)
		return "it takes more links, instructions or code now";
	return NULL;
}

/* What units and templates say of themselves in numbers. */
struct layout {
	u32 code, body, saved, instructions, pcs, entries, links, insns;
};

static const char *compare_layout(const struct unit *made, const struct layout *have)
{
	const struct {
		const char *what;
		u32 made, have;
	} fields[] = {
		{"length of the code differs", made->code_end - made->code, have->code},
		{"body differs", made->body - made->code, have->body},
		{"body for saved flags differs", made->saved - made->code, have->saved},
		{"number of instructions differs", made->instructions, have->instructions},
		{"number of pc records differs", made->pcs_count, have->pcs},
		{"number of entries differs", made->entries_count, have->entries},
		{"number of links differs", made->links_count, have->links},
		{"number of handed-over instructions differs", made->insns_count, have->insns},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].made != fields[i].have)
			return fields[i].what;
	}
	return NULL;
}

static struct layout unit_layout(const struct tcache_unit *unit)
{
	return (struct layout){.code = unit->code_length,
			       .body = unit->body_offset,
			       .saved = unit->saved_offset,
			       .instructions = unit->instruction_count,
			       .pcs = unit->pc_count,
			       .entries = unit->entry_count,
			       .links = unit->link_count,
			       .insns = unit->insn_count};
}

static struct layout template_layout(const struct tcache_template *t)
{
	return (struct layout){.code = t->code_length,
			       .body = t->body_offset,
			       .saved = t->saved_offset,
			       .instructions = t->instruction_count,
			       .pcs = t->pc_count,
			       .entries = t->entry_count,
			       .links = t->link_count,
			       .insns = t->insn_count};
}

static bool equal(const void *a, const void *b, size_t size)
{
	return memcmp(a, b, size) == 0;
}

/* What both have, and in the same form. */
static const char *compare_common(const struct store *store, const struct tcache_pc *pcs,
				  const struct tcache_entry *entries, const struct tcache_insn *insns)
{
	const struct unit *made = &store->units[1];

	for (u32 i = 0; i < made->pcs_count; i++) {
		struct tcache_pc pc = unit_pc_record(store, made, made->pcs + i);

		if (!equal(&pc, &pcs[i], sizeof(pc)))
			return "pc record differs";
	}
	for (u32 i = 0; i < made->entries_count; i++) {
		struct tcache_entry entry = unit_entry_record(store, made, made->entries + i);

		if (!equal(&entry, &entries[i], sizeof(entry)))
			return "entry differs";
	}
	for (u32 i = 0; i < made->insns_count; i++) {
		struct tcache_insn insn = unit_insn_record(store, made->insns + i);

		if (!equal(&insn, &insns[i], sizeof(insn)))
			return "handed-over instruction differs";
	}
	return NULL;
}

/* Its direct links lead to the units that the cache has there. */
static void make_direct(struct work *w, const struct tcache_unit_view *view)
{
	const struct unit *made = &w->units[1];

	for (u32 i = 0; i < made->links_count && i < view->unit->link_count; i++) {
		const struct tcache_link *link = &view->links[i];
		const struct tcache_unit *to;
		u32 number, count;

		/* the file has been verified: it is the only one */
		if (!(link->flags & TCACHE_LINK_DIRECT) ||
		    tcache_unit_find(w->cache, view->unit->pc + (u64)(s64)link->target, &number, &count) != TCACHE_OK ||
		    !(to = tcache_units(w->cache, number, 1)))
			continue;
		direct_link_make(&w->store, made->links + i,
				 &(struct unit){.body = to->code_offset + to->body_offset,
						.saved = to->code_offset + to->saved_offset});
	}
}

static const char *compare_records(const struct store *store, const struct tcache_unit_view *view)
{
	const struct unit *made = &store->units[1];

	for (u32 i = 0; i < made->links_count; i++) {
		struct tcache_link link = unit_link_record(store, made, made->links + i);

		if (!equal(&link, &view->links[i], sizeof(link)) || store->cells[made->links + i] != view->cells[i])
			return "link differs";
	}
	return compare_common(store, view->pcs, view->entries, view->insns);
}

/* With `text` as memory. */
static const char *compare_code(const u8 *made, const u8 *have, u32 length, char *text, size_t size)
{
	for (u32 i = 0; i < length; i++) {
		if (made[i] != have[i]) {
			snprintf(text, size, "code differs from byte %#x on", i);
			return text;
		}
	}
	return NULL;
}

/* NULL: it is what it should be. Else what differs, with `text` as memory. */
static const char *compare_unit(struct work *w, const struct tcache_unit_view *view, char *text, size_t size)
{
	const struct layout layout = unit_layout(view->unit);
	const char *what = make_again(w, view);

	if (!what)
		what = compare_layout(&w->units[1], &layout);
	if (!what) {
		make_direct(w, view);
		what = compare_records(&w->store, view);
	}
	if (!what)
		what = compare_code(w->store.code_rw + view->unit->code_offset, view->code, view->unit->code_length,
				    text, size);
	return what;
}

/* --- templates --------------------------------------------------------------------------------------------------- */

static const char *make_template(struct work *w, const struct tcache_template_view *view)
{
	struct store *forms = &w->forms;
	const struct tcache_template *t = view->record;
	struct scan *scan = translation_scan(w->translation);

	if (!plan_scan(forms, scan, TCACHE_TEMPLATE_BASE + t->offset, t->mode, view->guest, t->guest_length))
		return "guest bytes are not those of one unit";
	if (translate_mode_mask(scan) != t->mode_mask)
		return "mode mask differs";
	forms->unit_count = 1;
	forms->pc_count = forms->entry_count = 1;
	forms->link_count = forms->fixup_count = forms->goal_count = 0;
	forms->insn_count = t->insn_first;
	forms->used = 0;
	if (translate_unit(w->translation, forms, t->mode) == UNIT_NONE)
		return "it takes more instructions or code now";
	return NULL;
}

static const char *compare_jumps(struct work *w, const struct tcache_template_view *view)
{
	const struct store *forms = &w->forms;
	const struct unit *made = &forms->units[1];
	u16 counts[FIXUP_KINDS];

	if (made->goals_count != view->record->goal_count)
		return "number of goals differs";
	if (!fixup_sort(forms, made, w->fixups, counts) || !equal(counts, view->record->fixup_count, sizeof(counts)) ||
	    !equal(w->fixups, view->fixups, made->fixups_count * sizeof(*w->fixups)))
		return "fix-ups differ";
	for (u32 i = 0; i < made->links_count; i++) {
		struct tcache_template_link link = template_link_record(forms, made, i), have = view->links[i];

		have.flags &= (u16)~TCACHE_TEMPLATE_LINK_TAKEN; /* a hint from the recording */
		if (!equal(&link, &have, sizeof(link)))
			return "link differs";
	}
	for (u32 i = 0; i < made->goals_count; i++) {
		struct tcache_goal goal = template_goal_record(forms, i);

		if (!equal(&goal, &view->goals[i], sizeof(goal)))
			return "goal differs";
	}
	return NULL;
}

static const char *compare_template(struct work *w, const struct tcache_template_view *view, char *text, size_t size)
{
	const struct layout layout = template_layout(view->record);
	const char *what = make_template(w, view);

	if (!what)
		what = compare_layout(&w->units[1], &layout);
	if (!what)
		what = compare_common(&w->forms, view->pcs, view->entries, view->insns);
	if (!what)
		what = compare_jumps(w, view);
	if (!what)
		what = compare_code(w->forms.code_rw, view->code, view->record->code_length, text, size);
	return what;
}

/* --- kernel modules ---------------------------------------------------------------------------------------------- */

static const char *make_module(struct work *w, const struct tcache_module_view *view)
{
	struct store *store = &w->modules;
	const struct tcache_module_unit *u = view->record;
	struct scan *scan = translation_scan(w->translation);

	if (!plan_scan_module(store, scan, TCACHE_MODULE_BASE + u->offset, u->mode, view->guest, u->guest_length,
			      view->holes, view->hole_count))
		return "guest bytes are not those of one unit, or its holes are no fields";
	if (translate_mode_mask(scan) != u->mode_mask)
		return "mode mask differs";
	store->unit_count = 1;
	store->pc_count = store->entry_count = 1;
	store->link_count = store->fixup_count = store->insn_count = store->landing_count = 0;
	store->used = 0;
	if (translate_unit(w->translation, store, u->mode) == UNIT_NONE)
		return "it takes more instructions or code now";
	return NULL;
}

static const char *compare_fixups(const struct store *store, const struct tcache_module_view *view)
{
	const struct unit *made = &store->units[1];

	if (made->fixups_count + made->links_count + made->landings_count != view->record->fixup_count)
		return "number of fix-ups differs";
	for (u32 i = 0; i < view->record->fixup_count; i++) {
		struct tcache_module_fixup fixup = module_fixup_record(store, made, i);

		if (!equal(&fixup, &view->fixups[i], sizeof(fixup)))
			return "fix-up differs";
	}
	if (made->stale != view->record->stale_offset || made->stale_saved != view->record->stale_saved_offset)
		return "where it leads when it is no more differs";
	return NULL;
}

static const char *compare_module(struct work *w, const struct tcache_module_view *view, char *text, size_t size)
{
	const struct tcache_module_unit *u = view->record;
	const struct layout layout = {.code = u->code_length,
				      .body = u->body_offset,
				      .saved = u->saved_offset,
				      .instructions = u->instruction_count,
				      .pcs = u->pc_count,
				      .entries = u->entry_count,
				      .links = view->jumps,
				      .insns = u->insn_count};
	const char *what = make_module(w, view);

	if (!what)
		what = compare_layout(&w->units[1], &layout);
	if (!what)
		what = compare_common(&w->modules, view->pcs, view->entries, view->insns);
	if (!what)
		what = compare_fixups(&w->modules, view);
	if (!what)
		what = compare_code(w->modules.code_rw, view->code, u->code_length, text, size);
	return what;
}

/* --- all --------------------------------------------------------------------------------------------------------- */

/* What lies before this unit will not be looked at any more: units are visited in the order of code. */
static void give_back(struct work *w, u64 offset)
{
	u64 from = w->kept & ~(PAGE_SIZE - 1), end = offset & ~(PAGE_SIZE - 1);

	if (end < from + KEEP_CODE)
		return;
	madvise((u8 *)w->code.at + from, end - from, MADV_DONTNEED);
	w->kept = end;
}

static void conclude(retranslate_report *report, void *opaque, struct retranslation *result,
		     const struct retranslated *found)
{
	if (found->what) {
		result->different++;
		report(opaque, found);
	} else {
		result->equal++;
	}
}

static int compare_units(struct work *w, retranslate_report *report, void *opaque, struct retranslation *result,
			 struct err *err)
{
	u64 count = tcache_by_code_count(w->cache);
	const u32 *by_code = tcache_by_code(w->cache, 0, count);

	if (!by_code)
		return err_set(err, "%s", tcache_error(w->cache));
	for (u64 i = 0; i < count; i++) {
		struct tcache_unit_view view;
		struct retranslated found = {.number = by_code[i]};
		char text[64];

		if (tcache_unit_view(w->cache, by_code[i], &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(w->cache));
		if (view.unit->flags & TCACHE_UNIT_LIFTED) {
			result->lifted++;
			continue;
		}
		give_back(w, view.unit->code_offset);
		found.pc = view.unit->pc;
		found.what = compare_unit(w, &view, text, sizeof(text));
		conclude(report, opaque, result, &found);
	}
	return 0;
}

static int compare_templates(struct work *w, retranslate_report *report, void *opaque, struct retranslation *result,
			     struct err *err)
{
	u64 count = tcache_templates_count(w->cache);

	for (u32 i = 0; i < count; i++) {
		struct tcache_template_view view;
		struct retranslated found = {.kind = RETRANSLATED_TEMPLATE, .number = i};
		char text[64];

		if (tcache_template_view(w->cache, i, &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(w->cache));
		if (view.record->flags & TCACHE_UNIT_LIFTED) {
			result->lifted++;
			continue;
		}
		found.pc = view.record->offset;
		found.what = compare_template(w, &view, text, sizeof(text));
		conclude(report, opaque, result, &found);
	}
	return 0;
}

static int compare_modules(struct work *w, retranslate_report *report, void *opaque, struct retranslation *result,
			   struct err *err)
{
	u64 count = tcache_module_units_count(w->cache);

	for (u32 i = 0; i < count; i++) {
		struct tcache_module_view view;
		struct retranslated found = {.kind = RETRANSLATED_MODULE, .number = i};
		char text[64];

		if (tcache_module_view(w->cache, i, &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(w->cache));
		found.pc = view.record->offset;
		found.what = compare_module(w, &view, text, sizeof(text));
		conclude(report, opaque, result, &found);
	}
	return 0;
}

int retranslate(struct tcache *cache, retranslate_report *report, void *opaque, struct retranslation *result,
		struct err *err)
{
	struct work w = {.cache = cache};
	int status = -1;

	*result = (struct retranslation){0};
	if (check_fingerprint(&w, err) == 0 && prepare_store(&w, err) == 0 && prepare_forms(&w, err) == 0 &&
	    prepare_modules(&w, err) == 0 && compare_units(&w, report, opaque, result, err) == 0 &&
	    compare_templates(&w, report, opaque, result, err) == 0)
		status = compare_modules(&w, report, opaque, result, err);
	release(&w);
	return status;
}
