/*
 * Guest memory accesses. This is where lifting earns its keep.
 *
 * Accesses off one base register are a stream. Its state is two values: `tag`, the guest page that its last look-up
 * found (TAG_NONE when there is none), and `addend`, host minus guest address. An access is
 *
 *	t = ea & (-4096 | size - 1);  if (t != tag) goto slow;  access [ea + addend]
 *
 * so that the access itself does not wait for the check, and an address that is not aligned to its size goes to slow,
 * where the TLB is looked into as copied code does it; what it does not have a stub asks C for, which keeps all
 * registers but r10. State of a stream that writes is that of a page which may be written.
 *
 * An access at a constant address has a stream of its own page, whose state is one value: 0, or the addend + 1.
 */
#include <stdio.h>

#include "cpu/vcpu.h"
#include "ir.h"
#include "mem/mem.h"
#include "translate/store.h"

/* No page, and nothing that an address comes to when it is masked. */
#define TAG_NONE 0x800

/* --- which stream ------------------------------------------------------------------------------------------------ */

static bool constant_ea(const struct lift *l, const struct insn *insn, unsigned item, u64 *ea)
{
	if (insn->index != INSN_NO_REG || insn->seg == SEG_FS || insn->seg == SEG_GS || insn->addrsize != 8)
		return false;
	if (insn->base == INSN_RIP)
		*ea = l->scan->pc + l->scan->item[item].offset + insn->length + (u64)insn->disp;
	else if (insn->base == INSN_NO_REG)
		*ea = (u64)insn->disp;
	else
		return false;
	return PAGE_OFFSET(*ea) + insn->mem_size <= PAGE_SIZE;
}

static struct stream operand_stream(const struct lift *l, const struct insn *insn, unsigned item)
{
	struct stream s = {.seg = SEG_DS, .reg = insn->base, .kind = STREAM_BASE, .write = insn->mem_write};
	u64 ea;

	if (constant_ea(l, insn, item, &ea)) {
		s.kind = STREAM_CONSTANT;
		s.reg = INSN_NO_REG;
		s.page = PAGE_BASE(ea);
	} else if (insn->seg == SEG_FS || insn->seg == SEG_GS) {
		s.kind = STREAM_SEGMENT;
		s.seg = insn->seg;
	} else if (insn->base == INSN_NO_REG || insn->base == INSN_RIP) {
		s.kind = STREAM_INDEX;
		s.reg = insn->index;
		s.page = PAGE_BASE((u64)insn->disp);
	}
	return s;
}

static struct stream *find_stream(struct lift *l, const struct stream *wanted)
{
	for (unsigned i = 0; i < l->stream_count; i++) {
		struct stream *s = &l->stream[i];

		if (s->kind == wanted->kind && s->reg == wanted->reg && s->seg == wanted->seg &&
		    s->page == wanted->page && (s->kind != STREAM_CONSTANT || s->write == wanted->write))
			return s;
	}
	return NULL;
}

static void add_access(struct lift *l, struct stream wanted, unsigned item)
{
	struct stream *s = find_stream(l, &wanted);

	if (!s && l->stream_count == STREAM_MAX) {
		l->reason = "accesses memory in too many ways";
		return;
	}
	if (!s) {
		s = &l->stream[l->stream_count++];
		*s = wanted;
	}
	s->write |= wanted.write;
	s->count++;
	s->loops |= l->in_loop[item];
}

static void add_stack_access(struct lift *l, const struct insn *insn, unsigned item)
{
	u8 opcode = insn->bytes[insn->opcode_at];
	bool pushes = (opcode & 0xf8) == 0x50 || opcode == 0x68 || opcode == 0x6a || opcode == 0xff;

	add_access(
		l,
		(struct stream){.kind = STREAM_BASE, .reg = opcode == 0xc9 ? RBP : RSP, .seg = SEG_DS, .write = pushes},
		item);
}

