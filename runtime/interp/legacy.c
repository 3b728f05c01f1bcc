/*
 * 32-bit and 16-bit code of user programs under a 64-bit kernel. What only computes is copied as 64-bit code; here is
 * what depends on the mode: branches, the stack, segments, and the instructions that 64-bit code lacks.
 */
#include "interp/legacy.h"

#include "cpu/cpu.h"
#include "cpu/legacy.h"
#include "cpu/segment.h"
#include "cpu/system.h"
#include "interp/gather.h"
#include "interp/interp.h"

/* Bytes that pushes, pops and calls move. */
static unsigned stack_size(const struct insn *insn)
{
	return insn->prefix_66 ? 2 : 4;
}

static u64 next_ip(const struct vcpu *v, const struct insn *insn)
{
	return (u32)next_rip(v, insn);
}

/* --- branches -------------------------------------------------------------------------------------------------- */

/* loop, loope, loopne and jecxz count in CX or ECX. */
static enum exec execute_loop(struct vcpu *v, const struct insn *insn)
{
	const struct operand counter = {.kind = OPERAND_GPR, .reg = RCX, .size = insn->addrsize};
	const u8 opcode = insn_opcode(insn);
	const u64 before = v->gpr[RCX];
	bool taken;

	if (opcode == 0xe3) {
		taken = operand_get_gpr(v, &counter) == 0;
	} else {
		operand_set_gpr(v, &counter, before - 1);
		taken = operand_get_gpr(v, &counter) != 0;
		if (opcode == 0xe1)
			taken = taken && (v->arith & FLAG_ZF);
		else if (opcode == 0xe0)
			taken = taken && !(v->arith & FLAG_ZF);
	}
	if (!taken)
		return EXEC_OK;
	if (legacy_jump(v, insn, next_rip(v, insn) + (u64)insn->imm) == EXEC_JUMP)
		return EXEC_JUMP;
	v->gpr[RCX] = before;
	return EXEC_FAULT;
}

static enum exec execute_call(struct vcpu *v, const struct insn *insn, u64 target)
{
	const u64 here = v->rip, back = next_ip(v, insn);

	if (legacy_jump(v, insn, target) != EXEC_JUMP)
		return EXEC_FAULT;
	if (legacy_push(v, (u32)back, insn->opsize) != EXEC_OK) {
		v->rip = here;
		return EXEC_FAULT;
	}
	return EXEC_JUMP;
}

static enum exec execute_indirect(struct vcpu *v, const struct insn *insn)
{
	u64 target;

	if (operand_read(v, insn, 0, &target) != EXEC_OK)
		return EXEC_FAULT;
	return insn->class == INSN_CALL_IND ? execute_call(v, insn, target) : legacy_jump(v, insn, target);
}

static enum exec execute_ret(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn->opsize;
	const u32 release = size + (insn_opcode(insn) == 0xc2 ? (u16)insn->imm : 0u);
	u64 target = 0;

	if (legacy_peek(v, 0, &target, size) != EXEC_OK || legacy_jump(v, insn, target) != EXEC_JUMP)
		return EXEC_FAULT;
	legacy_set_sp(v, legacy_sp(v) + release);
	return EXEC_JUMP;
}

/* --- the stack ------------------------------------------------------------------------------------------------- */

static enum exec execute_push(struct vcpu *v, const struct insn *insn)
{
	u64 value;

	if (operand_read(v, insn, 0, &value) != EXEC_OK)
		return EXEC_FAULT;
	return legacy_push(v, (u32)value, stack_size(insn));
}

/* An address based on ESP is computed with the incremented one (SDM vol. 2B, POP). */
static enum exec execute_pop(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = stack_size(insn);
	const u64 before = v->gpr[RSP];
	u64 value = 0;

	if (legacy_peek(v, 0, &value, size) != EXEC_OK)
		return EXEC_FAULT;
	legacy_set_sp(v, legacy_sp(v) + size);
	if (operand_write(v, insn, 0, value) == EXEC_OK)
		return EXEC_OK;
	v->gpr[RSP] = before;
	return EXEC_FAULT;
}

static enum exec execute_leave(struct vcpu *v, const struct insn *insn)
{
	const struct operand frame = {.kind = OPERAND_GPR, .reg = RBP, .size = (u8)stack_size(insn)};
	const u64 before = v->gpr[RSP];
	u64 value = 0;

	legacy_set_sp(v, (u32)v->gpr[RBP]);
	if (legacy_peek(v, 0, &value, frame.size) != EXEC_OK) {
		v->gpr[RSP] = before;
		return EXEC_FAULT;
	}
	legacy_set_sp(v, legacy_sp(v) + frame.size);
	operand_set_gpr(v, &frame, value);
	return EXEC_OK;
}

