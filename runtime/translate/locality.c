#include "translate/locality.h"

#include "cpu/vcpu.h"

/* Steps of more than this run through a page in too few accesses. */
#define STEP_MAX 256

static unsigned modrm_reg(const struct insn *insn)
{
	return insn->bytes[insn->modrm_at] >> 3 & 7;
}

/* add, sub, inc, dec or lea of a small constant to one register; pushes and pops. */
static u16 stepped(const struct scan_item *item)
{
	const struct insn *insn = &item->insn;
	u8 opcode = insn->bytes[insn->opcode_at], reg = insn->op[0].reg;
	s64 step;

	if (insn->class == INSN_STACK)
		return (opcode & 0xf0) == 0x50 ? (u16)BIT(RSP) : 0;
	if (insn->class != INSN_COPY || insn->opsize < 4 || insn->vex || insn->op[0].kind != OPERAND_GPR ||
	    insn->gpr_write != BIT(reg) || item->holes)
		return 0;
	if ((opcode == 0x83 || opcode == 0x81) && (modrm_reg(insn) == 0 || modrm_reg(insn) == 5))
		step = insn->imm;
	else if (opcode == 0xff && modrm_reg(insn) < 2)
		step = 1;
	else if (opcode == 0x8d && insn->base == reg && insn->index == INSN_NO_REG)
		step = insn->disp;
	else
		return 0;
	return step >= -STEP_MAX && step <= STEP_MAX ? (u16)BIT(reg) : 0;
}

/* movzx from a byte, and with up to 255, shr that leaves 8 bits. */
static u16 made_byte(const struct scan_item *item)
{
	const struct insn *insn = &item->insn;
	u8 opcode = insn->bytes[insn->opcode_at], reg = insn->op[0].reg;

	if (insn->class != INSN_COPY || insn->opsize < 4 || insn->vex || insn->op[0].kind != OPERAND_GPR ||
	    (item->holes & SCAN_HOLE_IMM))
		return 0;
	bool yes = (opcode == 0x0f && insn->bytes[insn->opcode_at + 1] == 0xb6) ||
		   ((opcode == 0x83 || opcode == 0x81) && modrm_reg(insn) == 4 && insn->imm >= 0 && insn->imm < 256) ||
		   (opcode == 0xc1 && modrm_reg(insn) == 5 && (insn->imm & 63) >= insn->opsize * 8 - 8);

	return yes ? (u16)BIT(reg) : 0;
}

void locality_find(struct locality *locality, const struct scan *scan)
{
	for (unsigned i = 0; i < scan->count; i++) {
		locality->first[i] = 0;
		locality->last[i] = (u8)(scan->count - 1);
		locality->loop[i] = false;
		locality->steps[i] = stepped(&scan->item[i]);
		locality->bytes[i] = made_byte(&scan->item[i]);
	}
	for (unsigned i = 0; i < scan->count; i++) {
		s16 target = scan->item[i].target;

		if (target < 0 || (unsigned)target > i)
			continue;
		for (unsigned k = (unsigned)target; k <= i; k++) {
			if (locality->loop[k] && locality->last[k] - locality->first[k] < (int)i - target)
				continue;
			locality->first[k] = (u8)target;
			locality->last[k] = (u8)i;
			locality->loop[k] = true;
		}
	}
}

enum movement { MOVES_NOT, MOVES_LITTLE, MOVES };

/* How `reg` changes from one execution of item i to the next. */
static enum movement movement(const struct locality *l, const struct scan *scan, unsigned i, u8 reg)
{
	enum movement found = MOVES_NOT;

	if (reg >= GPR_COUNT)
		return MOVES_NOT;
	/* what it holds here, if that is made nearby */
	for (unsigned k = i; k-- > 0 && !scan->item[k + 1].block && scan->item[k].falls;) {
		if (l->bytes[k] & BIT(reg))
			return MOVES_LITTLE;
		if (scan->item[k].insn.gpr_write & BIT(reg))
			break;
	}
	for (unsigned k = l->first[i]; k <= l->last[i]; k++) {
		if (!(scan->item[k].insn.gpr_write & BIT(reg)))
			continue;
		if (!(l->steps[k] & BIT(reg)))
			return MOVES;
		found = MOVES_LITTLE;
	}
	return found;
}

bool locality_stays(const struct locality *locality, const struct scan *scan, unsigned i, u8 base, u8 index)
{
	enum movement by_base = movement(locality, scan, i, base), by_index = movement(locality, scan, i, index);

	if (by_base == MOVES || by_index == MOVES)
		return false;
	/* outside of a loop an address that does not change is one of an unknown caller */
	return locality->loop[i] || by_base == MOVES_LITTLE || by_index == MOVES_LITTLE;
}
