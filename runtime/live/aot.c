#include "live/aot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tcache.h>

#include "cpu/cpu.h"
#include "live/aot_index.h"
#include "live/aot_module.h"
#include "live/aot_template.h"
#include "live/code_pages.h"
#include "translate/fingerprint.h"
#include "vm.h"

#define REBINDS_MAX 8 /* between two frames at one address; then this unit is left to live translation */

_Static_assert(sizeof(struct pc_entry) == sizeof(struct tcache_pc), "pc records of caches are used as they are");
_Static_assert(offsetof(struct pc_entry, guest) == offsetof(struct tcache_pc, guest), "layout");
_Static_assert(offsetof(struct pc_entry, home) == offsetof(struct tcache_pc, home), "layout");
_Static_assert(offsetof(struct pc_entry, left) == offsetof(struct tcache_pc, left), "layout");

_Static_assert(AOT_MAX == VM_CACHES_MAX, "as many as can be named");

/* What is kept of each of the cache's units. */
struct binding {
	u32 unit; /* number in the live tables that it has, or had; UNIT_NONE if none since these were emptied */
	bool bound;
	bool dirty; /* its cells have been written */
	u8 rebinds;
	bool rejected;
	u32 mark; /* of the last search that came by */
};

struct aot {
	struct tcache *file;
	const struct tcache_placement *place;
	const struct tcache_unit *units;
	const struct tcache_link *links;
	const u32 *by_code;
	struct aot_index *index;
	const struct tcache_pc *host_pcs; /* all; those of a unit are checked when it is bound */
	u32 *code_starts, *link_starts;   /* of the units' code and links, in the order of by_code, to search in */
	bool damage_said;                 /* a warning of it has been given */
	struct binding *bindings;
	u64 *cells;           /* private, where the code looks for them */
	struct insn *decoded; /* private, zeroed: length 0 means not decoded yet */
	u64 decoded_size;
	u32 unit_count, link_count, target_count;
	u32 mark;
	u32 code;                  /* offset of its code in the live engine's terms */
	u64 code_size, cells_size; /* bytes mapped */
	u8 id;
};

/* --- opening ----------------------------------------------------------------------------------------------------- */

static void fingerprint_wanted(const struct live *live, struct tcache_fingerprint *want)
{
	translator_fingerprint(&live->store, cpu_model_name(live->vm->config.cpu), want);
	tcache_host_features(want->host_features);
}

static bool overlap(u64 first, u64 count, u64 other_first, u64 other_count)
{
	return first < other_first + other_count && other_first < first + count;
}

/* Guest targets of direct jumps, and links, have numbers that the code knows. */
static int take_numbers(struct live *live, struct aot *aot, struct err *err)
{
	const u64 *pcs = tcache_targets(aot->file, 0, aot->target_count);
	u32 first = aot->place->first_target, first_link = aot->place->first_link;

	if (aot->target_count && !pcs)
		return err_set(err, "%s", tcache_error(aot->file));
	if (first == 0 || first + (u64)aot->target_count > TARGET_SIZE)
		return err_set(err, "cache '%s' numbers more jump targets than there are", tcache_name(aot->file));
	if (first_link < AOT_FIRST_LINK)
		return err_set(err, "cache '%s' numbers its links like live translations", tcache_name(aot->file));
	for (unsigned i = 0; i < live->aot_count; i++) {
		const struct aot *other = live->aot[i];

		if (overlap(first, aot->target_count, other->place->first_target, other->target_count) ||
		    overlap(first_link, aot->link_count, other->place->first_link, other->link_count))
			return err_set(err,
				       "cache '%s' has the same place as '%s': make one of them with another --place",
				       tcache_name(aot->file), tcache_name(other->file));
	}
	return 0;
}

