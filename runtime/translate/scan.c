#include "translate/scan.h"

/* How far ahead of the last decoded instruction a forward branch target may be to be scanned as well. */
#define FORWARD_GAP 64

/* Helpers after which the vCPU is always somewhere else (or must look anew at where it is). */
static bool helper_ends_flow(u8 helper)
{
	switch (helper) {
	case HELP_syscall:
	case HELP_sysret:
	case HELP_sysenter:
	case HELP_sysexit:
	case HELP_iret:
	case HELP_int_n:
	case HELP_int3:
	case HELP_int1:
	case HELP_ud:
	case HELP_jmp_far:
	case HELP_call_far:
	case HELP_ret_far:
	case HELP_hlt:
	case HELP_mov_to_cr:
	case HELP_invlpg:
	case HELP_invpcid:
		return true;
	default:
		return false;
	}
}

bool scan_ends_flow(const struct insn *insn)
{
	return insn_ends_flow(insn) || (insn->class == INSN_HELPER && helper_ends_flow(insn->helper));
}

static bool is_direct_branch(const struct insn *insn)
{
	return insn->class == INSN_JMP || insn->class == INSN_JCC || insn->class == INSN_JRCXZ;
}

/* Offsets that forward branches want; kept small, the nearest is looked for. */
struct wanted {
	u16 offset[SCAN_ROOM];
	unsigned count;
};

static void want(struct wanted *wanted, s64 offset, unsigned in_page)
{
	if (offset > 0 && offset < in_page && wanted->count < SCAN_ROOM)
		wanted->offset[wanted->count++] = (u16)offset;
}

/* The nearest wanted offset at or after `from`, or -1. */
static int nearest(const struct wanted *wanted, unsigned from)
{
	int best = -1;

	for (unsigned i = 0; i < wanted->count; i++) {
		if (wanted->offset[i] >= from && (best < 0 || wanted->offset[i] < best))
			best = wanted->offset[i];
	}
	return best;
}

static int find_item(const struct scan *scan, s64 offset)
{
	unsigned low = 0, high = scan->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (scan->item[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < scan->count && scan->item[low].offset == offset ? (int)low : -1;
}

static void connect(struct scan *scan)
{
	for (unsigned i = 0; i < scan->count; i++) {
		struct scan_item *item = &scan->item[i];

		item->falls = i + 1 < scan->count && scan->item[i + 1].offset == item->offset + item->insn.length &&
			      !scan_ends_flow(&item->insn);
		item->target = -1;
		if (!is_direct_branch(&item->insn))
			continue;
		int target = find_item(scan, (s64)item->offset + item->insn.length + item->insn.imm);

		if (target < 0)
			continue;
		item->target = (s16)target;
		scan->item[target].label = true;
		if ((unsigned)target <= i)
			scan->item[target].loop_head = true;
	}
}

static void find_blocks(struct scan *scan)
{
	for (unsigned i = 0; i < scan->count; i++) {
		struct scan_item *item = &scan->item[i];
		const struct scan_item *before = i ? item - 1 : NULL;

		item->block = !before || item->label || !before->falls || before->insn.class == INSN_JCC ||
			      before->insn.class == INSN_JRCXZ || before->insn.class == INSN_CALL ||
			      before->insn.class == INSN_CALL_IND;
	}
	for (unsigned i = scan->count; i-- > 0;) {
		struct scan_item *item = &scan->item[i];
		bool last = i + 1 == scan->count || scan->item[i + 1].block;

		item->block_left = last ? 1 : (u16)(scan->item[i + 1].block_left + 1);
	}
}

static u16 live_before(const struct scan *scan, unsigned i)
{
	const struct scan_item *item = &scan->item[i];
	u16 out = 0;

	switch ((enum insn_class)item->insn.class) {
	case INSN_COPY:
	case INSN_STACK:
	case INSN_STRING:
	case INSN_BITSTRING:
	case INSN_GATHER:
	case INSN_HELPER:
		out = item->falls ? scan->item[i + 1].live_in : FLAGS_ARITH;
		break;
	case INSN_JMP:
		out = item->target >= 0 ? scan->item[item->target].live_in : FLAGS_ARITH;
		break;
	case INSN_JCC:
	case INSN_JRCXZ:
		out = (item->falls ? scan->item[i + 1].live_in : FLAGS_ARITH) |
		      (item->target >= 0 ? scan->item[item->target].live_in : FLAGS_ARITH);
		break;
	default:
		out = FLAGS_ARITH;
		break;
	}
	return insn_live_flags(&item->insn, out);
}

/* Backward data flow to the fixed point. */
static void find_live_flags(struct scan *scan)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (unsigned i = scan->count; i-- > 0;) {
			u16 live = live_before(scan, i);

			if (live != scan->item[i].live_in) {
				scan->item[i].live_in = live;
				changed = true;
			}
		}
	}
}

