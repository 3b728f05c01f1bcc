/*
 * From scanned guest code to host code: lays out one unit. How single instructions are emitted is in emit_insn.c; this
 * file knows entries, labels, exits, polls and the cold paths behind them.
 */
#include "translate/translate.h"

#include <stdlib.h>

#include "x86/mode.h"

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
	struct pc_entry *entry = store_add_pc(t->store);

	if (!entry) {
		t->e.overflow = true;
		return;
	}
	*entry = (struct pc_entry){.code = store_offset(t->store, t->e.at),
				   .guest = t->item->offset,
				   .home = home,
				   .left = t->store->counted ? t->item->block_left : 0};
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

void translate_fixup(struct translation *t, enum fixup_kind kind, unsigned size)
{
	struct fixup *fixup;

	if (!t->store->relocatable)
		return;
	fixup = store_add_fixup(t->store);
	if (fixup)
		*fixup = (struct fixup){
			.at = store_offset(t->store, t->e.at - size) - t->store->units[t->unit].code,
			.kind = (u16)kind,
		};
	else
		t->e.overflow = true;
}

static void note(struct translation *t, enum module_fixup kind, unsigned back, enum module_from from, u32 value)
{
	struct fixup *fixup = store_add_fixup(t->store);

	if (fixup)
		*fixup = (struct fixup){store_offset(t->store, t->e.at - back) - t->store->units[t->unit].code,
					(u16)kind, (u16)from, value};
	else
		t->e.overflow = true;
}

void translate_note_own(struct translation *t, enum module_fixup kind, unsigned back, u64 address)
{
	if (t->store->module)
		note(t, kind, back, MODULE_FROM_PAGE, (u32)(address - PAGE_BASE(t->scan->pc)));
}

void translate_note_disp(struct translation *t, enum module_fixup kind, unsigned back, unsigned access)
{
	const struct insn *insn = &t->item->insn;

	note(t, kind, back, insn->base == INSN_RIP ? MODULE_FROM_RELATIVE : MODULE_FROM_ABSOLUTE,
	     MODULE_FIELD(t->item->offset + insn->imm_at - 4u, insn->length - insn->imm_at, access));
}

void translate_note_imm(struct translation *t, unsigned back)
{
	const struct insn *insn = &t->item->insn;
	const bool wide = insn->length - insn->imm_at == 8;

	note(t, wide ? MODULE_WIDE : MODULE_ADDRESS, back, wide ? MODULE_FROM_WIDE : MODULE_FROM_ABSOLUTE,
	     MODULE_FIELD(t->item->offset + insn->imm_at, 0, 0));
}

void translate_note_number(struct translation *t, enum module_fixup kind, u32 number)
{
	if (t->store->module)
		note(t, kind, 4, MODULE_FROM_PAGE, number);
}

/* A move that is as long for whatever address a module's code has there. */
static bool load_fixed(struct translation *t, u8 to, u64 address)
{
	if (!t->store->module)
		return false;
	emit_mov_simm32(&t->e, to, (s32)address);
	return true;
}

void translate_load_address(struct translation *t, u8 to, u64 address)
{
	if (load_fixed(t, to, address)) {
		translate_note_own(t, MODULE_ADDRESS, 4, address);
		return;
	}
	if (!t->store->relocatable) {
		emit_mov_imm(&t->e, to, address);
		return;
	}
	emit_mov_imm64(&t->e, to, address);
	translate_fixup(t, FIXUP_ADDRESS, 8);
}

void translate_load_operand(struct translation *t, u8 to, u64 address)
{
	if (load_fixed(t, to, address))
		translate_note_disp(t, MODULE_ADDRESS, 4, 0);
	else
		translate_load_address(t, to, address);
}

void translate_load_minus(struct translation *t, u8 to, u64 address)
{
	if (!t->store->relocatable) {
		emit_mov_imm(&t->e, to, 0 - address);
		return;
	}
	emit_mov_imm64(&t->e, to, 0 - address);
	translate_fixup(t, FIXUP_MINUS, 8);
}

bool translate_is_small(const struct translation *t, u64 value)
{
	return (s64)value == (s32)value && !t->store->relocatable;
}