static int map_decoded(struct aot *aot, struct err *err)
{
	u64 size = tcache_insns_size(aot->file);
	void *at = (void *)aot->place->insns_address;

	if (aot->place->insn_size != sizeof(struct insn))
		return err_set(err, "cache '%s' has decoded instructions of another size", tcache_name(aot->file));
	if (!size)
		return 0;
	aot->decoded = mmap(at, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (aot->decoded == MAP_FAILED) {
		aot->decoded = NULL;
		return err_set(err, "cannot use cache '%s': address %p is taken: %s", tcache_name(aot->file), at,
			       strerror(errno));
	}
	aot->decoded_size = size;
	return 0;
}

static int index_units(struct aot *aot, struct err *err)
{
	u64 end = 0;

	aot->bindings = calloc(aot->unit_count, sizeof(*aot->bindings));
	aot->index = aot_index_create(aot->units, aot->unit_count);
	aot->code_starts = malloc(aot->unit_count * sizeof(u32));
	aot->link_starts = malloc(aot->unit_count * sizeof(u32));
	if (!aot->bindings || !aot->index || !aot->code_starts || !aot->link_starts)
		return err_set(err, "out of memory");
	for (u32 i = 0; i < aot->unit_count; i++) {
		u32 number = aot->by_code[i];

		if (number >= aot->unit_count)
			return err_set(err, "cache '%s' names a unit that it does not have", tcache_name(aot->file));

		const struct tcache_unit *unit = &aot->units[number];

		aot->code_starts[i] = unit->code_offset;
		aot->link_starts[i] = unit->link_first;
		/* find_unit() and find_by_link() rely on the order */
		if (unit->code_offset < end)
			return err_set(err, "cache '%s': code is not in the order that it names",
				       tcache_name(aot->file));
		end = (u64)unit->code_offset + unit->code_length;
		if (i && aot->link_starts[i] < aot->link_starts[i - 1])
			return err_set(err, "cache '%s': links are not in the order of code", tcache_name(aot->file));
	}
	return 0;
}

static int map_all(struct live *live, struct aot *aot, struct err *err)
{
	struct tcache *file = aot->file;
	struct tcache_fingerprint want;

	fingerprint_wanted(live, &want);
	if (tcache_check_fingerprint(file, &want) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(file));
	aot->unit_count = (u32)tcache_units_count(file);
	aot->link_count = (u32)tcache_links_count(file);
	aot->target_count = (u32)tcache_targets_count(file);
	aot->place = tcache_place(file);
	if (!aot->place)
		return err_set(err, "%s", tcache_error(file));
	aot->units = tcache_units(file, 0, aot->unit_count);
	aot->links = tcache_links(file, 0, aot->link_count);
	aot->by_code = tcache_by_code(file, 0, aot->unit_count);
	if (!aot->units || !aot->links || !aot->by_code)
		return err_set(err, "%s", tcache_error(file));
	if (index_units(aot, err) < 0)
		return -1;
	if (take_numbers(live, aot, err) < 0 || map_decoded(aot, err) < 0)
		return -1;
	if (aot->unit_count && tcache_map_code(file, 0) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(file));
	aot->code = (u32)(aot->place->code_address - LIVE_CODE_ADDRESS);
	aot->code_size = aot->unit_count ? tcache_code_size(file) : 0;
	if (tcache_map_cells(file, 0) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(file));
	aot->cells = (u64 *)aot->place->cells_address;
	aot->cells_size = tcache_cells_size(file);
	return 0;
}

int aot_open(struct live *live, const char *path, bool trust, struct err *err)
{
	struct aot *aot;
	char error[512];

	if (live->aot_count == AOT_MAX)
		return err_set(err, "cache '%s': at most %d caches can be used", path, AOT_MAX);
	aot = calloc(1, sizeof(*aot));
	if (!aot)
		return err_set(err, "out of memory");
	if (tcache_open(path, trust ? TCACHE_TRUST : 0, &aot->file, error, sizeof(error)) != TCACHE_OK) {
		free(aot);
		return err_set(err, "%s", error);
	}
	tcache_verify_ahead(aot->file, TCACHE_TYPE_kernel); /* wanted when the kernel is loaded */
	if (map_all(live, aot, err) < 0) {
		aot_close(aot);
		return -1;
	}
	if (aot_modules_add(live, aot->file) < 0) {
		aot_close(aot);
		return err_set(err, "out of memory");
	}
	aot->id = (u8)live->aot_count;
	live->aot_templates[aot->id] = aot_templates_create(aot->file);
	live->aot[live->aot_count++] = aot;
	return 0;
}

void aot_close(struct aot *aot)
{
	if (!aot)
		return;
	if (aot->code_size)
		munmap((void *)aot->place->code_address, aot->code_size);
	if (aot->cells_size)
		munmap(aot->cells, aot->cells_size);
	if (aot->decoded)
		munmap(aot->decoded, aot->decoded_size);
	tcache_close(aot->file);
	free(aot->bindings);
	aot_index_destroy(aot->index);
	free(aot->code_starts);
	free(aot->link_starts);
	free(aot);
}

u64 aot_units(const struct live *live)
{
	u64 count = 0;

	for (unsigned i = 0; i < live->aot_count; i++)
		count += live->aot[i]->unit_count;
	return count;
}

u64 aot_template_count(const struct live *live)
{
	u64 count = 0;

	for (unsigned i = 0; i < live->aot_count; i++)
		count += aot_templates_count(live->aot_templates[i]);
	return count;
}

void aot_number_targets(struct live *live)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		const struct aot *aot = live->aot[i];
		const u64 *pcs = tcache_targets(aot->file, 0, aot->target_count);

		for (u32 n = 0; pcs && n < aot->target_count; n++)
			store_set_target(&live->store, aot->place->first_target + n, pcs[n]);
	}
}

