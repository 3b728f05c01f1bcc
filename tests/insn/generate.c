#include "generate.h"

#include <Zydis/Zydis.h>
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "random.h"
#include "x86/insn.h"

/* --- forms ------------------------------------------------------------------------------------------------------- */

#define FORMS_MAX 16384u

/* What selects an instruction; registers and addresses are chosen each time. */
struct form {
	u8 map; /* 0: one byte, 1: 0f, 2: 0f 38, 3: 0f 3a */
	u8 opcode;
	u8 prefix; /* 0, 66, f2, f3 */
	bool vex, w, l;
	bool memory;  /* ModRM names memory */
	bool any_reg; /* ModRM.reg is an operand … */
	u8 reg;       /* … or selects the instruction */
	bool any_rm;
	u8 rm; /* with x87 registers */
	bool has_modrm;
	u8 class, unit;
};

static struct form forms[FORMS_MAX];
static unsigned form_count;
static unsigned *plain_forms, plain_count;   /* for sequences: general registers */
static unsigned *vector_forms, vector_count; /* for sequences: x87 and vectors */

/* How to encode one. */
struct encoding {
	bool no_rex; /* AH to BH */
	u8 reg, rm, vvvv;
	u8 base, index, scale; /* INSN_NO_REG, INSN_RIP; a vector register as index is a number, too */
	s32 disp;
	u8 disp_size; /* 0, 1, 4; with 0 the displacement is left out if that can be */
	u8 segment;   /* prefix byte or 0 */
	bool addr32, lock;
};

static u8 *put32(u8 *p, u32 value)
{
	memcpy(p, &value, 4);
	return p + 4;
}

static u8 *put_address(u8 *p, u8 reg, const struct encoding *e)
{
	u8 r = (u8)((reg & 7) << 3), scale = e->scale == 8 ? 3 : e->scale == 4 ? 2 : e->scale == 2 ? 1 : 0;

	if (e->base == INSN_RIP) {
		*p++ = r | 5;
		return put32(p, (u32)e->disp);
	}
	if (e->base == INSN_NO_REG) {
		*p++ = r | 4;
		*p++ = (u8)(scale << 6 | (e->index == INSN_NO_REG ? 4 : e->index & 7) << 3 | 5);
		return put32(p, (u32)e->disp);
	}
	u8 mod = e->disp_size == 4 ? 2 : e->disp_size == 1 || (e->base & 7) == 5 ? 1 : 0;

	if (e->index != INSN_NO_REG || (e->base & 7) == 4) {
		*p++ = (u8)(mod << 6 | r | 4);
		*p++ = (u8)(scale << 6 | (e->index == INSN_NO_REG ? 4 : e->index & 7) << 3 | (e->base & 7));
	} else {
		*p++ = (u8)(mod << 6 | r | (e->base & 7));
	}
	if (mod == 2)
		return put32(p, (u32)e->disp);
	if (mod == 1)
		*p++ = (u8)e->disp;
	return p;
}

/* Everything up to the immediate, which is random: the decoder tells how much of it belongs. */
static unsigned encode(const struct form *f, const struct encoding *e, struct random *r, u8 *out)
{
	u8 *p = out;
	bool has_base = f->memory && e->base != INSN_NO_REG && e->base != INSN_RIP;
	u8 rex_r = e->reg >> 3 & 1, rex_x = f->memory && e->index != INSN_NO_REG ? e->index >> 3 & 1 : 0;
	u8 rex_b = f->memory ? (has_base ? e->base >> 3 & 1 : 0) : e->rm >> 3 & 1;

	if (e->lock)
		*p++ = 0xf0;
	if (e->addr32)
		*p++ = 0x67;
	if (e->segment)
		*p++ = e->segment;
	if (f->vex) {
		u8 pp = f->prefix == 0x66 ? 1 : f->prefix == 0xf3 ? 2 : f->prefix == 0xf2 ? 3 : 0;
		u8 last = (u8)((~e->vvvv & 15) << 3 | f->l << 2 | pp);

		if (f->map == 1 && !f->w && !rex_x && !rex_b && random_one_in(r, 2)) {
			*p++ = 0xc5;
			*p++ = (u8)(last | !rex_r << 7);
		} else {
			*p++ = 0xc4;
			*p++ = (u8)(!rex_r << 7 | !rex_x << 6 | !rex_b << 5 | f->map);
			*p++ = (u8)(last | f->w << 7);
		}
		*p++ = f->opcode;
	} else {
		u8 rex = (u8)(0x40 | f->w << 3 | rex_r << 2 | rex_x << 1 | rex_b);

		if (f->prefix)
			*p++ = f->prefix;
		if (rex != 0x40 || (!e->no_rex && random_one_in(r, 4)))
			*p++ = rex;
		if (f->map)
			*p++ = 0x0f;
		if (f->map >= 2)
			*p++ = f->map == 2 ? 0x38 : 0x3a;
		*p++ = f->opcode;
	}
	if (f->has_modrm) {
		if (f->memory)
			p = put_address(p, e->reg, e);
		else
			*p++ = (u8)(0xc0 | (e->reg & 7) << 3 | (e->rm & 7));
	}
	u64 immediate = random_interesting(r);

	memcpy(p, &immediate, 8);
	return (unsigned)(p - out);
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
		return true;
	default:
		return false;
	}
}

