#include "interp/interp.h"

#include "cpu/cpu.h"
#include "cpu/observe.h"
#include "cpu/operand.h"
#include "cpu/system.h"
#include "interp/gather.h"
#include "interp/legacy.h"
#include "interp/thunk.h"
#include "mem/mem.h"
#include "translate/store.h"
#include "util/bytes.h"
#include "vm.h"
#include "x86/mode.h"

bool interp_condition(u64 arith, unsigned cond)
{
	bool cf = arith & FLAG_CF, zf = arith & FLAG_ZF, sf = arith & FLAG_SF, of = arith & FLAG_OF;
	bool result;

	switch (cond >> 1) {
	case 0:
		result = of;
		break;
	case 1:
		result = cf;
		break;
	case 2:
		result = zf;
		break;
	case 3:
		result = cf || zf;
		break;
	case 4:
		result = sf;
		break;
	case 5:
		result = arith & FLAG_PF;
		break;
	case 6:
		result = sf != of;
		break;
	default:
		result = zf || sf != of;
		break;
	}
	return result != (cond & 1);
}

enum insn_code interp_code(const struct vcpu *v)
{
	return LIKELY(!vcpu_legacy(v)) ? CODE_64 : v->seg[SEG_CS].attr & SEG_ATTR_DB ? CODE_32 : CODE_16;
}

#define FETCH_SIZE 16u /* bytes: no instruction is longer, and they are compared by words */

/*
 * The bytes at pc, at least one instruction long or as many as are mapped. *available is how many. Only when an
 * instruction runs into the next page is that page touched.
 */
static enum exec fetch(struct vcpu *v, const struct ram *ram, u64 pc, u8 *buffer, unsigned wanted, unsigned *available)
{
	unsigned have = 0;

	while (have < wanted) {
		u64 gva = pc + have;
		unsigned part = PAGE_SIZE - PAGE_OFFSET(gva) < wanted - have ? (unsigned)(PAGE_SIZE - PAGE_OFFSET(gva))
									     : wanted - have;
		u64 gpa;

		if (mmu_fetch(v, gva, &gpa) != EXEC_OK)
			return EXEC_FAULT;
		const u8 *from = ram_at(ram, gpa);

		if (LIKELY(from && part == FETCH_SIZE)) {
			bytes_copy(buffer, from, 8);
			bytes_copy(buffer + 8, from + 8, 8);
		} else if (from) {
			bytes_copy(buffer + have, from, part);
		} else { /* no RAM behind it: an open bus reads as ones */
			bytes_set(buffer + have, 0xff, part);
		}
		have += part;
	}
	*available = have;
	return EXEC_OK;
}

static enum exec fetch_decode(struct vcpu *v, enum insn_code kind, const struct thunk **thunk)
{
	struct ram *ram = &v->vm->ram;
	const u64 pc = interp_pc(v);
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(pc));
	unsigned wanted = in_page < FETCH_SIZE ? in_page : FETCH_SIZE, available;
	u8 buffer[FETCH_SIZE];

	for (;;) {
		enum exec result = fetch(v, ram, pc, buffer, wanted, &available);

		if (result != EXEC_OK)
			return result;
		*thunk = thunk_get(v, buffer, available, kind);
		if (*thunk)
			return EXEC_OK;
		/* needs bytes of the next page */
		wanted = FETCH_SIZE;
	}
}

static enum exec jump_to(struct vcpu *v, u64 target)
{
	if (!vcpu_canonical(target))
		return vcpu_raise_error(v, VEC_GP, 0);
	v->rip = target;
	return EXEC_JUMP;
}

/* Checks that [gva, gva+length) may be written, without writing. */
static enum exec probe_write(struct vcpu *v, u64 gva, unsigned length)
{
	u64 gpa, last = gva + length - 1;

	if (!vcpu_canonical(last))
		return vcpu_raise_error(v, VEC_GP, 0);
	if (mmu_translate(v, gva, ACCESS_WRITE, &gpa) != EXEC_OK)
		return EXEC_FAULT;
	if (PAGE_BASE(last) != PAGE_BASE(gva) && mmu_translate(v, PAGE_BASE(last), ACCESS_WRITE, &gpa) != EXEC_OK)
		return EXEC_FAULT;
	return EXEC_OK;
}