/* Says so if the cache was made for kernels, and this is none of them. */
static void check_kernel(struct tcache *file, const u8 digest[TCACHE_DIGEST_SIZE])
{
	u64 count = tcache_images_count(file);
	const struct tcache_image *images = tcache_images(file, 0, count), *other = NULL;

	for (u64 i = 0; images && i < count; i++) {
		if (images[i].kind != TCACHE_IMAGE_KERNEL)
			continue;
		if (!memcmp(images[i].digest, digest, TCACHE_DIGEST_SIZE))
			return;
		other = &images[i];
	}
	if (other)
		warn("'%s' was made for another kernel, '%s': only code that is the same in both is used",
		     tcache_name(file), tcache_string(file, other->name) ?: "");
}

const u8 *aot_unpacked(const struct live *live, const u8 *file, u64 size, u64 *unpacked_size)
{
	u8 digest[TCACHE_DIGEST_SIZE];
	const void *data;

	tcache_image_digest(file, size, digest);
	for (unsigned i = 0; i < live->aot_count; i++)
		check_kernel(live->aot[i]->file, digest);
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (tcache_unpacked(live->aot[i]->file, digest, &data, unpacked_size) == TCACHE_OK)
			return data;
	}
	return NULL;
}

u64 aot_map_unpacked(const struct live *live, const u8 *data, u64 size, u8 *to)
{
	size = PAGE_BASE(size);
	if (!size || PAGE_OFFSET((u64)to))
		return 0;
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (tcache_map_copy(live->aot[i]->file, data, size, to) == TCACHE_OK)
			return size;
	}
	return 0;
}

void aot_forget_unpacked(const struct live *live)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		u32 chunk = tcache_find(live->aot[i]->file, TCACHE_TYPE_kernel);

		if (chunk != TCACHE_NO_CHUNK)
			tcache_forget(live->aot[i]->file, chunk);
	}
}

/* --- binding ----------------------------------------------------------------------------------------------------- */

/*
 * Code that no recorded run executed lies between such code as nobody may ever want. Run from there, it would be spread
 * over as many of the host's pages as there are units. So it is copied: it depends on no address of its own. Returns
 * the offset of the copy, or of the original if there is no room.
 */
static u32 take_code(struct live *live, const struct aot *aot, u32 number, const struct tcache_unit_view *view)
{
	const struct tcache_unit *from = view->unit;
	struct store *store = &live->store;
	u32 at = (u32)store->used;

	/* a quarter is left to live translation: when that has no room, everything is forgotten */
	if (!(from->flags & TCACHE_UNIT_COLD) || store->used + from->code_length > store->size - store->size / 4 ||
	    live->copied_count == AOT_UNITS_MAX)
		return aot->code + from->code_offset;
	code_pages_want(live, at, at + CODE_PAGE, store->size);
	memcpy(store->code_rw + at, view->code, from->code_length);
	store->used = align_up(store->used + from->code_length, 16);
	live->copied[live->copied_count++] = number;
	return at;
}

