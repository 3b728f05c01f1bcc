/*
 * Single instructions: copies with other registers and checked memory operands, stack operations, branches, and calls
 * of the helpers for what is sensitive.
 *
 * A memory access is
 *
 *	lea S,[ea]; shr S,8; and S,mask        the TLB entry's offset
 *	r10 = ea - page                        from the entry's tag
 *	cmp r10, 4096 - size; ja cold          another page, or the access runs over its end
 *	mov S, addend
 *	op [ea + S]
 *
 * S is the scratch register; its guest value is in v->gpr meanwhile.
 */
#include "translate/store.h"
#include "translate/translate.h"
#include "util/err.h"
#include "x86/encode.h"
#include "x86/mode.h"

#define TLB_OFFSET_MASK ((TLB_SIZE - 1) << 4)
#define TLB_READ_TAG    (offsetof(struct view, tlb) + offsetof(struct tlb_entry, ntag_read))
#define TLB_WRITE_TAG   (offsetof(struct view, tlb_more) + offsetof(struct tlb_more, ntag_write))
#define TLB_ADDEND      ((s32)(offsetof(struct view, tlb) + offsetof(struct tlb_entry, addend)))
_Static_assert(sizeof(struct tlb_entry) == 16 && sizeof(struct tlb_more) == 16,
	       "the offset of a TLB entry is computed as gva >> 8");

static void keep_rax(struct translation *t, u8 temp)
{
	if (temp == NO_REG)
		emit_store(&t->e, ADDRESS_ABS(&t->v->scratch[1]), RAX);
	else
		emit_mov_rr(&t->e, temp, RAX);
}

static void take_rax_back(struct translation *t, u8 temp)
{
	if (temp == NO_REG)
		emit_load(&t->e, RAX, ADDRESS_ABS(&t->v->scratch[1]));
	else
		emit_mov_rr(&t->e, RAX, temp);
}

void translate_save_flags(struct translation *t, u8 temp)
{
	struct emitter *e = &t->e;

	keep_rax(t, temp);
	emit_bytes(e, (const u8[]){0x9f, 0x0f, 0x90, 0xc0}, 4); /* lahf; seto al */
	emit_store(e, ADDRESS_ABS(&t->v->scratch[2]), RAX);
	take_rax_back(t, temp);
}

void translate_restore_flags(struct translation *t, u8 temp)
{
	struct emitter *e = &t->e;

	keep_rax(t, temp);
	emit_load(e, RAX, ADDRESS_ABS(&t->v->scratch[2]));
	emit_bytes(e, (const u8[]){0x04, 0x7f, 0x9e}, 3); /* add al, 0x7f; sahf */
	take_rax_back(t, temp);
}

/* A sequence that destroys flags follows. */
static void clobber_flags(struct translation *t, u8 temp)
{
	if (!t->item->live_in) {
		t->flags_saved = false;
	} else if (!t->flags_saved) {
		translate_save_flags(t, temp);
		t->flags_saved = true;
	}
}

void translate_need_flags(struct translation *t, u8 temp)
{
	if (t->flags_saved)
		translate_restore_flags(t, temp);
	t->flags_saved = false;
}

static bool in_memory(const struct translation *t, u8 reg)
{
	return reg < GPR_COUNT && (t->in_memory & BIT(reg));
}

static u8 host_of(u8 reg)
{
	return reg == RSP ? HOST_RSP : reg;
}

static struct address home(struct translation *t, u8 reg)
{
	return ADDRESS_ABS(&t->v->gpr[reg]);
}

/* Makes t->scratch usable for this instruction; false if there is no register for it. */
static bool begin_scratch(struct translation *t, u16 used)
{
	t->scratch = t->loose_reg;
	if (t->scratch != NO_REG)
		return true;
	t->scratch = translate_pick_scratch(used | t->home);
	if (t->scratch == NO_REG)
		return false;
	emit_store(&t->e, home(t, t->scratch), t->scratch);
	return true;
}

static void end_scratch(struct translation *t)
{
	if (t->loose_reg == NO_REG)
		emit_load(&t->e, t->scratch, home(t, t->scratch));
}

/* The operand's displacement; of a hole's, whatever fills it in later, one that takes 4 bytes. */
static s32 displacement(const struct translation *t, const struct insn *insn)
{
	return translate_has_hole(t, SCAN_HOLE_DISP) ? 0x1010101 * SCAN_HOLE_FILLING : (s32)insn->disp;
}

/* r10 = the linear address of the memory operand. No flags. Scratch may be used. */
static void emit_address(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	u8 base = insn->base, index = insn->index;
	u8 host_base = NO_REG, host_index = NO_REG;
	s32 disp = displacement(t, insn);

	if (base == INSN_RIP) {
		translate_load_operand(t, HOST_R10, t->scan->pc + t->item->offset + insn->length + (u64)insn->disp);
		host_base = HOST_R10;
		disp = 0;
	} else if (insn->disp != (s32)insn->disp) { /* mov with a 64-bit offset has nothing else */
		emit_mov_imm(e, HOST_R10, (u64)insn->disp);
		host_base = HOST_R10;
		disp = 0;
	} else if (base != INSN_NO_REG) {
		host_base = host_of(base);
		if (in_memory(t, base)) {
			emit_load(e, HOST_R10, home(t, base));
			host_base = HOST_R10;
		}
	}
	if (index != INSN_NO_REG) {
		host_index = host_of(index);
		if (in_memory(t, index)) {
			host_index = host_base == HOST_R10 ? t->scratch : HOST_R10;
			emit_load(e, host_index, home(t, index));
		}
	}
	struct address a = {0, host_base, host_index, insn->scale, disp};

	if (insn->addrsize == 4)
		emit_rm(e, false, 0x8d, HOST_R10, a);
	else if (host_base != HOST_R10 || host_index != NO_REG || disp)
		emit_lea(e, HOST_R10, a);
	if (base != INSN_RIP && translate_has_hole(t, SCAN_HOLE_DISP))
		translate_note_disp(t, MODULE_ADDRESS, 4, 0);
	if (insn->seg == SEG_FS || insn->seg == SEG_GS) {
		u64 *segment_base = insn->seg == SEG_FS ? &t->v->fs_base : &t->v->gs_base;

		emit_load(e, t->scratch, ADDRESS_ABS(segment_base));
		emit_lea(e, HOST_R10, (struct address){0, HOST_R10, t->scratch, 1, 0});
	}
}

