/* String instructions: page-wise when both sides are plain RAM, element by element otherwise (SDM vol. 2, REP). */
#include "cpu/cpu.h"
#include "cpu/operand.h"
#include "cpu/segment.h"
#include "interp/gather.h"
#include "interp/interp.h"
#include "mem/mem.h"
#include "util/bytes.h"
#include "vm.h"
#include "x86/insn.h"

/* A long REP looks for events after so many pages. A constant, so that every engine stops at the same element. */
#define PAGES_AT_ONCE 32

struct string_op {
	const struct insn *insn;
	unsigned size;   /* bytes of an element */
	u64 source_base; /* FS or GS base, or 0; in 32-bit code that of any segment */
	u64 target_base; /* ES in 32-bit code, else 0 */
	u64 address_mask;
	u64 linear_mask;
	bool backward;
	bool checked; /* segments with limits: each element is looked at */
	bool stepped; /* RFLAGS.TF, or breakpoints: REP stops after each element */
};

static u64 source_address(const struct vcpu *v, const struct string_op *op)
{
	return (op->source_base + (v->gpr[RSI] & op->address_mask)) & op->linear_mask;
}

static u64 target_address(const struct vcpu *v, const struct string_op *op)
{
	return (op->target_base + (v->gpr[RDI] & op->address_mask)) & op->linear_mask;
}

/* The register as far as the address size goes. 16 bits leave the others alone, 32 bits clear them. */
static void set_register(struct vcpu *v, const struct string_op *op, enum gpr reg, u64 value)
{
	if (op->address_mask == 0xffff)
		v->gpr[reg] = (v->gpr[reg] & ~0xffffULL) | (value & 0xffff);
	else
		v->gpr[reg] = value & op->address_mask;
}

static enum exec check_source(struct vcpu *v, const struct string_op *op)
{
	if (LIKELY(!op->checked))
		return EXEC_OK;
	return segment_check(v, op->insn->seg & 7, (u32)(v->gpr[RSI] & op->address_mask), op->size, ACCESS_READ);
}

static enum exec check_target(struct vcpu *v, const struct string_op *op, unsigned access)
{
	if (LIKELY(!op->checked))
		return EXEC_OK;
	return segment_check(v, SEG_ES, (u32)(v->gpr[RDI] & op->address_mask), op->size, access);
}

static void advance(struct vcpu *v, const struct string_op *op, enum gpr reg, u64 elements)
{
	u64 by = elements * op->size;

	set_register(v, op, reg, v->gpr[reg] + (op->backward ? 0 - by : by));
}

/* How many of `count` elements from gva on lie in gva's page, whole. 0: the first one crosses its end. */
static u64 elements_in_page(const struct string_op *op, u64 gva, u64 count)
{
	u64 room;

	if (op->backward)
		room = PAGE_OFFSET(gva) + op->size <= PAGE_SIZE ? PAGE_OFFSET(gva) / op->size + 1 : 0;
	else
		room = (PAGE_SIZE - PAGE_OFFSET(gva)) / op->size;
	return room < count ? room : count;
}

/* The arithmetic flags of a - b. */
static u64 flags_of_compare(unsigned size, u64 a, u64 b)
{
	u64 rax;

	switch (size) {
	case 1:
		__asm__("cmpb %b2, %b1\n\tlahf\n\tseto %%al" : "=&a"(rax) : "q"(a), "q"(b) : "cc");
		break;
	case 2:
		__asm__("cmpw %w2, %w1\n\tlahf\n\tseto %%al" : "=&a"(rax) : "r"(a), "r"(b) : "cc");
		break;
	case 4:
		__asm__("cmpl %k2, %k1\n\tlahf\n\tseto %%al" : "=&a"(rax) : "r"(a), "r"(b) : "cc");
		break;
	default:
		__asm__("cmpq %2, %1\n\tlahf\n\tseto %%al" : "=&a"(rax) : "r"(a), "r"(b) : "cc");
		break;
	}
	return ((rax >> 8) & 0xd5) | (rax & 1) << 11;
}

