#include "translate/window.h"

#include "util/types.h"

bool window_simple_operand(const struct insn *insn, u16 in_memory)
{
	return insn->has_mem && insn->mem_size && insn->base != INSN_NO_REG && insn->base != INSN_RIP &&
	       !(in_memory & BIT(insn->base)) && insn->index == INSN_NO_REG && insn->addrsize == 8 &&
	       insn->seg != SEG_FS && insn->seg != SEG_GS && insn->disp == (s32)insn->disp;
}

/* The operand access that emitted code checks inline; others (gpr_high, two registers in memory) go another way. */
static bool operand_access(const struct scan_item *item, u16 in_memory, struct access *access)
{
	const struct insn *insn = &item->insn;

	if ((item->holes & SCAN_HOLE_DISP) || !window_simple_operand(insn, in_memory) || insn->gpr_high ||
	    insn->mem_size > 64)
		return false;
	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
	case INSN_JMP_IND:
	case INSN_CALL_IND:
		break;
	case INSN_STACK:
		if (insn->bytes[insn->opcode_at] != 0xff || insn->prefix_66)
			return false;
		break;
	default:
		return false;
	}
	*access = (struct access){insn->base, insn->mem_write, (u8)insn->mem_size, (s32)insn->disp};
	return true;
}

/* Pushes and pops of 8 bytes, calls and returns; leave reads at rbp. */
static bool stack_access(const struct insn *insn, struct access *access)
{
	u8 opcode = insn->bytes[insn->opcode_at];

	switch ((enum insn_class)insn->class) {
	case INSN_CALL:
	case INSN_CALL_IND:
		*access = (struct access){RSP, true, 8, -8};
		return true;
	case INSN_RET:
		*access = (struct access){RSP, false, 8, 0};
		return true;
	case INSN_STACK:
		if (insn->prefix_66)
			return false;
		if ((opcode & 0xf8) == 0x50 || opcode == 0xff || opcode == 0x68 || opcode == 0x6a)
			*access = (struct access){RSP, true, 8, -8};
		else if ((opcode & 0xf8) == 0x58 || (opcode == 0x8f && !insn->has_mem))
			*access = (struct access){RSP, false, 8, 0};
		else if (opcode == 0xc9)
			*access = (struct access){RBP, false, 8, 0};
		else
			return false;
		return true;
	default:
		return false;
	}
}

/* How far the instruction moves RSP, if that is a constant. */
static bool constant_rsp_change(const struct scan_item *item, s64 *change)
{
	const struct insn *insn = &item->insn;
	u8 opcode = insn->bytes[insn->opcode_at];

	if (insn->class == INSN_STACK && !insn->prefix_66) {
		if ((opcode & 0xf8) == 0x50 || opcode == 0xff || opcode == 0x68 || opcode == 0x6a)
			*change = -8;
		else if ((opcode & 0xf8) == 0x58 && insn->op[0].reg != RSP)
			*change = 8;
		else
			return false;
		return true;
	}
	if (insn->class != INSN_COPY || insn->opsize != 8 || insn->op[0].kind != OPERAND_GPR ||
	    insn->op[0].reg != RSP || item->holes)
		return false;
	if ((opcode == 0x83 || opcode == 0x81) && insn->op[1].kind == OPERAND_IMM) {
		unsigned which = insn->bytes[insn->modrm_at] >> 3 & 7;

		if (which != 0 && which != 5)
			return false;
		*change = which ? -(s64)(s32)insn->imm : (s32)insn->imm;
		return true;
	}
	if (opcode == 0x8d && insn->base == RSP && insn->index == INSN_NO_REG) {
		*change = (s32)insn->disp;
		return true;
	}
	return false;
}

/* After this instruction C code may have run, or execution goes on elsewhere. */
static bool closes_all(const struct insn *insn)
{
	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
	case INSN_STACK:
	case INSN_JCC:
	case INSN_JRCXZ:
		return false;
	default:
		return true;
	}
}

struct finder {
	struct window_plan *plan;
	u8 open[GPR_COUNT];          /* window open for a base register */
	s64 offset[GPR_COUNT];       /* the register's value now minus that at the window's first access */
	bool past_branch[GPR_COUNT]; /* a conditional branch lies between the first access and here */
};

static bool fits(s64 low, s64 high)
{
	return low == (s32)low && high == (s32)high;
}

/* All sums in 64 bits: displacements come from the guest, and a range that wrapped would pass for a small one. */
static u8 add_access(struct finder *f, unsigned item, const struct access *access)
{
	struct window_plan *plan = f->plan;
	u8 base = access->base;
	u8 number = f->open[base];
	s64 low = f->offset[base] + access->disp, high = low + access->size;

	if (number != WINDOW_NONE) {
		struct window *w = &plan->window[number];
		s64 new_low = low < w->low ? low : w->low, new_high = high > w->high ? high : w->high;

		/* a write that may not happen must not make a read fail */
		if (new_high - new_low <= WINDOW_BYTES && fits(new_low, new_high) && w->count < 255 &&
		    !(access->write && !w->write && f->past_branch[base])) {
			w->low = (s32)new_low;
			w->high = (s32)new_high;
			w->write |= access->write;
			w->count++;
			w->last = (u16)item;
			return number;
		}
	}
	if (plan->count == WINDOW_MAX || !fits(access->disp, (s64)access->disp + access->size)) {
		plan->loose++;
		return WINDOW_NONE;
	}
	number = (u8)plan->count++;
	plan->window[number] = (struct window){.base = base,
					       .reg = 0xff,
					       .write = access->write,
					       .count = 1,
					       .first = (u16)item,
					       .last = (u16)item,
					       .check = (u16)item,
					       .low = access->disp,
					       .high = access->disp + access->size};
	f->open[base] = number;
	f->offset[base] = 0;
	f->past_branch[base] = false;
	return number;
}

