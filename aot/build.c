#include "build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tcache.h>

#include "direct_link.h"
#include "kept.h"
#include "lift/place.h"
#include "live/aot.h"
#include "module_set.h"
#include "template_set.h"
#include "translate/fingerprint.h"
#include "translate/translate.h"
#include "unit_records.h"

/* The parts of a place, which is a range of addresses. */
#define PLACE_SIZE    0x17800000UL /* 376 MiB */
#define CODE_SIZE     0x14000000UL /* 320 MiB */
#define CELLS_SIZE    0x02000000UL /* 32 MiB: 4 million links */
#define INSNS_SIZE    (PLACE_SIZE - CODE_SIZE - CELLS_SIZE)
#define PLACE_LINKS   (1u << 24)
/* Numbers of targets: what is left is the live engine's. */
#define PLACE_TARGETS 24576u

_Static_assert(AOT_ADDRESS + PLACES * PLACE_SIZE <= AOT_END, "places lie in the area for caches");
_Static_assert(PLACES *PLACE_TARGETS < TARGET_SIZE, "the live engine has numbers, too");
_Static_assert(CELLS_SIZE / sizeof(u64) <= PLACE_LINKS, "links of different places have different numbers");

struct build {
	struct store store;
	struct build_options options;
	struct translation *translation;
	struct template_set *templates;
	struct module_set *modules;
	const struct want **wants; /* by unit */
	struct kept *kept;         /* … what is kept of an older cache */
	bool *lifted;              /* … some of it is lifted */
	void *tables;
	u64 tables_size;
	u64 address;
};

/* The first number that the place may give to a target; 0 is none. */
static u32 first_target(const struct build *build)
{
	return 1 + build->options.place * PLACE_TARGETS;
}

static struct tcache_placement placement(const struct build *build)
{
	return (struct tcache_placement){
		.code_address = build->address,
		.cells_address = build->address + CODE_SIZE,
		.insns_address = build->address + CODE_SIZE + CELLS_SIZE,
		.insn_size = sizeof(struct insn),
		.first_target = first_target(build),
		.first_link = build->store.first_link,
	};
}

struct store *build_store(struct build *build)
{
	return &build->store;
}

const struct translation *build_translation(const struct build *build)
{
	return build->translation;
}

u64 build_code(const struct build *build)
{
	return build->store.used + template_set_code(build->templates) + module_set_code(build->modules);
}

static void *map_at(u64 address, u64 size, struct err *err)
{
	void *at = mmap((void *)address, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at != MAP_FAILED)
		return at;
	err_set(err, "cannot use the addresses from %#llx on: %s", (unsigned long long)address, strerror(errno));
	return NULL;
}

/* One mapping for all tables: sparse, so the sizes may be generous. */
static int carve_tables(struct build *build, struct err *err)
{
	struct store *store = &build->store;

	store->unit_max = store->bound_first = 1u << 20;
	store->pc_max = 1u << 25;
	store->entry_max = 1u << 23;
	store->link_max = CELLS_SIZE / sizeof(u64);
	store->insn_max = INSNS_SIZE / sizeof(struct insn);
	store->target_max = first_target(build) + PLACE_TARGETS;

	struct {
		void **table;
		u64 bytes;
	} tables[] = {
		{(void **)&store->units, store->unit_max * sizeof(struct unit)},
		{(void **)&build->wants, store->unit_max * sizeof(struct want *)},
		{(void **)&build->kept, store->unit_max * sizeof(struct kept)},
		{(void **)&build->lifted, store->unit_max * sizeof(bool)},
		{(void **)&store->pcs, store->pc_max * sizeof(struct pc_entry)},
		{(void **)&store->entries, store->entry_max * sizeof(struct entry)},
		{(void **)&store->links, store->link_max * sizeof(struct link)},
		{(void **)&store->targets, TARGET_SIZE * sizeof(struct target)},
		{(void **)&store->target_hash, sizeof(u32) << TARGET_HASH_BITS},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		build->tables_size += align_up(tables[i].bytes, PAGE_SIZE);
	u8 *at = mmap(NULL, build->tables_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		      0);

	if (at == MAP_FAILED) {
		build->tables_size = 0;
		return err_set(err, "no memory for tables: %s", strerror(errno));
	}
	build->tables = at;
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		*tables[i].table = at;
		at += align_up(tables[i].bytes, PAGE_SIZE);
	}
	return 0;
}