/* Does the host do the same as the guest's processor would, one instruction at a time and with no place to go? */
static bool is_testable(const struct insn *insn)
{
	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
	case INSN_STACK:
	case INSN_STRING:
	case INSN_BITSTRING:
	case INSN_GATHER:
		return true;
	case INSN_HELPER:
		return helper_is_testable(insn->helper);
	default:
		return false;
	}
}

/* prefetch and prefetchw with a register */
static bool is_register_hint(const struct insn *insn)
{
	return insn->nop && insn->modrm_at && insn->bytes[insn->modrm_at] >= 0xc0 &&
	       insn->bytes[insn->opcode_at + 1] == 0x0d;
}

bool generate_host_has(const struct insn *insn)
{
	const bool legacy = insn->seg & INSN_SEG_LEGACY;
	ZydisDecoder decoder;
	ZydisDecodedInstruction zi;

	ZydisDecoderInit(&decoder, legacy ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
			 legacy ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
	if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder, NULL, insn->bytes, insn->length, &zi)))
		return false;
	if (is_register_hint(insn))
		return !host()->hints_undefined;
	unsigned eax, ebx = 0, ecx, edx = 0;

	__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
	switch (zi.meta.isa_set) {
	case ZYDIS_ISA_SET_SHA:
		return ebx & bit_SHA;
	case ZYDIS_ISA_SET_ADOX_ADCX:
		return ebx & bit_ADX;
	case ZYDIS_ISA_SET_SERIALIZE:
		return edx & BIT(14);
	default:
		return true; /* came with AVX2 at the latest, without which nothing runs here */
	}
}

static const struct form *last_form(void)
{
	return form_count ? &forms[form_count - 1] : NULL;
}

/* Forms that differ by ModRM.reg only are one if that is an operand. */
static void add_form(struct form f, const struct insn *insn, u16 *last_mnemonic)
{
	const struct form *last = last_form();
	bool same = last && last->map == f.map && last->opcode == f.opcode && last->prefix == f.prefix &&
		    last->vex == f.vex && last->w == f.w && last->l == f.l && last->memory == f.memory &&
		    *last_mnemonic == insn->mnemonic;
	bool x87 = f.map == 0 && f.opcode >= 0xd8 && f.opcode <= 0xdf;

	f.class = insn->class;
	f.unit = insn->unit;
	f.has_modrm = insn->modrm_at != 0;
	*last_mnemonic = insn->mnemonic;
	if (same && !x87) {
		if (f.reg != last->reg)
			forms[form_count - 1].any_reg = true;
		if (f.rm != last->rm)
			forms[form_count - 1].any_rm = true;
		return;
	}
	if (form_count == FORMS_MAX)
		abort();
	forms[form_count++] = f;
}

static void try_form(struct form f, u16 *last_mnemonic)
{
	struct encoding e = {.reg = f.reg, .rm = f.rm, .vvvv = 5, .base = RSI, .index = INSN_NO_REG, .scale = 1};
	struct random r = {1};
	u8 bytes[32] = {0};
	struct insn insn;

	f.has_modrm = true;
	if (f.vex && f.map == 2 && f.memory && f.opcode >= 0x90 && f.opcode <= 0x93)
		e.index = 7; /* gathers want an index */
	encode(&f, &e, &r, bytes);
	for (unsigned i = 0; i < 2; i++) {
		/* most VEX instructions with two operands want vvvv unused */
		if (insn_decode(&insn, bytes, INSN_MAX) == 0 && is_testable(&insn) && generate_host_has(&insn))
			break;
		if (!f.vex || i)
			return;
		e.vvvv = 0;
		encode(&f, &e, &r, bytes);
	}
	if (insn.modrm_at ? insn.has_mem != f.memory && !insn.nop : f.memory || f.reg || f.rm)
		return;
	add_form(f, &insn, last_mnemonic);
}