static struct unit *new_unit(struct live *live, const struct aot *aot, u32 number, const struct tcache_unit_view *view)
{
	struct store *store = &live->store;
	const struct tcache_unit *from = view->unit;

	if (store->unit_count == store->bound_first || store->entry_count + (u64)from->entry_count > store->entry_max)
		return NULL;
	u32 n = --store->bound_first;
	u32 code = take_code(live, aot, n, view);
	struct unit *unit = &store->units[n];

	*unit = (struct unit){
		.pc = from->pc,
		.gpa_next = NO_FRAME,
		.code = code,
		.body = code + from->body_offset,
		.saved = code + from->saved_offset,
		.code_end = code + from->code_length,
		.entries = store->entry_count,
		.entries_count = from->entry_count,
		.landings = store->landing_count,
		.links = from->link_first,
		.links_count = from->link_count,
		.cached = number + 1,
		.cache_id = aot->id,
		.instructions = (u16)from->instruction_count,
		.guest_bytes = (u16)from->guest_length,
		.origin = ORIGIN_AOT_COPIED, /* lifted parts count by themselves */
	};
	for (u32 i = 0; i < from->entry_count; i++)
		store_add_entry(store, n, from->pc + view->entries[i].guest, code + view->entries[i].code);
	return unit;
}

/* Its links lead nowhere yet. */
static void reset_cells(struct aot *aot, struct binding *binding, const struct unit *unit)
{
	bool copied = unit->code < aot->code;

	if (binding->dirty || copied) {
		for (u32 i = unit->links; i < unit->links + unit->links_count; i++)
			aot->cells[i] = LIVE_CODE_ADDRESS + unit->code + aot->links[i].cold;
	}
	binding->dirty = copied;
}

/* Does it lie in the guest's page `page`, and was executed in the training run? */
static bool lies_in(const struct aot *aot, u32 n, u32 mode, const u8 *page)
{
	const struct tcache_unit *unit = &aot->units[n];
	u64 hash[2];

	if (unit->flags & TCACHE_UNIT_COLD || (unit->mode ^ mode) & unit->mode_mask || aot->bindings[n].rejected ||
	    tcache_unit_straddles(unit))
		return false;
	tcache_hash(page + PAGE_OFFSET(unit->pc), unit->guest_length, hash);
	return hash[0] == unit->hash[0] && hash[1] == unit->hash[1];
}

/* One frame, or mode, is served at a time. False: it has changed too often. */
static bool leave_old_place(struct vcpu *v, struct binding *binding)
{
	if (!binding->bound)
		return true;
	if (++binding->rebinds > REBINDS_MAX) {
		v->vm->stats.aot_rejected_frame++;
		binding->rejected = true;
		return false;
	}
	live_drop_frame(v, v->vm->live->store.units[binding->unit].gpa);
	return true;
}

static bool is_bound_here(const struct live *live, const struct aot *aot, u32 number, u64 page, u32 mode)
{
	const struct binding *binding = &aot->bindings[number];

	if (!binding->bound)
		return false;
	const struct unit *unit = &live->store.units[binding->unit];

	return unit->mode == mode && PAGE_BASE(unit->gpa) == page;
}

static void begin_marks(struct aot *aot)
{
	if (++aot->mark)
		return;
	for (u32 i = 0; i < aot->unit_count; i++)
		aot->bindings[i].mark = 0;
	aot->mark = 1;
}

/*
 * The unit, which fits, and those that must be bound along with it because they are jumped straight into, by it or by
 * each other, and are not bound here yet. Returns how many, at most AOT_TOGETHER; 0: one of them does not fit.
 */