struct build *build_create(const struct build_options *options, struct err *err)
{
	struct build *build = calloc(1, sizeof(*build));
	struct store *store;

	if (!build) {
		err_set(err, "out of memory");
		return NULL;
	}
	build->options = *options;
	build->address = AOT_ADDRESS + options->place * PLACE_SIZE;
	build->translation = translation_create();
	store = &build->store;
	store->code = store->code_rw = map_at(build->address, CODE_SIZE, err);
	store->cells = map_at(build->address + CODE_SIZE, CELLS_SIZE, err);
	store->insns = map_at(build->address + CODE_SIZE + CELLS_SIZE, INSNS_SIZE, err);
	if (!build->translation || !store->code || !store->cells || !store->insns || carve_tables(build, err) < 0) {
		build_destroy(build);
		return NULL;
	}
	store->size = CODE_SIZE;
	store->unit_count = store->pc_count = store->entry_count = 1;
	store->target_count = first_target(build);
	store->first_link = AOT_FIRST_LINK + options->place * PLACE_LINKS;
	store->bmi2 = true;
	store->counted = options->counted;
	store->exact_flags = options->exact_flags;
	store->returns_host = options->returns_host;
	build->templates = template_set_create(store, err);
	build->modules = build->templates ? module_set_create(store, err) : NULL;
	if (!build->modules) {
		build_destroy(build);
		return NULL;
	}
	return build;
}

void build_destroy(struct build *build)
{
	if (!build)
		return;
	if (build->store.code)
		munmap(build->store.code, CODE_SIZE);
	if (build->store.cells)
		munmap(build->store.cells, CELLS_SIZE);
	if (build->store.insns)
		munmap(build->store.insns, INSNS_SIZE);
	if (build->tables_size)
		munmap(build->tables, build->tables_size);
	translation_destroy(build->translation);
	template_set_destroy(build->templates);
	module_set_destroy(build->modules);
	free(build);
}

static enum build_result translate(struct build *build, const struct want *want, const struct translate_parts *parts)
{
	u32 number;

	if (!plan_scan(&build->store, translation_scan(build->translation), want->pc, want->mode, want->bytes,
		       want->length))
		return BUILD_SKIPPED;
	build->store.origin = ORIGIN_AOT_COPIED;
	number = translate_unit_with(build->translation, &build->store, want->mode, parts);
	if (number == UNIT_NONE)
		return BUILD_FULL;
	build->wants[number] = want;
	build->lifted[number] = parts != NULL;
	return BUILD_OK;
}

enum build_result build_copy(struct build *build, const struct want *want)
{
	if (want_moves(want)) {
		int result = want->module ? module_set_add(build->modules, build->translation, want)
					  : template_set_add(build->templates, build->translation, want);

		return result < 0 ? BUILD_FULL : result ? BUILD_SKIPPED : BUILD_OK;
	}
	return translate(build, want, NULL);
}

enum build_result build_lifted(struct build *build, const struct want *want, const struct lifted *lifted)
{
	struct lift_parts parts;

	lift_parts_init(&parts, lifted, false);
	return translate(build, want, &parts.parts);
}

/* --- keeping ----------------------------------------------------------------------------------------------------- */

static void set_fingerprint(const struct build *build, struct tcache_fingerprint *fingerprint)
{
	static const unsigned needed[] = {TCACHE_HOST_BMI2, TCACHE_HOST_FSGSBASE, TCACHE_HOST_LAHF};

	translator_fingerprint(&build->store, build->options.guest_cpu, fingerprint);
	for (unsigned i = 0; i < ARRAY_SIZE(needed); i++)
		fingerprint->host_features[needed[i] / 64] |= BIT(needed[i] % 64);
}