static bool is_prefix(u8 map, u8 opcode)
{
	static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66,
				      0x67, 0xf0, 0xf2, 0xf3, 0xc4, 0xc5, 0x62};

	if (map == 1)
		return opcode == 0x38 || opcode == 0x3a;
	if (map)
		return false;
	return opcode == 0x0f || (opcode & 0xf0) == 0x40 || memchr(prefixes, opcode, sizeof(prefixes));
}

static void find_forms_of(struct form f)
{
	for (unsigned memory = 0; memory < 2; memory++) {
		u16 last_mnemonic = 0;

		f.memory = memory;
		for (f.reg = 0; f.reg < 8; f.reg++) {
			for (f.rm = 0; f.rm < (memory ? 1 : 8); f.rm++)
				try_form(f, &last_mnemonic);
		}
	}
}

static void find_forms(void)
{
	static const u8 prefixes[] = {0, 0x66, 0xf3, 0xf2};

	for (unsigned i = 0; i < 4 * 4 * 256 * 8; i++) {
		struct form f = {.opcode = (u8)i,
				 .map = (u8)(i >> 8 & 3),
				 .prefix = prefixes[i >> 10 & 3],
				 .w = i >> 12 & 1,
				 .l = i >> 13 & 1,
				 .vex = i >> 14 & 1};

		if ((f.vex ? f.map == 0 : f.l || is_prefix(f.map, f.opcode)))
			continue;
		find_forms_of(f);
	}
}

static bool in_sequences(const struct form *f)
{
	return f->class == INSN_COPY || (f->class == INSN_BITSTRING && f->unit == UNIT_NONE);
}

unsigned generate_init(void)
{
	find_forms();
	plain_forms = calloc(form_count, sizeof(*plain_forms));
	vector_forms = calloc(form_count, sizeof(*vector_forms));
	if (!plain_forms || !vector_forms)
		abort();
	for (unsigned i = 0; i < form_count; i++) {
		if (!in_sequences(&forms[i]))
			continue;
		if (forms[i].unit == UNIT_NONE)
			plain_forms[plain_count++] = i;
		else
			vector_forms[vector_count++] = i;
	}
	return form_count;
}

/* --- where memory operands lie ----------------------------------------------------------------------------------- */

/* A data address that suits an operand of `size` bytes: mostly inside, sometimes over the end of a page or region. */
static u64 pick_address(struct random *r, unsigned size, bool low, bool near_code, u64 start)
{
	unsigned align = size >= 16 ? 64 : 8, room = 0x40;
	u64 at;

	if (near_code && start >= HIGH_DATA - 0x10000000)
		at = random_one_in(r, 4) ? HIGH_CODE + 0x800 : HIGH_DATA;
	else if (random_one_in(r, 8))
		at = start >= HIGH_CODE ? (low ? DATA : HIGH_CODE + 0x600) : CODE + 0x600;
	else if (!low && !near_code && random_one_in(r, 6))
		at = HIGH_DATA;
	else if (random_one_in(r, 20))
		at = EDGE + 0xfc0;
	else
		at = random_one_in(r, 5) ? STACK : DATA;
	switch (random_below(r, 16)) {
	case 0: /* over the end of the first page */
		return PAGE_BASE(at) + PAGE_SIZE - 1 - random_below(r, size ? size : 1);
	case 1: /* at the end of the region, or over it */
		return PAGE_BASE(at) + 2 * PAGE_SIZE - random_below(r, 2 * size + 1);
	case 2:
		return at + random_below(r, room * 8);
	default:
		return at + random_below(r, room) * align;
	}
}

static u8 pick_register(struct random *r, u16 allowed)
{
	u8 reg;

	do
		reg = (u8)random_below(r, 16);
	while (!(allowed & BIT(reg)));
	return reg;
}