/* Registers that hold the addends of windows which are used again after this instruction. */
static u16 open_windows(const struct translation *t)
{
	unsigned here = (unsigned)(t->item - t->scan->item);
	u16 mask = 0;

	for (unsigned i = 0; i < t->plan.count; i++) {
		const struct window *w = &t->plan.window[i];

		if (t->window_open[i] && w->reg != 0xff && w->check <= here && here <= w->last)
			mask |= (u16)BIT(w->reg);
	}
	return mask;
}

/*
 * Compares the TLB's tag for `size` bytes at `a`, which is [base + disp], or if base is HOST_R10 r10 already holds the
 * address. Afterwards `s` is the entry's offset and r10 the offset in the page, with the flags of comparing it. Returns
 * the tag's offset.
 */
static s32 emit_tag_check(struct translation *t, u8 s, struct address a, unsigned size, bool write)
{
	struct emitter *e = &t->e;
	bool simple = a.base != HOST_R10;
	s32 tag = (s32)(write ? TLB_WRITE_TAG : TLB_READ_TAG);

	if (simple && a.disp)
		emit_lea(e, s, a);
	else
		emit_mov_rr(e, s, a.base);
	emit_shr(e, s, 8);
	emit_rr(e, false, 0x81, 4, s);
	emit_u32(e, TLB_OFFSET_MASK);
	if (simple) {
		emit_load(e, HOST_R10, ADDRESS_GS(s, tag));
		emit_lea(e, HOST_R10, (struct address){0, HOST_R10, a.base, 1, a.disp});
	} else {
		emit_rm(e, true, 0x03, HOST_R10, ADDRESS_GS(s, tag));
	}
	emit_alu_imm(e, 7, HOST_R10, (s32)(PAGE_SIZE - size));
	return tag;
}

/* Goes to a cold path of this kind unless the comparison has found the access within its page. */
static struct cold *unless_within_page(struct translation *t, enum cold_kind kind, u8 s, struct address a,
				       unsigned size, bool write, u8 *retry)
{
	struct cold *cold = translate_cold(t, kind, emit_jcc(&t->e, CC_A));

	cold->scratch = s;
	cold->retry = retry;
	cold->simple = a.base != HOST_R10;
	cold->flags_saved = t->flags_saved;
	cold->keep = open_windows(t);
	cold->info = size | (write ? 0x80 : 0);
	cold->address = a;
	return cold;
}

/*
 * The check of `size` bytes at `a`, which is [base + disp], or if base is HOST_R10 r10 already holds the address.
 * Afterwards `s` holds the addend; flags and every guest register are as before. insn_again: the address in r10 is to
 * be computed anew from this instruction's operand, else it is taken back from the check.
 */
static struct cold *emit_look_up(struct translation *t, u8 s, struct address a, unsigned size, bool write, u8 *retry,
				 const struct insn *insn_again)
{
	struct emitter *e = &t->e;
	bool simple = a.base != HOST_R10;

	clobber_flags(t, s);
	s32 tag = emit_tag_check(t, s, a, size, write);
	struct cold *cold = unless_within_page(t, COLD_TLB, s, a, size, write, retry);

	cold->tag_offset = tag;
	if (!simple && insn_again)
		emit_address(t, insn_again); /* not derived from the tag: its load stays out of the critical path */
	else if (!simple)
		emit_rm(e, true, 0x2b, HOST_R10, ADDRESS_GS(s, tag));
	emit_load(e, s, ADDRESS_GS(s, TLB_ADDEND));
	return cold;
}

static struct address cell_field(unsigned cell, size_t field)
{
	return ADDRESS_GS(NO_REG, (s32)(offsetof(struct view, cell) + cell * sizeof(struct tlb_cell) + field));
}

/*
 * The same by a cell first: nothing depends on the address but the comparison. An address in r10 must be one that
 * emit_address() can compute again without a scratch register.
 */
static struct cold *emit_cell_check(struct translation *t, u8 s, struct address a, unsigned size, bool write, u8 *retry,
				    u8 cell)
{
	struct emitter *e = &t->e;
	bool simple = a.base != HOST_R10;
	u8 difference = simple ? HOST_R10 : s;

	clobber_flags(t, s);
	emit_load(e, difference, cell_field(cell, offsetof(struct tlb_cell, ntag)));
	emit_lea(e, difference, (struct address){0, difference, a.base, 1, a.disp});
	emit_alu_imm(e, 7, difference, (s32)(PAGE_SIZE - size));
	struct cold *cold = unless_within_page(t, COLD_CELL, s, a, size, write, retry);

	cold->size = (u16)size;
	cold->write = write;
	cold->cell = cell;
	emit_load(e, s, cell_field(cell, offsetof(struct tlb_cell, addend)));
	cold->back = e->at;
	return cold;
}

