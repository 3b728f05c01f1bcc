/*
 * Where lifted code meets copied code: the ways in and out. Outside, registers are where the unit has them; lifted
 * functions take rbx, rbp, r8 to r11 from struct vcpu and leave them there, and the flags in scratch[2], if they are
 * live, on the way in, in r10 on the way out.
 */
#include "place.h"

#include <string.h>

/* Registers into the places between units, then rbx and rbp to struct vcpu, and the flags of item i saved. */
static void enter(struct lift_parts *p, struct translation *t, unsigned i)
{
	struct emitter *e = &t->e;

	translate_unspill(t);
	if (t->scan->item[i].live_in && !t->flags_saved)
		translate_save_flags(t, R9);
	emit_store(e, ADDRESS_ABS(&t->v->gpr[RBX]), RBX);
	emit_store(e, ADDRESS_ABS(&t->v->gpr[RBP]), RBP);
	p->jump[i] = emit_jmp(e);
}

static bool place_item(const struct translate_parts *parts, struct translation *t, unsigned i)
{
	struct lift_parts *p = (struct lift_parts *)(uintptr_t)parts;

	if (!p->lifted->lifted[i])
		return false;
	if (p->lifted->function[i] != LIFT_NONE)
		enter(p, t, i);
	return true;
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
	if (lifted->tally && exit->kind != LIFT_EXIT_BUDGET) {
		emit_rm(e, true, 0x81, 5, ADDRESS_ABS(lifted->tally));
		emit_u32(e, left);
	}
}

/* The flags from r10 to the host's register. */
static void restore_flags(struct emitter *e)
{
	emit_bytes(e, (const u8[]){0x49, 0x92, 0x04, 0x7f, 0x9e}, 5); /* xchg rax, r10; add al, 0x7f; sahf */
	emit_mov_rr(e, RAX, HOST_R10);
}

static void leave_by_stub(struct translation *t, u64 pc, enum stub stub)
{
	translate_store_rip(t, pc);
	emit_jmp_mem(&t->e, ADDRESS_ABS(&t->v->stub[stub]));
}

static void place_exit(struct translation *t, const struct lifted *lifted, const struct lift_exit *exit)
{
	struct emitter *e = &t->e;
	u64 pc = t->scan->pc + t->scan->item[exit->item].offset;

	t->item = &t->scan->item[exit->item];
	/* UNMASKED comes before the item's block is counted, if it is entered at its beginning */
	if (exit->kind == LIFT_EXIT_CAREFUL || exit->kind == LIFT_EXIT_BUDGET ||
	    (exit->kind == LIFT_EXIT_UNMASKED && !t->item->block))
		uncount(t, lifted, exit);
	emit_load(e, RBX, ADDRESS_ABS(&t->v->gpr[RBX]));
	emit_load(e, RBP, ADDRESS_ABS(&t->v->gpr[RBP]));
	t->flags_saved = exit->flags && exit->kind == LIFT_EXIT_GOTO;
	if (t->flags_saved)
		emit_store(e, ADDRESS_ABS(&t->v->scratch[2]), HOST_R10);
	else if (exit->flags)
		restore_flags(e);
	switch ((enum lift_exit_kind)exit->kind) {
	case LIFT_EXIT_ITEM:
		translate_spill(t);
		emit_patch(emit_jmp(e), t->host[exit->item]);
		break;
	case LIFT_EXIT_GOTO:
		translate_goto(t, exit->pc, false);
		break;
	case LIFT_EXIT_CAREFUL:
	case LIFT_EXIT_UNMASKED:
		leave_by_stub(t, pc, STUB_CAREFUL);
		break;
	case LIFT_EXIT_POLL:
		leave_by_stub(t, pc, STUB_POLL);
		break;
	case LIFT_EXIT_BUDGET:
		leave_by_stub(t, pc, STUB_BUDGET);
		break;
	}
	t->flags_saved = false;
}

/* Copies the text to an address that is a multiple of 16. */
static u8 *place_text(struct translation *t, const struct lifted *lifted)
{
	struct emitter *e = &t->e;

	while (store_offset(t->store, e->at) % 16 && !e->overflow)
		emit_u8(e, 0xcc);
	u8 *text = e->at;

	if (e->overflow || (u64)(e->end - e->at) < lifted->text_size) {
		e->overflow = true;
		return NULL;
	}
	memcpy(text, lifted->text, lifted->text_size);
	e->at += lifted->text_size;
	return text;
}

static void place_end(const struct translate_parts *parts, struct translation *t)
{
	struct lift_parts *p = (struct lift_parts *)(uintptr_t)parts;
	const struct lifted *lifted = p->lifted;
	u8 *text = place_text(t, lifted);

	if (!text)
		return;
	for (unsigned i = 0; i < t->scan->count; i++) {
		if (lifted->lifted[i] && lifted->function[i] != LIFT_NONE)
			emit_patch(p->jump[i], text + lifted->function[i]);
	}
	for (unsigned i = 0; i < lifted->exit_count && !t->e.overflow; i++) {
		const u8 *stub = t->e.at;

		for (unsigned n = 0; n < lifted->fix_count; n++) {
			const struct lift_fix *fix = &lifted->fix[n];

			if (fix->exit != i)
				continue;
			s32 value = (s32)(stub - (text + fix->at)) + fix->addend;

			memcpy(text + fix->at, &value, 4);
		}
		place_exit(t, lifted, &lifted->exit[i]);
	}
}

void lift_parts_init(struct lift_parts *parts, const struct lifted *lifted, bool partial)
{
	*parts = (struct lift_parts){.parts = {.item = place_item, .end = place_end, .no_windows = partial},
				     .lifted = lifted};
}