void translate_store_rip(struct translation *t, u64 pc)
{
	if (translate_is_small(t, pc)) {
		emit_store_imm32(&t->e, ADDRESS_ABS(&t->v->rip), (s32)pc);
		translate_note_own(t, MODULE_ADDRESS, 4, pc);
	} else {
		translate_load_address(t, HOST_R10, pc);
		emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
	}
}

static void load_registers(struct translation *t, u16 mask)
{
	for (u8 reg = 0; reg < GPR_COUNT; reg++) {
		if (mask & BIT(reg))
			emit_load(&t->e, reg, ADDRESS_ABS(&t->v->gpr[reg]));
	}
}

void translate_spill(struct translation *t)
{
	for (unsigned i = 0; i < t->reg_count; i++) {
		if (!(MEMORY_HOME & BIT(t->regs[i])))
			emit_store(&t->e, ADDRESS_ABS(&t->v->gpr[t->regs[i]]), t->regs[i]);
	}
	load_registers(t, t->resident);
}

void translate_unspill(struct translation *t)
{
	for (unsigned i = 0; i < t->reg_count; i++) {
		if (!(MEMORY_HOME & BIT(t->regs[i])))
			emit_load(&t->e, t->regs[i], ADDRESS_ABS(&t->v->gpr[t->regs[i]]));
	}
	for (u8 reg = 0; reg < GPR_COUNT; reg++) {
		if (t->dirty & BIT(reg))
			emit_store(&t->e, ADDRESS_ABS(&t->v->gpr[reg]), reg);
	}
}

/* Goes to a cold path if rcx is not 0; touches no flag. */
static void unless_rcx_is_zero(struct translation *t, enum cold_kind kind)
{
	emit_u8(&t->e, 0xe3); /* jrcxz over the jump */
	emit_u8(&t->e, 5);
	translate_cold(t, kind, emit_jmp(&t->e));
}

/*
 * Goes to a cold path if v->rip is not `pc`: the check at every place that is reached through rip. It touches no flag,
 * whether flags are live here or not: if this is not the place that was meant, they are those of another one.
 */
static void check_rip(struct translation *t, u64 pc)
{
	struct emitter *e = &t->e;
	u64 minus = 0 - pc;

	emit_mov_rr(e, R9, RCX);
	emit_load(e, RCX, ADDRESS_ABS(&t->v->rip));
	if (translate_is_small(t, minus)) {
		emit_lea(e, RCX, ADDRESS_BASE(RCX, (s32)minus));
		translate_note_own(t, MODULE_MINUS, 4, pc);
	} else {
		translate_load_minus(t, HOST_R10, pc);
		emit_lea(e, RCX, (struct address){0, RCX, HOST_R10, 1, 0});
	}
	unless_rcx_is_zero(t, COLD_MISMATCH);
	emit_mov_rr(e, RCX, R9);
}

static void poll(struct translation *t, bool flags_live)
{
	struct emitter *e = &t->e;

	if (!flags_live) {
		emit_rm(e, false, 0x80, 7, ADDRESS_ABS(&t->v->poll));
		emit_u8(e, 0);
		translate_cold(t, COLD_POLL, emit_jcc(e, CC_NE))->flags_saved = t->flags_saved;
		return;
	}
	emit_mov_rr(e, HOST_R10, RCX);
	emit_rm(e, false, 0x0fb6, RCX, ADDRESS_ABS(&t->v->poll));
	unless_rcx_is_zero(t, COLD_POLL_RCX);
	emit_mov_rr(e, RCX, HOST_R10);
}

/* Counted mode: takes the block's instructions off the budget, or leaves before the block if that is too little. */
static void take_budget(struct translation *t)
{
	struct emitter *e = &t->e;

	translate_save_flags(t, HOST_R10);
	emit_rm(e, true, 0x81, 5, ADDRESS_ABS(&t->v->budget));
	emit_u32(e, t->item->block_left);
	translate_cold(t, COLD_BUDGET, emit_jcc(e, CC_S));
	emit_rm(e, true, 0x81, 0, ADDRESS_ABS(&t->v->tally[t->store->origin][!!(t->mode & MODE_USER)]));
	emit_u32(e, t->item->block_left);
	translate_restore_flags(t, HOST_R10);
}