void lift_find_streams(struct lift *l)
{
	l->stream_count = 0;
	for (unsigned i = 0; i < l->scan->count; i++) {
		const struct insn *insn = &l->scan->item[i].insn;

		if (!l->reachable[i])
			continue;
		if (insn->has_mem && insn->mem_size)
			add_access(l, operand_stream(l, insn, i), i);
		if (insn->class == INSN_STACK)
			add_stack_access(l, insn, i);
	}
}

/* --- addresses --------------------------------------------------------------------------------------------------- */

static LLVMValueRef segment_base(struct lift *l, u8 seg)
{
	u64 field = VCPU_ADDRESS + (seg == SEG_FS ? offsetof(struct vcpu, fs_base) : offsetof(struct vcpu, gs_base));
	LLVMValueRef load = LLVMBuildLoad2(l->b, l->i64, lift_address(l, field), "");

	/* only helpers change it, and no lifted function goes on after one */
	LLVMSetMetadata(load, l->invariant_kind, l->empty_node);
	return load;
}

LLVMValueRef lift_ea(struct lift *l, bool with_segment)
{
	const struct insn *insn = l->insn;
	LLVMValueRef ea;
	u64 disp = (u64)insn->disp;

	if (insn->base == INSN_RIP)
		disp += l->scan->pc + l->scan->item[l->item].offset + insn->length;
	ea = insn->base != INSN_RIP && insn->base != INSN_NO_REG ? lift_get(l, insn->base) : NULL;
	if (insn->index != INSN_NO_REG) {
		LLVMValueRef index = lift_get(l, insn->index);

		if (insn->scale > 1)
			index = LLVMBuildShl(l->b, index, lift_const(l, 8, (u64)__builtin_ctz(insn->scale)), "");
		ea = ea ? LLVMBuildAdd(l->b, ea, index, "") : index;
	}
	ea = ea ? disp ? LLVMBuildAdd(l->b, ea, lift_const(l, 8, disp), "") : ea : lift_const(l, 8, disp);
	if (insn->addrsize == 4)
		ea = lift_zext(l, lift_trunc(l, ea, 4), 8);
	if (with_segment && (insn->seg == SEG_FS || insn->seg == SEG_GS))
		ea = LLVMBuildAdd(l->b, ea, segment_base(l, insn->seg), "");
	return ea;
}

/* --- look-ups ---------------------------------------------------------------------------------------------------- */

/* Calls the stub: addend + 1 (+ 2: may be written), or 0: no access here. */
static LLVMValueRef call_fill(struct lift *l, LLVMValueRef ea, unsigned size, bool write)
{
	unsigned log = (unsigned)__builtin_ctz(size);
	u64 stub = VCPU_ADDRESS + offsetof(struct vcpu, stub) +
		   sizeof(void *) * (unsigned)((write ? STUB_FILL_WRITE : STUB_FILL_READ) + log);
	char text[48];

	snprintf(text, sizeof(text), "callq *%llu", (unsigned long long)stub);
	return lift_asm(l, l->i64, text, "={r10},{r10},~{dirflag},~{fpsr},~{flags}", &ea, 1, true, true);
}

/* The same; leaves if the access must not be made. Ends at the block for success. */
static LLVMValueRef look_up(struct lift *l, LLVMValueRef ea, unsigned size, bool write)
{
	LLVMValueRef found = call_fill(l, ea, size, write);
	LLVMBasicBlockRef good = lift_block(l, "found");

	lift_unlikely(l, lift_is_zero(l, found), lift_fault(l), good);
	lift_to(l, good);
	return found;
}

static LLVMValueRef pointer(struct lift *l, LLVMValueRef ea, LLVMValueRef addend)
{
	return LLVMBuildIntToPtr(l->b, LLVMBuildAdd(l->b, ea, addend, ""), l->ptr, "");
}