static void random_vectors(struct random *r, struct insn_case *c)
{
	u8 *area = c->vectors;

	vectors_default(area);
	for (unsigned i = 0; i < 16 * 16; i += 8) {
		u64 low = random_interesting(r), high = random_interesting(r);

		memcpy(area + 160 + i, &low, 8);
		memcpy(area + 576 + i, &high, 8);
	}
	if (random_one_in(r, 2)) { /* rounding, DAZ, FTZ, sticky flags, sometimes unmasked exceptions */
		u16 mxcsr = (u16)(random_u64(r) & 0xe07f) | 0x1f80;

		if (random_one_in(r, 4))
			mxcsr &= (u16) ~(1u << (7 + random_below(r, 6)) | 0x3f);
		memcpy(area + 24, &mxcsr, 2);
	}
	if (random_one_in(r, 2)) {
		u16 fcw = (u16)(0x007f | (random_u64(r) & 0x0f00)), fsw = (u16)(random_u64(r) & 0x7f00);

		if (random_one_in(r, 4))
			fcw &= (u16) ~(1u << random_below(r, 6));
		memcpy(area, &fcw, 2);
		memcpy(area + 2, &fsw, 2);
		area[4] = (u8)random_u64(r);
		for (unsigned i = 0; i < 8; i++) {
			u64 mantissa = random_u64(r) | BIT(63);
			u16 exponent = (u16)(0x3ff0 + random_below(r, 32)) | (random_one_in(r, 2) ? 0x8000 : 0);

			memcpy(area + 32 + 16 * i, &mantissa, 8);
			memcpy(area + 40 + 16 * i, &exponent, 2);
		}
	}
}

void generate_state(struct random *r, struct insn_case *c)
{
	for (unsigned i = 0; i < GPR_COUNT; i++)
		c->gpr[i] = random_interesting(r);
	c->flags = random_u64(r) & FLAGS_ARITH;
	c->fs_base = DATA + 0x100 + random_below(r, 8) * 8;
	c->gs_base = HIGH_DATA + 0x100 - 0x1000;
	random_vectors(r, c);
	c->start = random_one_in(r, 3) ? HIGH_CODE : CODE;
	c->cold = random_one_in(r, 4);
}

static void random_prefixes(struct random *r, const struct form *f, struct encoding *e)
{
	static const u8 segments[] = {0x64, 0x65, 0x64, 0x65, 0x2e, 0x3e};

	if (random_one_in(r, 5))
		e->segment = segments[random_below(r, sizeof(segments))];
	e->addr32 = f->memory && random_one_in(r, 10);
}

static void choose_shape(struct random *r, struct encoding *e, u16 bases, u16 indices)
{
	e->index = INSN_NO_REG;
	e->scale = (u8)(1u << random_below(r, 4));
	e->disp_size = random_one_in(r, 3) ? 4 : random_one_in(r, 2);
	e->disp = e->disp_size == 4 ? (s32)random_below(r, 0x10000) - 0x8000 : (s8)random_u64(r);
	if (!e->disp_size)
		e->disp = 0;
	e->base = random_one_in(r, 8) ? INSN_RIP : random_one_in(r, 12) ? INSN_NO_REG : pick_register(r, bases);
	if (e->base != INSN_RIP && random_one_in(r, 2))
		e->index = pick_register(r, indices & (u16)~BIT(RSP));
	if (e->base == RBP || e->base == R13)
		e->disp_size = e->disp_size ? e->disp_size : 1;
}

/* LOCK, where it may stand. */
static bool may_lock(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_XOR:
		return insn->has_mem && insn->mem_write;
	default:
		return false;
	}
}

/* A bus lock over two cache lines stops the whole host, and may be forbidden. */
static bool locks(const struct insn *insn)
{
	return insn->prefix_lock || (insn->mnemonic == ZYDIS_MNEMONIC_XCHG && insn->has_mem);
}

static void put_end(struct insn_case *c)
{
	c->code[c->length++] = 0xcc;
}

/* --- single forms ------------------------------------------------------------------------------------------------ */

static u64 segment_base(const struct insn_case *c, const struct insn *insn)
{
	return insn->seg == SEG_FS ? c->fs_base : insn->seg == SEG_GS ? c->gs_base : 0;
}

/* Index elements of a gather: near each other; and a mask with some elements enabled. */
static void set_vsib(struct random *r, struct insn_case *c, const struct insn *insn)
{
	unsigned size = insn->bytes[insn->opcode_at] & 1 ? 8 : 4;

	for (unsigned i = 0; i < 32; i += size) {
		s64 value = (s64)random_below(r, 128) - 64;
		u8 *at = c->vectors + (i < 16 ? 160 + i : 576 + i - 16) + 16 * insn->index;

		if (random_one_in(r, 60))
			value = 0x10000;
		memcpy(at, &value, size);
	}
}

