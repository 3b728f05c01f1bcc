/*
 * From scanned guest code to host code: lays out one unit. How single instructions are emitted is in emit_insn.c; this
 * file knows entries, labels, exits, polls and the cold paths behind them.
 */
#include "live/translate.h"

#include "live/cache.h"
#include "vm.h"

static const u8 scratch_order[] = {R9, R8, R15, R14, R13, R12, RBP, RBX, RDI, RSI, RDX};

u8 translate_pick_scratch(u16 used)
{
	for (unsigned i = 0; i < ARRAY_SIZE(scratch_order); i++) {
		if (!(used & BIT(scratch_order[i])))
			return scratch_order[i];
	}
	return NO_REG;
}

void translate_record(struct translation *t, u16 home)
{
	struct pc_entry *entry = cache_add_pc(t->live);

	if (!entry) {
		t->e.overflow = true;
		return;
	}
	*entry = (struct pc_entry){.code = cache_offset(t->live, t->e.at),
				   .guest = t->item->offset,
				   .home = home,
				   .left = t->live->counted ? t->item->block_left : 0};
}

struct cold *translate_cold(struct translation *t, enum cold_kind kind, u8 *from)
{
	if (t->cold_count == COLD_MAX) {
		t->e.overflow = true;
		return &t->cold[0];
	}
	struct cold *cold = &t->cold[t->cold_count++];

	*cold = (struct cold){
		.kind = kind, .item = (u16)(t->item - t->scan->item), .from = from, .scratch = t->scratch};
	return cold;
}

void translate_store_rip(struct translation *t, u64 pc)
{
	if ((s64)pc == (s32)pc) {
		emit_store_imm32(&t->e, ADDRESS_ABS(&t->v->rip), (s32)pc);
	} else {
		emit_mov_imm(&t->e, HOST_R10, pc);
		emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
	}
}

void translate_spill(struct translation *t)
{
	for (unsigned i = 0; i < t->reg_count; i++)
		emit_store(&t->e, ADDRESS_ABS(&t->v->gpr[t->regs[i]]), t->regs[i]);
}

void translate_unspill(struct translation *t)
{
	for (unsigned i = 0; i < t->reg_count; i++)
		emit_load(&t->e, t->regs[i], ADDRESS_ABS(&t->v->gpr[t->regs[i]]));
}

/*
 * Goes to a cold path if v->rip is not `pc`: the check at every place that is reached through rip. It touches no flag,
 * whether flags are live here or not: if this is not the place that was meant, they are those of another one.
 */
static void check_rip(struct translation *t, u64 pc)
{
	struct emitter *e = &t->e;
	u64 minus = 0 - pc;

	if ((s64)minus == (s32)minus) {
		emit_mov_rr(e, HOST_R10, RCX);
		emit_load(e, RCX, ADDRESS_ABS(&t->v->rip));
		emit_lea(e, RCX, ADDRESS_BASE(RCX, (s32)minus));
	} else {
		emit_store(e, ADDRESS_ABS(&t->v->scratch[0]), RCX);
		emit_mov_imm(e, HOST_R10, minus);
		emit_load(e, RCX, ADDRESS_ABS(&t->v->rip));
		emit_lea(e, RCX, (struct address){0, RCX, HOST_R10, 1, 0});
		emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->scratch[0]));
	}
	emit_u8(e, 0xe3); /* jrcxz over the jump */
	emit_u8(e, 5);
	translate_cold(t, COLD_MISMATCH, emit_jmp(e));
	emit_mov_rr(e, RCX, HOST_R10);
}

static void poll(struct translation *t, bool flags_live)
{
	struct emitter *e = &t->e;

	if (!flags_live) {
		emit_rm(e, false, 0x80, 7, ADDRESS_ABS(&t->v->poll));
		emit_u8(e, 0);
		translate_cold(t, COLD_POLL, emit_jcc(e, CC_NE));
		return;
	}
	emit_mov_rr(e, HOST_R10, RCX);
	emit_rm(e, false, 0x0fb6, RCX, ADDRESS_ABS(&t->v->poll));
	emit_u8(e, 0xe3);
	emit_u8(e, 5);
	translate_cold(t, COLD_POLL_RCX, emit_jmp(e));
	emit_mov_rr(e, RCX, HOST_R10);
}