static u32 collect(const struct vcpu *v, struct aot *aot, u32 number, u64 gpa, u32 mode, u32 group[AOT_TOGETHER])
{
	const u8 *page = ram_at(&v->vm->ram, PAGE_BASE(gpa));
	u32 count = 1;

	group[0] = number;
	begin_marks(aot);
	aot->bindings[number].mark = aot->mark;
	for (u32 i = 0; i < count; i++) {
		const struct tcache_unit *unit = &aot->units[group[i]];

		if ((u64)unit->link_first + unit->link_count > aot->link_count)
			return 0;
		for (u32 n = unit->link_first; n < unit->link_first + unit->link_count; n++) {
			const u64 pc = unit->pc + (u64)(s64)aot->links[n].target;

			if (!(aot->links[n].flags & TCACHE_LINK_DIRECT))
				continue;
			if (unit->flags & TCACHE_UNIT_COLD) /* it would be copied */
				return 0;
			const u32 to = aot_index_first(aot->index, pc);

			if (to == aot->unit_count || aot->units[to].pc != pc ||
			    PAGE_BASE(pc) != PAGE_BASE(aot->units[number].pc))
				return 0;
			if (aot->bindings[to].mark == aot->mark ||
			    is_bound_here(v->vm->live, aot, to, PAGE_BASE(gpa), mode))
				continue;
			if (count == AOT_TOGETHER || !lies_in(aot, to, mode, page))
				return 0;
			aot->bindings[to].mark = aot->mark;
			group[count++] = to;
		}
	}
	return count;
}

static u32 bind(struct vcpu *v, struct aot *aot, u32 number, u64 gpa, u64 next, u32 mode, bool *full)
{
	struct live *live = v->vm->live;
	struct binding *binding = &aot->bindings[number];
	struct tcache_unit_view view;
	struct unit *unit;

	/* instructions are decoded when they are first executed: too late to find out that they are damaged */
	if (tcache_unit_run_view(aot->file, number, &view) != TCACHE_OK ||
	    !tcache_insns(aot->file, view.unit->insn_first, view.unit->insn_count)) {
		v->vm->stats.aot_rejected_damage++;
		if (!aot->damage_said)
			warn("%s; what is damaged is translated at run time instead", tcache_error(aot->file));
		aot->damage_said = true;
		binding->rejected = true;
		return UNIT_NONE;
	}
	unit = new_unit(live, aot, number, &view);
	if (!unit) {
		*full = true;
		return UNIT_NONE;
	}
	unit->gpa = gpa;
	unit->gpa_next = next;
	unit->mode = mode; /* of this use: links are made by it */
	reset_cells(aot, binding, unit);
	if (view.unit->pc_count)
		aot->host_pcs = view.pcs - view.unit->pc_first;
	binding->bound = true;
	binding->unit = live->store.bound_first;
	v->vm->stats.aot_bound++;
	return binding->unit;
}

static bool is_any_bound(const struct aot *aot, const u32 *group, u32 count)
{
	for (u32 i = 0; i < count; i++) {
		if (aot->bindings[group[i]].bound)
			return true;
	}
	return false;
}

/* collect(), and none of them is bound elsewhere any more. */
static u32 collect_unbound(struct vcpu *v, struct aot *aot, u32 number, u64 gpa, u32 mode, u32 *group)
{
	u32 count = collect(v, aot, number, gpa, mode, group);

	if (!is_any_bound(aot, group, count))
		return count;
	for (u32 i = 0; i < count; i++) {
		if (!leave_old_place(v, &aot->bindings[group[i]]))
			return 0;
	}
	/* in another mode it was bound here, where everything has been dropped now */
	count = collect(v, aot, number, gpa, mode, group);
	return is_any_bound(aot, group, count) ? 0 : count;
}

/* Binds what was collected; `next` is for the first. All, or none: then 0. */
static unsigned bind_group(struct vcpu *v, struct aot *aot, const u32 *group, u32 count, u64 gpa, u64 next, u32 mode,
			   u32 *numbers, bool *full)
{
	for (u32 i = 0; i < count; i++) {
		u64 at = PAGE_BASE(gpa) + PAGE_OFFSET(aot->units[group[i]].pc);

		numbers[i] = bind(v, aot, group[i], at, i ? NO_FRAME : next, mode, full);
		if (numbers[i] != UNIT_NONE)
			continue;
		/* nobody knows of the others yet */
		while (i--) {
			v->vm->live->store.units[numbers[i]].dropped = true;
			aot_unbind(v->vm->live, &v->vm->live->store.units[numbers[i]]);
		}
		return 0;
	}
	return count;
}

