/*
 * Where lifted code meets the live translator's: the ways in and out, between the live convention (every register but
 * r10 and r11 in its place, flags in the host's) and that of lifted functions (rbx and rbp in struct vcpu, flags in
 * scratch[2] or dead).
 */
#include "place.h"

#include <string.h>


/* rbx and rbp to struct vcpu, the flags that are live at item i to scratch[2]. Then lifted code may go on. */
static void enter(struct translation *t, unsigned i)
{
	struct emitter *e = &t->e;

	emit_store(e, ADDRESS_ABS(&t->v->gpr[RBX]), RBX);
	emit_store(e, ADDRESS_ABS(&t->v->gpr[RBP]), RBP);
	if (t->scan->item[i].live_in)
		translate_save_flags(t);
}

/* A jump to the function that goes on at item i. */
static void enter_function(struct translation *t, const struct lifted *lifted, u8 *text, unsigned i)
{
	if (lifted->function[i] == LIFT_NONE) { /* cannot be, see unit.c */
		t->e.overflow = true;
		return;
	}
	enter(t, i);
	emit_patch(emit_jmp(&t->e), text + lifted->function[i]);
}

/* Instructions counted at a block's head that are not executed after all. */
static void uncount(struct translation *t, const struct lifted *lifted, const struct lift_exit *exit)
{
	struct emitter *e = &t->e;
	u16 left = t->scan->item[exit->item].block_left;

	if (lifted->counted) {
		emit_rm(e, true, 0x81, 0, ADDRESS_ABS(&t->v->budget));
		emit_u32(e, left);
	}
	if (lifted->tally && exit->kind == LIFT_EXIT_CAREFUL) {
		emit_rm(e, true, 0x81, 5, ADDRESS_ABS(lifted->tally));
		emit_u32(e, left);
	}
}

static bool keeps_target(u8 kind)
{
	return kind == LIFT_EXIT_CALL_IND || kind == LIFT_EXIT_JMP_IND || kind == LIFT_EXIT_RET;
}

/* Back to the live convention. */
static void leave(struct translation *t, const struct lift_exit *exit)
{
	struct emitter *e = &t->e;

	emit_load(e, RBX, ADDRESS_ABS(&t->v->gpr[RBX]));
	emit_load(e, RBP, ADDRESS_ABS(&t->v->gpr[RBP]));
	if (!exit->flags)
		return;
	if (keeps_target(exit->kind)) {
		translate_restore_flags(t);
	} else { /* xchg rax, r10; add al, 0x7f; sahf; mov rax, r10 */
		emit_bytes(e, (const u8[]){0x49, 0x92, 0x04, 0x7f, 0x9e}, 5);
		emit_mov_rr(e, RAX, HOST_R10);
	}
}

static void leave_by_stub(struct translation *t, u64 pc, enum stub stub)
{
	translate_store_rip(t, pc);
	emit_jmp_mem(&t->e, ADDRESS_ABS(&t->v->stub[stub]));
}

static void place_call(struct translation *t, const struct lifted *lifted, const struct lift_exit *exit, u8 *text)
{
	const struct scan_item *item = &t->scan->item[exit->item];
	u64 back = t->scan->pc + item->offset + item->insn.length;
	bool host_call = t->store->returns_host;

	if (exit->kind == LIFT_EXIT_CALL) {
		translate_goto(t, exit->pc, host_call);
	} else {
		emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		translate_goto_rip(t, host_call);
	}
	if (!host_call)
		return;
	if (item->falls) {
		translate_landing(t, back);
		enter_function(t, lifted, text, exit->item + 1u);
	} else { /* wherever the return goes, it is not in this unit */
		emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		translate_goto_rip(t, false);
	}
}

/* Items that are not lifted. */
static void place_copies(struct translation *t, const struct lifted *lifted, const struct lift_exit *exit, u8 *text)
{
	const struct scan *scan = t->scan;

	t->flags_saved = false;
	t->ended = false;
	for (unsigned i = exit->item; i <= exit->last && !t->e.overflow; i++) {
		t->item = &t->scan->item[i];
		t->host[i] = t->e.at;
		if (!emit_insn(t) && !t->e.overflow)
			emit_insn_by_interp(t);
	}
	translate_need_flags(t);
	if (scan->item[exit->last].falls)
		enter_function(t, lifted, text, exit->last + 1u);
	else if (!t->ended)
		translate_exit(t, scan->pc + scan->item[exit->last].offset + scan->item[exit->last].insn.length);
	t->ended = false;
}

static void place_exit(struct translation *t, const struct lifted *lifted, const struct lift_exit *exit, u8 *text)
{
	u64 pc = t->scan->pc + t->scan->item[exit->item].offset;

	t->item = &t->scan->item[exit->item];
	if (exit->kind == LIFT_EXIT_CAREFUL || exit->kind == LIFT_EXIT_BUDGET)
		uncount(t, lifted, exit);
	leave(t, exit);
	switch ((enum lift_exit_kind)exit->kind) {
	case LIFT_EXIT_GOTO:
		translate_exit(t, exit->pc);
		break;
	case LIFT_EXIT_CAREFUL:
		leave_by_stub(t, pc, STUB_CAREFUL);
		break;
	case LIFT_EXIT_POLL:
		leave_by_stub(t, pc, STUB_POLL);
		break;
	case LIFT_EXIT_BUDGET:
		leave_by_stub(t, pc, STUB_BUDGET);
		break;
	case LIFT_EXIT_CALL:
	case LIFT_EXIT_CALL_IND:
		place_call(t, lifted, exit, text);
		break;
	case LIFT_EXIT_JMP_IND:
		emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		translate_goto_rip(t, false);
		break;
	case LIFT_EXIT_RET:
		if (t->store->returns_host) {
			emit_u8(&t->e, 0xc3); /* the landing compares r10 */
		} else {
			emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
			translate_goto_rip(t, false);
		}
		break;
	case LIFT_EXIT_COPY:
		place_copies(t, lifted, exit, text);
		break;
	}
}

/* Copies the text to an address that is a multiple of 16, padding with one-byte nops where it is fallen into. */
static u8 *place_text(struct translation *t, const struct lifted *lifted)
{
	struct emitter *e = &t->e;
	u8 *jump = emit_jmp(e);

	while (store_offset(t->store, e->at) % 16 && !e->overflow)
		emit_u8(e, 0x90);
	u8 *text = e->at;

	if (e->overflow || (u64)(e->end - e->at) < lifted->text_size) {
		e->overflow = true;
		return text;
	}
	emit_patch(jump, text + lifted->function[0]);
	memcpy(text, lifted->text, lifted->text_size);
	e->at += lifted->text_size;
	return text;
}

void lift_place(struct translation *t, struct unit *unit, const struct lifted *lifted)
{
	translate_emit_entry(t, unit);
	enter(t, 0);
	u8 *text = place_text(t, lifted);

	for (unsigned i = 0; i < lifted->exit_count && !t->e.overflow; i++) {
		u8 *stub = t->e.at;

		for (unsigned n = 0; n < lifted->fix_count; n++) {
			const struct lift_fix *fix = &lifted->fix[n];

			if (fix->exit != i)
				continue;
			s32 value = (s32)(stub - (text + fix->at)) + fix->addend;

			memcpy(text + fix->at, &value, 4);
		}
		place_exit(t, lifted, &lifted->exit[i], text);
	}
	translate_emit_cold(t);
}
