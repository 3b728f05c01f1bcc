#include "direct_link.h"

#include <stdlib.h>
#include <tcache.h>

#include "util/types.h"
#include "x86/mode.h"

void direct_link_make(struct store *store, u32 n, const struct unit *to)
{
	struct link *link = &store->links[n];
	u32 end = link->site + TCACHE_LINK_SITE;

	tcache_site_set_direct(store->code_rw + link->site, (link->saved ? to->saved : to->body) - end);
	link->direct = true;
}

void direct_link_undo(struct store *store, u32 n)
{
	struct link *link = &store->links[n];

	tcache_site_set_cell(store->code_rw + link->site, (u32)(uintptr_t)&store->cells[n]);
	link->direct = false;
}

static int by_pc(const void *a, const void *b, void *opaque)
{
	const struct unit *units = opaque;
	const u64 x = units[*(const u32 *)a].pc, y = units[*(const u32 *)b].pc;

	return x < y ? -1 : x > y;
}

/* The only unit at pc, or UNIT_NONE. */
static u32 only_unit(const struct store *store, const u32 *order, u32 count, u64 pc)
{
	u32 low = 0, high = count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (store->units[order[middle]].pc < pc)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == count || store->units[order[low]].pc != pc ||
	    (low + 1 < count && store->units[order[low + 1]].pc == pc))
		return UNIT_NONE;
	return order[low];
}

/* May it be bound along with others? */
static bool joins(const struct unit *unit)
{
	return PAGE_OFFSET(unit->pc) + unit->guest_bytes <= PAGE_SIZE && !(unit->mode & MODE_CAREFUL);
}

int direct_link_all(struct store *store, bool (*fits)(const void *opaque, u32 from, u32 to), const void *opaque)
{
	u32 count = store->unit_count - 1, *order = malloc((count + 1) * sizeof(*order));

	if (!order)
		return -1;
	for (u32 i = 0; i < count; i++)
		order[i] = i + 1;
	qsort_r(order, count, sizeof(*order), by_pc, store->units);
	for (u32 n = 0; n < store->link_count; n++) {
		const struct link *link = &store->links[n];
		u32 to;

		if (!link->unit || !joins(&store->units[link->unit]))
			continue;
		to = only_unit(store, order, count, link->target);
		if (to != UNIT_NONE && joins(&store->units[to]) && fits(opaque, link->unit, to))
			direct_link_make(store, n, &store->units[to]);
	}
	free(order);
	return 0;
}