/* Copies `level` - 1 frame pointers from below EBP and pushes `frame`. */
static enum exec push_frames(struct vcpu *v, unsigned level, u32 frame, unsigned size)
{
	const bool wide = v->seg[SEG_SS].attr & SEG_ATTR_DB;

	for (unsigned i = 1; i < level; i++) {
		const u32 at = (u32)v->gpr[RBP] - size * i;
		u32 link = 0;

		if (legacy_read(v, SEG_SS, wide ? at : (u16)at, &link, size) != EXEC_OK ||
		    legacy_push(v, link, size) != EXEC_OK)
			return EXEC_FAULT;
	}
	return level ? legacy_push(v, frame, size) : EXEC_OK;
}

static enum exec execute_enter(struct vcpu *v, const struct insn *insn)
{
	const unsigned allocate = insn->bytes[insn->imm_at] | insn->bytes[insn->imm_at + 1] << 8;
	const unsigned level = insn->bytes[insn->imm_at + 2] & 31, size = stack_size(insn);
	const struct operand pointer = {.kind = OPERAND_GPR, .reg = RBP, .size = (u8)size};
	const u64 before = v->gpr[RSP];
	u64 gpa;
	u32 frame;

	if (legacy_push(v, (u32)v->gpr[RBP], size) != EXEC_OK)
		return EXEC_FAULT;
	frame = legacy_sp(v);
	if (push_frames(v, level, frame, size) != EXEC_OK)
		goto undo;
	legacy_set_sp(v, legacy_sp(v) - allocate);
	/* the new top of the stack must be writable */
	if (segment_check(v, SEG_SS, legacy_sp(v), size, ACCESS_WRITE) != EXEC_OK ||
	    mmu_translate(v, (u32)(v->seg[SEG_SS].base + legacy_sp(v)), ACCESS_WRITE, &gpa) != EXEC_OK)
		goto undo;
	operand_set_gpr(v, &pointer, frame);
	return EXEC_OK;
undo:
	v->gpr[RSP] = before;
	return EXEC_FAULT;
}

static enum exec execute_stack(struct vcpu *v, const struct insn *insn)
{
	const u8 opcode = insn_opcode(insn);

	if ((opcode & 0xf8) == 0x50 || opcode == 0xff || opcode == 0x68 || opcode == 0x6a)
		return execute_push(v, insn);
	if (opcode == 0xc9)
		return execute_leave(v, insn);
	if (opcode == 0xc8)
		return execute_enter(v, insn);
	return execute_pop(v, insn);
}

static enum exec push_all(struct vcpu *v, const struct insn *insn)
{
	const u64 before = v->gpr[RSP];

	for (unsigned reg = RAX; reg <= RDI; reg++) {
		const u64 value = reg == RSP ? before : v->gpr[reg];

		if (legacy_push(v, (u32)value, stack_size(insn)) != EXEC_OK) {
			v->gpr[RSP] = before;
			return EXEC_FAULT;
		}
	}
	return EXEC_OK;
}

static enum exec pop_all(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = stack_size(insn);
	u64 value[RDI + 1] = {0};

	for (unsigned i = 0; i <= RDI; i++)
		if (legacy_peek(v, i * size, &value[RDI - i], size) != EXEC_OK)
			return EXEC_FAULT;
	for (unsigned reg = RAX; reg <= RDI; reg++) {
		const struct operand operand = {.kind = OPERAND_GPR, .reg = (u8)reg, .size = (u8)size};

		if (reg != RSP)
			operand_set_gpr(v, &operand, value[reg]);
	}
	legacy_set_sp(v, legacy_sp(v) + 8 * size);
	return EXEC_OK;
}

/* --- flags and segments ---------------------------------------------------------------------------------------- */

static enum exec push_flags(struct vcpu *v, const struct insn *insn)
{
	return legacy_push(v, (u32)(vcpu_rflags(v) & ~(FLAG_VM | FLAG_RF)), stack_size(insn));
}

static enum exec pop_flags(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = stack_size(insn);
	u64 changeable = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID, value = 0;

	if (legacy_peek(v, 0, &value, size) != EXEC_OK)
		return EXEC_FAULT;
	if (v->cpl <= (v->rflags >> 12 & 3))
		changeable |= FLAG_IF;
	changeable &= size_mask(size);
	legacy_set_sp(v, legacy_sp(v) + size);
	return change_rflags(v, ((vcpu_rflags(v) & ~changeable) | (value & changeable)) & ~FLAG_RF);
}

