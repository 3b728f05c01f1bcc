/*
 * Single instructions: copies with other registers and checked memory operands, stack operations, branches, and calls
 * of the helpers for what is sensitive.
 *
 * A memory access is
 *
 *	lea S,[ea]; shr S,7; and S,mask        the TLB entry's offset
 *	r10 = ea - page                        from the entry's tag
 *	cmp r10, 4096 - size; ja cold          another page, or the access runs over its end
 *	mov S, addend
 *	op [ea + S]
 *
 * S is the scratch register; its guest value is in v->gpr meanwhile.
 */
#include "cpu/cpu.h"
#include "live/cache.h"
#include "live/translate.h"
#include "vm.h"
#include "x86/encode.h"

#define TLB_OFFSET_MASK ((TLB_SIZE - 1) << 5)
_Static_assert(sizeof(struct tlb_entry) == 32, "the TLB index is computed as gva >> 7");

void translate_save_flags(struct translation *t)
{
	struct emitter *e = &t->e;

	emit_store(e, ADDRESS_ABS(&t->v->scratch[1]), RAX);
	emit_bytes(e, (const u8[]){0x9f, 0x0f, 0x90, 0xc0}, 4); /* lahf; seto al */
	emit_store(e, ADDRESS_ABS(&t->v->scratch[2]), RAX);
	emit_load(e, RAX, ADDRESS_ABS(&t->v->scratch[1]));
}

void translate_restore_flags(struct translation *t)
{
	struct emitter *e = &t->e;

	emit_load(e, RAX, ADDRESS_ABS(&t->v->scratch[2]));
	emit_bytes(e, (const u8[]){0x04, 0x7f, 0x9e}, 3); /* add al, 0x7f; sahf */
	emit_load(e, RAX, ADDRESS_ABS(&t->v->scratch[1]));
}

static bool in_memory(u8 reg)
{
	return reg == R10 || reg == R11;
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
	t->scratch = t->unit_scratch;
	if (t->scratch != NO_REG)
		return true;
	t->scratch = translate_pick_scratch(used);
	if (t->scratch == NO_REG)
		return false;
	emit_store(&t->e, home(t, t->scratch), t->scratch);
	return true;
}

static void end_scratch(struct translation *t)
{
	if (t->unit_scratch == NO_REG)
		emit_load(&t->e, t->scratch, home(t, t->scratch));
}

/* r10 = the linear address of the memory operand. No flags. Scratch may be used. */
static void emit_address(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;
	u8 base = insn->base, index = insn->index;
	u8 host_base = NO_REG, host_index = NO_REG;
	s32 disp = (s32)insn->disp;

	if (base == INSN_RIP) {
		emit_mov_imm(e, HOST_R10, t->scan->pc + t->item->offset + insn->length + (u64)insn->disp);
		host_base = HOST_R10;
		disp = 0;
	} else if (insn->disp != disp) { /* mov with a 64-bit offset has nothing else */
		emit_mov_imm(e, HOST_R10, (u64)insn->disp);
		host_base = HOST_R10;
		disp = 0;
	} else if (base != INSN_NO_REG) {
		host_base = host_of(base);
		if (in_memory(base)) {
			emit_load(e, HOST_R10, home(t, base));
			host_base = HOST_R10;
		}
	}
	if (index != INSN_NO_REG) {
		host_index = host_of(index);
		if (in_memory(index)) {
			host_index = host_base == HOST_R10 ? t->scratch : HOST_R10;
			emit_load(e, host_index, home(t, index));
		}
	}
	struct address a = {0, host_base, host_index, insn->scale, disp};

	if (insn->addrsize == 4)
		emit_rm(e, false, 0x8d, HOST_R10, a);
	else if (host_base != HOST_R10 || host_index != NO_REG || disp)
		emit_lea(e, HOST_R10, a);
	if (insn->seg == SEG_FS || insn->seg == SEG_GS) {
		u64 *segment_base = insn->seg == SEG_FS ? &t->v->fs_base : &t->v->gs_base;

		emit_load(e, t->scratch, ADDRESS_ABS(segment_base));
		emit_lea(e, HOST_R10, (struct address){0, HOST_R10, t->scratch, 1, 0});
	}
}