/* Counted mode: takes the block's instructions off the budget, or leaves before the block if that is too little. */
static void take_budget(struct translation *t)
{
	struct emitter *e = &t->e;

	translate_save_flags(t);
	emit_rm(e, true, 0x81, 5, ADDRESS_ABS(&t->v->budget));
	emit_u32(e, t->item->block_left);
	translate_cold(t, COLD_BUDGET, emit_jcc(e, CC_S));
	translate_restore_flags(t);
}

/*
 * Where a host return comes back to, with the guest's return address in r10. The comparison touches no flag (see
 * check_rip). rcx waits in a scratch register of the unit, whose guest value goes where it belongs first.
 */
void translate_landing(struct translation *t, u64 pc)
{
	struct emitter *e = &t->e;
	u64 minus = 0 - pc;
	u8 temp = t->reg_count ? t->regs[0] : NO_REG;
	u8 *landing = e->at;

	cache_add_landing(t->live, cache_offset(t->live, landing));
	if (temp != NO_REG) {
		emit_store(e, ADDRESS_ABS(&t->v->gpr[temp]), temp);
		emit_mov_rr(e, temp, RCX);
	} else {
		emit_store(e, ADDRESS_ABS(&t->v->scratch[0]), RCX);
	}
	if ((s64)minus == (s32)minus) {
		emit_lea(e, RCX, ADDRESS_BASE(HOST_R10, (s32)minus));
	} else {
		emit_mov_imm(e, RCX, minus);
		emit_lea(e, RCX, (struct address){0, RCX, HOST_R10, 1, 0});
	}
	emit_u8(e, 0xe3); /* jrcxz over the jump */
	emit_u8(e, 5);
	translate_cold(t, COLD_LANDING, emit_jmp(e));
	if (temp != NO_REG)
		emit_mov_rr(e, RCX, temp);
	else
		emit_load(e, RCX, ADDRESS_ABS(&t->v->scratch[0]));
	for (unsigned i = 1; i < t->reg_count; i++)
		emit_store(e, ADDRESS_ABS(&t->v->gpr[t->regs[i]]), t->regs[i]);
	struct cold *reentry = translate_cold(t, COLD_REENTRY, NULL);

	reentry->retry = landing;
	reentry->pc = pc;
}

/* Jumps to (or calls) what a jump table entry says; an empty one is offset 0, where misses go. */
static void go_to_entry(struct translation *t, struct address entry, bool call)
{
	struct emitter *e = &t->e;

	emit_rm(e, false, 0x8b, HOST_R10, entry);
	emit_lea(e, HOST_R10, ADDRESS_BASE(HOST_R10, (s32)LIVE_CODE_ADDRESS));
	emit_rr(e, false, 0xff, call ? 2 : 4, HOST_R10);
}

void translate_goto(struct translation *t, u64 pc, bool call)
{
	struct emitter *e = &t->e;

	if (PAGE_BASE(pc) == PAGE_BASE(t->scan->pc) && !t->scan->straddles) {
		struct link *link = cache_add_link(t->live);

		if (!link) {
			e->overflow = true;
			return;
		}
		struct cold *cold = translate_cold(t, COLD_LINK, call ? emit_call(e) : emit_jmp(e));

		cold->link = (u32)(link - t->live->links);
		*link = (struct link){.unit = t->unit, .patch = cache_offset(t->live, cold->from), .target = pc};
		return;
	}
	u32 target = cache_target(t->live, pc);

	if (!target) {
		translate_goto_far(t, pc, call);
		return;
	}
	struct address entry = ADDRESS_GS(NO_REG, (s32)(offsetof(struct view, target) + target * sizeof(void *)));

	emit_store_dword(e, ADDRESS_ABS(&t->v->exit_info), target);
	if (call)
		emit_call_mem(e, entry);
	else
		emit_jmp_mem(e, entry);
}

void translate_goto_far(struct translation *t, u64 pc, bool call)
{
	translate_store_rip(t, pc);
	go_to_entry(t, ADDRESS_GS(NO_REG, (s32)(offsetof(struct view, jump) + jump_index(pc) * sizeof(u32))), call);
}

void translate_goto_rip(struct translation *t, bool call)
{
	struct emitter *e = &t->e;

	if (t->live->bmi2) {
		/* rorx r10, r10, JUMP_SHIFT: no flag is touched */
		emit_bytes(e, (const u8[]){0xc4, 0x43, 0xfb, 0xf0, 0xd2, JUMP_SHIFT}, 6);
	} else {
		translate_save_flags(t);
		emit_shr(e, HOST_R10, JUMP_SHIFT);
		translate_restore_flags(t);
	}
	emit_rr(e, false, 0x0fb7, HOST_R10, HOST_R10); /* movzx r10d, r10w */
	go_to_entry(t, (struct address){PREFIX_GS, NO_REG, HOST_R10, 4, (s32)offsetof(struct view, jump)}, call);
}