/* push and pop with a segment register: 06 to 1f, or after 0f as in 64-bit code. */
static unsigned stacked_segment(const struct insn *insn)
{
	const bool two_bytes = insn->bytes[insn->opcode_at] == 0x0f;

	return two_bytes ? (insn_opcode(insn) & 8 ? SEG_GS : SEG_FS) : insn_opcode(insn) >> 3 & 3u;
}

static enum exec pop_segment(struct vcpu *v, const struct insn *insn)
{
	u16 selector;

	if (legacy_peek(v, 0, &selector, 2) != EXEC_OK ||
	    segment_load_held(v, stacked_segment(insn), selector) != EXEC_OK)
		return EXEC_FAULT;
	/* the pointer moves on the old stack's terms, but SS is that of the new one; both have 32 bits or neither is
	 * used */
	legacy_set_sp(v, legacy_sp(v) + stack_size(insn));
	return EXEC_OK;
}

/* lds and les: offset, then selector. */
static enum exec load_far(struct vcpu *v, const struct insn *insn)
{
	const unsigned seg = insn_opcode(insn) == 0xc5 ? SEG_DS : SEG_ES;
	u8 raw[6] = {0};
	u64 offset = 0;

	if (operand_load(v, insn, operand_address(v, insn), raw, insn->op[0].size + 2u, 0) != EXEC_OK)
		return EXEC_FAULT;
	for (unsigned i = 0; i < insn->op[0].size; i++)
		offset |= (u64)raw[i] << i * 8;
	if (segment_load(v, seg, (u16)(raw[insn->op[0].size] | raw[insn->op[0].size + 1] << 8)) != EXEC_OK)
		return EXEC_FAULT;
	operand_set_gpr(v, &insn->op[0], offset);
	return EXEC_OK;
}

/* arpl: the first selector's RPL becomes at least the second's. */
static enum exec adjust_rpl(struct vcpu *v, const struct insn *insn)
{
	u64 selector, than;

	if (operand_read(v, insn, 0, &selector) != EXEC_OK || operand_read(v, insn, 1, &than) != EXEC_OK)
		return EXEC_FAULT;
	const bool adjust = (selector & SELECTOR_RPL) < (than & SELECTOR_RPL);

	if (adjust && operand_write(v, insn, 0, (selector & ~(u64)SELECTOR_RPL) | (than & SELECTOR_RPL)) != EXEC_OK)
		return EXEC_FAULT;
	v->arith = (v->arith & ~FLAG_ZF) | (adjust ? FLAG_ZF : 0);
	return EXEC_OK;
}

static s64 sign_extend(u64 value, unsigned size)
{
	return size == 2 ? (s16)value : (s32)value;
}

static enum exec check_bounds(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn->op[0].size;
	const s64 index = sign_extend(operand_get_gpr(v, &insn->op[0]), size);
	u64 bounds = 0;

	if (operand_load(v, insn, operand_address(v, insn), &bounds, 2 * size, 0) != EXEC_OK)
		return EXEC_FAULT;
	if (index < sign_extend(bounds, size) || index > sign_extend(bounds >> size * 8, size))
		return vcpu_raise(v, VEC_BR);
	return EXEC_OK;
}

/* --- decimal arithmetic (SDM vol. 2A, AAA to AAS and DAA, DAS) --------------------------------------------------- */

static void set_al(struct vcpu *v, u8 value)
{
	v->gpr[RAX] = (v->gpr[RAX] & ~0xffULL) | value;
}

static void set_ax(struct vcpu *v, u8 high, u8 low)
{
	v->gpr[RAX] = (v->gpr[RAX] & ~0xffffULL) | (u64)high << 8 | low;
}

/* SF, ZF and PF of the result; the others as given. */
static void set_flags(struct vcpu *v, u8 result, u64 others)
{
	v->arith = others | (result & 0x80 ? FLAG_SF : 0) | (result ? 0 : FLAG_ZF) |
		   (__builtin_parity(result) ? 0 : FLAG_PF);
}

static void adjust_packed(struct vcpu *v, bool subtract)
{
	const u8 before = (u8)v->gpr[RAX];
	const bool low = (before & 0xf) > 9 || (v->arith & FLAG_AF), high = before > 0x99 || (v->arith & FLAG_CF);
	const u8 by = (u8)((low ? 6 : 0) + (high ? 0x60 : 0));
	/* a borrow of the low digit's correction is one of the whole, too */
	const bool borrow = subtract && low && before < 6;

	set_al(v, subtract ? before - by : before + by);
	set_flags(v, (u8)v->gpr[RAX], (low ? FLAG_AF : 0) | (high || borrow ? FLAG_CF : 0));
}