static bool is_simple(const struct insn *insn)
{
	return insn->base != INSN_NO_REG && insn->base != INSN_RIP && !in_memory(insn->base) &&
	       insn->index == INSN_NO_REG && insn->addrsize == 8 && insn->seg != SEG_FS && insn->seg != SEG_GS;
}

/*
 * The check of one access. `a` is a host address [base + disp], or if base is HOST_R10 r10 already holds the address.
 * Afterwards the host address is the returned form; flags and every guest register are as before.
 */
static struct address emit_check(struct translation *t, struct address a, unsigned size, bool write, u8 *retry)
{
	struct emitter *e = &t->e;
	bool simple = a.base != HOST_R10;
	bool flags_live = t->item->live_in;
	s32 tag = (s32)(offsetof(struct view, tlb) +
			(write ? offsetof(struct tlb_entry, ntag_write) : offsetof(struct tlb_entry, ntag_read)));
	u8 s = t->scratch;

	if (flags_live)
		translate_save_flags(t);
	if (simple && a.disp)
		emit_lea(e, s, a);
	else
		emit_mov_rr(e, s, a.base);
	emit_shr(e, s, 7);
	emit_rr(e, false, 0x81, 4, s);
	emit_u32(e, TLB_OFFSET_MASK);
	if (simple) {
		emit_load(e, HOST_R10, ADDRESS_GS(s, tag));
		emit_lea(e, HOST_R10, (struct address){0, HOST_R10, a.base, 1, a.disp});
	} else {
		emit_rm(e, true, 0x03, HOST_R10, ADDRESS_GS(s, tag));
	}
	emit_alu_imm(e, 7, HOST_R10, (s32)(PAGE_SIZE - size));
	struct cold *cold = translate_cold(t, COLD_TLB, emit_jcc(e, CC_A));

	cold->scratch = s;
	cold->retry = retry;
	cold->simple = simple;
	cold->flags_saved = flags_live;
	cold->info = (u8)(size | (write ? 0x80 : 0));
	cold->tag_offset = tag;
	cold->address = a;
	if (!simple)
		emit_rm(e, true, 0x2b, HOST_R10, ADDRESS_GS(s, tag));
	emit_load(e, s, ADDRESS_GS(s, (s32)(offsetof(struct view, tlb) + offsetof(struct tlb_entry, addend))));
	if (flags_live)
		translate_restore_flags(t);
	return simple ? (struct address){0, a.base, s, 1, a.disp} : (struct address){0, HOST_R10, s, 1, 0};
}

/* Check for the stack: [guest rsp + disp], 8 bytes. */
static struct address emit_stack_check(struct translation *t, s32 disp, bool write)
{
	return emit_check(t, ADDRESS_BASE(HOST_RSP, disp), 8, write, t->e.at);
}

static struct address emit_operand_check(struct translation *t, const struct insn *insn)
{
	u8 *retry = t->e.at;
	struct address a = ADDRESS_BASE(HOST_R10, 0);

	if (is_simple(insn))
		a = ADDRESS_BASE(host_of(insn->base), (s32)insn->disp);
	else
		emit_address(t, insn);
	return emit_check(t, a, insn->mem_size, insn->mem_write, retry);
}

static u16 scratch_home(const struct translation *t)
{
	return t->scratch == NO_REG ? 0 : (u16)BIT(t->scratch);
}

static void init_map(struct reencode *r)
{
	*r = (struct reencode)REENCODE_IDENTITY;
	r->host_reg[RSP] = HOST_RSP;
	r->address = REENCODE_REPLACE;
}

static bool emit_reencoded(struct translation *t, const struct insn *insn, const struct reencode *r, u16 home_mask)
{
	u8 bytes[INSN_MAX];
	unsigned length = insn_reencode(insn, r, bytes);

	if (!length)
		return false;
	translate_record(t, home_mask);
	emit_bytes(&t->e, bytes, length);
	return true;
}