static void close_all(struct finder *f)
{
	for (unsigned i = 0; i < GPR_COUNT; i++)
		f->open[i] = WINDOW_NONE;
}

static void find_windows(struct window_plan *plan, const struct scan *scan, u16 in_memory)
{
	struct finder f = {.plan = plan};

	close_all(&f);
	for (unsigned i = 0; i < scan->count; i++) {
		const struct scan_item *item = &scan->item[i];
		const struct insn *insn = &item->insn;
		struct access access;
		s64 change;

		if (i && (item->label || !scan->item[i - 1].falls))
			close_all(&f);
		plan->operand[i] = plan->stack[i] = WINDOW_NONE;
		if (operand_access(item, in_memory, &access))
			plan->operand[i] = add_access(&f, i, &access);
		else if (insn->has_mem && insn->mem_size)
			plan->loose++;
		if (stack_access(insn, &access))
			plan->stack[i] = add_access(&f, i, &access);
		if (closes_all(insn)) {
			close_all(&f);
			continue;
		}
		for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
			if (reg != RSP && (insn->gpr_write & BIT(reg)))
				f.open[reg] = WINDOW_NONE;
			if (insn->class == INSN_JCC || insn->class == INSN_JRCXZ)
				f.past_branch[reg] = true;
		}
		if (insn->gpr_write & BIT(RSP)) {
			if (constant_rsp_change(item, &change))
				f.offset[RSP] += change;
			else
				f.open[RSP] = WINDOW_NONE;
		}
	}
}

/* May the look-up for `base` be made before this item rather than after it? *change is how the item moves the base. */
static bool may_pass(const struct scan_item *item, u8 base, s64 *change)
{
	const struct insn *insn = &item->insn;

	*change = 0;
	if (closes_all(insn) || insn->class == INSN_JCC || insn->class == INSN_JRCXZ)
		return false;
	if (!(insn->gpr_write & BIT(base)))
		return true;
	return base == RSP && constant_rsp_change(item, change);
}

/* Saving and restoring flags costs more than a look-up: move it up to where none is live, within the basic block. */
static void place_check(struct window *w, const struct scan *scan)
{
	s64 shift = 0, change;

	for (unsigned at = w->first;; at--) {
		if (!scan->item[at].live_in) {
			if (!fits(w->low + shift, w->high + shift))
				return;
			w->check = (u16)at;
			w->low = (s32)(w->low + shift);
			w->high = (s32)(w->high + shift);
			return;
		}
		if (at == 0 || scan->item[at].block || !scan->item[at - 1].falls ||
		    !may_pass(&scan->item[at - 1], w->base, &change))
			return;
		shift += change;
	}
}

static bool overlaps(const struct window_plan *plan, const struct window *w, u8 reg)
{
	for (unsigned i = 0; i < plan->count; i++) {
		const struct window *other = &plan->window[i];

		if (other->reg == reg && other->check <= w->last && w->check <= other->last)
			return true;
	}
	return false;
}

/* The windows that save most choose first. */
static void assign_registers(struct window_plan *plan, const u8 *regs, unsigned reg_count)
{
	unsigned most = 0;

	for (unsigned i = 0; i < plan->count; i++)
		most = plan->window[i].count > most ? plan->window[i].count : most;
	for (unsigned count = most; count >= 1 && reg_count; count--) {
		for (unsigned i = 0; i < plan->count; i++) {
			struct window *w = &plan->window[i];

			if (w->count != count)
				continue;
			for (unsigned r = 0; r < reg_count && w->reg == 0xff; r++) {
				if (!overlaps(plan, w, regs[r]))
					w->reg = regs[r];
			}
		}
	}
}

void window_find(struct window_plan *plan, const struct scan *scan, u16 in_memory)
{
	plan->count = plan->loose = 0;
	find_windows(plan, scan, in_memory);
	for (unsigned i = 0; i < plan->count; i++)
		place_check(&plan->window[i], scan);
}

static bool is_loose(const struct window_plan *plan, u8 number)
{
	return number != WINDOW_NONE && plan->window[number].reg == 0xff;
}

unsigned window_assign(struct window_plan *plan, const struct scan *scan, const u8 *regs, unsigned reg_count)
{
	unsigned loose = plan->loose;

	for (unsigned i = 0; i < plan->count; i++)
		plan->window[i].reg = 0xff;
	assign_registers(plan, regs, reg_count);
	for (unsigned i = 0; i < scan->count; i++)
		loose += is_loose(plan, plan->operand[i]) + is_loose(plan, plan->stack[i]);
	return loose;
}

void window_settle(struct window_plan *plan, const struct scan *scan)
{
	for (unsigned i = 0; i < scan->count; i++) {
		if (is_loose(plan, plan->operand[i]))
			plan->operand[i] = WINDOW_NONE;
		if (is_loose(plan, plan->stack[i]))
			plan->stack[i] = WINDOW_NONE;
	}
}
