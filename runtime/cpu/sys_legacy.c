/* Memory, stack and far transfers of 32-bit and 16-bit code. */
#include "cpu/legacy.h"
#include "cpu/segment.h"
#include "cpu/system.h"
#include "cpu/transfer.h"
#include "util/bytes.h"

/* --- memory and stack ------------------------------------------------------------------------------------------ */

enum exec legacy_read(struct vcpu *v, unsigned seg, u32 offset, void *value, unsigned size)
{
	if (segment_check(v, seg, offset, size, ACCESS_READ) != EXEC_OK)
		return EXEC_FAULT;
	return mem_read(v, (u32)(v->seg[seg].base + offset), value, size, ACCESS_READ);
}

enum exec legacy_write(struct vcpu *v, unsigned seg, u32 offset, const void *value, unsigned size)
{
	if (segment_check(v, seg, offset, size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	return mem_write(v, (u32)(v->seg[seg].base + offset), value, size, ACCESS_WRITE);
}

static u32 stack_mask(const struct vcpu *v)
{
	return v->seg[SEG_SS].attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;
}

u32 legacy_sp(const struct vcpu *v)
{
	return (u32)v->gpr[RSP] & stack_mask(v);
}

void legacy_set_sp(struct vcpu *v, u32 value)
{
	const u32 mask = stack_mask(v);

	v->gpr[RSP] = mask == UINT32_MAX ? value : (v->gpr[RSP] & ~(u64)mask) | (value & mask);
}

enum exec legacy_peek(struct vcpu *v, u32 above, void *value, unsigned size)
{
	return legacy_read(v, SEG_SS, (legacy_sp(v) + above) & stack_mask(v), value, size);
}

/* A slot of the stack, of which `written` bytes are written. */
static enum exec push(struct vcpu *v, const void *value, unsigned written, unsigned size)
{
	const u32 to = (legacy_sp(v) - size) & stack_mask(v);

	if (legacy_write(v, SEG_SS, to, value, written) != EXEC_OK)
		return EXEC_FAULT;
	legacy_set_sp(v, to);
	return EXEC_OK;
}

enum exec legacy_push(struct vcpu *v, u32 value, unsigned size)
{
	return push(v, &value, size, size);
}

enum exec legacy_push_selector(struct vcpu *v, u16 selector, unsigned size)
{
	return push(v, &selector, sizeof(selector), size);
}

/* --- transfers ------------------------------------------------------------------------------------------------- */

enum exec legacy_jump(struct vcpu *v, const struct insn *insn, u64 target)
{
	const u32 eip = insn->opsize == 2 ? (u16)target : (u32)target;

	if (eip > v->seg[SEG_CS].limit)
		return raise_gp0(v);
	v->rip = eip;
	return EXEC_JUMP;
}

/* Opcodes 9a and ea have the pointer in the instruction. */
static enum exec legacy_target(struct vcpu *v, const struct insn *insn, u64 *offset, u16 *selector, u64 *descriptor)
{
	const unsigned size = insn_size(insn);
	const u8 *pointer = insn->bytes + insn->length - size - 2;

	if (insn->has_mem)
		return far_target(v, insn, offset, selector, descriptor);
	*offset = 0;
	bytes_copy(offset, pointer, size);
	bytes_copy(selector, pointer + size, 2);
	return check_far_cs(v, *selector, offset, descriptor);
}

enum exec legacy_jmp_far(struct vcpu *v, const struct insn *insn)
{
	u64 offset, descriptor;
	u16 selector;
	const enum exec result = legacy_target(v, insn, &offset, &selector, &descriptor);

	if (result != EXEC_OK)
		return result;
	set_far_cs(v, selector, descriptor, offset);
	return EXEC_JUMP;
}

enum exec legacy_call_far(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn_size(insn);
	const u32 back = (u32)next_rip(v, insn), sp = (u32)v->gpr[RSP];
	u64 offset, descriptor;
	u16 selector;
	const enum exec result = legacy_target(v, insn, &offset, &selector, &descriptor);

	if (result != EXEC_OK)
		return result;
	if (legacy_push(v, v->seg[SEG_CS].selector, size) != EXEC_OK)
		return EXEC_FAULT;
	if (legacy_push(v, back, size) != EXEC_OK) {
		legacy_set_sp(v, sp);
		return EXEC_FAULT;
	}
	set_far_cs(v, selector, descriptor, offset);
	return EXEC_JUMP;
}

/* IP and CS on the stack, and where they lead. *code is the descriptor. */
static enum exec return_target(struct vcpu *v, unsigned size, u64 *rip, u16 *cs, u64 *code)
{
	enum exec result;

	*rip = 0;
	if (legacy_peek(v, 0, rip, size) != EXEC_OK || legacy_peek(v, size, cs, 2) != EXEC_OK ||
	    check_return_cs(v, *cs, code) != EXEC_OK)
		return EXEC_FAULT;
	result = code_check(v, *code, v->cpl, rip);
	return result == EXEC_OK ? descriptor_mark(v, *cs, code, TYPE_ACCESSED) : result;
}

static void return_to(struct vcpu *v, u64 rip, u16 cs, u64 code, u32 release)
{
	legacy_set_sp(v, legacy_sp(v) + release);
	segment_set(&v->seg[SEG_CS], cs, code);
	v->rip = rip;
}

enum exec legacy_ret_far(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn_size(insn);
	const u32 release = insn_opcode(insn) == 0xca ? (u16)insn->imm : 0;
	u64 rip, code;
	u16 cs;
	const enum exec result = return_target(v, size, &rip, &cs, &code);

	if (result != EXEC_OK)
		return result;
	return_to(v, rip, cs, code, 2 * size + release);
	return EXEC_JUMP;
}

enum exec legacy_iret(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn_size(insn);
	u64 rip, code, flags = 0;
	enum exec result;
	u16 cs;

	if (v->rflags & FLAG_NT)
		return raise_gp0(v);
	if (legacy_peek(v, 2 * size, &flags, size) != EXEC_OK)
		return EXEC_FAULT;
	result = return_target(v, size, &rip, &cs, &code);
	if (result != EXEC_OK)
		return result;
	return_to(v, rip, cs, code, 3 * size);
	set_return_flags(v, flags, size);
	vcpu_update_poll(v);
	return EXEC_JUMP;
}