static int check_place(const struct build *build, struct tcache *cache, const struct tcache_placement *place,
		       struct err *err)
{
	const struct tcache_placement want = placement(build);

	if (place->code_address == want.code_address && place->cells_address == want.cells_address &&
	    place->insns_address == want.insns_address && place->insn_size == want.insn_size &&
	    place->first_target == want.first_target && place->first_link == want.first_link)
		return 0;
	for (unsigned n = 0; n < PLACES; n++) {
		if (place->code_address == AOT_ADDRESS + n * PLACE_SIZE && n != build->options.place)
			return err_set(err, "'%s' was made for --place %u, this is %u", tcache_name(cache), n,
				       build->options.place);
	}
	return err_set(err, "'%s' was made for another place in memory", tcache_name(cache));
}

/* Other options are named; unknown ones are left to tcache_check_fingerprint(). */
static int check_options(struct tcache *cache, const struct tcache_fingerprint *want, struct err *err)
{
	const struct tcache_fingerprint *have = &tcache_header(cache)->fingerprint;
	struct store store = {0};

	if (memcmp(have->options, want->options, sizeof(have->options)) == 0 || !translator_find_options(&store, have))
		return 0;
	const bool any = store.counted || store.exact_flags || !store.returns_host;

	return err_set(err, "'%s' was made with other options: %s%s%s%s", tcache_name(cache),
		       any ? "with" : "without --counted, --exact-flags, --returns-table",
		       store.counted ? " --counted" : "", store.exact_flags ? " --exact-flags" : "",
		       store.returns_host ? "" : " --returns-table");
}

int build_check_cache(const struct build *build, struct tcache *cache, struct err *err)
{
	const struct store *store = &build->store;
	struct tcache_fingerprint fingerprint;
	const struct tcache_placement *place;

	/* as far as the new cache will say that its code needs it */
	set_fingerprint(build, &fingerprint);
	if (check_options(cache, &fingerprint, err) < 0)
		return -1;
	if (tcache_check_fingerprint(cache, &fingerprint) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(cache));
	place = tcache_place(cache);
	if (!place)
		return err_set(err, "%s", tcache_error(cache));
	if (check_place(build, cache, place, err) < 0)
		return -1;
	if (tcache_code_count(cache) > store->size || tcache_links_count(cache) > store->link_max ||
	    tcache_insns_count(cache) > store->insn_max || tcache_targets_count(cache) > PLACE_TARGETS)
		return err_set(err, "'%s' has more in it than a cache has room for", tcache_name(cache));
	return 0;
}

int build_keep_begin(struct build *build, struct tcache *cache, struct err *err)
{
	struct store *store = &build->store;
	const u64 insn_count = tcache_insns_count(cache), target_count = tcache_targets_count(cache);
	const struct tcache_insn *insns = tcache_insns(cache, 0, insn_count);
	const u64 *targets = tcache_targets(cache, 0, target_count);

	if (!insns || !targets)
		return err_set(err, "%s", tcache_error(cache));
	/* also those between what is kept: no record may be empty */
	for (u64 i = 0; i < insn_count; i++)
		store->insns[i] = kept_insn(&insns[i]);
	for (u64 i = 0; i < target_count; i++)
		store_set_target(store, first_target(build) + (u32)i, targets[i]);
	return 0;
}

bool build_keep_unit(struct build *build, const struct want *want, const struct tcache_unit_view *view)
{
	u32 number = kept_add_unit(&build->store, view);

	if (number == UNIT_NONE)
		return false;
	build->wants[number] = want;
	build->lifted[number] = view->unit->flags & TCACHE_UNIT_LIFTED;
	build->kept[number] = (struct kept){.executions = view->unit->executions,
					    .name = view->name,
					    .name_offset = view->unit->name_offset,
					    .flags = (u16)view->unit->flags};
	return true;
}

bool build_keep_template(struct build *build, const struct want *want, const struct tcache_template_view *view)
{
	return template_set_keep(build->templates, want, view);
}

