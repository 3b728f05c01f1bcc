/* The worklist of units: see discover.h. One bit for each byte of code says whether a unit starts there. */
#include <stdlib.h>

#include "internal.h"
#include "translate/scan.h"

#define MAX_TABLE  1024u /* entries of a jump table */
#define TABLE_BACK 16u   /* instructions before the jump in which its table is named */
#define TABLE_FAR  (1ULL << 20)

struct range_bits {
	u64 address, size;
	u8 *start;   /* a unit starts here */
	u8 *covered; /* part of some unit */
	u8 *called;  /* target of a direct call */
	u8 *listed;  /* target of a table of jumps */
};

struct units {
	const struct image *image;
	struct scan_options options;
	struct range_bits *range;
	u32 range_count;
	u64 *stack;
	u64 depth, capacity;
	struct scan scan;
	struct units_figures figures;
	u8 *memory; /* of all bits */
	bool disjoint;
	u32 next_range; /* disjoint: where the next unit is looked for */
	u64 next_at;
};

static struct range_bits *range_of(const struct units *units, u64 pc)
{
	const struct code_range *range = image_range(units->image, pc);

	return range ? &units->range[range - units->image->code] : NULL;
}

/* Sets the bit of pc. Returns whether it was clear. */
static bool mark(u8 *bits, const struct range_bits *range, u64 pc)
{
	u64 at = pc - range->address;
	u8 bit = (u8)(1u << at % 8);

	if (bits[at / 8] & bit)
		return false;
	bits[at / 8] |= bit;
	return true;
}

static bool marked(const u8 *bits, u64 at)
{
	return bits[at / 8] >> at % 8 & 1;
}

struct units *units_create(const struct image *image, const struct scan_options *options, struct err *err)
{
	struct units *units = calloc(1, sizeof(*units));
	u64 total = 0, used = 0;

	for (u32 i = 0; i < image->code_count; i++)
		total += image->code[i].size / 8 + 1;
	if (units) {
		units->range = calloc(image->code_count + 1u, sizeof(*units->range));
		units->memory = calloc(4, total + 1);
	}
	if (!units || !units->range || !units->memory) {
		units_free(units);
		err_set(err, "not enough memory to look for code in '%s'", image->name);
		return NULL;
	}
	units->image = image;
	units->options = *options;
	units->range_count = image->code_count;
	for (u32 i = 0; i < image->code_count; i++) {
		u64 bytes = image->code[i].size / 8 + 1;

		units->range[i] = (struct range_bits){
			.address = image->code[i].address,
			.size = image->code[i].size,
			.start = units->memory + used,
			.covered = units->memory + used + bytes,
			.called = units->memory + used + 2 * bytes,
			.listed = units->memory + used + 3 * bytes,
		};
		used += 4 * bytes;
	}
	return units;
}

void units_free(struct units *units)
{
	if (!units)
		return;
	free(units->range);
	free(units->memory);
	free(units->stack);
	free(units);
}

void units_set_disjoint(struct units *units)
{
	units->disjoint = true;
}

/* Room for two more; false: out of memory. */
static bool make_room(struct units *units)
{
	u64 capacity = units->capacity ? units->capacity * 2 : 1024;
	u64 *stack;

	if (units->depth + 2 <= units->capacity)
		return true;
	stack = realloc(units->stack, capacity * sizeof(*stack));
	if (!stack)
		return false;
	units->stack = stack;
	units->capacity = capacity;
	return true;
}

/* The last start before pc in its page; pc itself if there is none. */
static u64 start_before(const struct range_bits *range, u64 pc)
{
	u64 at = pc - range->address, first = at < PAGE_OFFSET(pc) ? 0 : at - PAGE_OFFSET(pc);

	while (at > first) {
		if (at % 8 == 0 && at - first >= 8 && !range->start[at / 8 - 1])
			at -= 8;
		else if (marked(range->start, --at))
			return range->address + at;
	}
	return pc;
}

bool units_add(struct units *units, u64 pc)
{
	struct range_bits *range = range_of(units, pc);

	if (!range || !make_room(units))
		return false; /* for want of memory, a unit less */
	if (!mark(range->start, range, pc))
		return false;
	units->stack[units->depth++] = pc;
	/* the unit before may have reached over it: what it led to within itself is somewhere else now */
	if (units->disjoint && start_before(range, pc) != pc)
		units->stack[units->depth++] = start_before(range, pc);
	return true;
}

/* Backward, so that they come in order. */
void units_add_entries(struct units *units)
{
	for (u32 i = units->image->entry_count; i-- > 0;)
		units_add(units, units->image->entry[i].pc);
}

/* --- tables of jumps ------------------------------------------------------------------------------------------------
 */

static void add_listed(struct units *units, u64 pc)
{
	struct range_bits *range = range_of(units, pc);

	if (range)
		mark(range->listed, range, pc);
	units_add(units, pc);
}

/* Does a table belong to data: not to code, where it would be instructions? */
static bool is_data(const struct units *units, u64 address)
{
	return !range_of(units, address) && image_at(units->image, address, 4);
}

