/*
 * Which loops are worth lifting. Entering lifted code and leaving it costs some 50 instructions (registers moved, the
 * first look-up of each stream); an access in it saves about six each time. So a loop must run its accesses often
 * enough for each time that it is entered, which only a profile can tell.
 */
#include "lift.h"

#define ACCESSES_MIN 14 /* for each time that the loop is entered */
#define UNKNOWN      (~0ULL)

static bool inside(const struct lift_loop *loop, int item)
{
	return item >= loop->first && item <= loop->last;
}

static u64 sum(u64 a, u64 b)
{
	return a == UNKNOWN || b == UNKNOWN || a + b < a ? UNKNOWN : a + b;
}

static bool is_branch(const struct insn *insn)
{
	return insn->class == INSN_JMP || insn->class == INSN_JCC || insn->class == INSN_JRCXZ;
}

/* At most so often the loop was entered: what leads there ran no oftener. */
static u64 entered(const struct scan *scan, const struct lift_loop *loop, const u64 *by_item)
{
	u64 most = loop->first ? 0 : UNKNOWN; /* other units' branches are not known */

	for (unsigned i = 0; i < scan->count; i++) {
		const struct scan_item *item = &scan->item[i];

		if (inside(loop, (int)i))
			continue;
		if (inside(loop, item->target))
			most = sum(most, by_item[i]);
		if (item->falls && i + 1 == loop->first)
			most = sum(most, by_item[i]);
	}
	return most;
}

/* … and left: what it leads to ran no oftener. */
static u64 left(const struct scan *scan, const struct lift_loop *loop, const u64 *by_item)
{
	u64 most = 0;

	for (unsigned i = loop->first; i <= loop->last; i++) {
		const struct scan_item *item = &scan->item[i];

		if (is_branch(&item->insn) && !inside(loop, item->target))
			most = sum(most, item->target >= 0 ? by_item[item->target] : UNKNOWN);
		if (item->insn.class != INSN_JMP && (!item->falls || i == loop->last))
			most = sum(most, item->falls ? by_item[i + 1] : UNKNOWN);
	}
	return most;
}

/* Registers that the loop loads from memory. */
static u16 loaded(const struct scan *scan, const struct lift_loop *loop)
{
	u16 mask = 0;

	for (unsigned i = loop->first; i <= loop->last; i++) {
		const struct insn *insn = &scan->item[i].insn;

		if (insn->class == INSN_COPY && insn->has_mem && insn->mem_read)
			mask |= insn->gpr_write;
	}
	return mask;
}

/*
 * How often its accesses ran together. Those through pointers that come from memory do not count: lists and trees lead
 * to another page each time, and what was found last is of no use.
 */
static u64 accesses(const struct scan *scan, const struct lift_loop *loop, const u64 *by_item)
{
	u16 pointers = loaded(scan, loop);
	u64 total = 0;

	for (unsigned i = loop->first; i <= loop->last; i++) {
		const struct insn *insn = &scan->item[i].insn;
		bool chased = insn->base < GPR_COUNT && pointers & BIT(insn->base);

		if (insn->has_mem && insn->mem_size && !chased)
			total = sum(total, by_item[i]);
		if (insn->class == INSN_STACK)
			total = sum(total, by_item[i]);
	}
	return total;
}

enum lift_verdict lift_judge(const struct scan *scan, const struct lift_loop *loop, const u64 by_item[SCAN_ROOM])
{
	u64 in = entered(scan, loop, by_item), out = left(scan, loop, by_item), times = in < out ? in : out;
	u64 total = accesses(scan, loop, by_item);

	if (total == UNKNOWN || times == UNKNOWN)
		return LIFT_ENTRIES_UNKNOWN;
	return total && total / ACCESSES_MIN >= times ? LIFT_LIFTED : LIFT_FEW_ACCESSES;
}