static LLVMValueRef access_constant(struct lift *l, struct stream *s, LLVMValueRef ea, unsigned size)
{
	if (!s->addend)
		s->addend = lift_variable(l, l->i64, lift_const(l, 8, 0), "constant");
	LLVMBasicBlockRef slow = lift_block(l, "slow"), join = lift_block(l, "access");
	LLVMValueRef state = LLVMBuildLoad2(l->b, l->i64, s->addend, "");

	lift_unlikely(l, lift_is_zero(l, state), slow, join);
	lift_to(l, slow);
	LLVMValueRef found = look_up(l, ea, size, s->write);

	LLVMBuildStore(
		l->b,
		LLVMBuildOr(l->b, LLVMBuildAnd(l->b, found, lift_const(l, 8, ~3ULL), ""), lift_const(l, 8, 1), ""),
		s->addend);
	LLVMBuildBr(l->b, join);
	lift_to(l, join);
	state = LLVMBuildLoad2(l->b, l->i64, s->addend, "");
	return pointer(l, LLVMBuildSub(l->b, ea, lift_const(l, 8, 1), ""), state);
}

/* What tells an entry from those of tlb_more: both have 16 bytes, so that one index serves. */
#define TLB_READ_TAG  (offsetof(struct view, tlb) + offsetof(struct tlb_entry, ntag_read))
#define TLB_ADDEND    (offsetof(struct view, tlb) + offsetof(struct tlb_entry, addend))
#define TLB_WRITE_TAG (offsetof(struct view, tlb_more) + offsetof(struct tlb_more, ntag_write))
_Static_assert(sizeof(struct tlb_entry) == 16 && sizeof(struct tlb_more) == 16, "the index is computed as gva >> 8");

/* A field of the view in force, at `index` (bytes) + offset. Volatile: the fields of one entry belong together. */
static LLVMValueRef view_field(struct lift *l, LLVMValueRef index, u64 offset)
{
	LLVMTypeRef pointer_type = LLVMPointerTypeInContext(l->context, 256);
	LLVMValueRef address = LLVMBuildAdd(l->b, index, lift_const(l, 8, offset), "");
	LLVMValueRef load = LLVMBuildLoad2(l->b, l->i64, LLVMBuildIntToPtr(l->b, address, pointer_type, ""), "");

	LLVMSetVolatile(load, true);
	return load;
}

/* The same look-up here and now, without the stub; goes to `miss` if the TLB does not have it. */
static void probe(struct lift *l, struct stream *s, LLVMValueRef ea, unsigned size, bool write, LLVMBasicBlockRef miss)
{
	LLVMValueRef shifted = LLVMBuildLShr(l->b, ea, lift_const(l, 8, 8), "");
	LLVMValueRef index = LLVMBuildAnd(l->b, shifted, lift_const(l, 8, (TLB_SIZE - 1) << 4), "");
	LLVMValueRef ntag = view_field(l, index, write ? TLB_WRITE_TAG : TLB_READ_TAG);
	LLVMValueRef offset = LLVMBuildAdd(l->b, ea, ntag, "");
	LLVMBasicBlockRef hit = lift_block(l, "hit");

	lift_unlikely(l, LLVMBuildICmp(l->b, LLVMIntUGT, offset, lift_const(l, 8, PAGE_SIZE - size), ""), miss, hit);
	lift_to(l, hit);
	LLVMValueRef page = LLVMBuildNeg(l->b, ntag, "");

	if (s->write && !write) {
		LLVMValueRef both = LLVMBuildICmp(l->b, LLVMIntEQ, ntag, view_field(l, index, TLB_WRITE_TAG), "");

		page = LLVMBuildSelect(l->b, both, page, lift_const(l, 8, TAG_NONE), "");
	}
	LLVMBuildStore(l->b, page, s->tag);
	LLVMBuildStore(l->b, view_field(l, index, TLB_ADDEND), s->addend);
}

static void begin_stream(struct lift *l, struct stream *s)
{
	if (s->tag)
		return;
	s->tag = lift_variable(l, l->i64, lift_const(l, 8, TAG_NONE), "tag");
	s->addend = lift_variable(l, l->i64, lift_const(l, 8, 0), "addend");
}