void emit_cold_cell(struct translation *t, const struct cold *cold)
{
	struct emitter *e = &t->e;
	u8 s = t->scratch = cold->scratch;
	s32 tag = emit_tag_check(t, s, cold->address, cold->size, cold->write);
	struct cold *miss = translate_cold(t, COLD_TLB, emit_jcc(e, CC_A));

	miss->retry = cold->retry;
	miss->simple = cold->simple;
	miss->flags_saved = cold->flags_saved;
	miss->window = cold->window;
	miss->keep = cold->keep;
	miss->info = cold->info;
	miss->tag_offset = tag;
	miss->address = cold->address;
	struct address addend = ADDRESS_GS(s, TLB_ADDEND);

	if (cold->write || cold->cell % 2) {
		emit_load(e, HOST_R10, ADDRESS_GS(s, tag));
		emit_store(e, cell_field(cold->cell, offsetof(struct tlb_cell, ntag)), HOST_R10);
		emit_load(e, s, addend);
		emit_store(e, cell_field(cold->cell, offsetof(struct tlb_cell, addend)), s);
		emit_rm(e, false, 0xc6, 0, ADDRESS_GS(NO_REG, (s32)offsetof(struct view, cells_used)));
		emit_u8(e, 1);
	} else {
		emit_load(e, s, addend);
	}
	if (!cold->simple)
		emit_address(t, &t->item->insn);
	emit_patch(emit_jmp(e), cold->back);
}

/* The cell for an access of the current item off these guest registers, or NO_CELL if it would not help. */
#define NO_CELL 0xff
static u8 choose_cell(const struct translation *t, u8 base, u8 index, bool write)
{
	unsigned here = (unsigned)(t->item - t->scan->item);

	if (base == RSP && index == INSN_NO_REG)
		return 0;
	if (!locality_stays(&t->locality, t->scan, here, base, index))
		return NO_CELL;
	u64 pc = t->scan->pc + t->item->offset;
	bool moves = t->store->relocatable || t->store->module;
	u8 hash = (u8)(((moves ? PAGE_OFFSET(pc) : pc) * 0x9e3779b97f4a7c15ULL) >> 57);

	if (write)
		return (u8)(hash ? 2 * hash : 2);
	return (u8)(hash < 127 ? 2 * hash + 1 : 1);
}

/* One access by a look-up of its own, with t->scratch. Returns the host address. */
static struct address emit_check(struct translation *t, struct address a, unsigned size, bool write, u8 *retry,
				 const struct insn *insn_again, u8 cell)
{
	if (cell != NO_CELL)
		emit_cell_check(t, t->scratch, a, size, write, retry, cell);
	else
		emit_look_up(t, t->scratch, a, size, write, retry, insn_again);
	a.index = t->scratch;
	return a;
}

/* Is the operand's address known now, and within one page? */
static bool constant_address(const struct translation *t, const struct insn *insn, u64 *address)
{
	if (insn->index != INSN_NO_REG || insn->seg == SEG_FS || insn->seg == SEG_GS || insn->addrsize != 8)
		return false;
	if (insn->base == INSN_RIP)
		*address = t->scan->pc + t->item->offset + insn->length + (u64)insn->disp;
	else if (insn->base == INSN_NO_REG)
		*address = (u64)insn->disp;
	else
		return false;
	/* who fills in a hole finds out whether the access is within a page */
	if (translate_has_hole(t, SCAN_HOLE_DISP))
		return insn->mem_size <= UINT8_MAX;
	return PAGE_OFFSET(*address) + insn->mem_size <= PAGE_SIZE;
}

/* The same as emit_constant_check() in a module's code, of which the address is one when it has its place. */
static struct address emit_module_check(struct translation *t, u64 gva, unsigned size, bool write)
{
	struct emitter *e = &t->e;
	u8 *retry = e->at;
	s32 entry = (s32)(tlb_index(gva) * sizeof(struct tlb_entry));
	struct address tag = ADDRESS_GS(NO_REG, entry + (s32)(write ? TLB_WRITE_TAG : TLB_READ_TAG));

	clobber_flags(t, HOST_R10);
	emit_rm(e, true, 0x81, 7, tag);
	emit_u32(e, (u32)(0 - PAGE_BASE(gva)));
	translate_note_disp(t, write ? MODULE_WRITE : MODULE_READ, 8, 0);
	translate_note_disp(t, MODULE_TAG, 4, size);
	struct cold *cold = translate_cold(t, COLD_TLB, emit_jcc(e, CC_NE));

	cold->scratch = t->scratch;
	cold->retry = retry;
	cold->constant = cold->relative = true;
	cold->pc = gva;
	cold->flags_saved = t->flags_saved;
	cold->keep = open_windows(t);
	cold->info = size | (write ? 0x80 : 0);
	emit_load(e, t->scratch, ADDRESS_GS(NO_REG, entry + TLB_ADDEND));
	translate_note_disp(t, MODULE_ADDEND, 4, 0);
	translate_load_operand(t, HOST_R10, gva);
	return (struct address){0, HOST_R10, t->scratch, 1, 0};
}

/* An access at a constant address: the TLB entry is known, too. `relative`: it moves with the code. */
static struct address emit_constant_check(struct translation *t, u64 gva, bool relative, unsigned size, bool write)
{
	struct emitter *e = &t->e;
	u8 s = t->scratch, *retry = e->at;

	if (t->store->module && (relative || translate_has_hole(t, SCAN_HOLE_DISP)))
		return emit_module_check(t, gva, size, write);
	bool fixed = relative && t->store->relocatable; /* in length, and to be fixed up */
	bool small = (s64)gva == (s32)gva && !fixed;
	u64 ntag = 0 - PAGE_BASE(gva);
	s32 entry = (s32)(tlb_index(gva) * sizeof(struct tlb_entry));
	struct address tag = ADDRESS_GS(NO_REG, entry + (s32)(write ? TLB_WRITE_TAG : TLB_READ_TAG));