/* Gives registers and displacement the values with which the operand lies at `target`. */
static void point_at(struct random *r, struct insn_case *c, const struct insn *insn, u64 target)
{
	u64 rest = target - segment_base(c, insn);
	unsigned end = insn->imm_at; /* of the displacement */

	if (insn->base == INSN_RIP || insn->base == INSN_NO_REG) {
		s32 disp;

		if (insn->base == INSN_RIP)
			rest -= c->start + insn->length;
		else if (insn->index != INSN_NO_REG && !insn_has_vsib(insn))
			rest -= (c->gpr[insn->index] = random_below(r, 64)) * insn->scale;
		disp = (s32)rest;
		memcpy(c->code + end - 4, &disp, 4);
		return;
	}
	rest -= (u64)insn->disp;
	if (insn->index == insn->base && !insn_has_vsib(insn)) {
		c->gpr[insn->base] = rest / (insn->scale + 1u);
	} else {
		if (insn->index != INSN_NO_REG && !insn_has_vsib(insn)) {
			c->gpr[insn->index] = random_one_in(r, 4) ? random_u64(r) : random_below(r, 64);
			rest -= c->gpr[insn->index] * insn->scale;
		}
		c->gpr[insn->base] = rest;
	}
	if (insn->addrsize == 4)
		c->gpr[insn->base] = (u32)c->gpr[insn->base] | random_u64(r) << 32;
}

static void set_string_registers(struct random *r, struct insn_case *c, const struct insn *insn)
{
	static const u64 places[] = {DATA + 0x100, DATA + 0x900, DATA + 0xff0, DATA + 0x1fe0,
				     EDGE + 0xff0, STACK + 0x80, CODE + 0x700};

	c->gpr[RSI] = places[random_below(r, ARRAY_SIZE(places))] + random_below(r, 32);
	c->gpr[RDI] = places[random_below(r, ARRAY_SIZE(places))] + random_below(r, 32);
	c->gpr[RBX] = places[random_below(r, ARRAY_SIZE(places))] + random_below(r, 32);
	c->gpr[RCX] = random_below(r, 40);
	if (insn->seg == SEG_FS || insn->seg == SEG_GS)
		c->gpr[RSI] = c->gpr[RBX] = (insn->seg == SEG_GS ? 0x1000 : 0) + random_below(r, 0x100);
	if (random_one_in(r, 4))
		c->flags |= FLAG_DF;
}

/* Registers for the operands of one instruction. */
static void choose_registers(struct random *r, const struct form *f, struct encoding *e, u16 allowed)
{
	e->reg = f->any_reg ? pick_register(r, allowed) : f->reg;
	e->rm = f->any_rm ? pick_register(r, allowed) : f->rm;
	e->vvvv = random_one_in(r, 2) ? 0 : (u8)random_below(r, 16);
	/* without REX, so that AH to BH appear */
	e->no_rex = e->reg < 8 && e->rm < 8 && random_one_in(r, 2);
}

/* One instruction of the form that decodes; its length, or 0. */
static unsigned make_insn(struct random *r, const struct form *f, struct encoding *e, u8 *out, struct insn *insn)
{
	encode(f, e, r, out);
	if (insn_decode(insn, out, INSN_MAX) < 0 || !is_testable(insn) || insn->class != f->class)
		return 0;
	if (insn->has_mem && insn->mem_size && insn->base != INSN_RIP && insn->imm_at == 0)
		return 0;
	return insn->length;
}