/* Recording: how often each block is entered. No flags. */
static void count_block(struct translation *t)
{
	u64 *counter = store_add_counter(t->store);

	if (!counter) {
		t->e.overflow = true;
		return;
	}
	*counter = 0;
	emit_load(&t->e, HOST_R10, ADDRESS_ABS(counter));
	emit_lea(&t->e, HOST_R10, ADDRESS_BASE(HOST_R10, 1));
	emit_store(&t->e, ADDRESS_ABS(counter), HOST_R10);
}

/*
 * Where a host return comes back to, with the guest's return address in r10. The comparison touches no flag (see
 * check_rip). r8 and r9 are free here.
 */
void translate_landing(struct translation *t, u64 pc)
{
	struct emitter *e = &t->e;
	u64 minus = 0 - pc;
	u8 *landing = e->at;

	store_add_landing(t->store, store_offset(t->store, landing));
	emit_mov_rr(e, R9, RCX);
	if (translate_is_small(t, minus)) {
		emit_lea(e, RCX, ADDRESS_BASE(HOST_R10, (s32)minus));
		translate_note_own(t, MODULE_MINUS, 4, pc);
	} else {
		translate_load_minus(t, RCX, pc);
		emit_lea(e, RCX, (struct address){0, RCX, HOST_R10, 1, 0});
	}
	unless_rcx_is_zero(t, COLD_LANDING);
	emit_mov_rr(e, RCX, R9);
	translate_spill(t);
	struct cold *reentry = translate_cold(t, COLD_REENTRY, NULL);

	reentry->retry = landing;
	reentry->pc = pc;
}

/* r10 = the host address that a jump table entry says; an empty one is offset 0, where misses go. */
static void load_entry(struct translation *t, struct address entry)
{
	struct emitter *e = &t->e;

	emit_rm(e, false, 0x8b, HOST_R10, entry);
	emit_lea(e, HOST_R10, ADDRESS_BASE(HOST_R10, (s32)LIVE_CODE_ADDRESS));
}

/* r10, a guest address, becomes the host address where to go on for it. */
static void load_entry_of_r10(struct translation *t)
{
	struct emitter *e = &t->e;

	if (t->store->bmi2) {
		/* rorx r10, r10, JUMP_SHIFT: no flag is touched */
		emit_bytes(e, (const u8[]){0xc4, 0x43, 0xfb, 0xf0, 0xd2, JUMP_SHIFT}, 6);
	} else {
		translate_save_flags(t, R9);
		emit_shr(e, HOST_R10, JUMP_SHIFT);
		translate_restore_flags(t, R9);
	}
	emit_rr(e, false, 0x0fb7, HOST_R10, HOST_R10); /* movzx r10d, r10w */
	load_entry(t, (struct address){PREFIX_GS, NO_REG, HOST_R10, 4, (s32)offsetof(struct view, jump)});
}

/* Jumps through the link: its cold path asks for it to be completed. */
static void emit_link(struct translation *t, u32 number, u64 pc, bool call)
{
	struct store *store = t->store;
	struct emitter *e = &t->e;
	struct cold *cold;

	if (store->cells) {
		struct address cell = ADDRESS_ABS(&store->cells[number]);

		store->links[number].site = store_offset(store, e->at);
		if (call)
			emit_call_mem(e, cell);
		else
			emit_jmp_mem(e, cell);
		cold = translate_cold(t, COLD_LINK, NULL);
	} else {
		cold = translate_cold(t, COLD_LINK, call ? emit_call(e) : emit_jmp(e));
		store->links[number].patch = store_offset(store, cold->from);
	}
	cold->link = number;
	store->links[number].unit = t->unit;
	store->links[number].target = pc;
	store->links[number].saved = cold->flags_saved = t->flags_saved;
}

/* Jumps by the number of a target. */
static void emit_target(struct translation *t, u32 number, bool call)
{
	struct address entry = ADDRESS_GS(NO_REG, (s32)(offsetof(struct view, target) + number * sizeof(void *)));

	emit_store_dword(&t->e, ADDRESS_ABS(&t->v->exit_info), number);
	if (call)
		emit_call_mem(&t->e, entry);
	else
		emit_jmp_mem(&t->e, entry);
}

