#include "cpu/operand.h"

#include "cpu/segment.h"
#include "cpu/system.h"

u64 operand_base(const struct vcpu *v, const struct insn *insn)
{
	if (UNLIKELY(insn->seg & INSN_SEG_LEGACY))
		return v->seg[insn->seg & 7].base;
	return insn->seg == SEG_FS || insn->seg == SEG_GS ? v->seg[insn->seg].base : 0;
}

u64 operand_linear(const struct vcpu *v, const struct insn *insn, u64 offset)
{
	if (UNLIKELY(insn->seg & INSN_SEG_LEGACY))
		return (u32)((insn->addrsize == 2 ? (u16)offset : offset) + operand_base(v, insn));
	return (insn->addrsize == 4 ? (u32)offset : offset) + operand_base(v, insn);
}

enum exec operand_check(struct vcpu *v, const struct insn *insn, u64 address, unsigned length, unsigned access)
{
	if (LIKELY(!(insn->seg & INSN_SEG_LEGACY)))
		return EXEC_OK;
	return segment_check(v, insn->seg & 7, (u32)(address - operand_base(v, insn)), length, access);
}

u64 operand_address(const struct vcpu *v, const struct insn *insn)
{
	u64 address = (u64)insn->disp;

	if (insn->base == INSN_RIP)
		address += v->rip + insn->length;
	else if (insn->base != INSN_NO_REG)
		address += v->gpr[insn->base & 15];
	if (insn->index != INSN_NO_REG)
		address += v->gpr[insn->index & 15] * insn->scale;
	return operand_linear(v, insn, address);
}

u64 operand_get_gpr(const struct vcpu *v, const struct operand *op)
{
	if (op->high)
		return v->gpr[op->reg & 3] >> 8 & 0xff;
	return v->gpr[op->reg & 15] & size_mask(op->size);
}

void operand_set_gpr(struct vcpu *v, const struct operand *op, u64 value)
{
	u64 *reg = &v->gpr[op->reg & 15];

	if (op->high) {
		reg = &v->gpr[op->reg & 3];
		*reg = (*reg & ~0xff00ULL) | (value & 0xff) << 8;
		return;
	}
	switch (op->size) {
	case 1:
	case 2:
		*reg = (*reg & ~size_mask(op->size)) | (value & size_mask(op->size));
		break;
	case 4:
		*reg = (u32)value;
		break;
	default:
		*reg = value;
		break;
	}
}

/* Unless overridden by FS or GS, RSP and RBP as base mean the stack segment (SDM vol. 1, table 3-5). */
static bool is_stack_operand(const struct insn *insn)
{
	return (insn->base == RSP || insn->base == RBP) && insn->seg != SEG_FS && insn->seg != SEG_GS;
}

enum exec stack_fault(struct vcpu *v, u64 address)
{
	if (v->fault.vector == VEC_GP && !vcpu_canonical(address))
		v->fault.vector = VEC_SS;
	return EXEC_FAULT;
}

enum exec operand_fault(struct vcpu *v, const struct insn *insn, u64 address, unsigned length)
{
	if (!is_stack_operand(insn))
		return EXEC_FAULT;
	return stack_fault(v, vcpu_canonical(address) ? address + length - 1 : address);
}

enum exec operand_load(struct vcpu *v, const struct insn *insn, u64 address, void *buffer, unsigned length,
		       unsigned access)
{
	if (operand_check(v, insn, address, length, ACCESS_READ | access) != EXEC_OK)
		return EXEC_FAULT;
	if (LIKELY(mem_read(v, address, buffer, length, ACCESS_READ | access) == EXEC_OK))
		return EXEC_OK;
	return operand_fault(v, insn, address, length);
}

enum exec operand_store(struct vcpu *v, const struct insn *insn, u64 address, const void *buffer, unsigned length)
{
	if (operand_check(v, insn, address, length, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	if (LIKELY(mem_write(v, address, buffer, length, ACCESS_WRITE) == EXEC_OK))
		return EXEC_OK;
	return operand_fault(v, insn, address, length);
}

enum exec operand_store_word(struct vcpu *v, const struct insn *insn, u64 value)
{
	const struct operand reg = {.kind = OPERAND_GPR, .reg = (u8)insn_modrm_rm(insn), .size = (u8)insn_size(insn)};

	if (insn->has_mem)
		return operand_store(v, insn, operand_address(v, insn), &value, 2);
	operand_set_gpr(v, &reg, value);
	return EXEC_OK;
}

/* Bytes of a memory operand that fits a u64. */
static unsigned memory_size(const struct operand *op)
{
	return op->size > 8 ? 8 : op->size;
}

enum exec operand_read(struct vcpu *v, const struct insn *insn, unsigned n, u64 *value)
{
	const struct operand *op = &insn->op[n];

	*value = 0;
	switch (op->kind) {
	case OPERAND_GPR:
		*value = operand_get_gpr(v, op);
		break;
	case OPERAND_MEM:
		return operand_load(v, insn, operand_address(v, insn), value, memory_size(op), 0);
	case OPERAND_IMM:
		*value = (u64)insn->imm & size_mask(op->size);
		break;
	case OPERAND_SEG:
		*value = v->seg[op->reg & 7].selector;
		break;
	default:
		break;
	}
	return EXEC_OK;
}

enum exec operand_write(struct vcpu *v, const struct insn *insn, unsigned n, u64 value)
{
	const struct operand *op = &insn->op[n];

	if (op->kind == OPERAND_MEM)
		return operand_store(v, insn, operand_address(v, insn), &value, memory_size(op));
	if (op->kind == OPERAND_GPR)
		operand_set_gpr(v, op, value);
	return EXEC_OK;
}

enum exec stack_push(struct vcpu *v, u64 value)
{
	const u64 to = v->gpr[RSP] - 8;

	if (UNLIKELY(mem_write(v, to, &value, 8, ACCESS_WRITE) != EXEC_OK))
		return stack_fault(v, vcpu_canonical(to) ? to + 7 : to);
	v->gpr[RSP] = to;
	return EXEC_OK;
}

enum exec stack_pop(struct vcpu *v, u64 *value)
{
	const u64 from = v->gpr[RSP];

	if (UNLIKELY(mem_read(v, from, value, 8, ACCESS_READ) != EXEC_OK))
		return stack_fault(v, vcpu_canonical(from) ? from + 7 : from);
	v->gpr[RSP] = from + 8;
	return EXEC_OK;
}