bool generate_form(void *opaque, u64 number, struct insn_case *c)
{
	unsigned samples = *(unsigned *)opaque;
	const struct form *f;
	struct random r = {number * 0x1234567 + 99};
	struct encoding e;
	struct insn insn;
	unsigned tries = 0;

	if (number / samples >= form_count)
		return false;
	f = &forms[number / samples];
	generate_state(&r, c);
	c->start += random_one_in(&r, 6) ? PAGE_SIZE - 1 - random_below(&r, 8) : random_below(&r, 0x200);
	do {
		memset(&e, 0, sizeof(e));
		choose_registers(&r, f, &e, 0xffff);
		choose_shape(&r, &e, 0xffff, 0xffff);
		random_prefixes(&r, f, &e);
		if (f->class == INSN_GATHER && f->opcode >= 0x90 && e.index == INSN_NO_REG)
			e.index = 3;
		if (e.base == INSN_RIP && f->class == INSN_GATHER && f->opcode >= 0x90)
			e.base = RBX;
		c->length = make_insn(&r, f, &e, c->code, &insn);
		if (c->length && !e.lock && may_lock(&insn) && random_one_in(&r, 4)) {
			e.lock = true;
			c->length = make_insn(&r, f, &e, c->code, &insn);
		}
	} while (!c->length && ++tries < 200);
	if (!c->length) {
		c->code[0] = 0x90;
		c->length = 1;
		insn_decode(&insn, c->code, 1);
	}
	if (insn.class == INSN_STACK)
		c->gpr[RSP] = STACK + 0x800 + random_below(&r, 0x800);
	if (insn.class == INSN_STACK && random_one_in(&r, 2))
		c->gpr[RBP] = STACK + 0x400 + random_below(&r, 0x800);
	if (insn.class == INSN_STRING)
		set_string_registers(&r, c, &insn);
	if (insn.has_mem && (insn.mem_size || insn.class == INSN_GATHER) && insn.class != INSN_STRING) {
		bool low = insn.addrsize == 4 || insn.base == INSN_NO_REG;
		u64 target;

		if (insn.class == INSN_GATHER && insn_has_vsib(&insn))
			set_vsib(&r, c, &insn);
		if (insn.addrsize == 4 && insn.seg == SEG_GS)
			c->gs_base = DATA + 0x80;
		if (insn.base == INSN_NO_REG && insn.seg == SEG_GS)
			c->gs_base = DATA + 0x40;
		if (insn.base == INSN_RIP && insn.addrsize == 4 && c->start >= HIGH_CODE)
			c->start -= HIGH_CODE - CODE;
		if (insn.base == INSN_RIP && insn.seg == SEG_FS)
			c->fs_base = 0x40;
		if (insn.base == INSN_RIP && insn.seg == SEG_GS)
			c->gs_base = 0x80;
		target = pick_address(&r, insn.mem_size, low, insn.base == INSN_RIP, c->start);
		if (locks(&insn))
			target &= ~(u64)15;
		/* operands of the registers' choice keep clear of the code */
		point_at(&r, c, &insn, target);
		if (insn.class == INSN_BITSTRING && !random_one_in(&r, 8) && insn.op[1].reg != insn.base &&
		    insn.op[1].reg != insn.index)
			c->gpr[insn.op[1].reg] = (u64)((s64)random_below(&r, 0x400) - 0x200);
	}
	char text[64];

	insn_decode(&insn, c->code, INSN_MAX);
	insn_format(&insn, c->start, text, sizeof(text));
	snprintf(c->name, sizeof(c->name), "form %llu: %s", (unsigned long long)(number / samples), text);
	c->linear = true;
	put_end(c);
	return true;
}

/* --- sequences --------------------------------------------------------------------------------------------------- */

#define INSNS_MAX 24u

struct sequence {
	struct random *r;
	struct insn_case *c;
	u16 pointers;     /* registers that point to data: not written */
	u16 indices;      /* small numbers: not written */
	u16 counter;      /* of the loop around, not written */
	u16 allowed;      /* as operands */
	unsigned vectors; /* one in so many instructions is no plain one; 0: none */
	bool in_call;     /* the return address must stay what it is */
};

static void append(struct sequence *s, const u8 *bytes, unsigned length)
{
	if (s->c->length + length > CODE_MAX - 16)
		return;
	memcpy(s->c->code + s->c->length, bytes, length);
	s->c->length += length;
}

static u16 fixed_registers(const struct sequence *s)
{
	return s->pointers | s->indices | s->counter | BIT(RSP);
}