/* A processor takes longer to begin with REP than to store so many words. */
#define WORDS_WITHOUT_REP 16

typedef u64 guest_word __attribute__((aligned(1))); /* lies where the guest wants it */

static void move_words(guest_word *to, const guest_word *from, u64 words)
{
	for (u64 i = 0; i < words; i++) {
		__asm__ volatile("" : : : "memory"); /* one after the other: they may overlap */
		to[i] = from[i];
	}
}

static void fill_words(guest_word *to, u64 value, u64 words)
{
	for (u64 i = 0; i < words; i++) {
		__asm__ volatile("" : : : "memory"); /* not made a call of memset() */
		to[i] = value;
	}
}

static void host_move(void *to, const void *from, u64 elements, unsigned size)
{
	if (size == 8 && elements <= WORDS_WITHOUT_REP) {
		move_words(to, from, elements);
		return;
	}
	switch (size) {
	case 1:
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(elements) : : "memory");
		break;
	case 2:
		__asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(elements) : : "memory");
		break;
	case 4:
		__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(elements) : : "memory");
		break;
	default:
		__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(elements) : : "memory");
		break;
	}
}

static void host_fill(void *to, u64 value, u64 elements, unsigned size)
{
	if (size == 8 && elements <= WORDS_WITHOUT_REP) {
		fill_words(to, value, elements);
		return;
	}
	switch (size) {
	case 1:
		__asm__ volatile("rep stosb" : "+D"(to), "+c"(elements) : "a"(value) : "memory");
		break;
	case 2:
		__asm__ volatile("rep stosw" : "+D"(to), "+c"(elements) : "a"(value) : "memory");
		break;
	case 4:
		__asm__ volatile("rep stosl" : "+D"(to), "+c"(elements) : "a"(value) : "memory");
		break;
	default:
		__asm__ volatile("rep stosq" : "+D"(to), "+c"(elements) : "a"(value) : "memory");
		break;
	}
}

/* One movs or stos step: up to `count` elements. *done is how many were moved (at least 1 on EXEC_OK). */
static enum exec step_movs(struct vcpu *v, const struct string_op *op, u64 count, u64 *done)
{
	u64 from = source_address(v, op), to = target_address(v, op), element = 0;
	u64 here = elements_in_page(op, from, elements_in_page(op, to, count));
	u8 *source, *target;

