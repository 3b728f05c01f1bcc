#include "reuse.h"

#include <stdlib.h>
#include <tcache.h>

struct reuse {
	struct tcache *cache;
	u8 *kinds; /* enum reuse_kind, by number in the plan */
	size_t counts[REUSE_LIFTED + 1];
	/* 1 + number in the plan, or 0: by number in the cache */
	u32 *units, *templates, *modules;
};

static int check(struct tcache *cache, const struct build *build, struct err *err)
{
	/* first what it is for: of a cache of another version no record is looked at */
	if (build_check_cache(build, cache, err) < 0)
		return -1;
	if (tcache_verify_all(cache) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(cache));
	return 0;
}

struct reuse *reuse_open(const char *path, const struct build *build, struct err *err)
{
	struct reuse *reuse = calloc(1, sizeof(*reuse));
	char error[512];

	if (!reuse) {
		err_set(err, "out of memory");
		return NULL;
	}
	/* its code will be run from the new file, which is ours: whose is it? */
	if (tcache_open(path, 0, &reuse->cache, error, sizeof(error)) != TCACHE_OK) {
		err_set(err, "%s", error);
		free(reuse);
		return NULL;
	}
	reuse->units = calloc(tcache_units_count(reuse->cache) + 1, sizeof(*reuse->units));
	reuse->templates = calloc(tcache_templates_count(reuse->cache) + 1, sizeof(*reuse->templates));
	reuse->modules = calloc(tcache_module_units_count(reuse->cache) + 1, sizeof(*reuse->modules));
	if (!reuse->units || !reuse->templates || !reuse->modules) {
		err_set(err, "out of memory");
	} else if (check(reuse->cache, build, err) == 0) {
		return reuse;
	}
	reuse_close(reuse);
	return NULL;
}

void reuse_close(struct reuse *reuse)
{
	if (!reuse)
		return;
	tcache_close(reuse->cache);
	free(reuse->kinds);
	free(reuse->units);
	free(reuse->templates);
	free(reuse->modules);
	free(reuse);
}

const char *reuse_path(const struct reuse *reuse)
{
	return tcache_name(reuse->cache);
}

/* `cell` is the element for what has this key in the cache. */
static void match(struct reuse *reuse, const struct plan *plan, const struct want *key, unsigned flags, u32 *cell)
{
	size_t number;

	if (!plan_find(plan, key, &number) || reuse->kinds[number])
		return;
	*cell = (u32)number + 1;
	reuse->kinds[number] = flags & TCACHE_UNIT_LIFTED ? REUSE_LIFTED : REUSE_COPIED;
	reuse->counts[reuse->kinds[number]]++;
}