/* The same in relocatable code, which gets the number where it is copied to. */
static void emit_goal(struct translation *t, u64 pc, bool call)
{
	struct store *store = t->store;
	struct goal *goal = store_add_goal(store);
	u8 *at = t->e.at;

	emit_target(t, 0, call);
	if (!goal || t->e.overflow) {
		t->e.overflow = true;
		return;
	}
	u32 code = store->units[t->unit].code, end = store_offset(store, t->e.at) - code;

	*goal = (struct goal){.number = store_offset(store, at) - code + STORE_DWORD_IMM,
			      .entry = end - 4,
			      .target = (s64)(pc - PAGE_BASE(t->scan->pc)),
			      .saved = t->flags_saved};
}

/* Does the current item jump or call there by a field that is a hole? */
static bool goes_by_hole(const struct translation *t, u64 pc)
{
	const struct insn *insn = &t->item->insn;

	return translate_has_hole(t, SCAN_HOLE_IMM) &&
	       (insn->class == INSN_JMP || insn->class == INSN_JCC || insn->class == INSN_CALL) &&
	       pc == t->scan->pc + t->item->offset + insn->length + (u64)insn->imm;
}

/* The same in a module's code: the number is known when the code has its place. */
static void note_target(struct translation *t, enum module_fixup kind, unsigned back, u64 pc)
{
	const struct insn *insn = &t->item->insn;

	if (goes_by_hole(t, pc))
		note(t, kind, back, MODULE_FROM_RELATIVE, MODULE_FIELD(t->item->offset + insn->imm_at, 0, 0));
	else
		translate_note_own(t, kind, back, pc);
}

static void emit_module_target(struct translation *t, u64 pc, bool call)
{
	const bool saved = t->flags_saved;
	u8 *begin = t->e.at;

	emit_target(t, 0, call);
	if (t->e.overflow)
		return;
	note_target(t, saved ? MODULE_NUMBER_SAVED : MODULE_NUMBER, (unsigned)(t->e.at - begin) - STORE_DWORD_IMM, pc);
	note_target(t, saved ? MODULE_ELEMENT_SAVED : MODULE_ELEMENT, 4, pc);
}

void translate_goto(struct translation *t, u64 pc, bool call)
{
	struct emitter *e = &t->e;

	if (t->store->module && goes_by_hole(t, pc)) {
		emit_module_target(t, pc, call);
		return;
	}
	if (PAGE_BASE(pc) == PAGE_BASE(t->scan->pc) && !t->scan->straddles) {
		struct link *link = store_add_link(t->store);

		if (!link) {
			e->overflow = true;
			return;
		}
		emit_link(t, (u32)(link - t->store->links), pc, call);
		return;
	}
	if (t->store->relocatable) {
		emit_goal(t, pc, call);
		return;
	}
	if (t->store->module) {
		emit_module_target(t, pc, call);
		return;
	}
	u32 target = store_target(t->store, t->flags_saved ? pc ^ TARGET_SAVED : pc);

	if (!target) {
		translate_need_flags(t, R9);
		translate_goto_far(t, pc, call);
		return;
	}
	emit_target(t, target, call);
}

void translate_goto_far(struct translation *t, u64 pc, bool call)
{
	translate_store_rip(t, pc);
	load_entry(t, ADDRESS_GS(NO_REG, (s32)(offsetof(struct view, jump) + jump_index(pc) * sizeof(u32))));
	emit_rr(&t->e, false, 0xff, call ? 2 : 4, HOST_R10);
}

void translate_goto_rip(struct translation *t, bool call)
{
	load_entry_of_r10(t);
	emit_rr(&t->e, false, 0xff, call ? 2 : 4, HOST_R10);
}

/*
 * Indirect jumps look for their target in the view's pair table. The flags count as live, and comparing destroys them:
 * they travel in v->scratch[2], where they are most often already, because of the check of the stack or the operand.
 */
void translate_goto_indirect(struct translation *t, bool call)
{
	struct emitter *e = &t->e;
	const s32 pairs = (s32)offsetof(struct view, pair);
	_Static_assert(sizeof(struct jump_pair) == 2 << JUMP_SHIFT, "index scaled by 2");

	if (!t->flags_saved)
		translate_save_flags(t, R9);
	t->flags_saved = true;
	emit_rr(e, false, 0x89, HOST_R10, R9);
	emit_alu_imm(e, 4, R9, (JUMP_SIZE - 1) << JUMP_SHIFT);
	emit_rm(e, true, 0x3b, HOST_R10,
		(struct address){PREFIX_GS, NO_REG, R9, 2, pairs + (s32)offsetof(struct jump_pair, pc)});
	struct cold *cold = translate_cold(t, COLD_INDIRECT, emit_jcc(e, CC_NE));
	struct address code = {PREFIX_GS, NO_REG, R9, 2, pairs + (s32)offsetof(struct jump_pair, code)};

	if (call) {
		emit_load(e, R9, code);
		cold->retry = e->at;
		emit_rr(e, false, 0xff, 2, R9);
	} else {
		cold->retry = NULL;
		emit_jmp_mem(e, code);
	}
}