static void append_copy(struct sequence *s)
{
	struct random *r = s->r;
	u8 bytes[32];
	struct insn insn;

	for (unsigned tries = 0; tries < 100; tries++) {
		bool vector = s->vectors && random_one_in(r, s->vectors);
		const struct form *f = &forms[vector ? vector_forms[random_below(r, vector_count)]
						     : plain_forms[random_below(r, plain_count)]];
		struct encoding e = {0};

		choose_registers(r, f, &e, s->allowed);
		choose_shape(r, &e, s->pointers | BIT(RSP), s->indices);
		if (!random_one_in(r, 16)) /* aligned, mostly */
			e.disp &= ~15;
		e.disp = e.disp_size == 4 ? e.disp % 0x400 : e.disp;
		if (e.index != INSN_NO_REG && f->unit != UNIT_NONE && !random_one_in(r, 16))
			e.scale = 8;
		if (e.base == INSN_RIP)
			e.disp = (s32)(0x800 + random_below(r, 64) * 16);
		else if (e.base == INSN_NO_REG)
			e.disp = (s32)(DATA + random_below(r, 64) * 16);
		if (e.base == INSN_NO_REG || e.base == INSN_RIP || e.index == INSN_NO_REG)
			e.addr32 = false;
		if (!make_insn(r, f, &e, bytes, &insn) || (insn.gpr_write & fixed_registers(s)))
			continue;
		if (s->in_call && insn.mem_write)
			continue;
		if (insn.mnemonic == ZYDIS_MNEMONIC_DIV || insn.mnemonic == ZYDIS_MNEMONIC_IDIV)
			if (!random_one_in(r, 6))
				continue;
		if ((insn.gpr_read | insn.gpr_write) & ~(u16)(s->allowed | fixed_registers(s)) && random_one_in(r, 2))
			continue;
		if (insn.class == INSN_BITSTRING && insn.gpr_fields && !(s->indices & BIT(insn.op[1].reg)))
			continue;
		if (locks(&insn) && insn.op[0].kind == OPERAND_MEM && insn.mem_size > 1 &&
		    (insn.disp & 15 || insn.index != INSN_NO_REG || insn.base == INSN_RIP))
			continue;
		append(s, bytes, insn.length);
		return;
	}
}

static u8 free_register(struct sequence *s)
{
	return pick_register(s->r, s->allowed & (u16)~fixed_registers(s));
}

static void append_stack(struct sequence *s)
{
	u8 reg = pick_register(s->r, s->allowed), to = free_register(s);
	bool push = random_one_in(s->r, 2);
	u8 number = push ? reg : to;
	u8 bytes[] = {(u8)(0x40 | number >> 3), (u8)((push ? 0x50 : 0x58) | (number & 7))};
	const u8 memory[] = {0xff, 0x74, 0x24, (u8)(random_below(s->r, 16) * 8)};     /* push [rsp + n] */
	const u8 pop_memory[] = {0x8f, 0x44, 0x24, (u8)(random_below(s->r, 16) * 8)}; /* pop [rsp + n] */

	switch (random_below(s->r, 8)) {
	case 0:
		append(s, memory, sizeof(memory));
		break;
	case 1:
		append(s, pop_memory, sizeof(pop_memory));
		break;
	case 2:
		append(s, (const u8[]){0x6a, (u8)random_u64(s->r)}, 2);
		break;
	case 3:
		append(s, (const u8[]){0x68, (u8)random_u64(s->r), 2, 3, 4}, 5);
		break;
	default:
		append(s, bytes, 2);
	}
}

static void append_some(struct sequence *s, unsigned depth, unsigned count);

/* A jump over some instructions: jcc, rarely jmp or jrcxz. */
static void append_skip(struct sequence *s, unsigned depth)
{
	struct insn_case *c = s->c;
	u8 opcode = random_one_in(s->r, 8) ? 0xeb : random_one_in(s->r, 8) ? 0xe3 : (u8)(0x70 | random_below(s->r, 16));
	unsigned at;

	append(s, (const u8[]){opcode, 0}, 2);
	at = c->length;
	append_some(s, depth + 1, 1 + random_below(s->r, 3));
	if (c->length - at > 127)
		abort();
	c->code[at - 1] = (u8)(c->length - at);
	c->linear = false;
}

/* call over; body; ret */
static void append_call(struct sequence *s, unsigned depth)
{
	struct insn_case *c = s->c;
	unsigned call, jump, body;
	bool before = s->in_call;

	append(s, (const u8[]){0xe8, 2, 0, 0, 0}, 5);
	call = c->length;
	append(s, (const u8[]){0xeb, 0}, 2);
	jump = c->length;
	body = c->length;
	s->in_call = true;
	if (random_one_in(s->r, 2))
		append_copy(s);
	if (depth < 4 && random_one_in(s->r, 3))
		append_call(s, depth + 1);
	if (random_one_in(s->r, 3))
		append(s, (const u8[]){0xc2, (u8)(random_below(s->r, 3) * 8), 0}, 3);
	else
		append(s, (const u8[]){0xc3}, 1);
	s->in_call = before;
	c->code[call - 4] = (u8)(body - call);
	c->code[jump - 1] = (u8)(c->length - jump);
	c->linear = false;
}

