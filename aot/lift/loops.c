/* Which loops of a unit can be lifted. */
#include <string.h>

#include "lift.h"

/* The first item from there on that the lifter does not know; last + 1: there is none. */
static unsigned find_unknown(const struct scan *scan, u32 mode, unsigned first, unsigned last)
{
	while (first <= last && lift_possible(&scan->item[first].insn, mode))
		first++;
	return first;
}

static bool possible(const struct scan *scan, u32 mode, unsigned first, unsigned last)
{
	return find_unknown(scan, mode, first, last) > last;
}

unsigned lift_find_loops(const struct scan *scan, u32 mode, struct lift_loop loops[SCAN_ROOM])
{
	s16 last[SCAN_ROOM]; /* by first item: the last one of the largest loop that begins there, or -1 */
	unsigned count = 0;

	if (scan->straddles)
		return 0;
	memset(last, -1, sizeof(last));
	for (unsigned i = 0; i < scan->count; i++) {
		int head = scan->item[i].target;

		if (head >= 0 && head <= (int)i && possible(scan, mode, (unsigned)head, i))
			last[head] = (s16)i;
	}
	for (unsigned i = 0; i < scan->count; i++) {
		if (last[i] < 0)
			continue;
		struct lift_loop *before = count ? &loops[count - 1] : NULL;

		if (before && i <= before->last) { /* within it, or reaching over its end */
			if (last[i] > before->last)
				before->last = (u16)last[i];
			continue;
		}
		loops[count++] = (struct lift_loop){.first = (u16)i, .last = (u16)last[i]};
	}
	return count;
}

unsigned lift_find_refused(const struct scan *scan, u32 mode, struct lift_loop loops[SCAN_ROOM], u16 unknown[SCAN_ROOM])
{
	s16 last[SCAN_ROOM]; /* as above */
	unsigned count = 0;

	if (scan->straddles)
		return 0;
	memset(last, -1, sizeof(last));
	for (unsigned i = 0; i < scan->count; i++) {
		int head = scan->item[i].target;

		if (head >= 0 && head <= (int)i)
			last[head] = (s16)i;
	}
	for (unsigned i = scan->count; i-- > 0;) {
		if (last[i] < 0 || possible(scan, mode, i, (unsigned)last[i]))
			continue;
		unknown[count] = (u16)find_unknown(scan, mode, i, (unsigned)last[i]);
		loops[count++] = (struct lift_loop){.first = (u16)i, .last = (u16)last[i]};
	}
	return count;
}