/* Register operands (not address parts) that name guest r10 or r11, as a mask. */
static u16 memory_registers(const struct insn *insn)
{
	u16 mask = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(insn->op); i++) {
		if (insn->op[i].kind == OPERAND_GPR && in_memory(insn->op[i].reg))
			mask |= (u16)BIT(insn->op[i].reg);
	}
	return mask;
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
	u16 borrowed = memory_registers(insn);
	struct reencode r;

	init_map(&r);
	if (!borrowed)
		return emit_reencoded(t, insn, &r, 0);
	if (insn->gpr_high)
		return false;
	u8 first = borrowed & BIT(R10) ? R10 : R11;
	bool both = borrowed == (BIT(R10) | BIT(R11));

	if (both && !begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	borrow(t, &r, first, HOST_R10);
	if (both)
		borrow(t, &r, R11, t->scratch);
	if (!emit_reencoded(t, insn, &r, both ? scratch_home(t) : 0)) {
		t->e.overflow = true; /* a form that cannot be refused: registers only, no AH–BH */
		return true;
	}
	give_back(t, &r, first);
	if (both) {
		give_back(t, &r, R11);
		end_scratch(t);
	}
	return true;
}

static bool emit_copy_memory(struct translation *t, const struct insn *insn)
{
	u16 borrowed = memory_registers(insn);
	struct reencode r;

	if (insn->gpr_high || borrowed == (BIT(R10) | BIT(R11)))
		return false;
	if (!begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	init_map(&r);
	struct address a = emit_operand_check(t, insn);
	u8 reg = borrowed & BIT(R10) ? R10 : R11;

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
	end_scratch(t);
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
	t->scratch = t->unit_scratch;
	bool two = (in_memory(insn->base) || insn->base == INSN_RIP) && in_memory(insn->index);

	if (two)
		return false;
	if (!in_memory(insn->base) && insn->base != INSN_RIP && !in_memory(insn->index) && !in_memory(to) &&
	    insn->addrsize == 8) {
		struct address a = {0, insn->base == INSN_NO_REG ? NO_REG : host_of(insn->base),
				    insn->index == INSN_NO_REG ? NO_REG : host_of(insn->index), insn->scale,
				    (s32)insn->disp};

		emit_rm(e, wide, 0x8d, host_of(to), a);
		return true;
	}
	emit_address(t, &plain);
	if (in_memory(to)) {
		if (!wide)
			emit_rr(e, false, 0x89, HOST_R10, HOST_R10); /* mov r10d, r10d clears the upper half */
		emit_store(e, home(t, to), HOST_R10);
	} else {
		emit_rr(e, wide, 0x89, HOST_R10, host_of(to));
	}
	return true;
}

static bool emit_copy(struct translation *t, const struct insn *insn)
{
	if (insn->nop)
		return true;
	if (insn->unit != UNIT_NONE && cpu_unit_fault(t->v, insn) >= 0)
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
	struct address to = emit_stack_check(t, -8, true);

	emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->scratch[3]));
	emit_store(e, to, HOST_R10);
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_push_imm(struct translation *t, u64 value)
{
	struct emitter *e = &t->e;
	struct address to = emit_stack_check(t, -8, true);

	if ((s64)value == (s32)value) {
		emit_store_imm32(e, to, (s32)value);
	} else {
		emit_mov_imm(e, HOST_R10, value);
		emit_store(e, to, HOST_R10);
	}
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_push_reg(struct translation *t, u8 reg)
{
	struct emitter *e = &t->e;
	struct address to = emit_stack_check(t, -8, true);
	u8 from = host_of(reg);

	if (in_memory(reg)) {
		emit_load(e, HOST_R10, home(t, reg));
		from = HOST_R10;
	}
	emit_store(e, to, from);
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, -8));
}