/* r10 is the target, the flags are saved: through the jump table. */
static void emit_cold_indirect(struct translation *t, const struct cold *cold)
{
	struct emitter *e = &t->e;

	emit_store(e, ADDRESS_ABS(&t->v->rip), HOST_R10);
	translate_restore_flags(t, R9);
	if (!cold->retry) {
		translate_goto_rip(t, false);
		return;
	}
	/* the call itself must be the one before the landing */
	load_entry_of_r10(t);
	emit_mov_rr(e, R9, HOST_R10);
	emit_patch(emit_jmp(e), cold->retry);
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

	if (cold->constant && cold->relative)
		translate_load_operand(t, HOST_R10, cold->pc);
	else if (cold->constant)
		emit_mov_imm(e, HOST_R10, cold->pc);
	else if (cold->simple)
		emit_lea(e, HOST_R10, cold->address);
	else /* r10 is gva + ntag, scratch the index */
		emit_rm(e, true, 0x2b, HOST_R10, ADDRESS_GS(cold->scratch, cold->tag_offset));
	if (cold->flags_saved)
		translate_restore_flags(t, NO_REG);
	move_windows(t, cold->keep, true);
	if (!(t->home & BIT(cold->scratch)))
		emit_load(e, cold->scratch, ADDRESS_ABS(&t->v->gpr[cold->scratch]));
	translate_unspill(t);
	emit_u8(e, 0x68); /* push imm32 */
	emit_u32(e, cold->info);
	translate_record(t, 0);
	emit_call_mem(e, ADDRESS_ABS(&t->v->stub[cold->window ? STUB_WINDOW_MISS : STUB_TLB_MISS]));
	load_registers(t, t->resident);
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
		emit_mov_rr(e, RCX, R9);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_RETURN_MISS]));
		break;
	case COLD_STALE:
		t->store->units[t->unit].stale_saved = store_offset(t->store, e->at);
		translate_restore_flags(t, R9);
		t->store->units[t->unit].stale = store_offset(t->store, e->at);
		translate_store_rip(t, t->scan->pc);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_JUMP_MISS]));
		break;
	case COLD_SAVED:
		t->store->units[t->unit].saved = store_offset(t->store, e->at);
		translate_restore_flags(t, R9);
		emit_patch(emit_jmp(e), cold->retry);
		break;
	case COLD_INDIRECT:
		emit_cold_indirect(t, cold);
		break;
	case COLD_REENTRY:
		if (!store_add_entry(t->store, t->unit, cold->pc, store_offset(t->store, e->at)))
			e->overflow = true;
		emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->rip));
		emit_patch(emit_jmp(e), cold->retry);
		break;
	case COLD_MISMATCH: /* rip is right already, and nothing has been spilled */
		emit_mov_rr(e, RCX, R9);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_JUMP_MISS]));
		break;
	case COLD_POLL_RCX:
		emit_mov_rr(e, RCX, HOST_R10);
		/* fall through */
	case COLD_POLL:
		if (cold->flags_saved)
			translate_restore_flags(t, HOST_R10);
		leave_with_rip(t, pc, STUB_POLL);
		break;
	case COLD_BUDGET:
		emit_rm(e, true, 0x81, 0, ADDRESS_ABS(&t->v->budget));
		emit_u32(e, t->item->block_left);
		translate_restore_flags(t, HOST_R10);
		leave_with_rip(t, pc, STUB_BUDGET);
		break;
	case COLD_LINK:
		if (t->store->cells) {
			t->store->links[cold->link].patch = store_offset(t->store, e->at);
			t->store->cells[cold->link] = (u64)(uintptr_t)t->store->code + store_offset(t->store, e->at);
		}
		if (cold->flags_saved)
			translate_restore_flags(t, R9);
		emit_store_dword(e, ADDRESS_ABS(&t->v->exit_info), t->store->first_link + cold->link);
		translate_fixup(t, FIXUP_LINK, 4);
		translate_note_number(t, MODULE_LINK, cold->link - t->store->units[t->unit].links);
		emit_jmp_mem(e, ADDRESS_ABS(&t->v->stub[STUB_LINK]));
		break;
	case COLD_HELPER:
		if (cold->flags_saved)
			translate_restore_flags(t, HOST_R10);
		emit_stub_call(t, STUB_HELPER);
		emit_patch(emit_jmp(e), cold->retry);
		break;
	case COLD_GOTO:
		translate_exit(t, cold->pc);
		break;
	case COLD_TLB:
		emit_cold_tlb(t, cold);
		break;
	case COLD_CELL:
		emit_cold_cell(t, cold);
		break;
	}
}