	if (check_source(v, op) != EXEC_OK || check_target(v, op, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	if (here && !op->backward && !v->observe) {
		if (mmu_fill(v, from, op->size, ACCESS_READ, &source) != EXEC_OK ||
		    mmu_fill(v, to, op->size, ACCESS_WRITE, &target) != EXEC_OK)
			return EXEC_FAULT;
		if (source && target) {
			host_move(target, source, here, op->size);
			*done = here;
			return EXEC_OK;
		}
	}
	if (mem_read(v, from, &element, op->size, ACCESS_READ) != EXEC_OK ||
	    mem_write(v, to, &element, op->size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	*done = 1;
	return EXEC_OK;
}

static enum exec step_stos(struct vcpu *v, const struct string_op *op, u64 count, u64 *done)
{
	u64 to = target_address(v, op);
	u64 here = elements_in_page(op, to, count);
	u8 *target;

	if (check_target(v, op, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	if (here && !op->backward && !v->observe) {
		if (mmu_fill(v, to, op->size, ACCESS_WRITE, &target) != EXEC_OK)
			return EXEC_FAULT;
		if (target) {
			host_fill(target, v->gpr[RAX], here, op->size);
			*done = here;
			return EXEC_OK;
		}
	}
	if (mem_write(v, to, &v->gpr[RAX], op->size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	*done = 1;
	return EXEC_OK;
}

static u64 count_left(const struct vcpu *v, const struct string_op *op)
{
	return v->gpr[RCX] & op->address_mask;
}

/* movs, stos: no flags involved. */
static enum exec run_transfer(struct vcpu *v, const struct string_op *op, bool moves)
{
	unsigned pages = 0;
	u64 done;

	if (!op->insn->rep) {
		enum exec result = moves ? step_movs(v, op, 1, &done) : step_stos(v, op, 1, &done);

		if (result != EXEC_OK)
			return result;
		if (moves)
			advance(v, op, RSI, 1);
		advance(v, op, RDI, 1);
		return EXEC_OK;
	}
	while (count_left(v, op)) {
		u64 count = count_left(v, op), most = op->stepped || op->checked ? 1 : count;
		enum exec result = moves ? step_movs(v, op, most, &done) : step_stos(v, op, most, &done);

		if (result != EXEC_OK)
			return result;
		if (moves)
			advance(v, op, RSI, done);
		advance(v, op, RDI, done);
		set_register(v, op, RCX, count - done);
		if (count_left(v, op) && (op->stepped || ++pages == PAGES_AT_ONCE))
			return EXEC_AGAIN;
	}
	return EXEC_OK;
}

/* lods: with REP only the last element survives, but each is touched. */
static enum exec run_lods(struct vcpu *v, const struct string_op *op)
{
	unsigned elements = 0;

	while (!op->insn->rep || count_left(v, op)) {
		u64 element = 0;

		if (check_source(v, op) != EXEC_OK ||
		    mem_read(v, source_address(v, op), &element, op->size, ACCESS_READ) != EXEC_OK)
			return EXEC_FAULT;
		if (op->size >= 4)
			v->gpr[RAX] = element;
		else
			bytes_copy(&v->gpr[RAX], &element, op->size);
		advance(v, op, RSI, 1);
		if (!op->insn->rep)
			break;
		set_register(v, op, RCX, count_left(v, op) - 1);
		if (count_left(v, op) && (op->stepped || ++elements == PAGES_AT_ONCE * 64))
			return EXEC_AGAIN;
	}
	return EXEC_OK;
}

/* cmps, scas: REPE goes on while equal, REPNE while different. A fault leaves the flags as they were before (SDM vol.
 * 2B, REP). */
static enum exec run_compare(struct vcpu *v, const struct string_op *op, bool scas)
{
	unsigned elements = 0;
	u64 before = v->arith;

	while (!op->insn->rep || count_left(v, op)) {
		u64 a = scas ? v->gpr[RAX] : 0, b = 0;

		/* in this order on processors */
		if ((!scas && check_source(v, op) != EXEC_OK) || check_target(v, op, ACCESS_READ) != EXEC_OK ||
		    mem_read(v, target_address(v, op), &b, op->size, ACCESS_READ) != EXEC_OK ||
		    (!scas && mem_read(v, source_address(v, op), &a, op->size, ACCESS_READ) != EXEC_OK)) {
			v->arith = before;
			return EXEC_FAULT;
		}
		v->arith = flags_of_compare(op->size, a, b);
		if (!scas)
			advance(v, op, RSI, 1);
		advance(v, op, RDI, 1);
		if (!op->insn->rep)
			break;
		set_register(v, op, RCX, count_left(v, op) - 1);
		if (!!(v->arith & FLAG_ZF) != (op->insn->rep == 0xf3))
			break;
		if (count_left(v, op) && (op->stepped || ++elements == PAGES_AT_ONCE * 64))
			return EXEC_AGAIN;
	}
	return EXEC_OK;
}

static enum exec run_xlat(struct vcpu *v, const struct string_op *op)
{
	u64 gva = operand_linear(v, op->insn, v->gpr[RBX] + (u8)v->gpr[RAX]);
	u8 value;

	if (operand_check(v, op->insn, gva, 1, ACCESS_READ) != EXEC_OK ||
	    mem_read(v, gva, &value, 1, ACCESS_READ) != EXEC_OK)
		return EXEC_FAULT;
	v->gpr[RAX] = (v->gpr[RAX] & ~0xffULL) | value;
	return EXEC_OK;
}

/* The host address of `length` bytes in one page that the view in force lets be accessed so at once, else NULL. */
static u8 *at_once(const struct vcpu *v, u64 gva, u64 length, unsigned access)
{
	const unsigned i = tlb_index(gva);
	const u64 ntag = access == ACCESS_WRITE ? v->view->tlb_more[i].ntag_write : v->view->tlb[i].ntag_read;
	const u64 offset = gva + ntag;

	return offset < PAGE_SIZE && length <= PAGE_SIZE - offset ? (u8 *)(gva + v->view->tlb[i].addend) : NULL;
}

/* What nearly all REP MOVS and REP STOS of a kernel are: forward, within pages that are in the TLB. False: they are
 * not. */
static bool transfer_at_once(struct vcpu *v, const struct insn *insn, bool moves)
{
	const u64 count = v->gpr[RCX], length = count * insn->opsize;

	if (!insn->rep || insn->addrsize != 8 || insn->seg != SEG_DS || count - 1 >= PAGE_SIZE || v->observe ||
	    (v->rflags & (FLAG_DF | FLAG_TF)))
		return false;
	u8 *to = at_once(v, v->gpr[RDI], length, ACCESS_WRITE);
	const u8 *from = moves ? at_once(v, v->gpr[RSI], length, ACCESS_READ) : NULL;

	if (!to || (moves && !from))
		return false;
	if (moves) {
		host_move(to, from, count, insn->opsize);
		v->gpr[RSI] += length;
	} else {
		host_fill(to, v->gpr[RAX], count, insn->opsize);
	}
	v->gpr[RDI] += length;
	v->gpr[RCX] = 0;
	return true;
}

/* Nothing that is in its 4 GiB can be forbidden. */
static bool is_flat(const struct segment *segment)
{
	return segment->limit == UINT32_MAX &&
	       (segment->attr & (SEG_ATTR_P | TYPE_CODE | TYPE_DOWN | TYPE_WRITABLE)) == (SEG_ATTR_P | TYPE_WRITABLE);
}

enum exec interp_string(struct vcpu *v, const struct insn *insn)
{
	const u8 opcode = insn->bytes[insn->opcode_at];

	if (((opcode & 0xfe) == 0xa4 || (opcode & 0xfe) == 0xaa) && transfer_at_once(v, insn, opcode < 0xaa))
		return EXEC_OK;
	struct string_op op = {
		.insn = insn,
		.size = insn->opsize,
		.source_base = operand_base(v, insn),
		.target_base = insn->seg & INSN_SEG_LEGACY ? v->seg[SEG_ES].base : 0,
		.address_mask = insn->addrsize == 8 ? ~0ULL : BIT(insn->addrsize * 8) - 1,
		.linear_mask = insn->seg & INSN_SEG_LEGACY ? UINT32_MAX : ~0ULL,
		.backward = v->rflags & FLAG_DF,
		.checked =
			insn->seg & INSN_SEG_LEGACY && !(is_flat(&v->seg[insn->seg & 7]) && is_flat(&v->seg[SEG_ES])),
		.stepped = (v->rflags & FLAG_TF) || v->observe,
	};
	enum exec result;
	bool loaded;

	/* with a count of 0 the upper half of rcx is cleared nevertheless */
	if (insn->rep && insn->addrsize == 4 && !count_left(v, &op))
		set_register(v, &op, RCX, 0);
	switch (opcode) {
	case 0xa4:
	case 0xa5:
		return run_transfer(v, &op, true);
	case 0xaa:
	case 0xab:
		return run_transfer(v, &op, false);
	case 0xac:
	case 0xad:
		return run_lods(v, &op);
	case 0xa6:
	case 0xa7:
		return run_compare(v, &op, false);
	case 0xae:
	case 0xaf:
		return run_compare(v, &op, true);
	case 0xd7:
		return run_xlat(v, &op);
	default: /* maskmovq, maskmovdqu */
		loaded = v->fpu_loaded;
		result = interp_masked_bytes(v, insn);
		if (loaded)
			vcpu_fpu_get(v);
		return result;
	}
}