void translate_exit(struct translation *t, u64 pc)
{
	translate_unspill(t);
	translate_goto(t, pc, false);
}

/* --- cold paths ------------------------------------------------------------------------------------------------- */

static void leave_with_rip(struct translation *t, u64 pc, enum stub stub)
{
	translate_unspill(t);
	translate_store_rip(t, pc);
	emit_jmp_mem(&t->e, ADDRESS_ABS(&t->v->stub[stub]));
}

/* Moves the addends of open windows to or from v->window, out of the way of a call. */
static void move_windows(struct translation *t, u16 regs, bool save)
{
	for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
		if (!(regs & BIT(reg)))
			continue;
		if (save)
			emit_store(&t->e, ADDRESS_ABS(&t->v->window[reg]), (u8)reg);
		else
			emit_load(&t->e, (u8)reg, ADDRESS_ABS(&t->v->window[reg]));
	}
}

static void emit_cold_tlb(struct translation *t, struct cold *cold)
{
	struct emitter *e = &t->e;

	if (cold->constant)
		emit_mov_imm(e, HOST_R10, cold->pc);
	else if (cold->simple)
		emit_lea(e, HOST_R10, cold->address);
	else /* r10 is gva + ntag, scratch the index */
		emit_rm(e, true, 0x2b, HOST_R10, ADDRESS_GS(cold->scratch, cold->tag_offset));
	if (cold->flags_saved)
		translate_restore_flags(t);
	move_windows(t, cold->keep, true);
	translate_unspill(t);
	if (!(t->home & BIT(cold->scratch)))
		emit_load(e, cold->scratch, ADDRESS_ABS(&t->v->gpr[cold->scratch]));
	emit_u8(e, 0x68); /* push imm32 */
	emit_u32(e, cold->info);
	translate_record(t, 0);
	emit_call_mem(e, ADDRESS_ABS(&t->v->stub[cold->kind == COLD_TLB ? STUB_TLB_MISS : STUB_WINDOW_MISS]));
	move_windows(t, cold->keep, false);
	emit_patch(emit_jmp(e), cold->retry);
}

static void emit_cold(struct translation *t, struct cold *cold)
{
	struct emitter *e = &t->e;
	u64 pc;

	t->item = &t->scan->item[cold->item];
	pc = t->scan->pc + t->item->offset;
	t->flags_saved = false;
	if (cold->from)
		emit_patch(cold->from, e->at);
	switch (cold->kind) {
	case COLD_LANDING:
		if (t->reg_count) {
			emit_mov_rr(e, RCX, t->regs[0]);
			emit_load(e, t->regs[0], ADDRESS_ABS(&t->v->gpr[t->regs[0]]));
		} else {
			emit_load(e, RCX, ADDRESS_ABS(&t->v->scratch[0]));
		}
		emit_store(e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_JUMP_MISS]));
		break;
	case COLD_STALE:
		t->live->units[t->unit].stale = cache_offset(t->live, e->at);
		translate_store_rip(t, t->scan->pc);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_JUMP_MISS]));
		break;
	case COLD_REENTRY:
		if (!cache_add_entry(t->live, t->unit, cold->pc, cache_offset(t->live, e->at)))
			e->overflow = true;
		emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->rip));
		emit_patch(emit_jmp(e), cold->retry);
		break;
	case COLD_MISMATCH: /* rip is right already, and nothing has been spilled */
		emit_mov_rr(e, RCX, HOST_R10);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_JUMP_MISS]));
		break;
	case COLD_POLL_RCX:
		emit_mov_rr(e, RCX, HOST_R10);
		/* fall through */
	case COLD_POLL:
		leave_with_rip(t, pc, STUB_POLL);
		break;
	case COLD_BUDGET:
		emit_rm(e, true, 0x81, 0, ADDRESS_ABS(&t->v->budget));
		emit_u32(e, t->item->block_left);
		translate_restore_flags(t);
		leave_with_rip(t, pc, STUB_BUDGET);
		break;
	case COLD_LINK:
		emit_store_dword(e, ADDRESS_ABS(&t->v->exit_info), cold->link);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_LINK]));
		break;
	case COLD_HELPER:
		if (cold->flags_saved)
			translate_restore_flags(t);
		emit_stub_call(t, STUB_HELPER);
		emit_patch(emit_jmp(e), cold->retry);
		break;
	case COLD_GOTO:
		translate_exit(t, cold->pc);
		break;
	case COLD_TLB:
	case COLD_WINDOW:
		emit_cold_tlb(t, cold);
		break;
	}
}