static void emit_pop_reg(struct translation *t, u8 reg)
{
	struct emitter *e = &t->e;
	struct address from = emit_stack_check(t, 0, false);

	if (reg == RSP) {
		emit_load(e, HOST_RSP, from);
		return;
	}
	if (in_memory(reg)) {
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

	if (insn->prefix_66 || insn->gpr_high || !begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	if ((opcode & 0xf8) == 0x50) {
		emit_push_reg(t, insn->op[0].reg);
	} else if ((opcode & 0xf8) == 0x58) {
		emit_pop_reg(t, insn->op[0].reg);
	} else if (opcode == 0x68 || opcode == 0x6a) {
		emit_push_imm(t, (u64)insn->imm);
	} else if (opcode == 0xff && insn->has_mem) {
		emit_load(e, HOST_R10, emit_operand_check(t, insn));
		emit_push_r10_saved(t);
	} else if (opcode == 0xff) {
		emit_push_reg(t, insn->op[0].reg);
	} else if (opcode == 0x8f && !insn->has_mem) {
		emit_pop_reg(t, insn->op[0].reg);
	} else if (opcode == 0xc9) {
		emit_load(e, HOST_R10, emit_check(t, ADDRESS_BASE(RBP, 0), 8, false, e->at));
		emit_lea(e, HOST_RSP, ADDRESS_BASE(RBP, 8));
		emit_mov_rr(e, RBP, HOST_R10);
	} else {
		end_scratch(t);
		return false;
	}
	end_scratch(t);
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

/* r10 = target of an indirect branch, also stored as v->rip. */
static void emit_indirect_target(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	if (insn->has_mem)
		emit_load(e, HOST_R10, emit_operand_check(t, insn));
	else if (in_memory(insn->op[0].reg))
		emit_load(e, HOST_R10, home(t, insn->op[0].reg));
	else
		emit_mov_rr(e, HOST_R10, host_of(insn->op[0].reg));
}

static bool emit_call_insn(struct translation *t, const struct scan_item *item)
{
	const struct insn *insn = &item->insn;
	u64 back = t->scan->pc + item->offset + insn->length;
	bool host_call = t->live->returns_host && !t->scan->straddles;
	struct emitter *e = &t->e;

	if (!begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	if (insn->class == INSN_CALL_IND) {
		emit_indirect_target(t, insn);
		emit_store(e, ADDRESS_ABS(&t->v->scratch[4]), HOST_R10);
	}
	emit_push_imm(t, back);
	end_scratch(t);
	translate_unspill(t);
	if (insn->class == INSN_CALL) {
		translate_goto(t, back + (u64)insn->imm, host_call);
	} else {
		emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->scratch[4]));
		emit_store(e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		translate_goto_rip(t, host_call);
	}
	t->ended = !host_call || !item->falls;
	if (host_call && item->falls) {
		translate_landing(t, back);
	} else if (host_call) { /* wherever the return goes, it is not in this unit */
		emit_load(e, HOST_R10, ADDRESS_ABS(&t->v->rip));
		translate_goto_rip(t, false);
	}
	return true;
}

static bool emit_ret(struct translation *t, const struct insn *insn)
{
	struct emitter *e = &t->e;

	if (!begin_scratch(t, insn->gpr_read | insn->gpr_write))
		return false;
	emit_load(e, HOST_R10, emit_stack_check(t, 0, false));
	emit_lea(e, HOST_RSP, ADDRESS_BASE(HOST_RSP, 8 + (u16)insn->imm));
	emit_store(e, ADDRESS_ABS(&t->v->rip), HOST_R10);
	end_scratch(t);
	translate_unspill(t);
	if (t->live->returns_host)
		emit_u8(e, 0xc3);
	else
		translate_goto_rip(t, false);
	t->ended = true;
	return true;
}

/* --- calls of C -------------------------------------------------------------------------------------------------- */

static void emit_stub_call(struct translation *t, enum stub stub)
{
	translate_unspill(t);
	translate_store_rip(t, t->scan->pc + t->item->offset);
	if (stub == STUB_HELPER) {
		struct insn *record = cache_add_insn(t->live);

		if (!record) {
			t->e.overflow = true;
			return;
		}
		*record = t->item->insn;
		emit_mov_imm(&t->e, HOST_R10, (u64)(uintptr_t)record);
	}
	translate_record(t, 0);
	emit_call_mem(&t->e, ADDRESS_ABS(&t->v->stub[stub]));
	translate_spill(t);
	if (scan_ends_flow(&t->item->insn))
		t->ended = false;
}

void emit_insn_by_interp(struct translation *t)
{
	emit_stub_call(t, STUB_INTERP);
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
		if (!begin_scratch(t, insn->gpr_read | insn->gpr_write))
			return false;
		emit_indirect_target(t, insn);
		emit_store(&t->e, ADDRESS_ABS(&t->v->rip), HOST_R10);
		end_scratch(t);
		translate_unspill(t);
		translate_goto_rip(t, false);
		t->ended = true;
		return true;
	case INSN_RET:
		return emit_ret(t, insn);
	case INSN_HELPER:
	case INSN_STRING:
		emit_stub_call(t, STUB_HELPER);
		return true;
	case INSN_BITSTRING:
	case INSN_GATHER:
	case INSN_UNDEFINED:
		return false;
	}
	return false;
}