	clobber_flags(t, HOST_R10);
	if ((s64)ntag == (s32)ntag && !fixed) {
		emit_rm(e, true, 0x81, 7, tag);
		emit_u32(e, (u32)ntag);
	} else {
		if (fixed)
			translate_load_minus(t, HOST_R10, PAGE_BASE(gva));
		else
			emit_mov_imm(e, HOST_R10, ntag);
		emit_rm(e, true, 0x3b, HOST_R10, tag);
		if (fixed)
			translate_fixup(t, write ? FIXUP_WRITE : FIXUP_READ, 4);
	}
	struct cold *cold = translate_cold(t, COLD_TLB, emit_jcc(e, CC_NE));

	cold->scratch = s;
	cold->retry = retry;
	cold->constant = true;
	cold->relative = relative;
	cold->pc = gva;
	cold->flags_saved = t->flags_saved;
	cold->keep = open_windows(t);
	cold->info = size | (write ? 0x80 : 0);
	emit_load(e, s, ADDRESS_GS(NO_REG, entry + TLB_ADDEND));
	if (fixed)
		translate_fixup(t, FIXUP_ADDEND, 4);
	if (small)
		return ADDRESS_BASE(s, (s32)gva);
	if (fixed)
		translate_load_address(t, HOST_R10, gva);
	else
		emit_mov_imm(e, HOST_R10, gva);
	return (struct address){0, HOST_R10, s, 1, 0};
}

/* The look-ups of windows that are to be made before the current item. */
void emit_window_checks(struct translation *t)
{
	unsigned here = (unsigned)(t->item - t->scan->item);

	for (unsigned i = 0; i < t->plan.count; i++) {
		struct window *w = &t->plan.window[i];

		if (w->check != here || w->reg == 0xff)
			continue;
		struct address low = ADDRESS_BASE(host_of(w->base), w->low);
		unsigned length = (unsigned)(w->high - w->low);
		u8 cell = choose_cell(t, w->base, INSN_NO_REG, w->write);
		struct cold *cold = cell == NO_CELL ? emit_look_up(t, w->reg, low, length, w->write, t->e.at, NULL)
						    : emit_cell_check(t, w->reg, low, length, w->write, t->e.at, cell);

		cold->window = true;
		cold->info = (u32)(w->high - w->low) | (w->write ? 0x8000 : 0);
		t->window_open[i] = true;
	}
}

/* One access through a window. */
static struct address window_address(const struct translation *t, u8 number, struct address a)
{
	a.index = t->plan.window[number].reg;
	return a;
}

static u8 item_window(const struct translation *t, const u8 *windows)
{
	u8 number = windows[t->item - t->scan->item];

	return number != WINDOW_NONE && t->plan.window[number].reg != 0xff ? number : WINDOW_NONE;
}

/* Do this instruction's accesses all go through windows? Then it needs no scratch register. */
static bool needs_scratch(const struct translation *t, bool operand, bool stack)
{
	return (operand && item_window(t, t->plan.operand) == WINDOW_NONE) ||
	       (stack && item_window(t, t->plan.stack) == WINDOW_NONE);
}

bool emit_checks_first(const struct translation *t, unsigned i)
{
	const struct insn *insn = &t->scan->item[i].insn;
	bool stack = insn->class == INSN_STACK || insn->class == INSN_CALL || insn->class == INSN_CALL_IND ||
		     insn->class == INSN_RET;

	for (unsigned w = 0; w < t->plan.count; w++) {
		if (t->plan.window[w].check == i && t->plan.window[w].reg != 0xff)
			return true;
	}
	return (insn->has_mem && insn->mem_size && t->plan.operand[i] == WINDOW_NONE) ||
	       (stack && t->plan.stack[i] == WINDOW_NONE);
}

static bool begin_accesses(struct translation *t, bool operand, bool stack)
{
	t->scratch = NO_REG;
	return !needs_scratch(t, operand, stack) || begin_scratch(t, t->item->insn.gpr_read | t->item->insn.gpr_write);
}

static void end_accesses(struct translation *t)
{
	if (t->scratch != NO_REG)
		end_scratch(t);
}

/* Check for the stack: [base + disp], 8 bytes; base is RSP's or RBP's host register. */
static struct address emit_stack_check(struct translation *t, u8 base, s32 disp, bool write)
{
	u8 number = item_window(t, t->plan.stack);

	if (number != WINDOW_NONE)
		return window_address(t, number, ADDRESS_BASE(base, disp));
	return emit_check(t, ADDRESS_BASE(base, disp), 8, write, t->e.at, NULL, base == HOST_RSP ? 0 : NO_CELL);
}

static struct address emit_operand_check(struct translation *t, const struct insn *insn)
{
	u8 *retry = t->e.at;
	struct address a = ADDRESS_BASE(HOST_R10, 0);
	u8 number = item_window(t, t->plan.operand);
	u64 constant;

	if (window_simple_operand(insn, t->in_memory) && !translate_has_hole(t, SCAN_HOLE_DISP))
		a = ADDRESS_BASE(host_of(insn->base), (s32)insn->disp);
	if (number != WINDOW_NONE)
		return window_address(t, number, a);
	if (constant_address(t, insn, &constant))
		return emit_constant_check(t, constant, insn->base == INSN_RIP, insn->mem_size, insn->mem_write);
	if (a.base == HOST_R10)
		emit_address(t, insn);
	bool scratch_free = insn->seg != SEG_FS && insn->seg != SEG_GS &&
			    !(in_memory(t, insn->index) && (in_memory(t, insn->base) || insn->base == INSN_RIP));

