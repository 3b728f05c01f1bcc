/* From 32-bit and 16-bit code to 64-bit code, for instructions that only compute. */
#include <string.h>

#include "x86/insn.h"

#define MOD_REGISTER 0xc0u

struct bytes {
	u8 at[INSN_MAX + 8];
	unsigned length;
};

static void put(struct bytes *out, u8 value)
{
	if (out->length < sizeof(out->at))
		out->at[out->length++] = value;
}

static void put_from(struct bytes *out, const struct insn *insn, unsigned begin, unsigned end)
{
	for (unsigned i = begin; i < end; i++)
		put(out, insn->bytes[i]);
}

/* Does the operand size of general registers depend on a prefix here? The vector and x87 units have no such. */
static bool wants_size_prefix(const struct insn *insn)
{
	return insn->prefix_66 && !insn->vex && (insn->unit == UNIT_NONE || insn->mandatory == 0x66);
}

static void put_prefixes(struct bytes *out, const struct insn *insn)
{
	if (insn->prefix_lock)
		put(out, 0xf0);
	if (wants_size_prefix(insn))
		put(out, 0x66);
	if (insn->mandatory == 0xf2 || insn->mandatory == 0xf3)
		put(out, insn->mandatory);
}

/* Bits that name registers beyond the seventh mean nothing in 32-bit code (SDM vol. 2A, 2.3.5 to 2.3.8). */
static void put_vex(struct bytes *out, const struct insn *insn, bool without_w)
{
	const u8 *vex = insn->bytes + insn->opcode_at - insn->vex;

	if (insn->vex == 2) {
		put(out, vex[0]);
		put(out, vex[1] | 0xc0);
		return;
	}
	put(out, vex[0]);
	put(out, vex[1] | 0xe0);
	put(out, (u8)((vex[2] | 0x40) & (without_w ? 0x7f : 0xff)));
}

/* [0], whose encoding does not depend on rip. */
static void put_memory(struct bytes *out, unsigned reg)
{
	put(out, (u8)(reg << 3 | 4));
	put(out, 0x25);
	for (unsigned i = 0; i < 4; i++)
		put(out, 0);
}

/* Opcode, ModRM and address. */
static void put_operation(struct bytes *out, const struct insn *insn)
{
	const u8 opcode = insn->bytes[insn->opcode_at];
	const unsigned end = insn->modrm_at ? insn->modrm_at : insn->imm_at;

	if (!insn->vex && (opcode & 0xf0) == 0x40) { /* inc and dec; REX in 64-bit code */
		put(out, 0xff);
		put(out, (u8)(MOD_REGISTER | (opcode & 0xf)));
		return;
	}
	if (!insn->vex && (opcode & 0xfc) == 0xa0) { /* mov between the accumulator and an offset */
		static const u8 modrm_form[4] = {0x8a, 0x8b, 0x88, 0x89};

		put(out, modrm_form[opcode & 3]);
		put_memory(out, 0);
		return;
	}
	if (!insn->vex && opcode == 0x82) /* another 80 */
		put(out, 0x80);
	else
		put_from(out, insn, insn->opcode_at, end);
	if (!insn->modrm_at)
		return;
	if (insn->has_mem)
		put_memory(out, insn->bytes[insn->modrm_at] >> 3 & 7);
	else
		put(out, insn->bytes[insn->modrm_at]);
}

/* VEX and 0f 3a */
static bool in_map3(const struct insn *insn)
{
	return insn->vex == 3 && (insn->bytes[insn->opcode_at - 2] & 31) == 3;
}

/* The register that the top half of the immediate of vblendv and kin names is one of eight as well. */
static bool register_in_immediate(const struct insn *insn)
{
	const u8 opcode = insn->bytes[insn->opcode_at];

	return in_map3(insn) && opcode >= 0x4a && opcode <= 0x4c;
}

static bool widen(const struct insn *insn, struct insn *wide, bool without_w)
{
	struct bytes out = {.length = 0};

	put_prefixes(&out, insn);
	if (insn->vex)
		put_vex(&out, insn, without_w);
	put_operation(&out, insn);
	if (insn->modrm_at || !insn->has_mem) /* the offset of mov with the accumulator is no immediate */
		put_from(&out, insn, insn->imm_at, insn->length);
	if (register_in_immediate(insn))
		out.at[out.length - 1] &= 0x7f;
	return out.length <= INSN_MAX && insn_decode(wide, out.at, out.length) == 0 && wide->length == out.length &&
	       wide->class == INSN_COPY && wide->mnemonic == insn->mnemonic && wide->mem_size == insn->mem_size;
}

/* vpcmpestrm, vpcmpestri: lengths in EAX and EDX, or in RAX and RDX. */
static bool compares_counted(const struct insn *insn)
{
	const u8 opcode = insn->bytes[insn->opcode_at];

	return in_map3(insn) && (opcode == 0x60 || opcode == 0x61);
}

/* VEX.W counts in 32-bit code, but not where it would select 64-bit general registers. */
bool insn_widen(const struct insn *insn, struct insn *wide)
{
	return (!insn->gpr_fields && !compares_counted(insn) && widen(insn, wide, false)) || widen(insn, wide, true);
}