bool build_keep_module(struct build *build, const struct want *want, const struct tcache_module_view *view)
{
	return module_set_keep(build->modules, want, view);
}

void build_keep_end(struct build *build)
{
	struct store *store = &build->store;

	/* those of what is not kept: never used, but they must lead into the code */
	for (u32 i = 0; i < store->link_count; i++) {
		if (!store->links[i].unit)
			store->cells[i] = build->address;
	}
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

/* Text with every string once, in the order of first use. Offset 0 is the empty string. */
struct strings {
	char *data;
	u64 size, room;
	bool failed; /* out of memory, or of offsets */
};

static u32 add_string(struct strings *strings, const char *text)
{
	u64 length = strlen(text) + 1;

	if (strings->size + length > strings->room) {
		u64 room = (strings->room + length) * 2;
		char *data = room <= UINT32_MAX ? realloc(strings->data, room) : NULL;

		if (!data) {
			strings->failed = true;
			return 0;
		}
		strings->data = data;
		strings->room = room;
	}
	memcpy(strings->data + strings->size, text, length);
	strings->size += length;
	return (u32)(strings->size - length);
}

struct writing {
	struct build *build;
	struct tcache_writer *writer;
	struct tcache_unit *units;
	u32 *by_code;
	struct strings strings;
	u8 *guest;
	u64 guest_size;
};

/* Instructions that the runtime executes: the bytes that the records were decoded from. */
static void write_insns(struct writing *w)
{
	const struct store *store = &w->build->store;

	tcache_writer_begin(w->writer, TCACHE_TYPE_insns);
	for (u32 i = 0; i < store->insn_count; i++) {
		struct tcache_insn insn = unit_insn_record(store, i);

		tcache_writer_append(w->writer, &insn, sizeof(insn));
	}
	tcache_writer_end(w->writer);
}

static void write_tables(struct writing *w)
{
	const struct store *store = &w->build->store;
	struct tcache_writer *writer = w->writer;

	tcache_writer_begin(writer, TCACHE_TYPE_pcs);
	for (u32 n = 1; n < store->unit_count; n++) {
		const struct unit *unit = &store->units[n];

		for (u32 i = unit->pcs; i < unit->pcs + unit->pcs_count; i++) {
			struct tcache_pc pc = unit_pc_record(store, unit, i);

			tcache_writer_append(writer, &pc, sizeof(pc));
		}
	}
	template_set_write_pcs(w->build->templates, writer);
	module_set_write_pcs(w->build->modules, writer);
	tcache_writer_end(writer);
	tcache_writer_begin(writer, TCACHE_TYPE_entries);
	for (u32 i = 1; i < store->entry_count; i++) {
		struct tcache_entry entry = unit_entry_record(store, &store->units[store->entries[i].unit], i);

		tcache_writer_append(writer, &entry, sizeof(entry));
	}
	template_set_write_entries(w->build->templates, writer);
	module_set_write_entries(w->build->modules, writer);
	tcache_writer_end(writer);
	tcache_writer_begin(writer, TCACHE_TYPE_links);
	for (u32 i = 0; i < store->link_count; i++) {
		struct tcache_link link = unit_link_record(store, &store->units[store->links[i].unit], i);

		tcache_writer_append(writer, &link, sizeof(link));
	}
	tcache_writer_end(writer);
	tcache_writer_chunk(writer, TCACHE_TYPE_cells, store->cells, store->link_count * sizeof(u64));
	tcache_writer_begin(writer, TCACHE_TYPE_targets);
	for (u32 i = first_target(w->build); i < store->target_count; i++)
		tcache_writer_append(writer, &store->targets[i].pc, sizeof(u64));
	tcache_writer_end(writer);
	write_insns(w);
}

static struct tcache_unit unit_record(struct writing *w, u32 n, build_namer *namer, void *opaque)
{
	const struct unit *unit = &w->build->store.units[n];
	const struct want *want = w->build->wants[n];
	const struct kept *kept = &w->build->kept[n];
	u64 offset = 0;
	const char *name = namer ? namer(opaque, want, &offset) : NULL;
	struct tcache_unit record = {
		.hash = {want->hash[0], want->hash[1]},
		.pc = unit->pc,
		.executions = want->count_count ? want->counts[0] : kept->executions,
		.mode = unit->mode,
		.mode_mask = want->mode_mask,
		.flags = w->build->lifted[n] ? TCACHE_UNIT_LIFTED : TCACHE_UNIT_COPIED,
		.guest_length = want->length,
		.instruction_count = unit->instructions,
		.code_offset = unit->code,
		.code_length = unit->code_end - unit->code,
		.body_offset = unit->body - unit->code,
		.saved_offset = unit->saved - unit->code,
		.pc_first = unit->pcs - 1,
		.pc_count = unit->pcs_count,
		.entry_first = unit->entries - 1,
		.entry_count = unit->entries_count,
		.link_first = unit->links,
		.link_count = unit->links_count,
		.insn_first = unit->insns,
		.insn_count = unit->insns_count,
		.guest_offset = 1 + (u32)w->guest_size,
	};

	if (kept_is_cold(kept, want->count_count))
		record.flags |= TCACHE_UNIT_COLD;
	if (!name && kept->flags && *kept->name) {
		name = kept->name;
		offset = kept->name_offset;
	}
	if (name) {
		record.name = add_string(&w->strings, name);
		record.name_offset = (u32)offset;
	}
	memcpy(w->guest + w->guest_size, want->bytes, want->length);
	w->guest_size += want->length;
	return record;
}

static const struct tcache_unit *order_units;

static int by_code_order(const void *a, const void *b)
{
	u32 x = order_units[*(const u32 *)a].code_offset, y = order_units[*(const u32 *)b].code_offset;

	return x < y ? -1 : x > y;
}

static int write_units(struct writing *w, build_namer *namer, void *opaque, struct err *err)
{
	const struct store *store = &w->build->store;
	u32 count = store->unit_count - 1;
	u64 bytes = 0;

	for (u32 n = 1; n <= count; n++)
		bytes += w->build->wants[n]->length;
	w->units = calloc(count ? count : 1, sizeof(*w->units));
	w->by_code = calloc(count ? count : 1, sizeof(*w->by_code));
	w->guest = malloc(bytes ? bytes : 1);
	if (!w->units || !w->by_code || !w->guest)
		return err_set(err, "out of memory");
	for (u32 n = 1; n <= count; n++)
		w->units[n - 1] = unit_record(w, n, namer, opaque);
	qsort(w->units, count, sizeof(*w->units), tcache_unit_compare);
	for (u32 i = 0; i < count; i++)
		w->by_code[i] = i;
	order_units = w->units;
	qsort(w->by_code, count, sizeof(*w->by_code), by_code_order);
	tcache_writer_chunk(w->writer, TCACHE_TYPE_units, w->units, count * sizeof(*w->units));
	tcache_writer_chunk(w->writer, TCACHE_TYPE_by_code, w->by_code, count * sizeof(*w->by_code));
	tcache_writer_begin(w->writer, TCACHE_TYPE_guest);
	tcache_writer_append(w->writer, w->guest, w->guest_size);
	template_set_write_guest(w->build->templates, w->writer);
	module_set_write_guest(w->build->modules, w->writer);
	tcache_writer_end(w->writer);
	return 0;
}

static void write_placement(struct writing *w)
{
	const struct tcache_placement place = placement(w->build);

	tcache_writer_chunk(w->writer, TCACHE_TYPE_placement, &place, sizeof(place));
}

/* What was unpacked goes to chunks of its own, which the image records name. */
static void write_images(struct writing *w, const struct build_image *images, unsigned count)
{
	struct tcache_image records[16] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < count && n < ARRAY_SIZE(records); i++) {
		struct tcache_image *record = &records[n++];

		*record = (struct tcache_image){.size = images[i].file_size,
						.data_size = images[i].data_size,
						.kind = (u16)images[i].kind,
						.name = add_string(&w->strings, images[i].path)};
		tcache_image_digest(images[i].file, images[i].file_size, record->digest);
		if (images[i].data) {
			record->data = 1 + tcache_writer_chunk_count(w->writer);
			tcache_writer_chunk(w->writer, TCACHE_TYPE_kernel, images[i].data, images[i].data_size);
		}
	}
	tcache_writer_chunk(w->writer, TCACHE_TYPE_images, records, n * sizeof(*records));
}

