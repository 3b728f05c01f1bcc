#include "module_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kept.h"
#include "room.h"
#include "translate/module_code.h"
#include "translate/translate.h"
#include "unit_records.h"
#include "unit_tables.h"

#define CODE_SIZE 0x20000000UL /* 512 MiB */
#define UNITS_MAX (1u << 20)

_Static_assert(MODULE_BASE == TCACHE_MODULE_BASE && SCAN_HOLE_FILLING == TCACHE_HOLE_FILLING &&
		       SCAN_HOLE_WIDE == TCACHE_HOLE_WIDE,
	       "what the format promises");

struct module_set {
	struct store store;
	const struct want **wants; /* by unit of the store */
	u32 *mode_masks;
	void *memory;
	u64 memory_size;
};

struct module_set *module_set_create(const struct store *options, struct err *err)
{
	struct module_set *set = calloc(1, sizeof(*set));
	struct store *store;

	if (!set) {
		err_set(err, "out of memory");
		return NULL;
	}
	store = &set->store;
	store->unit_max = store->bound_first = UNITS_MAX;
	store->pc_max = store->fixup_max = 1u << 25;
	store->entry_max = store->link_max = store->landing_max = 1u << 23;
	store->insn_max = 1u << 21;
	struct {
		void **table;
		u64 bytes;
	} tables[] = {
		{(void **)&store->code_rw, CODE_SIZE},
		{(void **)&store->units, store->unit_max * sizeof(struct unit)},
		{(void **)&set->wants, store->unit_max * sizeof(struct want *)},
		{(void **)&set->mode_masks, store->unit_max * sizeof(u32)},
		{(void **)&store->pcs, store->pc_max * sizeof(struct pc_entry)},
		{(void **)&store->entries, store->entry_max * sizeof(struct entry)},
		{(void **)&store->links, store->link_max * sizeof(struct link)},
		{(void **)&store->landings, store->landing_max * sizeof(u32)},
		{(void **)&store->insns, store->insn_max * sizeof(struct insn)},
		{(void **)&store->fixups, store->fixup_max * sizeof(struct fixup)},
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
	store->bmi2 = options->bmi2;
	store->counted = options->counted;
	store->exact_flags = options->exact_flags;
	store->returns_host = options->returns_host;
	store->module = true;
	store->origin = ORIGIN_AOT_COPIED;
	return set;
}

void module_set_destroy(struct module_set *set)
{
	if (!set)
		return;
	munmap(set->memory, set->memory_size);
	free(set);
}

int module_set_add(struct module_set *set, struct translation *translation, const struct want *want)
{
	struct store *store = &set->store;
	bool roomy;
	u32 number;

	if (!plan_scan_module(store, translation_scan(translation), want->pc, want->mode, want->bytes, want->length,
			      want->module->holes, want->module->hole_count) ||
	    translate_mode_mask(translation_scan(translation)) != want->mode_mask)
		return 1;
	roomy = room_for_unit(store, CODE_SIZE);
	/* links are numbered from the unit's first one */
	store->first_link = 0 - store->link_count;
	if (store->used + TCACHE_MAX_TEMPLATE_CODE <= CODE_SIZE)
		store->size = store->used + TCACHE_MAX_TEMPLATE_CODE;
	number = translate_unit(translation, store, want->mode);
	store->size = CODE_SIZE;
	if (number == UNIT_NONE)
		return roomy ? 1 : -1; /* longer than it may be, or no room */
	set->wants[number] = want;
	set->mode_masks[number] = want->mode_mask;
	return 0;
}

bool module_set_keep(struct module_set *set, const struct want *want, const struct tcache_module_view *view)
{
	u32 number = kept_add_module(&set->store, view);

	if (number == UNIT_NONE)
		return false;
	set->wants[number] = want;
	set->mode_masks[number] = view->record->mode_mask;
	return true;
}

u64 module_set_code(const struct module_set *set)
{
	return set->store.used;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

void module_set_write_pcs(const struct module_set *set, struct tcache_writer *writer)
{
	unit_tables_write_pcs(&set->store, writer);
}

void module_set_write_entries(const struct module_set *set, struct tcache_writer *writer)
{
	unit_tables_write_entries(&set->store, writer);
}

u64 module_set_guest_size(const struct module_set *set)
{
	return unit_tables_guest_size(&set->store, set->wants);
}

void module_set_write_guest(const struct module_set *set, struct tcache_writer *writer)
{
	unit_tables_write_guest(&set->store, set->wants, writer);
}

/* A page, with the holes that its record will name. */
struct page {
	struct tcache_module_page record;
	const struct module_page *from;
};

struct writing {
	const struct module_set *set;
	struct tcache_writer *writer;
	struct tcache_module_unit *records; /* in the order of the file, when they have it */
	struct tcache_module_key *keys;     /* likewise */
	struct page *pages;
	u32 count, page_count, hole_count;
};

static int compare_pages(const void *a, const void *b)
{
	return tcache_module_page_compare(&((const struct page *)a)->record, &((const struct page *)b)->record);
}

/* The pages of all units, each once, with where their holes will be. */
static void make_pages(struct writing *w)
{
	for (u32 i = 0; i < w->count; i++) {
		const struct module_page *from = w->set->wants[i + 1]->module;

		w->pages[i] = (struct page){.record = {.hash = {from->hash[0], from->hash[1]}}, .from = from};
	}
	qsort(w->pages, w->count, sizeof(*w->pages), compare_pages);
	for (u32 i = 0; i < w->count; i++) {
		if (w->page_count && compare_pages(&w->pages[w->page_count - 1], &w->pages[i]) == 0)
			continue;
		struct page *page = &w->pages[w->page_count++];

		*page = w->pages[i];
		page->record.hole_first = w->hole_count;
		page->record.hole_count = page->from->hole_count;
		w->hole_count += page->from->hole_count;
	}
}

static u32 page_of(const struct writing *w, const struct want *want)
{
	const struct page page = {.record = {.hash = {want->page[0], want->page[1]}}};

	return (u32)((const struct page *)bsearch(&page, w->pages, w->page_count, sizeof(page), compare_pages) -
		     w->pages);
}

/* How many fix-ups a unit's record has: those of the translator, jumps and landings. */
static u32 fixups_of(const struct unit *unit)
{
	return unit->fixups_count + unit->links_count + unit->landings_count;
}

static struct tcache_module_unit make_record(const struct module_set *set, u32 n)
{
	const struct unit *unit = &set->store.units[n];
	const struct want *want = set->wants[n];

	return (struct tcache_module_unit){
		.hash = {want->hash[0], want->hash[1]},
		.mode = unit->mode,
		.mode_mask = set->mode_masks[n],
		.offset = (u16)PAGE_OFFSET(unit->pc),
		.guest_length = want->length,
		.instruction_count = unit->instructions,
		.flags = TCACHE_UNIT_COPIED | TCACHE_UNIT_COLD,
		.code_offset = unit->code,
		.code_length = unit->code_end - unit->code,
		.body_offset = unit->body - unit->code,
		.saved_offset = unit->saved - unit->code,
		.stale_offset = unit->stale - unit->code,
		.stale_saved_offset = unit->stale_saved - unit->code,
		.pc_first = unit->pcs,
		.pc_count = unit->pcs_count,
		.entry_first = unit->entries,
		.entry_count = unit->entries_count,
		.insn_first = unit->insns,
		.insn_count = unit->insns_count,
		.fixup_count = fixups_of(unit),
	};
}

/* In the order of units; the records learn where theirs begin. */
static void write_fixups(struct writing *w)
{
	const struct store *store = &w->set->store;
	u32 first = 0;

	tcache_writer_begin(w->writer, TCACHE_TYPE_module_fixups);
	for (u32 n = 1; n <= w->count; n++) {
		const struct unit *unit = &store->units[n];

		for (u32 i = 0; i < fixups_of(unit); i++) {
			struct tcache_module_fixup fixup = module_fixup_record(store, unit, i);

			tcache_writer_append(w->writer, &fixup, sizeof(fixup));
		}
		w->records[n - 1].fixup_first = first;
		first += fixups_of(unit);
	}
	tcache_writer_end(w->writer);
}

static void write_insns(const struct writing *w)
{
	tcache_writer_begin(w->writer, TCACHE_TYPE_module_insns);
	for (u32 i = 0; i < w->set->store.insn_count; i++) {
		struct tcache_insn insn = unit_insn_record(&w->set->store, i);

		tcache_writer_append(w->writer, &insn, sizeof(insn));
	}
	tcache_writer_end(w->writer);
}

/* The records are in their order: which of them are of which page? */
static void write_pages(struct writing *w)
{
	for (u32 i = 0; i < w->count; i++) {
		struct tcache_module_page *page = &w->pages[w->records[i].page].record;

		if (!page->count++)
			page->first = i;
	}
	tcache_writer_begin(w->writer, TCACHE_TYPE_module_pages);
	for (u32 i = 0; i < w->page_count; i++)
		tcache_writer_append(w->writer, &w->pages[i].record, sizeof(w->pages[i].record));
	tcache_writer_end(w->writer);
	tcache_writer_begin(w->writer, TCACHE_TYPE_module_holes);
	for (u32 i = 0; i < w->page_count; i++)
		tcache_writer_append(w->writer, w->pages[i].from->holes, w->pages[i].from->hole_count * sizeof(u16));
	tcache_writer_end(w->writer);
}

/* The unit's number in the store: 1 more for each, in the order of code. */
static const struct want *want_of(const struct writing *w, const struct tcache_module_unit *record)
{
	const struct store *store = &w->set->store;
	u32 low = 1, high = store->unit_count;

	while (high - low > 1) {
		u32 middle = low + (high - low) / 2;

		if (store->units[middle].code <= record->code_offset)
			low = middle;
		else
			high = middle;
	}
	return w->set->wants[low];
}

static void write_keys(struct writing *w)
{
	for (u32 i = 0; i < w->count; i++) {
		const struct want *want = want_of(w, &w->records[i]);

		w->keys[i] = tcache_module_key_of(&w->records[i], i, want->bytes, want->module->holes,
						  want->module->hole_count);
	}
	qsort(w->keys, w->count, sizeof(*w->keys), tcache_module_key_compare);
	tcache_writer_chunk(w->writer, TCACHE_TYPE_module_keys, w->keys, w->count * sizeof(*w->keys));
}

int module_set_write(const struct module_set *set, struct tcache_writer *writer, u32 first_pc, u32 first_entry,
		     u32 first_guest, struct err *err)
{
	struct writing w = {.set = set, .writer = writer, .count = set->store.unit_count - 1};
	int result = 0;

	if (!w.count)
		return 0;
	w.records = calloc(w.count + 1, sizeof(*w.records));
	w.keys = calloc(w.count + 1, sizeof(*w.keys));
	w.pages = calloc(w.count + 1, sizeof(*w.pages));
	if (w.records && w.keys && w.pages) {
		make_pages(&w);
		for (u32 n = 1; n <= w.count; n++) {
			struct tcache_module_unit *record = &w.records[n - 1];

			*record = make_record(set, n);
			record->page = page_of(&w, set->wants[n]);
			record->pc_first += first_pc;
			record->entry_first += first_entry;
			record->guest_offset = 1 + first_guest;
			first_guest += set->wants[n]->length;
		}
		write_fixups(&w);
		qsort(w.records, w.count, sizeof(*w.records), tcache_module_compare);
		tcache_writer_chunk(writer, TCACHE_TYPE_module_units, w.records, w.count * sizeof(*w.records));
		write_pages(&w);
		write_keys(&w);
		write_insns(&w);
		tcache_writer_chunk(writer, TCACHE_TYPE_module_code, set->store.code_rw, set->store.used);
	} else {
		result = err_set(err, "out of memory");
	}
	free(w.records);
	free(w.keys);
	free(w.pages);
	return result;
}
