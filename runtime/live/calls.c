/*
 * What generated code calls in C: sensitive instructions, TLB misses, jumps that found nothing. All of it runs while
 * the guest's vector registers are live. The result is the host address to go on at; most often that is `back`.
 */
#include "cpu/cpu.h"
#include "cpu/observe.h"
#include "interp/interp.h"
#include "live/aot.h"
#include "live/clone.h"
#include "live/live.h"
#include "live/offsets.h"
#include "mem/mem.h"
#include "vm.h"

#define ASSERT_OFFSET(name, field) _Static_assert(name == VCPU_ADDRESS + offsetof(struct vcpu, field), #name)
ASSERT_OFFSET(V_GPR(0), gpr);
ASSERT_OFFSET(V_RIP, rip);
ASSERT_OFFSET(V_ARITH, arith);
ASSERT_OFFSET(V_RFLAGS, rflags);
ASSERT_OFFSET(V_SHADOW, shadow);
ASSERT_OFFSET(V_CPL, cpl);
ASSERT_OFFSET(V_HOST_SP, host_sp);
ASSERT_OFFSET(V_SCRATCH, scratch);
ASSERT_OFFSET(V_PREDICTION_SP, prediction_sp);
ASSERT_OFFSET(V_ENTER_TARGET, enter_target);
ASSERT_OFFSET(V_INTERP_SP, interp_sp);
ASSERT_OFFSET(V_LIVE_EXIT, live_exit);
_Static_assert(LIVE_CODE == LIVE_CODE_ADDRESS, "live code");
_Static_assert(VIEW_JUMP == offsetof(struct view, jump), "jump");
_Static_assert(VIEW_JUMP_PC == offsetof(struct view, jump_pc), "jump_pc");
_Static_assert(VIEW_SHIFT == JUMP_SHIFT && JUMP_BITS == 16, "jump_index()");

_Static_assert(offsetof(struct view, tlb) == 0 && offsetof(struct tlb_entry, ntag_read) == 0 &&
		       1 << (PAGE_SHIFT - VIEW_TLB_SHIFT) == sizeof(struct tlb_entry) &&
		       VIEW_TLB_MASK == (TLB_SIZE - 1) * sizeof(struct tlb_entry) &&
		       VIEW_TLB_ADDEND == offsetof(struct tlb_entry, addend) &&
		       VIEW_TLB_WRITE == offsetof(struct view, tlb_more) + offsetof(struct tlb_more, ntag_write),
	       "what enter.S knows of the TLB");

static void *leave(struct vcpu *v, enum live_exit why, enum exec exec)
{
	v->live_exit = why;
	v->live_exec = exec;
	return NULL;
}

static u32 code_offset(const struct vcpu *v, const void *code)
{
	return (u32)((const u8 *)code - v->vm->live->store.code);
}

void live_count_in(struct vcpu *v, const struct unit *unit, unsigned left)
{
	v->budget += left;
	v->icount = v->icount_limit - (u64)v->budget;
	if (unit) {
		v->tally_in = &v->tally[unit->origin][unit->mode & MODE_USER];
		*v->tally_in -= left;
	}
}

/* The place that a stub was called from: sets rip to the instruction's address, and in counted mode the counters. The
 * unit. */
static const struct unit *locate(struct vcpu *v, const void *back)
{
	const struct unit *unit;
	const struct pc_entry *entry;

	/* the call instruction before `back`: at `back` itself the next instruction may begin */
	if (!live_find_pc(v->vm->live, code_offset(v, back) - 1, &unit, &entry) || !entry)
		BUG("no unit at code cache offset %#x", code_offset(v, back));
	v->rip = unit->pc + entry->guest;
	if (v->vm->live->store.counted)
		live_count_in(v, unit, entry->left);
	return unit;
}

void live_forget_predictions(struct vcpu *v)
{
	if (v->forget_user)
		live_reset_predictions(v, true);
	if (v->forget_kernel)
		live_reset_predictions(v, false);
	v->forget_user = v->forget_kernel = false;
}