static bool was_executed(const struct build *build, u32 number)
{
	return !kept_is_cold(&build->kept[number], build->wants[number]->count_count);
}

/* Is `to` likely to be there, and good for every mode that `from` is good for? (What was executed is, most often.) */
static bool fits_along(const void *opaque, u32 from, u32 to)
{
	const struct build *build = opaque;
	const struct want *one = build->wants[from], *other = build->wants[to];

	return was_executed(build, from) && was_executed(build, to) && !(other->mode_mask & ~one->mode_mask) &&
	       !((one->mode ^ other->mode) & other->mode_mask);
}

struct naming {
	struct writing *w;
	build_namer *namer;
	void *opaque;
};

static u32 name_template(void *opaque, const struct want *want, u32 *offset)
{
	const struct naming *naming = opaque;
	u64 wide = 0;
	const char *name = naming->namer ? naming->namer(naming->opaque, want, &wide) : NULL;

	*offset = name ? (u32)wide : 0;
	return name ? add_string(&naming->w->strings, name) : 0;
}

static int write_templates(struct writing *w, build_namer *namer, void *opaque, struct err *err)
{
	const struct store *store = &w->build->store;
	struct naming naming = {w, namer, opaque};

	const u64 templates_end = w->guest_size + template_set_guest_size(w->build->templates);

	if (templates_end + module_set_guest_size(w->build->modules) > UINT32_MAX)
		return err_set(err, "too much guest code for one cache");
	/* element 0 of the units' tables is not written */
	if (template_set_write(w->build->templates, w->writer, store->pc_count - 1, store->entry_count - 1,
			       (u32)w->guest_size, name_template, &naming, err) < 0)
		return -1;
	return module_set_write(
		w->build->modules, w->writer, store->pc_count - 1 + template_set_pc_count(w->build->templates),
		store->entry_count - 1 + template_set_entry_count(w->build->templates), (u32)templates_end, err);
}