	u8 cell =
		scratch_free || a.base != HOST_R10 ? choose_cell(t, insn->base, insn->index, insn->mem_write) : NO_CELL;

	return emit_check(t, a, insn->mem_size, insn->mem_write, retry, scratch_free ? insn : NULL, cell);
}

/* Guest registers that are in v->gpr at this moment. */
static u16 scratch_home(const struct translation *t)
{
	return t->scratch == NO_REG ? t->home : (u16)(t->home | BIT(t->scratch));
}

static void init_map(struct reencode *r)
{
	*r = (struct reencode)REENCODE_IDENTITY;
	r->host_reg[RSP] = HOST_RSP;
	r->address = REENCODE_REPLACE;
}

/* Register operands (not address parts) that are in memory, as a mask. */
static u16 memory_registers(const struct translation *t, const struct insn *insn)
{
	u16 mask = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(insn->op); i++) {
		if (insn->op[i].kind == OPERAND_GPR && in_memory(t, insn->op[i].reg))
			mask |= (u16)BIT(insn->op[i].reg);
	}
	return mask;
}

static bool emit_reencoded(struct translation *t, const struct insn *insn, const struct reencode *r, u16 home_mask)
{
	u8 bytes[INSN_MAX];
	unsigned length = insn_reencode(insn, r, bytes);

	if (!length)
		return false;
	if ((insn->flags_read | insn->flags_write) && t->item->live_in)
		translate_need_flags(t, r->base == HOST_R10 || memory_registers(t, insn) ? NO_REG : HOST_R10);
	else if (insn->flags_write)
		t->flags_saved = false;
	translate_record(t, home_mask | (t->flags_saved ? HOME_FLAGS : 0));
	emit_bytes(&t->e, bytes, length);
	if (translate_has_hole(t, SCAN_HOLE_IMM))
		translate_note_imm(t, insn->length - (unsigned)insn->imm_at);
	return true;
}

/* Loads a guest register that lives in memory into `to` for one instruction. */
static void borrow(struct translation *t, struct reencode *r, u8 reg, u8 to)
{
	r->host_reg[reg] = to;
	if (t->item->insn.gpr_read & BIT(reg))
		emit_load(&t->e, to, home(t, reg));
}

static void give_back(struct translation *t, const struct reencode *r, u8 reg)
{
	if (t->item->insn.gpr_write & BIT(reg))
		emit_store(&t->e, home(t, reg), r->host_reg[reg]);
}