/* --- a unit ------------------------------------------------------------------------------------------------------ */

/* Marks the items that lie between the target of a backward branch and the branch. */
static void items_in_loops(const struct scan *scan, bool loops[SCAN_ROOM])
{
	for (unsigned i = 0; i < scan->count; i++)
		loops[i] = false;
	for (unsigned i = 0; i < scan->count; i++) {
		for (int n = scan->item[i].target; n >= 0 && n <= (int)i; n++)
			loops[n] = true;
	}
}

/* Register operands of `mask`, not counting address parts. */
static unsigned operands_of(const struct insn *insn, u16 mask)
{
	u16 found = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(insn->op); i++) {
		if (insn->op[i].kind == OPERAND_GPR)
			found |= (u16)BIT(insn->op[i].reg) & mask;
	}
	return (unsigned)__builtin_popcount(found);
}

/*
 * Which registers of MEMORY_HOME, out of those that the unit names, are worth a host register: those whose uses
 * outweigh the loads and stores at entries, calls and landings, theirs and those of the scratch register that they
 * would give.
 */
static u16 choose_resident(const struct scan *scan, u16 named)
{
	const unsigned in_loop = 8;
	bool loops[SCAN_ROOM];
	unsigned uses[GPR_COUNT] = {0}, boundaries = 2;
	u16 resident = 0;

	if (!named)
		return 0;
	items_in_loops(scan, loops);
	for (unsigned i = 0; i < scan->count; i++) {
		const struct insn *insn = &scan->item[i].insn;
		unsigned weight = loops[i] ? in_loop : 1;

		/* what emit_copy() would have to leave to the single-instruction path */
		if (operands_of(insn, MEMORY_HOME | BIT(R10) | BIT(R11)) > (insn->has_mem ? 1 : 2))
			return named;
		for (u8 reg = R8; reg <= R9; reg++) {
			if ((insn->gpr_read | insn->gpr_write) & BIT(reg))
				uses[reg] += insn->base == reg || insn->index == reg ? 2 * weight : weight;
		}
		if (insn->class == INSN_CALL || insn->class == INSN_CALL_IND || insn->class == INSN_HELPER ||
		    insn->class == INSN_STRING || insn->class == INSN_BITSTRING)
			boundaries += 2 * weight;
	}
	for (u8 reg = R8; reg <= R9; reg++) {
		if ((named & BIT(reg)) && uses[reg] > 2 * boundaries)
			resident |= (u16)BIT(reg);
	}
	return resident;
}

/*
 * Registers that the unit does not name serve as scratch. One for loose accesses, the others for windows; but for those
 * of MEMORY_HOME they are spilled at every entry and restored at every exit, so no more than are used.
 */