static void append_some(struct sequence *s, unsigned depth, unsigned count)
{
	while (count-- > 0 && s->c->length < CODE_MAX - 100) {
		switch (random_below(s->r, 12)) {
		case 0:
			append_stack(s);
			break;
		case 1:
			if (depth < 2)
				append_skip(s, depth);
			break;
		case 2:
			if (depth < 2 && random_one_in(s->r, 3))
				append_call(s, depth);
			break;
		default:
			append_copy(s);
		}
	}
}

/* dec counter; jnz: CF goes round. Or loop. */
static void append_loop_end(struct sequence *s, unsigned start)
{
	u8 reg = 0;
	struct insn_case *c = s->c;

	while (!(s->counter & BIT(reg)))
		reg++;
	if (reg == RCX && random_one_in(s->r, 2) && c->length + 2 - start < 128) {
		append(s, (const u8[]){0xe2, (u8)(start - (c->length + 2))}, 2);
	} else {
		append(s, (const u8[]){(u8)(0x48 | reg >> 3), 0xff, (u8)(0xc8 | (reg & 7))}, 3);
		u32 back = start - (c->length + 6);

		append(s, (const u8[]){0x0f, 0x85, (u8)back, (u8)(back >> 8), (u8)(back >> 16), (u8)(back >> 24)}, 6);
	}
	c->linear = false;
}

bool generate_sequence(void *opaque, u64 number, struct insn_case *c)
{
	struct random r = {*(u64 *)opaque * 0x100000001b3 + number};
	struct sequence s = {.r = &r, .c = c};
	unsigned start;

	random_u64(&r);
	generate_state(&r, c);
	/* data in code pages keeps clear of the code: what that would become could do anything to this process */
	bool at_end = random_one_in(&r, 3);
	const u64 places[] = {DATA, DATA, HIGH_DATA, STACK, c->start + (at_end ? 0x400 : 0xc00), EDGE + 0x800};

	c->length = 0;
	c->linear = true;
	s.allowed = 0xffff;
	if (random_one_in(&r, 2)) /* few registers: the translator finds a spare one for the whole unit */
		s.allowed = (u16)random_u64(&r) & (u16)random_u64(&r);
	s.allowed |= BIT(RAX) | BIT(RCX);
	s.vectors = random_one_in(&r, 2) ? 0 : 1 + random_below(&r, 4);
	for (unsigned i = 0; i < 3; i++) {
		u8 reg = pick_register(&r, (u16) ~(BIT(RSP) | BIT(RAX) | BIT(RCX)));

		s.pointers |= (u16)BIT(reg);
		c->gpr[reg] = places[random_below(&r, ARRAY_SIZE(places))] + 0x100 + random_below(&r, 16) * 16;
		if (random_one_in(&r, 8) && PAGE_BASE(c->gpr[reg]) != c->start)
			c->gpr[reg] = (c->gpr[reg] | 0xff0) - random_below(&r, 0x40);
		if (random_one_in(&r, 16))
			c->gpr[reg] += random_below(&r, 16);
	}
	u8 index = pick_register(&r, (u16) ~(s.pointers | BIT(RSP) | BIT(RAX) | BIT(RCX)));

	s.indices = (u16)BIT(index);
	c->gpr[index] = random_below(&r, 8) * 2;
	c->gpr[RSP] = STACK + 0x800 + random_below(&r, 0x40) * 16;
	if (random_one_in(&r, 12))
		c->gpr[RSP] = STACK + PAGE_SIZE + random_below(&r, 32);
	if (random_one_in(&r, 3)) {
		u8 counter = random_one_in(&r, 2) ? RCX : pick_register(&r, (u16) ~(s.pointers | s.indices | BIT(RSP)));

		s.counter = (u16)BIT(counter);
		c->gpr[counter] = 1 + random_below(&r, 5);
	}
	start = c->length;
	append_some(&s, 0, 1 + random_below(&r, 20));
	if (s.counter)
		append_loop_end(&s, start);
	snprintf(c->name, sizeof(c->name), "sequence %llu", (unsigned long long)number);
	put_end(c);
	c->start += at_end ? PAGE_SIZE - random_below(&r, c->length + 1) : random_below(&r, 0x200);
	return true;
}
