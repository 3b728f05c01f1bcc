#include "recorded.h"

#include <stdlib.h>
#include <string.h>

struct recorded {
	const struct plan *plan;
	u32 *order; /* numbers of executed wants, by page and address */
	u32 count;
	bool has_pages;
};

struct place {
	u64 page[2], pc;
};

static int compare_places(const struct want *want, const struct place *place)
{
	if (want->page[1] != place->page[1])
		return want->page[1] < place->page[1] ? -1 : 1;
	if (want->page[0] != place->page[0])
		return want->page[0] < place->page[0] ? -1 : 1;
	return want->pc < place->pc ? -1 : want->pc > place->pc;
}

static int compare(const void *left, const void *right, void *opaque)
{
	const struct plan *plan = opaque;
	const u32 *a = left, *b = right;
	const struct want *other = plan_at(plan, *b);
	int order = compare_places(plan_at(plan, *a), &(struct place){{other->page[0], other->page[1]}, other->pc});

	return order ? order : *a < *b ? -1 : *a > *b;
}

struct recorded *recorded_create(const struct plan *plan, struct err *err)
{
	struct recorded *recorded = calloc(1, sizeof(*recorded));

	if (recorded)
		recorded->order = calloc(plan_count(plan) + 1, sizeof(*recorded->order));
	if (!recorded || !recorded->order) {
		recorded_destroy(recorded);
		err_set(err, "out of memory");
		return NULL;
	}
	recorded->plan = plan;
	for (size_t i = 0; i < plan_count(plan); i++) {
		const struct want *want = plan_at(plan, i);

		if (!want->count_count)
			continue;
		recorded->order[recorded->count++] = (u32)i;
		recorded->has_pages |= want_is_template(want);
	}
	qsort_r(recorded->order, recorded->count, sizeof(*recorded->order), compare, (void *)plan);
	return recorded;
}

void recorded_destroy(struct recorded *recorded)
{
	if (!recorded)
		return;
	free(recorded->order);
	free(recorded);
}

/* The first that does not come before the place. */
static u32 find(const struct recorded *recorded, const struct place *place)
{
	u32 low = 0, high = recorded->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (compare_places(plan_at(recorded->plan, recorded->order[middle]), place) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool recorded_unit(const struct recorded *recorded, const u64 page[2], u64 pc, u32 mode, const u8 *bytes, u64 length)
{
	struct place place = {.pc = pc};

	if (page)
		memcpy(place.page, page, sizeof(place.page));
	for (u32 i = find(recorded, &place); i < recorded->count; i++) {
		const struct want *want = plan_at(recorded->plan, recorded->order[i]);

		if (compare_places(want, &place) != 0)
			return false;
		if (!((want->mode ^ mode) & want->mode_mask) && want->length <= length &&
		    memcmp(want->bytes, bytes, want->length) == 0)
			return true;
	}
	return false;
}

bool recorded_page(const struct recorded *recorded, const u64 page[2])
{
	const struct place place = {.page = {page[0], page[1]}};
	u32 i = find(recorded, &place);
	const struct want *want = i < recorded->count ? plan_at(recorded->plan, recorded->order[i]) : NULL;

	return want && want->page[0] == page[0] && want->page[1] == page[1];
}

bool recorded_has_pages(const struct recorded *recorded)
{
	return recorded->has_pages;
}