static bool emit_copy_registers(struct translation *t, const struct insn *insn)
{
	u16 borrowed = memory_registers(t, insn);
	struct reencode r;

	init_map(&r);
	t->scratch = NO_REG;
	if (!borrowed)
		return emit_reencoded(t, insn, &r, t->home);
	u8 first = (u8)__builtin_ctz(borrowed);
	u16 rest = borrowed & (u16)(borrowed - 1);
	bool both = rest;
	u8 second = both ? (u8)__builtin_ctz(rest) : NO_REG;

	if (insn->gpr_high || (rest & (rest - 1)))
		return false;
	if (both && !begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	borrow(t, &r, first, HOST_R10);
	if (both)
		borrow(t, &r, second, t->scratch);
	if (!emit_reencoded(t, insn, &r, scratch_home(t))) {
		t->e.overflow = true; /* a form that cannot be refused: registers only, no AH–BH */
		return true;
	}
	give_back(t, &r, first);
	if (both) {
		give_back(t, &r, second);
		end_scratch(t);
	}
	return true;
}

static bool emit_copy_memory(struct translation *t, const struct insn *insn)
{
	u16 borrowed = memory_registers(t, insn);
	struct reencode r;

	if (insn->gpr_high || (borrowed & (borrowed - 1)))
		return false;
	if (!begin_accesses(t, true, false))
		return false;
	init_map(&r);
	struct address a = emit_operand_check(t, insn);
	u8 reg = borrowed ? (u8)__builtin_ctz(borrowed) : NO_REG;

	if (borrowed) {
		if (a.base == HOST_R10) {
			emit_lea(&t->e, t->scratch, a);
			a = ADDRESS_BASE(t->scratch, 0);
		}
		borrow(t, &r, reg, HOST_R10);
	}
	r.base = a.base;
	r.index = a.index;
	r.disp = a.disp;
	if (!emit_reencoded(t, insn, &r, scratch_home(t))) {
		t->e.overflow = true;
		return true;
	}
	if (borrowed)
		give_back(t, &r, reg);
	end_accesses(t);
	return true;
}

static bool emit_lea_insn(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	struct insn plain = *insn;
	u8 to = insn->op[0].reg;
	bool wide = insn->opsize == 8;

	if (insn->opsize < 4)
		return false;
	plain.seg = SEG_DS;
	t->scratch = NO_REG;
	bool two = (in_memory(t, insn->base) || insn->base == INSN_RIP) && in_memory(t, insn->index);

	if (two && !begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	if (!in_memory(t, insn->base) && insn->base != INSN_RIP && !in_memory(t, insn->index) && !in_memory(t, to) &&
	    insn->addrsize == 8) {
		struct address a = {0, insn->base == INSN_NO_REG ? NO_REG : host_of(insn->base),
				    insn->index == INSN_NO_REG ? NO_REG : host_of(insn->index), insn->scale,
				    displacement(t, insn)};

		emit_rm(e, wide, 0x8d, host_of(to), a);
		if (translate_has_hole(t, SCAN_HOLE_DISP))
			translate_note_disp(t, MODULE_ADDRESS, 4, 0);
		return true;
	}
	emit_address(t, &plain);
	if (in_memory(t, to)) {
		if (!wide)
			emit_rr(e, false, 0x89, HOST_R10, HOST_R10); /* mov r10d, r10d clears the upper half */
		emit_store(e, home(t, to), HOST_R10);
	} else {
		emit_rr(e, wide, 0x89, HOST_R10, host_of(to));
	}
	if (two)
		end_scratch(t);
	return true;
}

static bool emit_copy(struct translation *t, const struct insn *insn)
{
	if (insn->nop)
		return true;
	if (insn->unit != UNIT_NONE && mode_unit_fault(t->mode, insn) >= 0)
		return false;
	if (!insn->has_mem)
		return emit_copy_registers(t, insn);
	if (!insn->mem_size)
		return emit_lea_insn(t, insn);
	return emit_copy_memory(t, insn);
}

/* --- stack ------------------------------------------------------------------------------------------------------- */

/* The value to push is in r10 or an immediate; rsp-relative check, store, rsp adjusted. */
static void emit_push_r10_saved(struct translation *t)
{
	struct emitter *e = &t->e;

	emit_store(e, ADDRESS_ABS(&t->v->scratch[3]), HOST_R10);
	struct address to = emit_stack_check(t, HOST_RSP, -8, true);

	emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->scratch[3]));
	emit_store(e, to, HOST_R10);
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_push_imm(struct translation *t, s32 value)
{
	struct emitter *e = &t->e;

	emit_store_imm32(e, emit_stack_check(t, HOST_RSP, -8, true), value);
	if (translate_has_hole(t, SCAN_HOLE_IMM))
		translate_note_imm(t, 4);
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_push_address(struct translation *t, u64 address)
{
	struct emitter *e = &t->e;
	struct address to = emit_stack_check(t, HOST_RSP, -8, true);

	if (translate_is_small(t, address)) {
		emit_store_imm32(e, to, (s32)address);
		translate_note_own(t, MODULE_ADDRESS, 4, address);
	} else {
		translate_load_address(t, HOST_R10, address);
		emit_store(e, to, HOST_R10);
	}
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_push_reg(struct translation *t, u8 reg)
{
	struct emitter *e = &t->e;
	struct address to = emit_stack_check(t, HOST_RSP, -8, true);
	u8 from = host_of(reg);

	if (in_memory(t, reg)) {
		emit_load(e, HOST_R10, home(t, reg));
		from = HOST_R10;
	}
	emit_store(e, to, from);
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_pop_reg(struct translation *t, u8 reg)
{
	struct emitter *e = &t->e;
	struct address from = emit_stack_check(t, HOST_RSP, 0, false);

	if (reg == RSP) {
		emit_load(e, HOST_RSP, from);
		return;
	}
	if (in_memory(t, reg)) {
		emit_load(e, HOST_R10, from);
		emit_store(e, home(t, reg), HOST_R10);
	} else {
		emit_load(e, reg, from);
	}
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, 8));
}

static bool emit_stack(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	u8 opcode = insn->bytes[insn->opcode_at];

	bool leaves = opcode == 0xc9, pops_memory = opcode == 0x8f && insn->has_mem;

	if (insn->prefix_66 || insn->gpr_high || pops_memory || opcode == 0xc8 ||
	    !begin_accesses(t, insn->has_mem, true))
		return false;
	if ((opcode & 0xf8) == 0x50) {
		emit_push_reg(t, insn->op[0].reg);
	} else if ((opcode & 0xf8) == 0x58) {
		emit_pop_reg(t, insn->op[0].reg);
	} else if (opcode == 0x68 || opcode == 0x6a) {
		emit_push_imm(t, (s32)insn->imm);
	} else if (opcode == 0xff && insn->has_mem) {
		emit_load(e, HOST_R10, emit_operand_check(t, insn));
		emit_push_r10_saved(t);
	} else if (opcode == 0xff) {
		emit_push_reg(t, insn->op[0].reg);
	} else if (opcode == 0x8f && !insn->has_mem) {
		emit_pop_reg(t, insn->op[0].reg);
	} else if (leaves) {
		emit_load(e, HOST_R10, emit_stack_check(t, RBP, 0, false));
		emit_lea(e, HOST_RSP, ADDRESS_BASE(RBP, 8));
		emit_mov_rr(e, RBP, HOST_R10);
	} else {
		BUG("a stack instruction with opcode %#x", opcode);
	}
	end_accesses(t);
	return true;
}

/* --- branches ---------------------------------------------------------------------------------------------------- */

static void branch_to_item(struct translation *t, u8 *from, s16 item)
{
	t->branch[t->branch_count].from = from;
	t->branch[t->branch_count++].item = (u16)item;
}

static void emit_branch(struct translation *t, const struct scan_item *item, int cc)
{
	struct emitter *e = &t->e;

	if (cc >= 0 || item->target >= 0)
		translate_need_flags(t, HOST_R10);
	u64 target = t->scan->pc + item->offset + item->insn.length + (u64)item->insn.imm;

	if (item->target >= 0) {
		branch_to_item(t, cc < 0 ? emit_jmp(e) : emit_jcc(e, (enum condition)cc), item->target);
	} else if (cc < 0) {
		translate_exit(t, target);
	} else {
		translate_cold(t, COLD_GOTO, emit_jcc(e, (enum condition)cc))->pc = target;
	}
}

static bool emit_jrcxz(struct translation *t, const struct scan_item *item)
{
	struct emitter *e = &t->e;
	u8 opcode = item->insn.bytes[item->insn.opcode_at];
	u64 target = t->scan->pc + item->offset + item->insn.length + (u64)item->insn.imm;

	if (item->insn.addrsize != 8 || (opcode != 0xe3 && opcode != 0xe2))
		return false;
	translate_need_flags(t, HOST_R10);
	if (opcode == 0xe2)
		emit_lea(e, RCX, ADDRESS_BASE(RCX, -1));
	/* jrcxz reaches 127 bytes only: hop over or onto a jump */
	emit_u8(e, 0xe3);
	emit_u8(e, opcode == 0xe2 ? 5 : 2);
	if (opcode == 0xe3) {
		emit_u8(e, 0xeb);
		emit_u8(e, 5);
	}
	if (item->target >= 0)
		branch_to_item(t, emit_jmp(e), item->target);
	else
		translate_cold(t, COLD_GOTO, emit_jmp(e))->pc = target;
	return true;
}

/* r10 = target of an indirect branch. */
static void emit_indirect_target(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	if (insn->has_mem)
		emit_load(e, HOST_R10, emit_operand_check(t, insn));
	else if (in_memory(t, insn->op[0].reg))
		emit_load(e, HOST_R10, home(t, insn->op[0].reg));
	else
		emit_mov_rr(e, HOST_R10, host_of(insn->op[0].reg));
}

static bool emit_call_insn(struct translation *t, const struct scan_item *item)
{
	const struct insn *insn = &item->insn;
	u64 back = t->scan->pc + item->offset + insn->length;
	bool host_call = t->store->returns_host && !t->scan->straddles;
	struct emitter *e = &t->e;

	if (!begin_accesses(t, insn->has_mem, true))
		return false;
	bool indirect = insn->class == INSN_CALL_IND, early = insn->has_mem || insn->op[0].reg == RSP;

	if (indirect && early) {
		emit_indirect_target(t, insn);
		emit_store(e, ADDRESS_ABS(&t->v->scratch[4]), HOST_R10);
	}
	emit_push_address(t, back);
	end_accesses(t);
	if (indirect && early)
		emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->scratch[4]));
	else if (indirect)
		emit_indirect_target(t, insn);
	translate_unspill(t);
	if (indirect)
		translate_goto_indirect(t, host_call);
	else
		translate_goto(t, back + (u64)insn->imm, host_call);
	t->flags_saved = false; /* the return brings them in the host's register */
	t->ended = !host_call || !item->falls;
	if (host_call && item->falls) {
		translate_landing(t, back);
	} else if (host_call) { /* wherever the return goes, it is not in this unit */
		emit_store(e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		translate_goto_rip(t, false);
	}
	return true;
}

static bool emit_ret(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	if (!begin_accesses(t, false, true))
		return false;
	emit_load(e, HOST_R10, emit_stack_check(t, HOST_RSP, 0, false));
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, 8 + (u16)insn->imm));
	end_accesses(t);
	translate_unspill(t);
	translate_need_flags(t, R9);
	if (t->store->returns_host) {
		emit_u8(e, 0xc3); /* the landing compares r10 */
	} else {
		emit_store(e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		translate_goto_rip(t, false);
	}
	t->ended = true;
	return true;
}