static void *resume(struct vcpu *v)
{
	live_forget_predictions(v);
	if (v->poll || observe_wanted(v) || v->vm->live->store.counted)
		return leave(v, LIVE_EXIT_DISPATCH, EXEC_OK);
	v->rflags &= ~FLAG_RF; /* it lasts for one instruction, and nothing here looks at it (SDM vol. 3B, 17.3.1.1) */
	/* what the jump table says is as good here as in generated code: a dropped entry leads to a real look-up */
	unsigned index = jump_index(v->rip);

	if (v->view->jump[index] && v->view->jump_pc[index] == v->rip)
		return v->vm->live->store.code + v->view->jump[index];
	void *code = live_lookup(v);

	return code ? code : leave(v, LIVE_EXIT_DISPATCH, EXEC_OK);
}

static void count_one(struct vcpu *v)
{
	if (v->vm->live->store.counted) {
		v->icount++;
		v->budget--;
		++*v->tally_in;
	}
}

/* An instruction was executed by C. Goes on at `back` if nothing but its result has changed. */
static void *finish(struct vcpu *v, enum exec result, unsigned length, void *back)
{
	struct live *live = v->vm->live;
	u64 before = v->rip;

	for (;;) {
		switch (result) {
		case EXEC_OK:
			v->rip = before + length;
			count_one(v);
			if (v->forget_user || v->forget_kernel || live->dropped_code || observe_wanted(v) ||
			    live->store.counted || !back)
				return resume(v);
			return back;
		case EXEC_LEAVE:
			v->rip = before + length;
			live_check_mode(v);
			/* fall through */
		case EXEC_JUMP:
			count_one(v);
			return resume(v);
		case EXEC_FAULT:
			result = cpu_deliver_fault(v);
			if (result == EXEC_JUMP)
				return resume(v);
			break;
		case EXEC_HALT:
			v->rip = before + length;
			count_one(v);
			return leave(v, LIVE_EXIT_EXEC, EXEC_HALT);
		case EXEC_AGAIN:
			return leave(v, LIVE_EXIT_DISPATCH, EXEC_OK);
		case EXEC_STOP:
			return leave(v, LIVE_EXIT_EXEC, EXEC_STOP);
		}
	}
}

void *live_call_helper(struct vcpu *v, const struct insn *insn, void *back)
{
	enum exec result;

	v->vm->stats.helper_calls++;
	v->shadow = 0; /* of an earlier STI; this is another instruction */
	if (v->vm->live->store.counted)
		locate(v, back);
	v->vm->live->dropped_code = false;
	if (UNLIKELY(!insn->length) && !aot_decode(v, insn))
		return leave(v, LIVE_EXIT_EXEC, EXEC_STOP);
	if (insn->class == INSN_STRING)
		result = interp_string(v, insn);
	else if (insn->class == INSN_BITSTRING)
		result = interp_bitstring(v, insn);
	else
		result = cpu_helpers[insn->helper](v, insn);
	return finish(v, result, insn->length, back);
}

/* The single-instruction path moves rip and counts by itself; back to generated code only through a look-up. */
static void *after_step(struct vcpu *v, enum exec result)
{
	v->budget -= v->vm->live->store.counted && result != EXEC_FAULT && result != EXEC_AGAIN;
	switch (result) {
	case EXEC_OK:
		return resume(v);
	case EXEC_LEAVE:
		live_check_mode(v);
		return resume(v);
	case EXEC_JUMP:
		return resume(v);
	case EXEC_FAULT:
		return finish(v, EXEC_FAULT, 0, NULL);
	case EXEC_AGAIN:
		return leave(v, LIVE_EXIT_DISPATCH, EXEC_OK);
	default:
		return leave(v, LIVE_EXIT_EXEC, result);
	}
}

void *live_call_interp(struct vcpu *v, void *back)
{
	struct live *live = v->vm->live;
	u64 here = v->rip;

	v->vm->stats.exits_interp++;
	if (live->store.counted)
		locate(v, back);
	live->dropped_code = false;
	u64 generation = live->generation;
	enum exec result = interp_step(v);

	/* straight on: the common case */
	if (result == EXEC_OK && !live->store.counted && !live->dropped_code && live->generation == generation &&
	    !v->forget_user && !v->forget_kernel && !observe_wanted(v) && v->rip - here <= INSN_MAX)
		return back;
	return after_step(v, result);
}