/* The field of the instruction that these bytes of it are; 0: none. */
static u8 field_at(const struct insn *insn, unsigned at, unsigned size)
{
	const bool branch = is_direct_branch(insn) || insn->class == INSN_CALL;

	if (at == insn->imm_at && size == (unsigned)insn->length - insn->imm_at && (size == 4 || !branch))
		return SCAN_HOLE_IMM;
	if (size == 4 && insn->has_mem && insn->modrm_at && at > insn->modrm_at && at + 4 == insn->imm_at &&
	    insn->addrsize == 8)
		return SCAN_HOLE_DISP;
	return 0;
}

bool scan_note_holes(struct scan *scan, const u16 *holes, unsigned count)
{
	const unsigned begin = (unsigned)PAGE_OFFSET(scan->pc);
	unsigned i = 0;

	for (unsigned n = 0; n < count; n++) {
		const unsigned hole = SCAN_HOLE_AT(holes[n]), size = SCAN_HOLE_SIZE(holes[n]);

		while (i < scan->count && begin + scan->item[i].offset + scan->item[i].insn.length <= hole)
			i++;
		if (i == scan->count)
			break;
		struct scan_item *item = &scan->item[i];
		const unsigned at = begin + item->offset;
		u8 field;

		if (hole + size <= at) /* between two instructions, or before the first */
			continue;
		field = hole >= at && hole + size <= at + item->insn.length ? field_at(&item->insn, hole - at, size)
									    : 0;
		if (!field || item->target >= 0)
			return false;
		item->holes |= field;
	}
	return true;
}

int scan_unit(struct scan *scan, u64 pc, const u8 *bytes, unsigned length, unsigned in_page,
	      const struct scan_options *options)
{
	struct wanted wanted = {.count = 0};
	unsigned at = 0;

	scan->pc = pc;
	scan->count = 0;
	scan->straddles = false;
	while (scan->count < options->max && at < in_page) {
		struct scan_item *item = &scan->item[scan->count];
		unsigned available = length - at < 15 ? length - at : 15;

		if (insn_decode(&item->insn, bytes + at, available) < 0) {
			if (scan->count == 0)
				return -1;
			break; /* straddles: a unit of its own */
		}
		if (at + item->insn.length > in_page) {
			if (scan->count)
				break;
			scan->straddles = true;
		}
		item->offset = (u16)at;
		item->label = item->loop_head = item->block = item->falls = false;
		item->holes = 0;
		item->live_in = options->exact_flags ? FLAGS_ARITH : 0;
		scan->count++;
		at += item->insn.length;
		if (scan->straddles)
			break;
		if (is_direct_branch(&item->insn))
			want(&wanted, (s64)at + item->insn.imm, in_page);
		if (scan_ends_flow(&item->insn) ||
		    (options->calls_end && (item->insn.class == INSN_CALL || item->insn.class == INSN_CALL_IND))) {
			int next = nearest(&wanted, at);

			if (next < 0 || (unsigned)next > at + FORWARD_GAP)
				break;
			at = (unsigned)next;
		}
	}
	scan->bytes = scan->item[scan->count - 1].offset + scan->item[scan->count - 1].insn.length;
	connect(scan);
	find_blocks(scan);
	if (!options->exact_flags)
		find_live_flags(scan);
	return 0;
}
