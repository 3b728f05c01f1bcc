/* Far jumps, calls and returns of 64-bit code. */
#include "cpu/segment.h"
#include "cpu/system.h"
#include "cpu/transfer.h"
#include "vm.h"

enum exec check_far_cs(struct vcpu *v, u16 selector, u64 *offset, u64 *descriptor)
{
	const unsigned rpl = selector & SELECTOR_RPL;
	const u32 error = selector & SELECTOR_INDEX;
	enum exec result;
	u16 attr;

	if (selector_is_null(selector))
		return raise_gp0(v);
	if (descriptor_read(v, selector, VEC_GP, 0, descriptor) != EXEC_OK)
		return EXEC_FAULT;
	attr = descriptor_attr(*descriptor);
	if ((attr & (SEG_ATTR_S | SEG_ATTR_TYPE)) == SYSTEM_CALL_GATE) {
		vm_stop_error(v->vm, "the guest uses a call gate, which is not supported");
		return EXEC_STOP;
	}
	if (!attr_is_code(attr) || (attr_is_conforming(attr) && attr_dpl(attr) > v->cpl) ||
	    (!attr_is_conforming(attr) && (rpl > v->cpl || attr_dpl(attr) != v->cpl)))
		return vcpu_raise_error(v, VEC_GP, error);
	if (!(attr & SEG_ATTR_P))
		return vcpu_raise_error(v, VEC_NP, error);
	if ((attr & (SEG_ATTR_L | SEG_ATTR_DB)) == (SEG_ATTR_L | SEG_ATTR_DB))
		return vcpu_raise_error(v, VEC_GP, error);
	result = code_check(v, *descriptor, v->cpl, offset);
	return result == EXEC_OK ? descriptor_mark(v, selector, descriptor, TYPE_ACCESSED) : result;
}

enum exec far_target(struct vcpu *v, const struct insn *insn, u64 *offset, u16 *selector, u64 *descriptor)
{
	const unsigned size = insn_size(insn);
	u8 raw[10];

	if (operand_load(v, insn, operand_address(v, insn), raw, size + 2, 0) != EXEC_OK)
		return EXEC_FAULT;
	*offset = 0;
	for (unsigned i = 0; i < size; i++)
		*offset |= (u64)raw[i] << i * 8;
	*selector = (u16)(raw[size] | raw[size + 1] << 8);
	return check_far_cs(v, *selector, offset, descriptor);
}

void set_far_cs(struct vcpu *v, u16 selector, u64 descriptor, u64 offset)
{
	segment_set(&v->seg[SEG_CS], (u16)((selector & ~SELECTOR_RPL) | v->cpl), descriptor);
	v->rip = offset;
}

enum exec help_jmp_far(struct vcpu *v, const struct insn *insn)
{
	u64 offset, descriptor;
	u16 selector;
	const enum exec result = far_target(v, insn, &offset, &selector, &descriptor);

	if (result != EXEC_OK)
		return result;
	set_far_cs(v, selector, descriptor, offset);
	return EXEC_JUMP;
}

enum exec help_call_far(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn_size(insn);
	const u64 back = next_rip(v, insn), cs = v->seg[SEG_CS].selector;
	const u64 to = v->gpr[RSP] - 2 * size;
	u8 frame[16];
	u64 offset, descriptor;
	u16 selector;
	const enum exec result = far_target(v, insn, &offset, &selector, &descriptor);

	if (result != EXEC_OK)
		return result;
	for (unsigned i = 0; i < size; i++) {
		frame[i] = (u8)(back >> i * 8);
		frame[size + i] = (u8)(cs >> i * 8);
	}
	if (mem_write(v, to, frame, 2 * size, ACCESS_WRITE) != EXEC_OK)
		return stack_fault(v, to);
	v->gpr[RSP] = to;
	set_far_cs(v, selector, descriptor, offset);
	return EXEC_JUMP;
}

/* To an outer level the old stack lies above the released bytes (SDM vol. 2B, RET). */
static enum exec ret_far_outer(struct vcpu *v, unsigned size, u64 at, u16 cs, u64 code, u64 rip, u64 release)
{
	const unsigned cpl = cs & SELECTOR_RPL;
	u64 rsp = 0, ss = 0, stack;
	enum exec result;

	if (mem_read(v, at, &rsp, size, ACCESS_READ) != EXEC_OK)
		return stack_fault(v, at);
	if (mem_read(v, at + size, &ss, size, ACCESS_READ) != EXEC_OK)
		return stack_fault(v, at + size);
	if (check_return_ss(v, (u16)ss, cpl, &stack) != EXEC_OK)
		return EXEC_FAULT;
	result = code_check(v, code, cpl, &rip);
	if (result != EXEC_OK)
		return result;
	v->rip = rip;
	v->gpr[RSP] = rsp + release;
	segment_set(&v->seg[SEG_CS], cs, code);
	set_return_ss(v, (u16)ss, stack, cpl);
	segments_hide_from(v, cpl);
	cpu_set_cpl(v, (u8)cpl);
	return EXEC_JUMP;
}

enum exec help_ret_far(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn_size(insn);
	const u64 release = insn_opcode(insn) == 0xca ? (u16)insn->imm : 0;
	const u64 from = v->gpr[RSP];
	u64 rip = 0, cs = 0, code;
	enum exec result;

	if (mem_read(v, from, &rip, size, ACCESS_READ) != EXEC_OK)
		return stack_fault(v, from);
	if (mem_read(v, from + size, &cs, size, ACCESS_READ) != EXEC_OK)
		return stack_fault(v, from + size);
	if (check_return_cs(v, (u16)cs, &code) != EXEC_OK)
		return EXEC_FAULT;
	if (descriptor_mark(v, (u16)cs, &code, TYPE_ACCESSED) != EXEC_OK)
		return EXEC_FAULT;
	if ((cs & SELECTOR_RPL) > v->cpl)
		return ret_far_outer(v, size, from + 2 * size + release, (u16)cs, code, rip, release);
	result = code_check(v, code, v->cpl, &rip);
	if (result != EXEC_OK)
		return result;
	v->rip = rip;
	v->gpr[RSP] = from + 2 * size + release;
	segment_set(&v->seg[SEG_CS], (u16)cs, code);
	return EXEC_JUMP;
}
