/* Random instructions of 32-bit code: every opcode, with operands wherever segments and registers can put them. */
#include <stdio.h>
#include <string.h>

#include "generate.h"
#include "random.h"
#include "x86/insn.h"

#define PLAIN 4096u /* map, prefix, opcode */
#define VEX   6144u /* map, L, pp, opcode */

struct maker {
	struct random r;
	struct insn_case *c;
	struct insn insn;
};

static void put(struct insn_case *c, u8 byte)
{
	c->code[c->length++] = byte;
}

static void put_prefixes(struct maker *m)
{
	static const u8 segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

	if (random_one_in(&m->r, 6))
		put(m->c, 0x67);
	if (random_one_in(&m->r, 4))
		put(m->c, segments[random_below(&m->r, sizeof(segments))]);
}

static void put_opcode(struct maker *m, unsigned form)
{
	static const u8 prefixes[] = {0, 0x66, 0xf2, 0xf3};
	const u8 opcode = (u8)form, prefix = prefixes[form >> 8 & 3], map = (u8)(form >> 10);

	if (prefix)
		put(m->c, prefix);
	if (map)
		put(m->c, 0x0f);
	if (map >= 2)
		put(m->c, map == 2 ? 0x38 : 0x3a);
	put(m->c, opcode);
}

/* vpextrd, vpinsrd: what W does to them in 32-bit code is the processor's affair (AMD: #UD). */
static bool wide_is_undefined(u8 map, u8 opcode)
{
	return map == 2 && (opcode == 0x16 || opcode == 0x22);
}

/* Registers beyond the seventh are asked for as well: those bits must mean nothing, or no instruction. */
static void put_vex_opcode(struct maker *m, unsigned form)
{
	const u8 opcode = (u8)form, last = (u8)(form >> 8 & 7), map = (u8)(form >> 11);
	const u8 vvvv = random_one_in(&m->r, 2) ? 0x78 : (u8)(random_u64(&m->r) & 0x78);

	if (map == 0 && random_one_in(&m->r, 2)) {
		put(m->c, 0xc5);
		put(m->c, 0x80 | 0x40 | vvvv | last);
	} else {
		put(m->c, 0xc4);
		put(m->c, (u8)(0xc0 | (random_u64(&m->r) & 0x20) | (map + 1)));
		put(m->c, (wide_is_undefined(map, opcode) ? 0 : (u8)(random_u64(&m->r) & 0x80)) | vvvv | last);
	}
	put(m->c, opcode);
}

static bool helper_is_testable(u8 helper)
{
	switch (helper) {
	case HELP_cld:
	case HELP_std:
	case HELP_ldmxcsr:
	case HELP_stmxcsr:
	case HELP_pause:
	case HELP_ud:
	case HELP_pushf:
	case HELP_popf:
	case HELP_push_seg:
	case HELP_mov_from_seg:
	case HELP_int3:
		return true;
	default:
		return false;
	}
}

static bool is_testable(const struct insn *insn)
{
	return (insn->class != INSN_HELPER || helper_is_testable(insn->helper)) && insn->class != INSN_UNDEFINED &&
	       generate_host_has(insn) &&
	       !(insn->class == INSN_LEGACY && (insn->bytes[insn->opcode_at] & 0xfe) == 0xc4);
}

static u32 segment_base(const struct insn *insn)
{
	switch (insn->seg & 7) {
	case SEG_FS:
		return (u32)DATA;
	case SEG_GS:
		return (u32)LEGACY_GS_BASE;
	default:
		return 0;
	}
}

static u32 pick_address(struct maker *m)
{
	static const u64 places[] = {DATA,         DATA + 0x40,  DATA + 0x7f8,  DATA + 0xff0,  DATA + 0x1fe0,
				     EDGE + 0xff0, STACK + 0x80, STACK + 0xff0, DATA + 0x17f0, CODE + 0x800};

	return (u32)places[random_below(&m->r, ARRAY_SIZE(places))] + random_below(&m->r, 32);
}

/* Gives registers and displacement the values with which the operand lies at `target`. */
static void point_at(struct maker *m, u32 target)
{
	const struct insn *insn = &m->insn;
	u64 *gpr = m->c->gpr;
	u32 rest = target - segment_base(insn) - (u32)insn->disp;

	if (insn->base == INSN_NO_REG && (insn->index == INSN_NO_REG || insn_has_vsib(insn))) {
		u32 disp = target - segment_base(insn);

		memcpy(m->c->code + insn->imm_at - insn->addrsize, &disp, insn->addrsize);
	} else if (insn->base == INSN_NO_REG) {
		gpr[insn->index] = rest / insn->scale;
	} else if (insn->index == insn->base && !insn_has_vsib(insn)) {
		gpr[insn->base] = rest / (insn->scale + 1u);
	} else {
		if (insn->index != INSN_NO_REG && !insn_has_vsib(insn)) {
			gpr[insn->index] = random_one_in(&m->r, 4) ? (u32)random_u64(&m->r) : random_below(&m->r, 64);
			rest -= (u32)(gpr[insn->index] * insn->scale);
		}
		gpr[insn->base] = rest;
	}
}

static void patch(struct insn_case *c, u64 address, u64 value)
{
	c->patch[c->patches++] = (struct patch){address, value};
}

