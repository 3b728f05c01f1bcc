#include "loop_heads.h"

#include "x86/mode.h"

/* Executions of the blocks of `scan`, which is a part of what `whole` and `executed` tell of, from item `first` on. */
static u32 count_blocks(const struct scan *scan, const struct scan *whole, const u64 executed[SCAN_ROOM],
			unsigned first, u64 counts[SCAN_ROOM])
{
	u16 base = whole->item[first].offset;
	u32 count = 0;

	for (unsigned i = 0; i < scan->count; i++) {
		if (!scan->item[i].block)
			continue;
		counts[count] = 0;
		for (unsigned k = first; k < whole->count; k++) {
			if (whole->item[k].offset == scan->item[i].offset + base)
				counts[count] = executed[k];
		}
		count++;
	}
	return count;
}

static int add_head(struct plan *plan, const struct want *want, const struct scan *whole, const u64 executed[SCAN_ROOM],
		    unsigned head, struct err *err)
{
	u16 offset = whole->item[head].offset;
	u64 counts[SCAN_ROOM];
	struct scan scan;

	if (!plan_scan(plan_store(plan), &scan, want->pc + offset, want->mode, want->bytes + offset,
		       want->length - offset))
		return 0;
	u32 count = count_blocks(&scan, whole, executed, head, counts);

	return plan_add_counted(plan, &scan, want->mode, want->bytes + offset,
				want_is_template(want) ? want->page : NULL, counts, count, err);
}

/* The executions of the hottest item of the loop with this head: outer loops run their heads rarely. */
static u64 hottest(const struct scan *scan, const u64 executed[SCAN_ROOM], unsigned head)
{
	unsigned last = head;
	u64 most = 0;

	for (unsigned i = head; i < scan->count; i++) {
		if (scan->item[i].target == (s16)head)
			last = i;
	}
	for (unsigned i = head; i <= last; i++)
		most = executed[i] > most ? executed[i] : most;
	return most;
}

int plan_add_loop_heads(struct plan *plan, u64 least, struct err *err)
{
	const struct store *store = plan_store(plan);
	size_t recorded = plan_count(plan);

	for (size_t n = 0; n < recorded; n++) {
		struct want want = *plan_at(plan, n); /* a copy: adding moves them */
		u64 executed[SCAN_ROOM];
		struct scan scan;

		if (!want.count_count || want.mode & MODE_CAREFUL ||
		    !plan_scan(store, &scan, want.pc, want.mode, want.bytes, want.length) || scan.straddles)
			continue;
		plan_count_items(&scan, &want, executed);
		for (unsigned i = 1; i < scan.count; i++) {
			if (scan.item[i].loop_head && hottest(&scan, executed, i) >= least &&
			    add_head(plan, &want, &scan, executed, i, err) < 0)
				return -1;
		}
	}
	return 0;
}