/* --- a unit ------------------------------------------------------------------------------------------------------ */

/*
 * Registers that the unit does not name serve as scratch. One for loose accesses, the others for windows; they are
 * spilled at every entry and restored at every exit, so no more than are used.
 */
static void choose_registers(struct translation *t)
{
	const struct scan *scan = t->scan;
	u16 used = 0;
	u8 candidates[3];
	unsigned count = 0;

	for (unsigned i = 0; i < scan->count; i++)
		used |= scan->item[i].insn.gpr_read | scan->item[i].insn.gpr_write;
	while (count < ARRAY_SIZE(candidates) && (candidates[count] = translate_pick_scratch(used)) != NO_REG)
		used |= (u16)BIT(candidates[count++]);
	/* the first candidate is for loose accesses, unless there are none */
	window_plan(&t->plan, scan, candidates, t->careful ? 0 : count);
	if (t->plan.loose && count)
		window_plan(&t->plan, scan, candidates + 1, t->careful ? 0 : count - 1);
	t->reg_count = 0;
	t->home = 0;
	t->loose_reg = t->plan.loose && count ? candidates[0] : NO_REG;
	for (unsigned i = 0; i < count; i++) {
		bool wanted = candidates[i] == t->loose_reg;

		for (unsigned w = 0; w < t->plan.count; w++)
			wanted |= t->plan.window[w].reg == candidates[i];
		if (wanted) {
			t->regs[t->reg_count++] = candidates[i];
			t->home |= (u16)BIT(candidates[i]);
		}
	}
	for (unsigned w = 0; w < t->plan.count; w++)
		t->window_open[w] = false;
}

static void emit_item(struct translation *t, unsigned i)
{
	struct scan_item *item = &t->scan->item[i];

	if (item->block && i)
		translate_need_flags(t); /* every way into a block brings them in the host's register */
	t->item = item;
	t->host[i] = t->e.at;
	if (item->block) {
		if (i == 0 || item->loop_head)
			poll(t, item->live_in);
		if (t->live->counted)
			take_budget(t);
	}
	emit_window_checks(t);
	if (!emit_insn(t) && !t->e.overflow)
		emit_insn_by_interp(t);
	if (!t->ended && (!item->falls || i + 1 == t->scan->count))
		translate_need_flags(t);
	if (!item->falls && !t->ended)
		translate_exit(t, t->scan->pc + item->offset + item->insn.length);
	t->ended = false;
}

static void fix_branches(struct translation *t)
{
	for (unsigned i = 0; i < t->branch_count; i++)
		emit_patch(t->branch[i].from, t->host[t->branch[i].item]);
}

static void emit_entry(struct translation *t, struct unit *unit)
{
	t->item = &t->scan->item[0];
	t->flags_saved = false;
	if (!cache_add_entry(t->live, t->unit, t->scan->pc, cache_offset(t->live, t->e.at)))
		t->e.overflow = true;
	check_rip(t, t->scan->pc);
	unit->body = cache_offset(t->live, t->e.at);
	translate_cold(t, COLD_STALE, NULL);
}

void translate_begin_lifted(struct translation *t, struct unit *unit)
{
	t->reg_count = 0;
	t->home = 0;
	t->loose_reg = NO_REG;
	window_plan(&t->plan, t->scan, NULL, 0);
	for (unsigned w = 0; w < t->plan.count; w++)
		t->window_open[w] = false;
	emit_entry(t, unit);
}

void translate_finish(struct translation *t)
{
	for (unsigned i = 0; i < t->cold_count && !t->e.overflow; i++)
		emit_cold(t, &t->cold[i]);
}

void translate_emit(struct translation *t, struct unit *unit)
{
	choose_registers(t);
	emit_entry(t, unit);
	translate_spill(t);
	for (unsigned i = 0; i < t->scan->count && !t->e.overflow; i++)
		emit_item(t, i);
	fix_branches(t);
	translate_finish(t);
}