static int match_units(struct reuse *reuse, const struct plan *plan, struct err *err)
{
	u64 count = tcache_units_count(reuse->cache);

	for (u32 i = 0; i < count; i++) {
		struct tcache_unit_view view;

		if (tcache_unit_view(reuse->cache, i, &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(reuse->cache));
		const struct want key = {.pc = view.unit->pc,
					 .hash = {view.unit->hash[0], view.unit->hash[1]},
					 .bytes = view.guest,
					 .mode = view.unit->mode,
					 .mode_mask = view.unit->mode_mask,
					 .length = (u16)view.unit->guest_length};

		if (view.guest)
			match(reuse, plan, &key, view.unit->flags, &reuse->units[i]);
	}
	return 0;
}

static int match_templates(struct reuse *reuse, const struct plan *plan, struct err *err)
{
	u64 count = tcache_templates_count(reuse->cache);

	for (u32 i = 0; i < count; i++) {
		struct tcache_template_view view;
		const struct tcache_page *page;

		if (tcache_template_view(reuse->cache, i, &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(reuse->cache));
		page = tcache_pages(reuse->cache, view.record->page, 1);
		if (!page)
			return err_set(err, "%s", tcache_error(reuse->cache));
		const struct want key = {.pc = TCACHE_TEMPLATE_BASE + view.record->offset,
					 .hash = {view.record->hash[0], view.record->hash[1]},
					 .page = {page->hash[0], page->hash[1]},
					 .bytes = view.guest,
					 .mode = view.record->mode,
					 .mode_mask = view.record->mode_mask,
					 .length = view.record->guest_length};

		match(reuse, plan, &key, view.record->flags, &reuse->templates[i]);
	}
	return 0;
}

static int match_modules(struct reuse *reuse, const struct plan *plan, struct err *err)
{
	u64 count = tcache_module_units_count(reuse->cache);

	for (u32 i = 0; i < count; i++) {
		struct tcache_module_view view;
		const struct tcache_module_page *page;

		if (tcache_module_view(reuse->cache, i, &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(reuse->cache));
		page = tcache_module_pages(reuse->cache, view.record->page, 1);
		if (!page)
			return err_set(err, "%s", tcache_error(reuse->cache));
		const struct want key = {.pc = TCACHE_MODULE_BASE + view.record->offset,
					 .hash = {view.record->hash[0], view.record->hash[1]},
					 .page = {page->hash[0], page->hash[1]},
					 .bytes = view.guest,
					 .mode = view.record->mode,
					 .mode_mask = view.record->mode_mask,
					 .length = view.record->guest_length};

		match(reuse, plan, &key, view.record->flags, &reuse->modules[i]);
	}
	return 0;
}

int reuse_match(struct reuse *reuse, const struct plan *plan, struct err *err)
{
	reuse->kinds = calloc(plan_count(plan) + 1, sizeof(*reuse->kinds));
	if (!reuse->kinds)
		return err_set(err, "out of memory");
	if (match_units(reuse, plan, err) < 0 || match_templates(reuse, plan, err) < 0)
		return -1;
	return match_modules(reuse, plan, err);
}

enum reuse_kind reuse_kind(const struct reuse *reuse, size_t number)
{
	return reuse ? reuse->kinds[number] : REUSE_NONE;
}

size_t reuse_count(const struct reuse *reuse, enum reuse_kind kind)
{
	return reuse ? reuse->counts[kind] : 0;
}

void reuse_leave(struct reuse *reuse, size_t number)
{
	if (!reuse || !reuse->kinds[number])
		return;
	reuse->counts[reuse->kinds[number]]--;
	reuse->kinds[number] = REUSE_NONE;
}

/* --- keeping ----------------------------------------------------------------------------------------------------- */

/* What is wanted for the element of `units` or `templates`; NULL: nothing. */
static const struct want *wanted(const struct reuse *reuse, const struct plan *plan, u32 cell)
{
	return cell && reuse->kinds[cell - 1] ? plan_at(plan, cell - 1) : NULL;
}

/* Begun at the next 16 bytes, as translations are. */
static u64 room_of(const struct want *want, u32 code_length)
{
	return want_heat(want) == UNSEEN ? align_up(code_length, 16) : 0;
}

/* In the order in which they were made, which is that of their code: so their records come in the same order again. */
static int keep_units(struct reuse *reuse, const struct plan *plan, struct build *build, u64 *unseen, struct err *err)
{
	u64 count = tcache_by_code_count(reuse->cache);
	const u32 *by_code = tcache_by_code(reuse->cache, 0, count);

	if (!by_code)
		return err_set(err, "%s", tcache_error(reuse->cache));
	for (u64 i = 0; i < count; i++) {
		u32 cell = reuse->units[by_code[i]];
		const struct want *want = wanted(reuse, plan, cell);
		struct tcache_unit_view view;

		if (!want)
			continue;
		if (tcache_unit_view(reuse->cache, by_code[i], &view) != TCACHE_OK)
			return err_set(err, "%s", tcache_error(reuse->cache));
		if (build_keep_unit(build, want, &view))
			*unseen += room_of(want, view.unit->code_length);
		else
			reuse_leave(reuse, cell - 1);
	}
	return 0;
}

struct place {
	u32 code, number;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->code != y->code)
		return x->code < y->code ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* The templates that are kept in the order of their code. The caller frees them; NULL with a message in err. */
static struct place *template_places(const struct reuse *reuse, const struct plan *plan, u32 *count, struct err *err)
{
	u64 all = tcache_templates_count(reuse->cache);
	const struct tcache_template *records = tcache_templates(reuse->cache, 0, all);
	struct place *places = records ? calloc(all + 1, sizeof(*places)) : NULL;

	*count = 0;
	if (!places) {
		err_set(err, "%s", records ? "out of memory" : tcache_error(reuse->cache));
		return NULL;
	}
	for (u32 i = 0; i < all; i++)
		if (wanted(reuse, plan, reuse->templates[i]))
			places[(*count)++] = (struct place){records[i].code_offset, i};
	qsort(places, *count, sizeof(*places), compare_places);
	return places;
}

static int keep_templates(struct reuse *reuse, const struct plan *plan, struct build *build, u64 *unseen,
			  struct err *err)
{
	u32 count;
	struct place *places = template_places(reuse, plan, &count, err);
	int result = places ? 0 : -1;

	for (u32 i = 0; i < count && result == 0; i++) {
		u32 cell = reuse->templates[places[i].number];
		const struct want *want = wanted(reuse, plan, cell);
		struct tcache_template_view view;

		if (tcache_template_view(reuse->cache, places[i].number, &view) != TCACHE_OK)
			result = err_set(err, "%s", tcache_error(reuse->cache));
		else if (build_keep_template(build, want, &view))
			*unseen += room_of(want, view.record->code_length);
		else
			reuse_leave(reuse, cell - 1);
	}
	free(places);
	return result;
}

/* The same for units of modules. */
static struct place *module_places(const struct reuse *reuse, const struct plan *plan, u32 *count, struct err *err)
{
	u64 all = tcache_module_units_count(reuse->cache);
	const struct tcache_module_unit *records = tcache_module_units(reuse->cache, 0, all);
	struct place *places = records ? calloc(all + 1, sizeof(*places)) : NULL;

	*count = 0;
	if (!places) {
		err_set(err, "%s", records ? "out of memory" : tcache_error(reuse->cache));
		return NULL;
	}
	for (u32 i = 0; i < all; i++)
		if (wanted(reuse, plan, reuse->modules[i]))
			places[(*count)++] = (struct place){records[i].code_offset, i};
	qsort(places, *count, sizeof(*places), compare_places);
	return places;
}

static int keep_modules(struct reuse *reuse, const struct plan *plan, struct build *build, u64 *unseen, struct err *err)
{
	u32 count;
	struct place *places = module_places(reuse, plan, &count, err);
	int result = places ? 0 : -1;

	for (u32 i = 0; i < count && result == 0; i++) {
		u32 cell = reuse->modules[places[i].number];
		const struct want *want = wanted(reuse, plan, cell);
		struct tcache_module_view view;

		if (tcache_module_view(reuse->cache, places[i].number, &view) != TCACHE_OK)
			result = err_set(err, "%s", tcache_error(reuse->cache));
		else if (build_keep_module(build, want, &view))
			*unseen += room_of(want, view.record->code_length);
		else
			reuse_leave(reuse, cell - 1);
	}
	free(places);
	return result;
}

int reuse_keep(struct reuse *reuse, const struct plan *plan, struct build *build, u64 *unseen, struct err *err)
{
	*unseen = 0;
	if (build_keep_begin(build, reuse->cache, err) < 0 || keep_units(reuse, plan, build, unseen, err) < 0 ||
	    keep_templates(reuse, plan, build, unseen, err) < 0 || keep_modules(reuse, plan, build, unseen, err) < 0)
		return -1;
	build_keep_end(build);
	return 0;
}