static void choose_registers(struct translation *t)
{
	const struct scan *scan = t->scan;
	u16 used = 0, written = 0;
	u8 candidates[3];
	unsigned count = 0;

	for (unsigned i = 0; i < scan->count; i++)
		used |= scan->item[i].insn.gpr_read | (written |= scan->item[i].insn.gpr_write);
	t->resident = choose_resident(scan, used & MEMORY_HOME);
	t->dirty = written & t->resident;
	t->in_memory = BIT(R10) | BIT(R11) | (used & MEMORY_HOME & (u16)~t->resident);
	used &= (u16) ~(MEMORY_HOME & ~t->resident);
	while (count < ARRAY_SIZE(candidates) && (candidates[count] = translate_pick_scratch(used)) != NO_REG)
		used |= (u16)BIT(candidates[count++]);
	/* the first candidate is for loose accesses, unless there are none */
	bool windows = !t->careful && !(t->parts && t->parts->no_windows);

	window_find(&t->plan, scan, t->in_memory);
	bool loose = window_assign(&t->plan, scan, candidates, windows ? count : 0);

	if (loose && count)
		window_assign(&t->plan, scan, candidates + 1, windows ? count - 1 : 0);
	window_settle(&t->plan, scan);
	t->reg_count = 0;
	t->home = MEMORY_HOME & (u16)~t->resident;
	t->loose_reg = loose && count ? candidates[0] : NO_REG;
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
		translate_need_flags(t, HOST_R10); /* every way into a block brings them in the host's register */
	t->item = item;
	t->host[i] = t->e.at;
	t->handed[i] = t->stub = STUB_COUNT;
	if (t->parts && t->parts->item(t->parts, t, i)) {
		translate_close_windows(t, i);
		t->flags_saved = t->ended = false;
		return;
	}
	if (item->block) {
		if (i == 0 || item->loop_head)
			poll(t, item->live_in && !t->flags_saved);
		if (t->store->recording)
			count_block(t);
		if (t->store->counted)
			take_budget(t);
	}
	emit_window_checks(t);
	if (!emit_insn(t) && !t->e.overflow)
		emit_insn_by_interp(t);
	t->handed[i] = t->stub;
	if (!item->falls && !t->ended)
		translate_exit(t, t->scan->pc + item->offset + item->insn.length);
	if (!item->falls || t->ended)
		t->flags_saved = false;
	t->ended = false;
}

static void fix_branches(struct translation *t)
{
	for (unsigned i = 0; i < t->branch_count; i++)
		emit_patch(t->branch[i].from, t->host[t->branch[i].item]);
}

/* Would a unit that is entered with its flags in the host's register save them before anything else? */
static bool saves_flags_first(const struct translation *t)
{
	if (t->store->counted || t->scan->item[0].label)
		return false;
	for (unsigned i = 0; i < t->scan->count; i++) {
		const struct scan_item *item = &t->scan->item[i];

		if (i && item->block)
			return false;
		if (emit_checks_first(t, i) || item->insn.class == INSN_JMP_IND || item->insn.class == INSN_CALL_IND)
			return true;
		if ((item->insn.class != INSN_COPY && item->insn.class != INSN_STACK) || item->insn.flags_read ||
		    item->insn.flags_write)
			return false;
	}
	return false;
}

/*
 * The body's two entries: with the flags in the host's register, and in v->scratch[2]. Where they are dead there is no
 * difference.
 */
static void emit_body_entries(struct translation *t, struct unit *unit)
{
	struct emitter *e = &t->e;

	unit->body = unit->saved = store_offset(t->store, e->at);
	if (!t->scan->item[0].live_in)
		return;
	t->flags_saved = saves_flags_first(t);
	if (t->flags_saved) {
		translate_save_flags(t, R9);
		unit->saved = store_offset(t->store, e->at);
	} else {
		translate_cold(t, COLD_SAVED, NULL)->retry = e->at;
	}
}

static void emit_unit(struct translation *t, struct unit *unit)
{
	struct emitter *e = &t->e;
	const struct scan *scan = t->scan;

	t->item = &t->scan->item[0];
	choose_registers(t);
	locality_find(&t->locality, scan);
	t->flags_saved = false;
	if (!store_add_entry(t->store, t->unit, scan->pc, store_offset(t->store, e->at)))
		e->overflow = true;
	check_rip(t, scan->pc);
	emit_body_entries(t, unit);
	if (!t->store->relocatable) /* copies are not left that way */
		translate_cold(t, COLD_STALE, NULL);
	translate_spill(t);
	for (unsigned i = 0; i < scan->count && !e->overflow; i++)
		emit_item(t, i);
	if (t->parts && !e->overflow)
		t->parts->end(t->parts, t);
	fix_branches(t);
	for (unsigned i = 0; i < t->cold_count && !e->overflow; i++)
		emit_cold(t, &t->cold[i]);
}

/* --- life of a translation --------------------------------------------------------------------------------------- */