enum exec interp_copy(struct vcpu *v, const struct thunk *thunk)
{
	const struct insn *insn = &thunk->insn;
	bool memory = insn->has_mem && (insn->mem_read || insn->mem_write);
	u64 gva = 0;

	if (insn->unit != UNIT_NONE) {
		int vector = mode_unit_fault(vcpu_mode(v), insn);

		if (vector >= 0)
			return vcpu_raise(v, (u8)vector);
		vcpu_fpu_get(v);
	}
	if (memory) {
		gva = operand_address(v, insn);
		if (thunk->aligned && (gva & (insn->mem_size - 1)))
			return vcpu_raise_error(v, VEC_GP, 0);
		if (UNLIKELY(v->observe) && observe_alignment(v, gva, insn->mem_size) != EXEC_OK)
			return EXEC_FAULT;
		if (insn->mem_write && operand_check(v, insn, gva, insn->mem_size, ACCESS_WRITE) != EXEC_OK)
			return EXEC_FAULT;
		if (insn->mem_write && probe_write(v, gva, insn->mem_size) != EXEC_OK)
			return operand_fault(v, insn, gva, insn->mem_size);
		/* an x87 store with an unmasked exception stores nothing: then the old contents are written back */
		if ((insn->mem_read || insn->unit == UNIT_X87) &&
		    operand_load(v, insn, gva, v->bounce, insn->mem_size, 0) != EXEC_OK)
			return EXEC_FAULT;
	}
	if (thunk->by_c) {
		if (!insn->has_mem || insn->mem_size) {
			vm_stop_error(v->vm, "an instruction names too many registers for the single-instruction path");
			return EXEC_STOP;
		}
		operand_set_gpr(v, &insn->op[0], operand_address(v, insn) - operand_base(v, insn));
		return EXEC_OK;
	}
	if (interp_run(thunk->code))
		return EXEC_FAULT;
	if (memory && insn->mem_write && mem_write(v, gva, v->bounce, insn->mem_size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	return EXEC_OK;
}

static enum exec execute_loop(struct vcpu *v, const struct insn *insn)
{
	u8 opcode = insn->bytes[insn->opcode_at];
	u64 mask = insn->addrsize == 4 ? 0xffffffff : ~0ULL;
	bool taken;

	if (opcode == 0xe3) {
		taken = (v->gpr[RCX] & mask) == 0;
	} else {
		u64 count = (v->gpr[RCX] - 1) & mask;

		taken = count != 0;
		if (opcode == 0xe1) /* loope */
			taken = taken && (v->arith & FLAG_ZF);
		else if (opcode == 0xe0) /* loopne */
			taken = taken && !(v->arith & FLAG_ZF);
		if (taken && !vcpu_canonical(next_rip(v, insn) + (u64)insn->imm))
			return vcpu_raise_error(v, VEC_GP, 0);
		v->gpr[RCX] = count;
	}
	return taken ? jump_to(v, next_rip(v, insn) + (u64)insn->imm) : EXEC_OK;
}

/* Implicit stack accesses: a non-canonical address is #SS(0). */
static enum exec stack_read(struct vcpu *v, u64 from, void *value, unsigned size)
{
	if (mem_read(v, from, value, size, ACCESS_READ) == EXEC_OK)
		return EXEC_OK;
	return stack_fault(v, vcpu_canonical(from) ? from + size - 1 : from);
}

static enum exec stack_write(struct vcpu *v, u64 to, const void *value, unsigned size)
{
	if (mem_write(v, to, value, size, ACCESS_WRITE) == EXEC_OK)
		return EXEC_OK;
	return stack_fault(v, vcpu_canonical(to) ? to + size - 1 : to);
}

static enum exec execute_call(struct vcpu *v, u64 target, u64 back)
{
	if (!vcpu_canonical(target))
		return vcpu_raise_error(v, VEC_GP, 0);
	if (stack_push(v, back) != EXEC_OK)
		return EXEC_FAULT;
	v->rip = target;
	return EXEC_JUMP;
}

static enum exec execute_ret(struct vcpu *v, const struct insn *insn)
{
	u64 target;

	if (stack_read(v, v->gpr[RSP], &target, 8) != EXEC_OK)
		return EXEC_FAULT;
	if (!vcpu_canonical(target))
		return vcpu_raise_error(v, VEC_GP, 0);
	v->gpr[RSP] += 8 + (u16)insn->imm;
	v->rip = target;
	return EXEC_JUMP;
}

static enum exec push_sized(struct vcpu *v, u64 value, unsigned size)
{
	u64 to = v->gpr[RSP] - size;

	if (stack_write(v, to, &value, size) != EXEC_OK)
		return EXEC_FAULT;
	v->gpr[RSP] = to;
	return EXEC_OK;
}

static enum exec execute_pop(struct vcpu *v, const struct insn *insn, unsigned size)
{
	u64 value = 0, old = v->gpr[RSP];

	if (stack_read(v, old, &value, size) != EXEC_OK)
		return EXEC_FAULT;
	/* an address based on RSP is computed with the incremented one (SDM vol. 2B, POP) */
	v->gpr[RSP] = old + size;
	if (operand_write(v, insn, 0, value) != EXEC_OK) {
		v->gpr[RSP] = old;
		return EXEC_FAULT;
	}
	return EXEC_OK;
}

/*
 * enter (SDM vol. 2A): pushes rbp and `level` frame pointers; nothing is changed unless the new top of stack, below the
 * room allocated, can be written as well.
 */
static enum exec execute_enter(struct vcpu *v, const struct insn *insn, unsigned size)
{
	unsigned allocate = insn->bytes[insn->imm_at] | insn->bytes[insn->imm_at + 1] << 8;
	unsigned level = insn->bytes[insn->imm_at + 2] & 31;
	u64 rsp = v->gpr[RSP] - size, frame = rsp;

	if (stack_write(v, rsp, &v->gpr[RBP], size) != EXEC_OK)
		return EXEC_FAULT;
	for (unsigned i = 1; i < level; i++) {
		u64 link;

		if (stack_read(v, v->gpr[RBP] - size * i, &link, size) != EXEC_OK)
			return EXEC_FAULT;
		rsp -= size;
		if (stack_write(v, rsp, &link, size) != EXEC_OK)
			return EXEC_FAULT;
	}
	if (level) {
		rsp -= size;
		if (stack_write(v, rsp, &frame, size) != EXEC_OK)
			return EXEC_FAULT;
	}
	rsp -= allocate;
	if (probe_write(v, rsp, size) != EXEC_OK)
		return stack_fault(v, rsp);
	v->gpr[RBP] = size == 8 ? frame : (v->gpr[RBP] & ~0xffffULL) | (u16)frame;
	v->gpr[RSP] = rsp;
	return EXEC_OK;
}

/* push, pop, leave and enter; told apart by opcode. */
static enum exec execute_stack(struct vcpu *v, const struct insn *insn)
{
	u8 opcode = insn->bytes[insn->opcode_at];
	unsigned size = insn->prefix_66 && !(insn->rex & 8) ? 2 : 8;
	u64 value;

	if ((opcode & 0xf8) == 0x50 || opcode == 0xff || opcode == 0x68 || opcode == 0x6a) {
		if (operand_read(v, insn, 0, &value) != EXEC_OK)
			return EXEC_FAULT;
		return push_sized(v, value, size);
	}
	if ((opcode & 0xf8) == 0x58 || opcode == 0x8f)
		return execute_pop(v, insn, size);
	if (opcode == 0xc9) {
		value = 0;
		if (stack_read(v, v->gpr[RBP], &value, size) != EXEC_OK)
			return EXEC_FAULT;
		v->gpr[RSP] = v->gpr[RBP] + size;
		v->gpr[RBP] = size == 8 ? value : (v->gpr[RBP] & ~0xffffULL) | value;
		return EXEC_OK;
	}
	return execute_enter(v, insn, size);
}

/* bt/bts/btr/btc with a register bit index and a memory operand: the index reaches beyond the operand. */
enum exec interp_bitstring(struct vcpu *v, const struct insn *insn)
{
	u8 opcode = insn->bytes[insn->opcode_at + 1];
	unsigned size = insn->opsize, bits = size * 8;
	s64 index = (s64)operand_get_gpr(v, &insn->op[1]);

	if (size == 2)
		index = (s16)index;
	else if (size == 4)
		index = (s32)index;
	u64 gva = operand_address(v, insn) - operand_base(v, insn), value = 0;
	s64 word = (index - (index & (bits - 1))) / bits;
	u64 mask = BIT((u64)index & (bits - 1));

	gva += (u64)word * size;
	gva = operand_linear(v, insn, gva);
	if (operand_load(v, insn, gva, &value, size, opcode == 0xa3 ? 0 : ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	bool old = value & mask;

	if (opcode == 0xab)
		value |= mask;
	else if (opcode == 0xb3)
		value &= ~mask;
	else if (opcode == 0xbb)
		value ^= mask;
	if (opcode != 0xa3 && mem_write(v, gva, &value, size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	v->arith = (v->arith & ~FLAG_CF) | (old ? FLAG_CF : 0);
	return EXEC_OK;
}

static enum exec execute(struct vcpu *v, const struct thunk *thunk)
{
	const struct insn *insn = &thunk->insn;
	u64 value;

	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
		return interp_copy(v, thunk);
	case INSN_JMP:
		return jump_to(v, next_rip(v, insn) + (u64)insn->imm);
	case INSN_JCC:
		return interp_condition(v->arith, insn->cond) ? jump_to(v, next_rip(v, insn) + (u64)insn->imm)
							      : EXEC_OK;
	case INSN_JRCXZ:
		return execute_loop(v, insn);
	case INSN_CALL:
		return execute_call(v, next_rip(v, insn) + (u64)insn->imm, next_rip(v, insn));
	case INSN_JMP_IND:
		return operand_read(v, insn, 0, &value) == EXEC_OK ? jump_to(v, value) : EXEC_FAULT;
	case INSN_CALL_IND:
		return operand_read(v, insn, 0, &value) == EXEC_OK ? execute_call(v, value, next_rip(v, insn))
								   : EXEC_FAULT;
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
		return cpu_helpers[insn->helper](v, insn);
	case INSN_LEGACY:
	case INSN_UNDEFINED:
		break;
	}
	return vcpu_raise(v, VEC_UD);
}

u64 interp_pc(const struct vcpu *v)
{
	return LIKELY(!vcpu_legacy(v)) ? v->rip : (u32)(v->rip + v->seg[SEG_CS].base);
}

static enum exec execute_any(struct vcpu *v, const struct thunk *thunk, enum insn_code kind)
{
	if (LIKELY(kind == CODE_64))
		return execute(v, thunk);
	if (v->rip + thunk->insn.length - 1 > v->seg[SEG_CS].limit)
		return vcpu_raise_error(v, VEC_GP, 0);
	return legacy_execute(v, thunk);
}

enum exec interp_step(struct vcpu *v)
{
	const enum insn_code kind = interp_code(v);
	const struct thunk *thunk;
	bool loaded = v->fpu_loaded;
	enum exec result = fetch_decode(v, kind, &thunk);

	if (result != EXEC_OK)
		return result;
	bool shadow = v->shadow, user = v->cpl == 3;

	v->vm->stats.interp_instructions++;
	result = execute_any(v, thunk, kind);
	/* decoding may have put the vector state away, but generated code goes on with it */
	if (loaded)
		vcpu_fpu_get(v);
	if (shadow)
		v->shadow = 0;
	if (result == EXEC_OK || result == EXEC_LEAVE || result == EXEC_HALT)
		v->rip += thunk->insn.length;
	if (UNLIKELY(kind != CODE_64) && vcpu_legacy(v))
		v->rip = (u32)v->rip;
	if (result != EXEC_FAULT && result != EXEC_AGAIN) {
		v->icount++;
		v->tally[ORIGIN_INTERP][user]++;
	}
	return result;
}
