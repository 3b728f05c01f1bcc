#include "template_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kept.h"
#include "room.h"
#include "translate/fixup.h"
#include "translate/translate.h"
#include "unit_records.h"
#include "unit_tables.h"

#define CODE_SIZE 0x20000000UL /* 512 MiB */
#define UNITS_MAX (1u << 20)

struct template_set {
	struct store store;
	struct store *units;
	const struct want **wants; /* by unit of the store */
	u32 *mode_masks;
	struct kept *kept; /* … what is kept of an older cache */
	void *memory;
	u64 memory_size;
};

_Static_assert((int)FIXUP_KINDS == (int)TCACHE_FIXUP_KINDS && (int)FIXUP_MINUS == (int)TCACHE_FIXUP_MINUS &&
		       (int)FIXUP_LINK == (int)TCACHE_FIXUP_LINK && (int)FIXUP_INSN == (int)TCACHE_FIXUP_INSN,
	       "kinds of fix-ups are written as they are");

struct template_set *template_set_create(struct store *units, struct err *err)
{
	struct template_set *set = calloc(1, sizeof(*set));
	struct store *store;

	if (!set) {
		err_set(err, "out of memory");
		return NULL;
	}
	store = &set->store;
	set->units = units;
	store->unit_max = store->bound_first = UNITS_MAX;
	store->pc_max = 1u << 25;
	store->entry_max = store->link_max = store->goal_max = 1u << 23;
	store->fixup_max = 1u << 25;
	struct {
		void **table;
		u64 bytes;
	} tables[] = {
		{(void **)&store->code_rw, CODE_SIZE},
		{(void **)&store->units, store->unit_max * sizeof(struct unit)},
		{(void **)&set->wants, store->unit_max * sizeof(struct want *)},
		{(void **)&set->mode_masks, store->unit_max * sizeof(u32)},
		{(void **)&set->kept, store->unit_max * sizeof(struct kept)},
		{(void **)&store->pcs, store->pc_max * sizeof(struct pc_entry)},
		{(void **)&store->entries, store->entry_max * sizeof(struct entry)},
		{(void **)&store->links, store->link_max * sizeof(struct link)},
		{(void **)&store->fixups, store->fixup_max * sizeof(struct fixup)},
		{(void **)&store->goals, store->goal_max * sizeof(struct goal)},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		set->memory_size += align_up(tables[i].bytes, PAGE_SIZE);
	/* sparse, so the sizes may be generous */
	u8 *at = mmap(NULL, set->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		      0);

	if (at == MAP_FAILED) {
		err_set(err, "no memory for tables: %s", strerror(errno));
		free(set);
		return NULL;
	}
	set->memory = at;
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		*tables[i].table = at;
		at += align_up(tables[i].bytes, PAGE_SIZE);
	}
	store->code = store->code_rw;
	store->size = CODE_SIZE;
	store->unit_count = 1;
	store->insns = units->insns;
	store->insn_max = units->insn_max;
	store->bmi2 = units->bmi2;
	store->counted = units->counted;
	store->exact_flags = units->exact_flags;
	store->returns_host = units->returns_host;
	store->relocatable = true;
	store->origin = ORIGIN_AOT_COPIED;
	return set;
}

void template_set_destroy(struct template_set *set)
{
	if (!set)
		return;
	munmap(set->memory, set->memory_size);
	free(set);
}

int template_set_add(struct template_set *set, struct translation *translation, const struct want *want)
{
	struct store *store = &set->store;
	bool roomy;
	u32 number, link = store->link_count;

	if (!plan_scan(store, translation_scan(translation), want->pc, want->mode, want->bytes, want->length) ||
	    translation_scan(translation)->straddles)
		return 1;
	store->insn_count = set->units->insn_count;
	roomy = room_for_unit(store, CODE_SIZE);
	/* links are numbered from the template's first one */
	store->first_link = 0 - link;
	if (store->used + TCACHE_MAX_TEMPLATE_CODE <= CODE_SIZE)
		store->size = store->used + TCACHE_MAX_TEMPLATE_CODE;
	number = translate_unit(translation, store, want->mode);
	store->size = CODE_SIZE;
	set->units->insn_count = store->insn_count;
	if (number == UNIT_NONE)
		return roomy ? 1 : -1; /* longer than a template may be, or no room */
	set->wants[number] = want;
	set->mode_masks[number] = translate_mode_mask(translation_scan(translation));
	return 0;
}

bool template_set_keep(struct template_set *set, const struct want *want, const struct tcache_template_view *view)
{
	struct store *store = &set->store;
	u32 number;

	store->insn_count = set->units->insn_count;
	number = kept_add_template(store, view);
	set->units->insn_count = store->insn_count;
	if (number == UNIT_NONE)
		return false;
	set->wants[number] = want;
	set->mode_masks[number] = view->record->mode_mask;
	set->kept[number] =
		(struct kept){.executions = view->record->executions, .name = "", .flags = view->record->flags};
	return true;
}