/* The scan lies behind: both are large, and used together. */
struct translation *translation_create(void)
{
	return malloc(sizeof(struct translation) + sizeof(struct scan));
}

void translation_destroy(struct translation *t)
{
	free(t);
}

struct scan *translation_scan(struct translation *t)
{
	return (struct scan *)(t + 1);
}

/* A careful translation covers what its window would have, and little more. */
#define CAREFUL_MAX 24

struct scan_options translate_scan_options(const struct store *store, u32 mode)
{
	return (struct scan_options){.calls_end = !store->returns_host,
				     .exact_flags = store->exact_flags,
				     .max = mode & MODE_CAREFUL ? CAREFUL_MAX : SCAN_MAX};
}

u32 translate_mode_mask(const struct scan *scan)
{
	u32 mask = MODE_USER | MODE_CAREFUL;

	for (unsigned i = 0; i < scan->count; i++) {
		const struct insn *insn = &scan->item[i].insn;

		if (insn->unit != UNIT_NONE)
			mask |= MODE_UNITS;
		if (insn->class == INSN_HELPER && (insn->helper == HELP_stac || insn->helper == HELP_clac))
			mask |= MODE_SMAP;
	}
	return mask;
}

/* The next unit of the store, as far as its scan tells; NULL if there is no room. */
static struct unit *begin(struct translation *t, struct store *store, u32 mode)
{
	if (store->unit_count == store->bound_first || store->used + PAGE_SIZE > store->size)
		return NULL;
	struct unit *unit = &store->units[store->unit_count];
	const struct scan *scan = translation_scan(t);

	*unit = (struct unit){.pc = scan->pc,
			      .gpa_next = NO_FRAME,
			      .mode = mode,
			      .code = (u32)store->used,
			      .pcs = store->pc_count,
			      .entries = store->entry_count,
			      .landings = store->landing_count,
			      .links = store->link_count,
			      .insns = store->insn_count,
			      .counters = store->counter_count,
			      .fixups = store->fixup_count,
			      .goals = store->goal_count,
			      .instructions = (u16)scan->count,
			      .guest_bytes = (u16)scan->bytes,
			      .origin = store->origin};
	t->v = (struct vcpu *)VCPU_ADDRESS;
	t->store = store;
	t->scan = translation_scan(t);
	t->mode = mode & ~MODE_CAREFUL;
	t->careful = mode & MODE_CAREFUL;
	t->unit = store->unit_count;
	t->e = (struct emitter){store->code_rw, store->code_rw + store->used, store->code_rw + store->size, false};
	t->parts = NULL;
	t->ended = false;
	t->branch_count = t->cold_count = 0;
	return unit;
}

/* The store as it was before the unit. */
static u32 give_up(struct store *store, const struct unit *unit)
{
	store->pc_count = unit->pcs;
	store->entry_count = unit->entries;
	store->landing_count = unit->landings;
	store->link_count = unit->links;
	store->insn_count = unit->insns;
	store->counter_count = unit->counters;
	store->fixup_count = unit->fixups;
	store->goal_count = unit->goals;
	return UNIT_NONE;
}

static u32 finish(struct translation *t)
{
	struct store *store = t->store;
	struct unit *unit = &store->units[t->unit];

	if (t->e.overflow)
		return give_up(store, unit);
	unit->code_end = store_offset(store, t->e.at);
	unit->pcs_count = store->pc_count - unit->pcs;
	unit->entries_count = store->entry_count - unit->entries;
	unit->landings_count = store->landing_count - unit->landings;
	unit->links_count = store->link_count - unit->links;
	unit->insns_count = store->insn_count - unit->insns;
	unit->counters_count = store->counter_count - unit->counters;
	unit->fixups_count = store->fixup_count - unit->fixups;
	unit->goals_count = store->goal_count - unit->goals;
	store->used = align_up(unit->code_end, 16);
	store->unit_count++;
	return t->unit;
}

u32 translate_unit(struct translation *t, struct store *store, u32 mode)
{
	return translate_unit_with(t, store, mode, NULL);
}

u32 translate_unit_with(struct translation *t, struct store *store, u32 mode, const struct translate_parts *parts)
{
	struct unit *unit = begin(t, store, mode);

	if (!unit)
		return UNIT_NONE;
	t->parts = parts;
	emit_unit(t, unit);
	return finish(t);
}