/* --- calls of C -------------------------------------------------------------------------------------------------- */

void emit_stub_call(struct translation *t, enum stub stub)
{
	t->stub = (u8)stub;
	translate_need_flags(t, HOST_R10);
	translate_unspill(t);
	translate_store_rip(t, t->scan->pc + t->item->offset);
	if (stub != STUB_INTERP) {
		struct insn *record = store_add_insn(t->store);

		if (!record) {
			t->e.overflow = true;
			return;
		}
		*record = t->item->insn;
		/* a module's records will be elsewhere */
		emit_mov_imm(&t->e, HOST_R10, t->store->module ? 0 : (u64)(uintptr_t)record);
		translate_fixup(t, FIXUP_INSN, 4);
		translate_note_number(t, MODULE_INSN, (u32)(record - t->store->insns) - t->store->units[t->unit].insns);
	}
	translate_record(t, 0);
	emit_call_mem(&t->e, ADDRESS_ABS(&t->v->stub[stub]));
	translate_spill(t);
	if (scan_ends_flow(&t->item->insn))
		t->ended = false;
}

/* The stub for an instruction that C executes: those of live/quick.S do without, most often. */
static enum stub helper_stub(const struct translation *t, const struct insn *insn)
{
	const u8 opcode = insn->bytes[insn->opcode_at];

	if (t->store->counted)
		return STUB_HELPER;
	if (insn->class == INSN_HELPER)
		return insn->helper == HELP_pushf && !insn->prefix_66 ? STUB_PUSHF : STUB_HELPER;
	if (insn->class != INSN_STRING || !insn->rep || insn->addrsize != 8 || insn->seg != SEG_DS ||
	    ((opcode & 0xfe) != 0xa4 && (opcode & 0xfe) != 0xaa))
		return STUB_HELPER;

	const bool moves = opcode < 0xaa;

	switch (insn->opsize) {
	case 1:
		return moves ? STUB_MOVS1 : STUB_STOS1;
	case 4:
		return moves ? STUB_MOVS4 : STUB_STOS4;
	case 8:
		return moves ? STUB_MOVS8 : STUB_STOS8;
	default:
		return STUB_HELPER;
	}
}

void translate_close_windows(struct translation *t, unsigned here)
{
	for (unsigned i = 0; i < t->plan.count; i++) {
		struct window *w = &t->plan.window[i];

		if (w->check <= here && here <= w->last)
			w->reg = 0xff;
	}
}