unsigned aot_bind(struct vcpu *v, u64 gpa, u32 mode, u32 *numbers, unsigned max, bool *full)
{
	struct live *live = v->vm->live;
	u32 group[AOT_TOGETHER];

	*full = false;
	for (unsigned i = 0; i < live->aot_count; i++) {
		struct aot *aot = live->aot[i];
		u32 number, cursor = 0;
		bool found = false;
		u64 next;

		while ((number = aot_index_find(aot->index, v, gpa, mode, &cursor, &next)) != AOT_INDEX_NONE) {
			found = true;
			if (aot->bindings[number].rejected)
				continue;
			u32 needed = collect_unbound(v, aot, number, gpa, mode, group);
			bool fits = needed && needed <= max;
			unsigned count = fits ? bind_group(v, aot, group, needed, gpa, next, mode, numbers, full) : 0;

			v->vm->stats.aot_rejected_group += !fits && !aot->bindings[number].rejected;
			if (count || *full)
				return count;
		}
		/* or the mode, which is rare */
		v->vm->stats.aot_rejected_bytes += !found && aot_index_has(aot->index, v->rip);
	}
	return 0;
}

unsigned aot_bind_page(struct vcpu *v, u64 gpa, u32 mode, u32 *numbers, unsigned max)
{
	struct live *live = v->vm->live;
	const u64 begin = PAGE_BASE(v->rip);
	const u8 *page = ram_at(&v->vm->ram, PAGE_BASE(gpa));
	u32 group[AOT_TOGETHER];
	unsigned count = 0;
	bool full = false;

	for (unsigned i = 0; page && i < live->aot_count; i++) {
		struct aot *aot = live->aot[i];

		for (u32 n = aot_index_first(aot->index, begin);
		     n < aot->unit_count && aot->units[n].pc - begin < PAGE_SIZE; n++) {
			if (aot->bindings[n].bound || !lies_in(aot, n, mode, page))
				continue;
			if (count == max)
				return count;
			u32 needed = collect(v, aot, n, gpa, mode, group);

			/* nobody has asked for it: what is in use elsewhere stays there */
			if (needed > max - count || is_any_bound(aot, group, needed))
				continue;
			count += bind_group(v, aot, group, needed, gpa, NO_FRAME, mode, numbers + count, &full);
			if (full)
				return count;
		}
	}
	return count;
}

/* A unit among these that begins at pc. */
static const struct unit *unit_at(const struct live *live, const u32 *numbers, unsigned count, u64 pc)
{
	for (unsigned i = 0; i < count; i++) {
		const struct unit *unit = &live->store.units[numbers[i]];

		if (unit->pc == pc)
			return unit->gpa_next == NO_FRAME ? unit : NULL;
	}
	return NULL;
}

void aot_link_page(struct live *live, const u32 *numbers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct unit *from = &live->store.units[numbers[i]];
		struct aot *aot = live->aot[from->cache_id];

		for (u32 n = from->links; n < from->links + from->links_count; n++) {
			const struct tcache_link *link = &aot->links[n];

			if (link->flags & TCACHE_LINK_DIRECT)
				continue;
			const struct unit *to = unit_at(live, numbers, count, from->pc + (u64)(s64)link->target);
			u32 code = !to ? 0 : link->flags & TCACHE_LINK_SAVED ? to->saved : to->body;

			if (!code)
				continue;
			aot->cells[n] = (u64)(uintptr_t)live->store.code + code;
			aot->bindings[from->cached - 1].dirty = true;
		}
	}
}

void aot_unbind(struct live *live, const struct unit *unit)
{
	struct aot *aot = live->aot[unit->cache_id];

	aot->bindings[unit->cached - 1].bound = false;
}

void aot_unbind_all(struct live *live)
{
	const struct store *store = &live->store;

	for (u32 i = store->bound_first; i < store->unit_max; i++) {
		const struct unit *unit = &store->units[i];
		struct binding *binding = &live->aot[unit->cache_id]->bindings[unit->cached - 1];

		binding->bound = false;
		binding->unit = UNIT_NONE;
	}
}

/* --- what running code needs ------------------------------------------------------------------------------------- */

static struct aot *owner(const struct live *live, u32 offset)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (offset - live->aot[i]->code < live->aot[i]->code_size)
			return live->aot[i];
	}
	return NULL;
}

bool aot_owns(const struct live *live, u32 offset)
{
	return owner(live, offset) != NULL;
}