static bool is_near(u64 a, u64 b)
{
	return a - b < TABLE_FAR || b - a < TABLE_FAR;
}

/* jmp *table(,%reg,8): addresses. */
static bool read_addresses(struct units *units, u64 table, u64 from)
{
	unsigned i;

	for (i = 0; i < MAX_TABLE; i++) {
		const u8 *bytes = image_at(units->image, table + 8 * i, 8);

		if (!bytes || !range_of(units, get64(bytes)) || !is_near(get64(bytes), from))
			break;
		add_listed(units, get64(bytes));
	}
	return i > 0;
}

/* lea table(%rip),%a; movslq (%a,%b,4),%b; add %a,%b; jmp *%b: distances from the table. */
static bool read_distances(struct units *units, u64 table, u64 from)
{
	unsigned i;

	for (i = 0; i < MAX_TABLE; i++) {
		const u8 *bytes = image_at(units->image, table + 4 * i, 4);
		u64 target;

		if (!bytes)
			break;
		target = table + (u64)(s64)(s32)get32(bytes);
		if (!range_of(units, target) || !is_near(target, from))
			break;
		add_listed(units, target);
	}
	return i > 0;
}

/* A movslq that reads 4-byte elements is what tells the second kind from any jump through a register. */
static void find_table_of_jump(struct units *units, const struct scan *scan, unsigned jump)
{
	const struct insn *insn = &scan->item[jump].insn;
	unsigned first = jump > TABLE_BACK ? jump - TABLE_BACK : 0;
	u64 from = scan->pc + scan->item[jump].offset;
	bool loads = false, found = false;

	units->figures.indirect_jumps++;
	if (insn->has_mem) {
		if (insn->base == INSN_NO_REG && insn->index != INSN_NO_REG && insn->scale == 8 &&
		    is_data(units, (u64)insn->disp))
			found = read_addresses(units, (u64)insn->disp, from);
	} else {
		for (unsigned i = jump; i-- > first && !found;) {
			const struct insn *before = &scan->item[i].insn;

			loads |= before->has_mem && before->mem_read && before->index != INSN_NO_REG &&
				 before->scale == 4;
			if (loads && before->has_mem && before->base == INSN_RIP && !before->mem_size) {
				u64 table = scan->pc + scan->item[i].offset + before->length + (u64)before->disp;

				if (is_data(units, table))
					found = read_distances(units, table, from);
			} else if (before->has_mem && before->mem_read && before->base == INSN_NO_REG &&
				   before->index != INSN_NO_REG && before->scale == 8 &&
				   is_data(units, (u64)before->disp)) {
				found = read_addresses(units, (u64)before->disp, from);
			}
		}
	}
	units->figures.resolved += found;
}

/*
 * An address of code that an instruction takes: `lea f(%rip), %r`; in a program of fixed addresses also `mov $f, %r`.
 * It will be called some day.
 */
static void add_taken(struct units *units, const struct scan *scan, unsigned i)
{
	const struct insn *insn = &scan->item[i].insn;

	if (insn->class != INSN_COPY)
		return;
	if (insn->has_mem && insn->base == INSN_RIP && !insn->mem_size)
		units_add(units, scan->pc + scan->item[i].offset + insn->length + (u64)insn->disp);
	else if (!units->image->kernel && !units->image->moves && insn->length - insn->imm_at == 4u &&
		 insn->op[1].kind == OPERAND_IMM)
		units_add(units, (u64)insn->imm);
}

/* --- leaving a unit
 * --------------------------------------------------------------------------------------------------- */

/* After these, execution never goes on behind. */
static bool never_continues(const struct insn *insn)
{
	if (insn->class != INSN_HELPER)
		return insn_ends_flow(insn);
	switch (insn->helper) {
	case HELP_sysret:
	case HELP_sysexit:
	case HELP_iret:
	case HELP_jmp_far:
	case HELP_ret_far:
	case HELP_int3:
	case HELP_ud:
		return true;
	default:
		return false;
	}
}