u64 template_set_code(const struct template_set *set)
{
	return set->store.used;
}

u32 template_set_count(const struct template_set *set)
{
	return set->store.unit_count - 1;
}

u32 template_set_pc_count(const struct template_set *set)
{
	return set->store.pc_count;
}

u32 template_set_entry_count(const struct template_set *set)
{
	return set->store.entry_count;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

void template_set_write_pcs(const struct template_set *set, struct tcache_writer *writer)
{
	unit_tables_write_pcs(&set->store, writer);
}

void template_set_write_entries(const struct template_set *set, struct tcache_writer *writer)
{
	unit_tables_write_entries(&set->store, writer);
}

u64 template_set_guest_size(const struct template_set *set)
{
	return unit_tables_guest_size(&set->store, set->wants);
}

void template_set_write_guest(const struct template_set *set, struct tcache_writer *writer)
{
	unit_tables_write_guest(&set->store, set->wants, writer);
}

struct writing {
	const struct template_set *set;
	struct tcache_writer *writer;
	struct tcache_template *records; /* in the order of the file, when they have it */
	struct tcache_page *pages;
	u32 *by_content; /* numbers of executed ones */
	u32 executed;
	u32 count, page_count;
};

static u32 page_of(const struct writing *w, const struct want *want)
{
	const struct tcache_page page = {.hash = {want->page[0], want->page[1]}};
	const struct tcache_page *found = bsearch(&page, w->pages, w->page_count, sizeof(page), tcache_page_compare);

	return (u32)(found - w->pages);
}

/* Where executed code begins: number of the page, and offset in it. */
static u64 place_key(u32 page, u64 offset)
{
	return (u64)page << PAGE_SHIFT | offset;
}

static int compare_keys(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The places of all templates that were executed, sorted; NULL: out of memory. */
static u64 *executed_places(const struct writing *w, u32 *count)
{
	u64 *keys = malloc((w->count + 1) * sizeof(*keys));

	*count = 0;
	for (u32 i = 0; keys && i < w->count; i++) {
		if (!(w->records[i].flags & TCACHE_UNIT_COLD))
			keys[(*count)++] = place_key(w->records[i].page, w->records[i].offset);
	}
	if (keys)
		qsort(keys, *count, sizeof(*keys), compare_keys);
	return keys;
}

/* By number in the store. */
static bool is_cold(const struct template_set *set, u32 number)
{
	return kept_is_cold(&set->kept[number], set->wants[number]->count_count);
}

static int write_links(const struct writing *w)
{
	const struct store *store = &w->set->store;
	u32 executed_count;
	u64 *executed = executed_places(w, &executed_count);

	if (!executed)
		return -1;
	tcache_writer_begin(w->writer, TCACHE_TYPE_template_links);
	for (u32 i = 0; i < store->link_count; i++) {
		const struct unit *unit = &store->units[store->links[i].unit];
		const struct want *want = w->set->wants[store->links[i].unit];
		struct tcache_template_link link = template_link_record(store, unit, i);
		u64 key = place_key(page_of(w, want), link.target);

		if (!is_cold(w->set, store->links[i].unit) &&
		    bsearch(&key, executed, executed_count, sizeof(key), compare_keys))
			link.flags |= TCACHE_TEMPLATE_LINK_TAKEN;
		tcache_writer_append(w->writer, &link, sizeof(link));
	}
	tcache_writer_end(w->writer);
	tcache_writer_begin(w->writer, TCACHE_TYPE_goals);
	for (u32 i = 0; i < store->goal_count; i++) {
		struct tcache_goal goal = template_goal_record(store, i);

		tcache_writer_append(w->writer, &goal, sizeof(goal));
	}
	tcache_writer_end(w->writer);
	free(executed);
	return 0;
}

/* Also sets the counts of the records, which are in the order of units still. */
static int write_fixups(struct writing *w, struct err *err)
{
	const struct store *store = &w->set->store;
	u32 *at = malloc((store->fixup_count + 1) * sizeof(*at));
	int result = at ? 0 : err_set(err, "out of memory");

	tcache_writer_begin(w->writer, TCACHE_TYPE_fixups);
	for (u32 n = 1; result == 0 && n < store->unit_count; n++) {
		const struct unit *unit = &store->units[n];

		if (!fixup_sort(store, unit, at, w->records[n - 1].fixup_count))
			result = err_set(err, "code of %u bytes has too many fix-ups", unit->code_end - unit->code);
		tcache_writer_append(w->writer, at, unit->fixups_count * sizeof(*at));
	}
	tcache_writer_end(w->writer);
	free(at);
	return result;
}

static u64 first_bytes(const struct want *want)
{
	u64 first = 0;

	memcpy(&first, want->bytes, want->length < 8 ? want->length : 8);
	return first;
}

static struct tcache_template make_record(const struct template_set *set, u32 n)
{
	const struct unit *unit = &set->store.units[n];
	const struct want *want = set->wants[n];
	const struct kept *kept = &set->kept[n];
	const u16 made = kept->flags ? kept->flags & ~TCACHE_UNIT_COLD : TCACHE_UNIT_COPIED;

	return (struct tcache_template){
		.hash = {want->hash[0], want->hash[1]},
		.first = first_bytes(want),
		.executions = want->count_count ? want->counts[0] : kept->executions,
		.mode = unit->mode,
		.mode_mask = set->mode_masks[n],
		.offset = (u16)PAGE_OFFSET(unit->pc),
		.guest_length = want->length,
		.instruction_count = unit->instructions,
		.flags = made | (is_cold(set, n) ? TCACHE_UNIT_COLD : 0),
		.code_offset = unit->code,
		.code_length = unit->code_end - unit->code,
		.body_offset = unit->body - unit->code,
		.saved_offset = unit->saved - unit->code,
		.pc_count = unit->pcs_count,
		.entry_count = unit->entries_count,
		.insn_first = unit->insns,
		.insn_count = unit->insns_count,
		.link_first = unit->links,
		.link_count = unit->links_count,
		.goal_first = unit->goals,
		.goal_count = unit->goals_count,
		.fixup_first = unit->fixups,
	};
}

static int make_pages(struct writing *w)
{
	w->pages = calloc(w->count + 1, sizeof(*w->pages));
	if (!w->pages)
		return -1;
	for (u32 i = 0; i < w->count; i++)
		memcpy(w->pages[i].hash, w->set->wants[i + 1]->page, sizeof(w->pages[i].hash));
	qsort(w->pages, w->count, sizeof(*w->pages), tcache_page_compare);
	for (u32 i = 0; i < w->count; i++) {
		if (!w->page_count || tcache_page_compare(&w->pages[w->page_count - 1], &w->pages[i]) != 0)
			w->pages[w->page_count++] = w->pages[i];
	}
	return 0;
}

/* The records are in their order: which of them are of which page? */
static void set_ranges(struct writing *w)
{
	for (u32 i = 0; i < w->count; i++) {
		struct tcache_page *page = &w->pages[w->records[i].page];

		if (!page->count++)
			page->first = i;
	}
}

static int compare_numbers(const void *a, const void *b, void *opaque)
{
	const struct tcache_template *records = opaque;

	return tcache_template_compare_content(&records[*(const u32 *)a], &records[*(const u32 *)b]);
}

static int make_by_content(struct writing *w)
{
	w->by_content = calloc(w->count + 1, sizeof(*w->by_content));
	if (!w->by_content)
		return -1;
	for (u32 i = 0; i < w->count; i++)
		if (!(w->records[i].flags & TCACHE_UNIT_COLD))
			w->by_content[w->executed++] = i;
	qsort_r(w->by_content, w->executed, sizeof(*w->by_content), compare_numbers, w->records);
	return 0;
}

int template_set_write(const struct template_set *set, struct tcache_writer *writer, u32 first_pc, u32 first_entry,
		       u32 first_guest, template_namer *namer, void *opaque, struct err *err)
{
	struct writing w = {.set = set, .writer = writer, .count = template_set_count(set)};
	u32 guest = first_guest;
	int result = 0;

	w.records = calloc(w.count + 1, sizeof(*w.records));
	if (!w.records || make_pages(&w) < 0)
		result = err_set(err, "out of memory");
	for (u32 n = 1; result == 0 && n <= w.count; n++) {
		struct tcache_template *record = &w.records[n - 1];

		*record = make_record(set, n);
		record->page = page_of(&w, set->wants[n]);
		record->pc_first = first_pc + set->store.units[n].pcs;
		record->entry_first = first_entry + set->store.units[n].entries;
		record->guest_offset = 1 + guest;
		record->name = namer(opaque, set->wants[n], &record->name_offset);
		guest += set->wants[n]->length;
	}
	if (result == 0)
		result = write_fixups(&w, err);
	if (result == 0) {
		qsort(w.records, w.count, sizeof(*w.records), tcache_template_compare);
		set_ranges(&w);
		if (make_by_content(&w) < 0 || write_links(&w) < 0)
			result = err_set(err, "out of memory");
	}
	if (result == 0) {
		tcache_writer_chunk(writer, TCACHE_TYPE_templates, w.records, w.count * sizeof(*w.records));
		tcache_writer_chunk(writer, TCACHE_TYPE_pages, w.pages, w.page_count * sizeof(*w.pages));
		tcache_writer_chunk(writer, TCACHE_TYPE_by_content, w.by_content, w.executed * sizeof(*w.by_content));
		tcache_writer_chunk(writer, TCACHE_TYPE_template_code, set->store.code_rw, set->store.used);
	}
	free(w.records);
	free(w.pages);
	free(w.by_content);
	return result;
}