int build_write(struct build *build, const char *path, const struct build_image *images, unsigned image_count,
		build_namer *namer, void *opaque, const char *log, struct err *err)
{
	struct tcache_write_options options = {0};
	struct writing w = {.build = build};
	char error[512];
	int result;

	if (direct_link_all(&build->store, fits_along, build) < 0)
		return err_set(err, "out of memory");
	set_fingerprint(build, &options.fingerprint);
	if (tcache_writer_create(path, &options, &w.writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	add_string(&w.strings, "");
	write_images(&w, images, image_count);
	write_placement(&w);
	result = write_units(&w, namer, opaque, err);
	if (result == 0)
		result = write_templates(&w, namer, opaque, err);
	if (result == 0 && w.strings.failed)
		result = err_set(err, "out of memory for names");
	if (result == 0) {
		if (build->store.used >= TCACHE_HUGE) /* it can be mapped in huge pages */
			tcache_writer_align(w.writer);
		tcache_writer_chunk(w.writer, TCACHE_TYPE_code, build->store.code_rw, build->store.used);
		write_tables(&w);
		tcache_writer_chunk(w.writer, TCACHE_TYPE_log, log, strlen(log));
		tcache_writer_chunk(w.writer, TCACHE_TYPE_strings, w.strings.data, w.strings.size);
		if (tcache_writer_finish(w.writer, error, sizeof(error)) != TCACHE_OK)
			result = err_set(err, "%s", error);
	} else {
		tcache_writer_abort(w.writer);
	}
	free(w.units);
	free(w.by_code);
	free(w.guest);
	free(w.strings.data);
	return result;
}
