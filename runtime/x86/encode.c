#include "x86/encode.h"

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

/* The parts of an encoding, gathered before anything is written. */
struct parts {
	u8 extend;     /* REX_R, REX_X, REX_B that register numbers need */
	bool need_rex; /* spl, bpl, sil or dil is named */
	bool forbid_rex;
	u8 opcode[3];
	u8 opcode_length;
	bool has_modrm;
	u8 modrm;
	bool has_sib;
	u8 sib;
	u8 disp_size;
	s32 disp;
	u8 vvvv;
};

/* Host number for a register field; -1 if it has no encoding there. `byte`: it names a byte register. */
static int rename_field(const struct insn *insn, const struct reencode *how, struct parts *parts, unsigned number,
			bool byte)
{
	unsigned host;

	if (byte && !insn->rex && number >= 4) {
		host = how->host_reg[number - 4];
		parts->forbid_rex = true;
		return host < 4 ? (int)host + 4 : -1;
	}
	host = how->host_reg[number];
	if (byte && host >= 4)
		parts->need_rex = true;
	return (int)host;
}

/* mod, rm, SIB and displacement for [base + index * scale + disp]; false if there is no such address. */
static bool place_address(struct parts *parts, u8 base, u8 index, u8 scale, s32 disp)
{
	unsigned scale_bits = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
	unsigned mod;

	if (index == RSP)
		return false;
	if (base == INSN_NO_REG) {
		/* SIB without base: rm alone would be RIP-relative. */
		mod = 0;
		parts->disp_size = 4;
	} else if (disp == 0 && (base & 7) != RBP) {
		mod = 0;
	} else if (disp == (s8)disp) {
		mod = 1;
		parts->disp_size = 1;
	} else {
		mod = 2;
		parts->disp_size = 4;
	}
	parts->disp = disp;
	if (base != INSN_NO_REG && base & 8)
		parts->extend |= REX_B;
	if (index != INSN_NO_REG && index & 8)
		parts->extend |= REX_X;
	if (base == INSN_NO_REG || index != INSN_NO_REG || (base & 7) == RSP) {
		parts->has_sib = true;
		parts->sib = (u8)(scale_bits << 6 | (index == INSN_NO_REG ? RSP : index & 7u) << 3 |
				  (base == INSN_NO_REG ? RBP : base & 7u));
		parts->modrm |= (u8)(mod << 6 | RSP);
	} else {
		parts->modrm |= (u8)(mod << 6 | (base & 7));
	}
	return true;
}

static bool take_address(const struct insn *insn, const struct reencode *how, struct parts *parts)
{
	u8 base = how->base, index = how->index, scale = 1;

	if (how->address == REENCODE_REPLACE)
		return place_address(parts, base, index, scale, how->disp);
	if (insn->base == INSN_RIP || insn->disp != (s32)insn->disp)
		return false;
	base = insn->base == INSN_NO_REG ? INSN_NO_REG : how->host_reg[insn->base];
	index = insn->index == INSN_NO_REG ? INSN_NO_REG : how->host_reg[insn->index];
	return place_address(parts, base, index, insn->scale, (s32)insn->disp);
}

/* mov between the accumulator and a 64-bit offset (a0–a3) becomes the ModRM form (8a, 8b, 88, 89). */
static bool take_offset_form(const struct insn *insn, const struct reencode *how, struct parts *parts)
{
	static const u8 modrm_form[4] = {0x8a, 0x8b, 0x88, 0x89};

	parts->opcode[0] = modrm_form[insn->bytes[insn->opcode_at] & 3];
	parts->opcode_length = 1;
	parts->has_modrm = true;
	return take_address(insn, how, parts);
}

static bool take_modrm(const struct insn *insn, const struct reencode *how, struct parts *parts, unsigned old_extend)
{
	u8 modrm = insn->bytes[insn->modrm_at];
	int reg = (modrm >> 3 & 7) | (old_extend & REX_R ? 8 : 0);
	int rm = (modrm & 7) | (old_extend & REX_B ? 8 : 0);

	if (insn->gpr_fields & GPR_FIELD_REG)
		reg = rename_field(insn, how, parts, (unsigned)reg, insn->gpr_fields & GPR_FIELD_REG8);
	if (reg < 0)
		return false;
	if (reg & 8)
		parts->extend |= REX_R;
	parts->has_modrm = true;
	parts->modrm = (u8)((reg & 7) << 3);
	if (insn->has_mem)
		return take_address(insn, how, parts);

	if (insn->gpr_fields & GPR_FIELD_RM)
		rm = rename_field(insn, how, parts, (unsigned)rm, insn->gpr_fields & GPR_FIELD_RM8);
	if (rm < 0)
		return false;
	if (rm & 8)
		parts->extend |= REX_B;
	/* mod is 3, or meaningless as in mov from a control register */
	parts->modrm |= (u8)(0xc0 | (rm & 7));
	return true;
}