void emit_insn_by_interp(struct translation *t)
{
	translate_close_windows(t, (unsigned)(t->item - t->scan->item));
	emit_stub_call(t, STUB_INTERP);
}

/* --- frequent sensitive instructions at CPL 0, inline ------------------------------------------------------------- */

/* and/or dword or byte [field], imm: opcode 0x81 or 0x80 with /4 or /1. */
static void emit_field_op(struct emitter *e, bool byte, unsigned which, const void *field, u32 imm)
{
	emit_rm(e, false, byte ? 0x80 : 0x81, (u8)which, ADDRESS_ABS(field));
	if (byte)
		emit_u8(e, (u8)imm);
	else
		emit_u32(e, imm);
}

/* IF goes up; an interrupt that waits for it is the helper's business, as is everything that follows from it. */
static void emit_sti(struct translation *t)
{
	struct emitter *e = &t->e;

	emit_field_op(e, true, 7, &t->v->irq_line, 0);
	struct cold *cold = translate_cold(t, COLD_HELPER, emit_jcc(e, CC_NE));

	emit_field_op(e, false, 1, &t->v->rflags, FLAG_IF);
	emit_rm(e, false, 0xc6, 0, ADDRESS_ABS(&t->v->shadow));
	emit_u8(e, 1);
	cold->flags_saved = t->item->live_in;
	if (cold->flags_saved)
		translate_restore_flags(t, HOST_R10);
	cold->retry = e->at;
}

/* AC changes, and with it the view: the one of KERNEL_AC follows that of KERNEL. */
static void emit_set_ac(struct translation *t, bool set)
{
	struct emitter *e = &t->e;
	u8 *ac = (u8 *)&t->v->rflags + 2;
	_Static_assert(VIEW_KERNEL_AC == VIEW_KERNEL + 1 && FLAG_AC == 4 << 16, "layout");

	emit_rm(e, false, 0xf6, 0, ADDRESS_ABS(ac)); /* test byte [ac], 4 */
	emit_u8(e, 4);
	u8 *done = emit_jcc(e, set ? CC_NE : CC_E);

	emit_field_op(e, true, set ? 1 : 4, ac, set ? 4 : 0xfb);
	emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->view));
	emit_lea(e, HOST_R10, ADDRESS_BASE(HOST_R10, set ? (s32)sizeof(struct view) : -(s32)sizeof(struct view)));
	emit_store(e, ADDRESS_ABS(&t->v->view), HOST_R10);
	emit_bytes(e, (const u8[]){0xf3, 0x49, 0x0f, 0xae, 0xda}, 5); /* wrgsbase r10 */
	emit_patch(done, e->at);
}

static void emit_swapgs(struct translation *t)
{
	struct emitter *e = &t->e;

	emit_store(e, ADDRESS_ABS(&t->v->scratch[5]), RAX);
	emit_load(e, RAX, ADDRESS_ABS(&t->v->gs_base));
	emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->kernel_gs_base));
	emit_store(e, ADDRESS_ABS(&t->v->kernel_gs_base), RAX);
	emit_store(e, ADDRESS_ABS(&t->v->gs_base), HOST_R10);
	emit_store(e, ADDRESS_ABS(&t->v->seg[SEG_GS].base), HOST_R10);
	emit_load(e, RAX, ADDRESS_ABS(&t->v->scratch[5]));
}

static bool emit_inline(struct translation *t, const struct insn *insn)
{
	bool flags_live = t->item->live_in;

	if ((t->mode & MODE_USER) || t->store->counted)
		return false;
	translate_need_flags(t, HOST_R10);
	switch (insn->helper) {
	case HELP_swapgs:
		emit_swapgs(t);
		return true;
	case HELP_stac:
	case HELP_clac:
		if (!(t->mode & MODE_SMAP))
			return false;
		break;
	case HELP_cli:
	case HELP_sti:
		break;
	default:
		return false;
	}
	if (flags_live)
		translate_save_flags(t, HOST_R10);
	if (insn->helper == HELP_sti) {
		emit_sti(t);
		return true;
	}
	if (insn->helper == HELP_cli)
		emit_field_op(&t->e, false, 4, &t->v->rflags, (u32)~FLAG_IF);
	else
		emit_set_ac(t, insn->helper == HELP_stac);
	if (flags_live)
		translate_restore_flags(t, HOST_R10);
	return true;
}

bool emit_insn(struct translation *t)
{
	const struct scan_item *item = t->item;
	const struct insn *insn = &item->insn;

	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
		return emit_copy(t, insn);
	case INSN_STACK:
		return emit_stack(t, insn);
	case INSN_JMP:
		emit_branch(t, item, -1);
		t->ended = true;
		return true;
	case INSN_JCC:
		emit_branch(t, item, insn->cond);
		return true;
	case INSN_JRCXZ:
		return emit_jrcxz(t, item);
	case INSN_CALL:
	case INSN_CALL_IND:
		return emit_call_insn(t, item);
	case INSN_JMP_IND:
		if (!begin_accesses(t, insn->has_mem, false))
			return false;
		emit_indirect_target(t, insn);
		end_accesses(t);
		translate_unspill(t);
		translate_goto_indirect(t, false);
		t->ended = true;
		return true;
	case INSN_RET:
		return emit_ret(t, insn);
	case INSN_HELPER:
		if (emit_inline(t, insn))
			return true;
		/* fall through */
	case INSN_STRING:
	case INSN_BITSTRING:
		if (item->holes) /* the record would have something else in them */
			return false;
		emit_stub_call(t, helper_stub(t, insn));
		return true;
	case INSN_GATHER:
	case INSN_LEGACY:
	case INSN_UNDEFINED:
		return false;
	}
	return false;
}