/* What the stub says becomes the stream's state. */
static void take_found(struct lift *l, struct stream *s, LLVMValueRef ea, LLVMValueRef found, bool write)
{
	LLVMValueRef page_mask = lift_const(l, 8, ~(PAGE_SIZE - 1));
	LLVMValueRef page = LLVMBuildAnd(l->b, ea, page_mask, "");

	/* a read of a page that may not be written (yet) does not make it the state of a stream that writes */
	if (s->write && !write) {
		LLVMValueRef bit = LLVMBuildAnd(l->b, found, lift_const(l, 8, 2), "");

		page = LLVMBuildSelect(l->b, lift_is_zero(l, bit), lift_const(l, 8, TAG_NONE), page, "");
	}
	LLVMBuildStore(l->b, page, s->tag);
	LLVMBuildStore(l->b, LLVMBuildAnd(l->b, found, page_mask, ""), s->addend);
}

static LLVMValueRef access_moving(struct lift *l, struct stream *s, LLVMValueRef ea, unsigned size, bool write)
{
	begin_stream(l, s);
	LLVMBasicBlockRef slow = lift_block(l, "slow"), fill = lift_block(l, "fill"), join = lift_block(l, "access");
	LLVMValueRef tag = LLVMBuildLoad2(l->b, l->i64, s->tag, "");
	LLVMValueRef t = LLVMBuildAnd(l->b, ea, lift_const(l, 8, ~(PAGE_SIZE - 1) | (size - 1)), "");

	lift_unlikely(l, LLVMBuildICmp(l->b, LLVMIntNE, t, tag, ""), slow, join);
	lift_to(l, slow);
	probe(l, s, ea, size, write, fill);
	LLVMBuildBr(l->b, join);
	lift_to(l, fill);
	take_found(l, s, ea, look_up(l, ea, size, write), write);
	LLVMBuildBr(l->b, join);
	lift_to(l, join);
	return pointer(l, ea, LLVMBuildLoad2(l->b, l->i64, s->addend, ""));
}

/* --- windows ----------------------------------------------------------------------------------------------------- */

#define WINDOW_BYTES_MAX 512
#define WINDOW_ACCESSES  3 /* fewer are as cheap checked one by one */

/* [register + displacement] and nothing else */
static bool simple(const struct insn *insn)
{
	return insn->has_mem && insn->mem_size && insn->base < GPR_COUNT && insn->index == INSN_NO_REG &&
	       insn->seg == SEG_DS && insn->addrsize == 8;
}

static const struct lift_window *window_of(const struct lift *l, unsigned base)
{
	for (unsigned i = 0; i < l->window_count; i++) {
		const struct lift_window *w = &l->window[i];

		if (w->base == base && w->first <= l->item && l->item <= w->last && w->addend)
			return w;
	}
	return NULL;
}

/* The window that begins with item i for its register; count 0 if there is none. */
static struct lift_window window_at(const struct lift *l, unsigned i)
{
	const struct scan *scan = l->scan;
	struct lift_window w = {.first = (u16)i, .last = (u16)i, .base = scan->item[i].insn.base};

	for (unsigned n = i; n < scan->count && l->reachable[n] && (n == i || !l->block[n]); n++) {
		const struct insn *insn = &scan->item[n].insn;

		if (simple(insn) && insn->base == w.base) {
			s64 low = w.count && w.low < insn->disp ? w.low : insn->disp;
			s64 high = insn->disp + insn->mem_size;

			high = w.count && w.high > high ? w.high : high;
			if (high - low > WINDOW_BYTES_MAX)
				break;
			w.low = low;
			w.high = high;
			w.last = (u16)n;
			w.count++;
			w.write |= insn->mem_write;
		}
		if ((insn->gpr_write & BIT(w.base)) || !scan->item[n].falls)
			break;
	}
	return w;
}

void lift_find_windows(struct lift *l)
{
	l->window_count = 0;
	for (unsigned i = 0; i < l->scan->count && !l->plain && l->window_count < LIFT_WINDOWS_MAX; i++) {
		bool covered = false;

		if (!l->reachable[i] || !simple(&l->scan->item[i].insn))
			continue;
		for (unsigned n = 0; n < l->window_count; n++)
			covered |= l->window[n].base == l->scan->item[i].insn.base && i <= l->window[n].last;
		struct lift_window w = window_at(l, i);

		if (!covered && w.count >= WINDOW_ACCESSES)
			l->window[l->window_count++] = w;
	}
}