static bool contains(const struct scan *scan, u64 pc)
{
	u64 offset = pc - scan->pc;
	unsigned low = 0, high = scan->count;

	if (offset >= scan->bytes)
		return false;
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (scan->item[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < scan->count && scan->item[low].offset == offset;
}

static void add_outside(struct units *units, const struct scan *scan, u64 pc)
{
	if (!contains(scan, pc))
		units_add(units, pc);
}

static void leave(struct units *units, const struct scan *scan, unsigned i)
{
	const struct scan_item *item = &scan->item[i];
	const struct insn *insn = &item->insn;
	u64 next = scan->pc + item->offset + insn->length, target = next + (u64)insn->imm;
	struct range_bits *range;

	switch ((enum insn_class)insn->class) {
	case INSN_JMP:
	case INSN_JCC:
	case INSN_JRCXZ:
		if (item->target < 0)
			units_add(units, target);
		break;
	case INSN_CALL:
		range = range_of(units, target);
		if (range)
			mark(range->called, range, target);
		/* a call is a way out even if its target lies in the unit */
		units_add(units, target);
		break;
	case INSN_JMP_IND:
		find_table_of_jump(units, scan, i);
		break;
	default:
		break;
	}
	/* a return point that is no item; what comes after an instruction that left; the fall beyond the last item */
	if (!item->falls && !never_continues(insn)) {
		if (scan_ends_flow(insn))
			units_add(units, next);
		else
			add_outside(units, scan, next);
	}
}

/* Decoding goes on to the end of the page, as live, even where a range of code ends before. */
static bool scan_at(struct units *units, u64 pc)
{
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(pc)), length = in_page;
	const u8 *bytes = image_at(units->image, pc, length);

	if (!bytes) {
		const struct range_bits *range = range_of(units, pc);
		u64 left = range->address + range->size - pc;

		length = in_page = (unsigned)(left < length ? left : length);
		bytes = image_at(units->image, pc, length);
	}
	if (!bytes)
		return false;
	if (scan_unit(&units->scan, pc, bytes, length, in_page, &units->options) == 0)
		return true;
	/* straddles */
	for (unsigned more = INSN_MAX; more > 0; more--) {
		bytes = image_at(units->image, pc, length + more);
		if (!bytes)
			continue;
		if (scan_unit(&units->scan, pc, bytes, length + more, in_page, &units->options))
			return false;
		units->figures.straddling++;
		return true;
	}
	return false;
}

/* Adds all that the unit leads to. */
static void follow(struct units *units)
{
	for (unsigned i = units->scan.count; i-- > 0;) {
		add_taken(units, &units->scan, i);
		leave(units, &units->scan, i);
	}
}

static void count(struct units *units)
{
	const struct scan *scan = &units->scan;
	struct range_bits *range = range_of(units, scan->pc);

	units->figures.units++;
	units->figures.instructions += scan->count;
	for (unsigned i = 0; i < scan->count; i++) {
		const struct scan_item *item = &scan->item[i];

		for (unsigned b = 0; b < item->insn.length; b++)
			if (item->offset + b + (scan->pc - range->address) < range->size)
				units->figures.covered += mark(range->covered, range, scan->pc + item->offset + b);
	}
}

/* The same up to where the next unit begins: at one of its instructions, or it is another reading of these bytes. */
static bool scan_disjoint_at(struct units *units, u64 pc)
{
	struct range_bits *range = range_of(units, pc);
	struct scan *scan = &units->scan;

	if (!scan_at(units, pc))
		return false;
	for (unsigned i = 1; i < scan->count; i++) {
		unsigned length = scan->item[i].offset;
		u64 at = pc + length - range->address;

		if (at < range->size && marked(range->start, at))
			return scan_unit(scan, pc, image_at(units->image, pc, length), length, length,
					 &units->options) == 0;
	}
	return true;
}

/* All starts are known before the first unit is shown, in the order of addresses. */
static const struct scan *next_disjoint(struct units *units)
{
	while (units->depth)
		if (scan_disjoint_at(units, units->stack[--units->depth]))
			follow(units);
	for (; units->next_range < units->range_count; units->next_range++, units->next_at = 0) {
		struct range_bits *range = &units->range[units->next_range];

		while (units->next_at < range->size) {
			u64 at = units->next_at++;

			if (!marked(range->start, at) || !scan_disjoint_at(units, range->address + at))
				continue;
			count(units);
			return &units->scan;
		}
	}
	return NULL;
}

const struct scan *units_next(struct units *units)
{
	if (units->disjoint)
		return next_disjoint(units);
	while (units->depth) {
		if (!scan_at(units, units->stack[--units->depth]))
			continue;
		count(units);
		follow(units);
		return &units->scan;
	}
	return NULL;
}

/* --- results
 * ---------------------------------------------------------------------------------------------------------- */

static bool is_entry(const struct image *image, u64 pc)
{
	u32 low = 0, high = image->entry_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (image->entry[middle].pc < pc)
			low = middle + 1;
		else
			high = middle;
	}
	return low < image->entry_count && image->entry[low].pc == pc;
}

struct units_figures units_figures(const struct units *units)
{
	struct units_figures figures = units->figures;

	for (u32 r = 0; r < units->range_count; r++)
		for (u64 at = 0; at < units->range[r].size; at++)
			if (marked(units->range[r].called, at))
				figures.calls += !is_entry(units->image, units->range[r].address + at);
	return figures;
}

int units_note_entries(const struct units *units, struct image *image, struct err *err)
{
	struct collector collector = {0};

	for (u32 i = 0; i < image->entry_count; i++)
		collect(&collector, image->entry[i].pc, image->entry[i].sources, image->entry[i].name);
	for (u32 r = 0; r < units->range_count; r++)
		for (u64 at = 0; at < units->range[r].size; at++) {
			u16 sources = (marked(units->range[r].called, at) ? ENTRY_CALL : 0) |
				      (marked(units->range[r].listed, at) ? ENTRY_JUMP_TABLE : 0);

			if (sources)
				collect(&collector, units->range[r].address + at, sources, NULL);
		}
	return image_set_entries(image, &collector, err);
}