static bool take_opcode(const struct insn *insn, const struct reencode *how, struct parts *parts, unsigned old_extend)
{
	unsigned end = insn->modrm_at ? insn->modrm_at : insn->imm_at;

	if (end - insn->opcode_at > sizeof(parts->opcode))
		return false;
	parts->opcode_length = (u8)(end - insn->opcode_at);
	for (unsigned i = 0; i < parts->opcode_length; i++)
		parts->opcode[i] = insn->bytes[insn->opcode_at + i];
	if (insn->gpr_fields & GPR_FIELD_OPCODE) {
		u8 *last = &parts->opcode[parts->opcode_length - 1];
		int reg = (*last & 7) | (old_extend & REX_B ? 8 : 0);

		reg = rename_field(insn, how, parts, (unsigned)reg, insn->gpr_fields & GPR_FIELD_OPCODE8);
		if (reg < 0)
			return false;
		if (reg & 8)
			parts->extend |= REX_B;
		*last = (u8)((*last & ~7) | (reg & 7));
	}
	return true;
}

static u8 *put_legacy_prefixes(u8 *p, const struct insn *insn, const struct reencode *how)
{
	if (insn->prefix_lock)
		*p++ = 0xf0;
	if (insn->has_mem && how->segment)
		*p++ = how->segment == SEG_FS ? 0x64 : 0x65;
	if (insn->has_mem && how->address == REENCODE_RENAME && insn->addrsize == 4)
		*p++ = 0x67;
	/* Intel ignores 66 on a near branch, AMD does not (SDM vol. 1, 3.6.1; APM vol. 3, 1.2.7). */
	if (insn->prefix_66 && insn->class != INSN_JMP_IND && insn->class != INSN_CALL_IND)
		*p++ = 0x66;
	if (insn->mandatory == 0xf2 || insn->mandatory == 0xf3)
		*p++ = insn->mandatory;
	return p;
}

/* The short form where it can express everything, and only if the guest used it (SDM vol. 2A, 2.3.5). */
static u8 *put_vex(u8 *p, const struct insn *insn, const struct parts *parts)
{
	const u8 *vex = insn->bytes + insn->opcode_at - insn->vex;
	u8 low = vex[insn->vex - 1]; /* W or R, vvvv, L, pp */
	u8 vvvv = (u8)(low >> 3 & 15);

	if (insn->gpr_fields & GPR_FIELD_VVVV)
		vvvv = parts->vvvv ^ 15;
	low = (u8)((low & 0x87) | vvvv << 3);
	if (insn->vex == 2 && !(parts->extend & (REX_X | REX_B))) {
		*p++ = 0xc5;
		*p++ = (u8)((low & 0x7f) | (parts->extend & REX_R ? 0 : 0x80));
		return p;
	}
	*p++ = 0xc4;
	*p++ = (u8)((insn->vex == 2 ? 1 : vex[1] & 0x1f) | (~parts->extend & (REX_R | REX_X | REX_B)) << 5);
	*p++ = insn->vex == 2 ? low & 0x7f : low;
	return p;
}

/* REX_R, REX_X, REX_B of the guest's encoding. */
static unsigned guest_extend(const struct insn *insn)
{
	const u8 *vex = insn->bytes + insn->opcode_at - insn->vex;

	if (!insn->vex)
		return insn->rex & (REX_R | REX_X | REX_B);
	if (insn->vex == 2)
		return vex[1] & 0x80 ? 0 : REX_R;
	return (unsigned)(~vex[1] >> 5) & (REX_R | REX_X | REX_B);
}

unsigned insn_reencode(const struct insn *insn, const struct reencode *how, u8 *out)
{
	struct parts parts = {0};
	unsigned old_extend = guest_extend(insn);
	u8 buffer[32], *p = buffer;
	unsigned length;
	u8 rex;

	if (insn->has_mem && !insn->modrm_at) {
		if (!take_offset_form(insn, how, &parts))
			return 0;
	} else {
		if (!take_opcode(insn, how, &parts, old_extend))
			return 0;
		if (insn->modrm_at && !take_modrm(insn, how, &parts, old_extend))
			return 0;
	}
	if (insn->gpr_fields & GPR_FIELD_VVVV) {
		unsigned guest = (unsigned)(insn->bytes[insn->opcode_at - 1] >> 3 & 15) ^ 15;

		parts.vvvv = how->host_reg[guest];
	}

	p = put_legacy_prefixes(p, insn, how);
	if (insn->vex) {
		p = put_vex(p, insn, &parts);
	} else {
		rex = (u8)((insn->rex & REX_W) | parts.extend);
		if (rex || parts.need_rex) {
			if (parts.forbid_rex)
				return 0;
			*p++ = 0x40 | rex;
		}
	}
	for (unsigned i = 0; i < parts.opcode_length; i++)
		*p++ = parts.opcode[i];
	if (parts.has_modrm)
		*p++ = parts.modrm;
	if (parts.has_sib)
		*p++ = parts.sib;
	for (unsigned i = 0; i < parts.disp_size; i++)
		*p++ = (u8)((u32)parts.disp >> 8 * i);
	/* a 64-bit offset is not an immediate: imm_at is its end */
	for (unsigned i = insn->imm_at; i < insn->length; i++)
		*p++ = insn->bytes[i];

	length = (unsigned)(p - buffer);
	if (length > INSN_MAX)
		return 0;
	for (unsigned i = 0; i < length; i++)
		out[i] = buffer[i];
	return length;
}