/* How many of the ascending numbers are not above this one. */
static u32 count_to(const u32 *numbers, u32 count, u32 last)
{
	u32 low = 0, high = count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (numbers[middle] <= last)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The cache's unit whose code the offset (from the cache's code) lies in. */
static bool find_unit(const struct aot *aot, u32 offset, u32 *number)
{
	u32 count = count_to(aot->code_starts, aot->unit_count, offset);

	if (count == 0)
		return false;
	*number = aot->by_code[count - 1];
	return offset - aot->units[*number].code_offset < aot->units[*number].code_length;
}

/* The unit's last pc entry at or before the offset from its first byte; NULL if there is none. */
static const struct pc_entry *entry_before(const struct aot *aot, u32 number, u32 offset)
{
	const struct tcache_unit *unit = &aot->units[number];
	const struct tcache_pc *pcs = aot->host_pcs + unit->pc_first;
	u32 first = 0, last = unit->pc_count;

	while (first < last) {
		u32 middle = first + (last - first) / 2;

		if (pcs[middle].code <= offset)
			first = middle + 1;
		else
			last = middle;
	}
	return first ? (const struct pc_entry *)&pcs[first - 1] : NULL;
}

bool aot_find_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	const struct aot *aot = owner(live, offset);
	u32 number;

	offset -= aot->code;
	if (!find_unit(aot, offset, &number) || aot->bindings[number].unit == UNIT_NONE)
		return false;
	*found = &live->store.units[aot->bindings[number].unit];
	*entry = entry_before(aot, number, offset - aot->units[number].code_offset);
	return true;
}

bool aot_find_copied_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	const struct unit *units = live->store.units;
	u32 low = 0, high = live->copied_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (units[live->copied[middle]].code_end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == live->copied_count || offset < units[live->copied[low]].code)
		return false;
	*found = &units[live->copied[low]];
	*entry = entry_before(live->aot[(*found)->cache_id], (*found)->cached - 1, offset - (*found)->code);
	return true;
}

static struct aot *link_owner(const struct live *live, u32 number)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (number - live->aot[i]->place->first_link < live->aot[i]->link_count)
			return live->aot[i];
	}
	return NULL;
}

/* The cache's unit that the link (counted from its first one) belongs to. */
static u32 find_by_link(const struct aot *aot, u32 link)
{
	u32 count = count_to(aot->link_starts, aot->unit_count, link);

	return aot->by_code[count ? count - 1 : 0];
}

struct link aot_link(const struct live *live, u32 number)
{
	const struct aot *aot = link_owner(live, number);

	if (!aot)
		BUG("a cache's code left by link %#x, which it does not have", number);
	number -= aot->place->first_link;

	u32 from = find_by_link(aot, number);

	return (struct link){
		.unit = aot->bindings[from].bound ? aot->bindings[from].unit : UNIT_NONE,
		.target = aot->units[from].pc + (u64)(s64)aot->links[number].target,
		.saved = aot->links[number].flags & TCACHE_LINK_SAVED,
	};
}

void aot_set_link(struct live *live, u32 number, u64 host)
{
	struct aot *aot = link_owner(live, number);

	number -= aot->place->first_link;
	aot->cells[number] = host;
	aot->bindings[find_by_link(aot, number)].dirty = true;
}

bool aot_decode(struct vcpu *v, const struct insn *insn)
{
	struct live *live = v->vm->live;

	for (unsigned i = 0; i < live->aot_count; i++) {
		struct aot *aot = live->aot[i];
		u64 offset = (u64)insn - (u64)aot->decoded;

		if (offset >= aot->decoded_size)
			continue;
		u32 number = (u32)(offset / sizeof(*insn));

		vcpu_fpu_put(v);

		const struct tcache_insn *bytes = tcache_insns(aot->file, number, 1);

		bool good = bytes && insn_decode(&aot->decoded[number], bytes->bytes, bytes->length) == 0;

		/* its bytes have their digest: whoever made the file meant it so */
		if (!good) {
			char text[200];

			snprintf(text, sizeof(text), "instruction %u of cache '%.100s' is none", number,
				 tcache_name(aot->file));
			vm_stop_message(v->vm, EXIT_ERROR, text);
		}
		vcpu_fpu_get(v);
		return good;
	}
	BUG("an instruction record at %p, where there is none", (const void *)insn);
}