void *live_call_tlb_miss(struct vcpu *v, u64 gva, u64 info, void *back)
{
	u8 *host;
	enum exec result = mmu_fill(v, gva, info & 0x7f, info & 0x80 ? ACCESS_WRITE : ACCESS_READ, &host);

	if (LIKELY(result == EXEC_OK && host))
		return back;
	locate(v, back);
	v->vm->live->dropped_code = false;
	/* a non-canonical address is #GP or #SS, which only the instruction can tell */
	if (result == EXEC_FAULT && v->fault.vector == VEC_PF)
		return finish(v, EXEC_FAULT, 0, NULL);
	v->vm->stats.exits_mmio++;
	return after_step(v, interp_step(v));
}

/* The range does not lie in one page that may be accessed so: only single accesses can tell what to do about which. */
void *live_call_window_miss(struct vcpu *v, u64 gva, u64 info, void *back)
{
	unsigned length = info & 0x7fff;
	u8 *host;

	if (PAGE_OFFSET(gva) + length <= PAGE_SIZE &&
	    mmu_fill(v, gva, length, info & 0x8000 ? ACCESS_WRITE : ACCESS_READ, &host) == EXEC_OK && host)
		return back;
	v->vm->stats.exits_window++;
	void *code = v->vm->live->store.counted ? NULL : live_recall_careful(v, back);

	if (code)
		return code;
	const struct unit *from = locate(v, back);

	code = live_lookup_careful_at(v, from, back);
	return code ? code : leave(v, LIVE_EXIT_CAREFUL, EXEC_OK);
}

void *live_call_target_miss(struct vcpu *v)
{
	struct live *live = v->vm->live;
	u32 number = (u32)v->exit_info;

	v->vm->stats.exits_target++;
	u64 pc;
	bool saved;

	if (!clone_target_pc(v, number, &pc, &saved)) {
		pc = live->store.targets[number].pc;
		saved = target_is_saved(pc);
		pc = saved ? pc ^ TARGET_SAVED : pc;
	}
	v->rip = pc;
	if (saved)
		v->arith = live_saved_flags(v);
	u32 found = live_lookup_unit(v);

	if (found != UNIT_NONE) {
		live_note_target(v, number, found, saved);
		return live->store.code + live->store.units[found].body;
	}
	if (live->store.counted)
		live_count_in(v, NULL, 0);
	live->missed = (struct missed){.pc = v->rip, .target = number, .saved = saved, .yes = true};
	return leave(v, LIVE_EXIT_DISPATCH, EXEC_OK);
}

/*
 * The guest's registers are in host registers that v does not have, so nothing may come of this but a TLB entry: a
 * fault is recorded, and again by the careful translation that executes the instruction.
 */
u64 live_call_fill(struct vcpu *v, u64 gva, u64 info)
{
	bool write = info & 0x80;
	u8 *host;

	if (mmu_fill(v, gva, info & 0x7f, write ? ACCESS_WRITE : ACCESS_READ, &host) != EXEC_OK || !host)
		return 0;
	if (!write)
		write = v->view->tlb_more[tlb_index(gva)].ntag_write == 0 - PAGE_BASE(gva);
	return ((u64)host - gva) | 1 | (u64)write << 1;
}

void *live_call_careful(struct vcpu *v)
{
	v->vm->stats.exits_window++;
	if (v->vm->live->store.counted)
		live_count_in(v, NULL, 0);
	void *code = live_lookup_careful(v);

	return code ? code : leave(v, LIVE_EXIT_CAREFUL, EXEC_OK);
}

void *live_call_jump_miss(struct vcpu *v)
{
	v->vm->stats.exits_dispatch++;
	void *code = live_lookup(v);

	if (code)
		return code;
	if (v->vm->live->store.counted)
		live_count_in(v, NULL, 0);
	v->vm->live->missed = (struct missed){.pc = v->rip, .yes = true};
	return leave(v, LIVE_EXIT_DISPATCH, EXEC_OK);
}