static void adjust_unpacked(struct vcpu *v, bool subtract)
{
	const bool adjust = (v->gpr[RAX] & 0xf) > 9 || (v->arith & FLAG_AF);
	const u16 by = adjust ? 0x106 : 0;
	const u16 ax = (u16)(subtract ? v->gpr[RAX] - by : v->gpr[RAX] + by);

	set_ax(v, (u8)(ax >> 8), ax & 0xf);
	set_flags(v, ax & 0xf, adjust ? FLAG_AF | FLAG_CF : 0);
}

static enum exec divide_digits(struct vcpu *v, const struct insn *insn)
{
	const u8 al = (u8)v->gpr[RAX], base = insn->bytes[insn->imm_at];

	if (!base)
		return vcpu_raise(v, VEC_DE);
	set_ax(v, al / base, al % base);
	set_flags(v, al % base, 0);
	return EXEC_OK;
}

static void multiply_digits(struct vcpu *v, const struct insn *insn)
{
	const u8 base = insn->bytes[insn->imm_at], al = (u8)(v->gpr[RAX] + (v->gpr[RAX] >> 8) * base);

	set_ax(v, 0, al);
	set_flags(v, al, 0);
}

/* --- which is which -------------------------------------------------------------------------------------------- */

static enum exec execute_legacy(struct vcpu *v, const struct insn *insn)
{
	switch (insn_opcode(insn)) {
	case 0x27:
	case 0x2f:
		adjust_packed(v, insn_opcode(insn) == 0x2f);
		return EXEC_OK;
	case 0x37:
	case 0x3f:
		adjust_unpacked(v, insn_opcode(insn) == 0x3f);
		return EXEC_OK;
	case 0x60:
		return push_all(v, insn);
	case 0x61:
		return pop_all(v, insn);
	case 0x62:
		return check_bounds(v, insn);
	case 0x63:
		return adjust_rpl(v, insn);
	case 0xc4:
	case 0xc5:
		return load_far(v, insn);
	case 0xce:
		return v->arith & FLAG_OF ? cpu_software_interrupt(v, VEC_OF, next_ip(v, insn)) : EXEC_OK;
	case 0xd4:
		return divide_digits(v, insn);
	case 0xd5:
		multiply_digits(v, insn);
		return EXEC_OK;
	default: /* salc */
		set_al(v, v->arith & FLAG_CF ? 0xff : 0);
		return EXEC_OK;
	}
}

static enum exec execute_helper(struct vcpu *v, const struct insn *insn)
{
	switch ((enum insn_helper)insn->helper) {
	case HELP_pushf:
		return push_flags(v, insn);
	case HELP_popf:
		return pop_flags(v, insn);
	case HELP_push_seg:
		return legacy_push_selector(v, v->seg[stacked_segment(insn)].selector, stack_size(insn));
	case HELP_pop_seg:
		return pop_segment(v, insn);
	case HELP_jmp_far:
		return legacy_jmp_far(v, insn);
	case HELP_call_far:
		return legacy_call_far(v, insn);
	case HELP_ret_far:
		return legacy_ret_far(v, insn);
	case HELP_iret:
		return legacy_iret(v, insn);
	case HELP_syscall: /* in 64-bit code only, but for processors of AMD's (SDM vol. 2B, SYSCALL) */
		return vcpu_raise(v, VEC_UD);
	default:
		return cpu_helpers[insn->helper](v, insn);
	}
}

enum exec legacy_execute(struct vcpu *v, const struct thunk *thunk)
{
	const struct insn *insn = &thunk->insn;

	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
		/* the only ones with VEX and without ModRM are vzeroall and vzeroupper */
		return insn->vex && !insn->modrm_at ? interp_zero_vectors(v, insn) : interp_copy(v, thunk);
	case INSN_JMP:
		return legacy_jump(v, insn, next_rip(v, insn) + (u64)insn->imm);
	case INSN_JCC:
		return interp_condition(v->arith, insn->cond) ? legacy_jump(v, insn, next_rip(v, insn) + (u64)insn->imm)
							      : EXEC_OK;
	case INSN_JRCXZ:
		return execute_loop(v, insn);
	case INSN_CALL:
		return execute_call(v, insn, next_rip(v, insn) + (u64)insn->imm);
	case INSN_JMP_IND:
	case INSN_CALL_IND:
		return execute_indirect(v, insn);
	case INSN_RET:
		return execute_ret(v, insn);
	case INSN_STACK:
		return execute_stack(v, insn);
	case INSN_STRING:
		return interp_string(v, insn);
	case INSN_BITSTRING:
		return interp_bitstring(v, insn);
	case INSN_GATHER:
		return interp_gather(v, insn);
	case INSN_HELPER:
		return execute_helper(v, insn);
	case INSN_LEGACY:
		return execute_legacy(v, insn);
	case INSN_UNDEFINED:
		break;
	}
	return vcpu_raise(v, VEC_UD);
}
