#include "page_names.h"

#include <stdlib.h>

int page_names_add(struct page_names *names, const struct page_name *page)
{
	if (names->count == names->room) {
		u64 room = names->room ? names->room * 2 : 256;
		struct page_name *grown = realloc(names->page, room * sizeof(*grown));

		if (!grown)
			return -1;
		names->page = grown;
		names->room = room;
	}
	names->page[names->count++] = *page;
	return 0;
}

static int compare_hashes(const u64 a[2], const u64 b[2])
{
	if (a[0] != b[0])
		return a[0] < b[0] ? -1 : 1;
	return a[1] == b[1] ? 0 : a[1] < b[1] ? -1 : 1;
}

static int compare(const void *left, const void *right)
{
	const struct page_name *a = left, *b = right;
	int order = compare_hashes(a->hash, b->hash);

	if (order)
		return order;
	if (a->program != b->program)
		return a->program < b->program ? -1 : 1;
	return a->offset == b->offset ? 0 : a->offset < b->offset ? -1 : 1;
}

void page_names_sort(struct page_names *names)
{
	if (names->count)
		qsort(names->page, names->count, sizeof(*names->page), compare);
}

const struct page_name *page_names_find(const struct page_names *names, const u64 hash[2])
{
	u64 low = 0, high = names->count;

	while (low < high) {
		u64 middle = low + (high - low) / 2;

		if (compare_hashes(names->page[middle].hash, hash) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < names->count && !compare_hashes(names->page[low].hash, hash) ? &names->page[low] : NULL;
}

void page_names_release(struct page_names *names)
{
	free(names->page);
	*names = (struct page_names){0};
}
