#include "retranslate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tcache.h>

#include "plan.h"
#include "translate/fingerprint.h"
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

/* The options of the cache are known by their digest: the one combination that has it. */
static bool find_options(struct store *store, const struct tcache_fingerprint *wanted)
{
	struct tcache_fingerprint have;

	for (unsigned n = 0; n < 8; n++) {
		store->returns_host = !(n & 1);
		store->counted = n & 2;
		store->exact_flags = n & 4;
		translator_fingerprint(store, wanted->guest_cpu, &have);
		if (!memcmp(have.options, wanted->options, sizeof(have.options)))
			return true;
	}
	return false;
}

static int check_fingerprint(struct work *w, struct err *err)
{
	const struct tcache_fingerprint *made = &tcache_header(w->cache)->fingerprint;
	struct tcache_fingerprint mine;

	translator_fingerprint(&w->store, "", &mine);
	if (memcmp(made->translator, mine.translator, sizeof(made->translator)) != 0)
		return err_set(err, "'%s' was made by translator '%.48s', this is '%.48s'", tcache_name(w->cache),
			       made->translator, mine.translator);
	if (!find_options(&w->store, made))
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

static const char *compare_layout(const struct unit *made, const struct tcache_unit *unit)
{
	const struct {
		const char *what;
		u32 made, have;
	} fields[] = {
		{"length of the code differs", made->code_end - made->code, unit->code_length},
		{"body differs", made->body - made->code, unit->body_offset},
		{"body for saved flags differs", made->saved - made->code, unit->saved_offset},
		{"number of instructions differs", made->instructions, unit->instruction_count},
		{"number of pc records differs", made->pcs_count, unit->pc_count},
		{"number of entries differs", made->entries_count, unit->entry_count},
		{"number of links differs", made->links_count, unit->link_count},
		{"number of handed-over instructions differs", made->insns_count, unit->insn_count},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].made != fields[i].have)
			return fields[i].what;
	}
	return NULL;
}

static bool equal(const void *a, const void *b, size_t size)
{
	return memcmp(a, b, size) == 0;
}

static const char *compare_records(const struct store *store, const struct tcache_unit_view *view)
{
	const struct unit *made = &store->units[1];

	for (u32 i = 0; i < made->pcs_count; i++) {
		struct tcache_pc pc = unit_pc_record(store, made, made->pcs + i);

		if (!equal(&pc, &view->pcs[i], sizeof(pc)))
			return "pc record differs";
	}
	for (u32 i = 0; i < made->entries_count; i++) {
		struct tcache_entry entry = unit_entry_record(store, made, made->entries + i);

		if (!equal(&entry, &view->entries[i], sizeof(entry)))
			return "entry differs";
	}
	for (u32 i = 0; i < made->links_count; i++) {
		struct tcache_link link = unit_link_record(store, made, made->links + i);

		if (!equal(&link, &view->links[i], sizeof(link)) || store->cells[made->links + i] != view->cells[i])
			return "link differs";
	}
	for (u32 i = 0; i < made->insns_count; i++) {
		struct tcache_insn insn = unit_insn_record(store, made->insns + i);

		if (!equal(&insn, &view->insns[i], sizeof(insn)))
			return "handed-over instruction differs";
	}
	return NULL;
}

/* NULL: it is what it should be. Else what differs, with `text` as memory. */
static const char *compare_unit(struct work *w, const struct tcache_unit_view *view, char *text, size_t size)
{
	const u8 *code = w->store.code_rw + view->unit->code_offset;
	const char *what = make_again(w, view);

	if (!what)
		what = compare_layout(&w->units[1], view->unit);
	if (!what)
		what = compare_records(&w->store, view);
	for (u32 i = 0; !what && i < view->unit->code_length; i++) {
		if (code[i] != view->code[i]) {
			snprintf(text, size, "code differs from byte %#x on", i);
			what = text;
		}
	}
	return what;
}

/* What lies before this unit will not be looked at any more: units are visited in the order of code. */
static void give_back(struct work *w, u64 offset)
{
	u64 from = w->kept & ~(PAGE_SIZE - 1), end = offset & ~(PAGE_SIZE - 1);

	if (end < from + KEEP_CODE)
		return;
	madvise((u8 *)w->code.at + from, end - from, MADV_DONTNEED);
	w->kept = end;
}

static int compare_all(struct work *w, retranslate_report *report, void *opaque, struct retranslation *result,
		       struct err *err)
{
	u64 count = tcache_by_code_count(w->cache);
	const u32 *by_code = tcache_by_code(w->cache, 0, count);

	if (!by_code)
		return err_set(err, "%s", tcache_error(w->cache));
	for (u64 i = 0; i < count; i++) {
		struct tcache_unit_view view;
		char text[64];
		const char *what;

		if (tcache_unit_view(w->cache, by_code[i], &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(w->cache));
		if (view.unit->flags & TCACHE_UNIT_LIFTED) {
			result->lifted++;
			continue;
		}
		give_back(w, view.unit->code_offset);
		what = compare_unit(w, &view, text, sizeof(text));
		if (what) {
			result->different++;
			report(opaque, by_code[i], view.unit, what);
		} else {
			result->equal++;
		}
	}
	return 0;
}

int retranslate(struct tcache *cache, retranslate_report *report, void *opaque, struct retranslation *result,
		struct err *err)
{
	struct work w = {.cache = cache};
	int status = -1;

	*result = (struct retranslation){0};
	if (check_fingerprint(&w, err) == 0 && prepare_store(&w, err) == 0)
		status = compare_all(&w, report, opaque, result, err);
	release(&w);
	return status;
}