static void open_window(struct lift *l, struct lift_window *w)
{
	struct stream wanted = {.kind = STREAM_BASE, .reg = w->base, .seg = SEG_DS};
	struct stream *s = find_stream(l, &wanted);
	LLVMValueRef base = lift_get(l, w->base);
	LLVMValueRef low = LLVMBuildAdd(l->b, base, lift_const(l, 8, (u64)w->low), "");
	LLVMValueRef high = LLVMBuildAdd(l->b, base, lift_const(l, 8, (u64)w->high - 1), "");
	LLVMValueRef mask = lift_const(l, 8, ~(PAGE_SIZE - 1));
	LLVMBasicBlockRef slow = lift_block(l, "slow"), within = lift_block(l, "within"), fill = lift_block(l, "fill"),
			  found = lift_block(l, "found"), open = lift_block(l, "open");

	begin_stream(l, s);
	LLVMValueRef tag = LLVMBuildLoad2(l->b, l->i64, s->tag, "");
	LLVMValueRef page = LLVMBuildAnd(l->b, low, mask, "");
	LLVMValueRef one = LLVMBuildICmp(l->b, LLVMIntNE, page, LLVMBuildAnd(l->b, high, mask, ""), "");
	LLVMValueRef other = LLVMBuildICmp(l->b, LLVMIntNE, page, tag, "");

	lift_unlikely(l, LLVMBuildOr(l->b, one, other, ""), slow, open);
	lift_to(l, slow);
	lift_unlikely(l, one, lift_plain(l), within);
	lift_to(l, within);
	probe(l, s, low, 1, w->write, fill);
	LLVMBuildBr(l->b, open);
	lift_to(l, fill);
	LLVMValueRef result = call_fill(l, low, 1, w->write);

	lift_unlikely(l, lift_is_zero(l, result), lift_plain(l), found);
	lift_to(l, found);
	take_found(l, s, low, result, w->write);
	LLVMBuildBr(l->b, open);
	lift_to(l, open);
	w->addend = LLVMBuildLoad2(l->b, l->i64, s->addend, "");
}

void lift_open_windows(struct lift *l)
{
	for (unsigned i = 0; i < l->window_count; i++) {
		if (l->window[i].first == l->item)
			open_window(l, &l->window[i]);
	}
}

LLVMValueRef lift_operand(struct lift *l)
{
	const struct insn *insn = l->insn;

	if (l->operand)
		return l->operand;
	struct stream wanted = operand_stream(l, insn, l->item);
	struct stream *s = find_stream(l, &wanted);
	LLVMValueRef ea = lift_ea(l, true);

	const struct lift_window *w = wanted.kind == STREAM_BASE ? window_of(l, wanted.reg) : NULL;

	if (w && simple(insn))
		return l->operand = pointer(l, ea, w->addend);
	l->operand = wanted.kind == STREAM_CONSTANT ? access_constant(l, s, ea, insn->mem_size)
						    : access_moving(l, s, ea, insn->mem_size, insn->mem_write);
	return l->operand;
}

LLVMValueRef lift_stack(struct lift *l, unsigned base, LLVMValueRef gva, bool write)
{
	struct stream wanted = {.kind = STREAM_BASE, .reg = (u8)base, .seg = SEG_DS};

	return access_moving(l, find_stream(l, &wanted), gva, 8, write);
}

LLVMValueRef lift_load(struct lift *l, LLVMValueRef host, unsigned size)
{
	LLVMValueRef load = LLVMBuildLoad2(l->b, lift_type(l, size), host, "");

	LLVMSetVolatile(load, true);
	LLVMSetAlignment(load, 1);
	return load;
}

void lift_store(struct lift *l, LLVMValueRef host, LLVMValueRef value)
{
	LLVMValueRef store = LLVMBuildStore(l->b, value, host);

	LLVMSetVolatile(store, true);
	LLVMSetAlignment(store, 1);
}