static void set_stack(struct maker *m)
{
	struct insn_case *c = m->c;
	const u64 flags = (random_u64(&m->r) & (FLAGS_ARITH | FLAG_DF | FLAG_ID)) | FLAG_FIXED | FLAG_IF;

	c->gpr[RSP] = random_one_in(&m->r, 20) ? EDGE + 0x1000 + random_below(&m->r, 16) : STACK + 0x800;
	if ((m->insn.bytes[m->insn.opcode_at] & 0xfe) == 0xc8) { /* enter writes first or reads first; leave */
		c->gpr[RSP] = STACK + 0x800;
		c->gpr[RBP] = STACK + 0x900 + random_below(&m->r, 0x100);
	}
	if (m->insn.class == INSN_HELPER && m->insn.helper == HELP_popf)
		patch(c, PAGE_BASE(c->gpr[RSP]) | (c->gpr[RSP] & 0xff8), flags);
}

/* Branches lead past one int3 to another. */
static void set_target(struct maker *m)
{
	struct insn_case *c = m->c;
	const struct insn *insn = &m->insn;
	const u64 target = c->start + insn->length + 1;

	switch ((enum insn_class)insn->class) {
	case INSN_JMP_IND:
	case INSN_CALL_IND:
		if (insn->op[0].kind == OPERAND_GPR)
			c->gpr[insn->op[0].reg] = target;
		else
			patch(c, DATA + 0x100, target);
		break;
	case INSN_RET:
		c->gpr[RSP] = STACK + 0x800;
		patch(c, STACK + 0x800, target);
		break;
	default:
		memset(c->code + insn->imm_at, 0, insn->length - insn->imm_at);
		c->code[insn->imm_at] = 1;
		break;
	}
	put(c, 0xcc);
	c->linear = false;
}

static void set_operands(struct maker *m)
{
	struct insn_case *c = m->c;
	const struct insn *insn = &m->insn;

	switch ((enum insn_class)insn->class) {
	case INSN_STRING:
		c->gpr[RSI] = pick_address(m) - segment_base(insn);
		c->gpr[RBX] = pick_address(m) - segment_base(insn);
		c->gpr[RDI] = pick_address(m);
		c->gpr[RCX] = random_below(&m->r, 40);
		c->flags |= random_one_in(&m->r, 4) ? FLAG_DF : 0;
		return;
	case INSN_JMP:
	case INSN_JCC:
	case INSN_JRCXZ:
	case INSN_CALL:
	case INSN_RET:
	case INSN_JMP_IND:
	case INSN_CALL_IND:
		c->gpr[RSP] = STACK + 0x800;
		if (insn->has_mem)
			point_at(m, (u32)DATA + 0x100);
		set_target(m);
		return;
	default:
		break;
	}
	set_stack(m);
	if (insn->has_mem && insn->class != INSN_LEGACY)
		point_at(m, insn->prefix_lock ? pick_address(m) & ~63u : pick_address(m));
	else if (insn->has_mem)
		point_at(m, pick_address(m));
	if (insn->class == INSN_BITSTRING && insn->op[1].reg != insn->base && insn->op[1].reg != insn->index)
		c->gpr[insn->op[1].reg] = (u32)random_below(&m->r, 0x400) - 0x200u;
}

/* Two accesses to memory that is both misaligned and locked would stop the whole host: xchg is given no such address.
 */
static bool make_code(struct maker *m, unsigned form)
{
	struct insn_case *c = m->c;

	c->length = 0;
	put_prefixes(m);
	if (form < PLAIN)
		put_opcode(m, form);
	else
		put_vex_opcode(m, form - PLAIN);
	for (unsigned i = 0; i < 12; i++)
		c->code[c->length + i] = (u8)random_u64(&m->r);
	if (insn_decode_code(&m->insn, c->code, INSN_MAX, CODE_32) < 0 || !is_testable(&m->insn))
		return false;
	/* with F2 and F3 processors of AMD's look for the other value of ZF */
	if (m->insn.class == INSN_JRCXZ && (m->insn.prefix_f2 || m->insn.prefix_f3))
		return false;
	/* an implicit lock over two cache lines, or a vector register as index that holds anything */
	if (((m->insn.bytes[m->insn.opcode_at] & 0xfe) == 0x86 && m->insn.has_mem) || insn_has_vsib(&m->insn))
		return false;
	c->length = m->insn.length;
	return true;
}

bool generate_legacy(void *opaque, u64 number, struct insn_case *c)
{
	const unsigned samples = *(unsigned *)opaque;
	struct maker m = {.r = {number * 0x9876543 + 5}, .c = c};
	char text[64];

	if (number / samples >= PLAIN + VEX)
		return false;
	generate_state(&m.r, c);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		c->gpr[i] = i < R8 ? (u32)c->gpr[i] : c->gpr[i];
	c->start = CODE + (random_one_in(&m.r, 6) ? PAGE_SIZE - 1 - random_below(&m.r, 8) : random_below(&m.r, 0x200));
	c->legacy = true;
	c->linear = true;
	for (unsigned tries = 0; tries < 20; tries++) {
		if (make_code(&m, (unsigned)(number / samples)))
			break;
		c->length = 0;
	}
	if (c->length)
		set_operands(&m);
	if (insn_decode_code(&m.insn, c->code, INSN_MAX, CODE_32) == 0 && c->length)
		insn_format(&m.insn, c->start, text, sizeof(text));
	else
		snprintf(text, sizeof(text), "nothing");
	snprintf(c->name, sizeof(c->name), "32-bit form %llu: %s", (unsigned long long)(number / samples), text);
	put(c, 0xcc);
	return true;
}
