/*
 * A minimal assembler for the instructions that the translator adds around copied ones. Register arguments are host
 * register numbers. Nothing here knows the guest.
 */
#ifndef AVANT_TRANSLATE_EMIT_H
#define AVANT_TRANSLATE_EMIT_H

#include "util/types.h"

struct emitter {
	u8 *start; /* writable view */
	u8 *at;
	u8 *end;
	bool overflow; /* ran out of space: everything emitted is void */
};

#define NO_REG    0xff
#define PREFIX_GS 0x65

/* An addressing form: [seg: base + index*scale + disp]; without base and index an absolute 32-bit address. */
struct address {
	u8 seg; /* PREFIX_GS or 0 */
	u8 base, index, scale;
	s32 disp;
};

#define ADDRESS_ABS(a)     ((struct address){0, NO_REG, NO_REG, 1, (s32)(uintptr_t)(a)})
#define ADDRESS_BASE(b, d) ((struct address){0, (b), NO_REG, 1, (d)})
#define ADDRESS_GS(b, d)   ((struct address){PREFIX_GS, (b), NO_REG, 1, (d)})

enum condition {
	CC_O,
	CC_NO,
	CC_B,
	CC_AE,
	CC_E,
	CC_NE,
	CC_BE,
	CC_A,
	CC_S,
	CC_NS,
	CC_P,
	CC_NP,
	CC_L,
	CC_GE,
	CC_LE,
	CC_G
};

static inline void emit_u8(struct emitter *e, u8 byte)
{
	if (UNLIKELY(e->at >= e->end)) {
		e->overflow = true;
		return;
	}
	*e->at++ = byte;
}

static inline void emit_u32(struct emitter *e, u32 value)
{
	if (UNLIKELY(e->end - e->at < 4)) {
		e->overflow = true;
		return;
	}
	__builtin_memcpy(e->at, &value, 4);
	e->at += 4;
}

static inline void emit_u64(struct emitter *e, u64 value)
{
	emit_u32(e, (u32)value);
	emit_u32(e, (u32)(value >> 32));
}

static inline void emit_bytes(struct emitter *e, const u8 *bytes, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		emit_u8(e, bytes[i]);
}

/* ModRM, SIB and displacement for `reg` and a memory operand. */
static inline void emit_modrm(struct emitter *e, u8 reg, struct address a)
{
	u8 r = (u8)((reg & 7) << 3);

	if (a.base == NO_REG) {
		u8 scale = a.scale == 8 ? 3 : a.scale == 4 ? 2 : a.scale == 2 ? 1 : 0;
		u8 index = a.index == NO_REG ? 4 : a.index & 7;

		emit_u8(e, r | 4);
		emit_u8(e, (u8)(scale << 6 | index << 3 | 5));
		emit_u32(e, (u32)a.disp);
		return;
	}
	u8 mod = a.disp == 0 && (a.base & 7) != 5 ? 0 : a.disp == (s8)a.disp ? 1 : 2;

	if (a.index != NO_REG || (a.base & 7) == 4) {
		u8 scale = a.scale == 8 ? 3 : a.scale == 4 ? 2 : a.scale == 2 ? 1 : 0;
		u8 index = a.index == NO_REG ? 4 : a.index & 7;

		emit_u8(e, (u8)(mod << 6 | r | 4));
		emit_u8(e, (u8)(scale << 6 | index << 3 | (a.base & 7)));
	} else {
		emit_u8(e, (u8)(mod << 6 | r | (a.base & 7)));
	}
	if (mod == 1)
		emit_u8(e, (u8)a.disp);
	else if (mod == 2)
		emit_u32(e, (u32)a.disp);
}

/* [prefix] [rex] opcode modrm: one-byte opcode, or 0x0fxx as two bytes. */
static inline void emit_rm(struct emitter *e, bool w, u32 opcode, u8 reg, struct address a)
{
	u8 rex = (u8)(0x40 | w << 3 | (reg >> 3 & 1) << 2 | (a.index != NO_REG ? a.index >> 3 & 1 : 0) << 1 |
		      (a.base != NO_REG ? a.base >> 3 & 1 : 0));

	if (a.seg)
		emit_u8(e, a.seg);
	if (rex != 0x40)
		emit_u8(e, rex);
	if (opcode > 0xff)
		emit_u8(e, (u8)(opcode >> 8));
	emit_u8(e, (u8)opcode);
	emit_modrm(e, reg, a);
}

/* Register-register form: rm is the ModRM.rm register. */
static inline void emit_rr(struct emitter *e, bool w, u32 opcode, u8 reg, u8 rm)
{
	u8 rex = (u8)(0x40 | w << 3 | (reg >> 3) << 2 | rm >> 3);

	if (rex != 0x40)
		emit_u8(e, rex);
	if (opcode > 0xff)
		emit_u8(e, (u8)(opcode >> 8));
	emit_u8(e, (u8)opcode);
	emit_u8(e, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

static inline void emit_mov_rr(struct emitter *e, u8 to, u8 from)
{
	emit_rr(e, true, 0x89, from, to);
}

static inline void emit_load(struct emitter *e, u8 to, struct address a)
{
	emit_rm(e, true, 0x8b, to, a);
}

static inline void emit_store(struct emitter *e, struct address a, u8 from)
{
	emit_rm(e, true, 0x89, from, a);
}

static inline void emit_lea(struct emitter *e, u8 to, struct address a)
{
	emit_rm(e, true, 0x8d, to, a);
}

/* mov qword [a], sign-extended imm32 */
static inline void emit_store_imm32(struct emitter *e, struct address a, s32 imm)
{
	emit_rm(e, true, 0xc7, 0, a);
	emit_u32(e, (u32)imm);
}

/* mov dword [a], imm32; with an absolute address its immediate begins after so many bytes */
#define STORE_DWORD_IMM 7
static inline void emit_store_dword(struct emitter *e, struct address a, u32 imm)
{
	emit_rm(e, false, 0xc7, 0, a);
	emit_u32(e, imm);
}

/* The move that is as long for every constant. Touches no flags. */
static inline void emit_mov_imm64(struct emitter *e, u8 to, u64 imm)
{
	emit_u8(e, 0x48 | (to >> 3));
	emit_u8(e, 0xb8 | (to & 7));
	emit_u64(e, imm);
}

/* The move that is as long for every sign-extended imm32. Touches no flags. */
static inline void emit_mov_simm32(struct emitter *e, u8 to, s32 imm)
{
	emit_rr(e, true, 0xc7, 0, to);
	emit_u32(e, (u32)imm);
}

/* The shortest move of a constant into a register. Touches no flags. */
static inline void emit_mov_imm(struct emitter *e, u8 to, u64 imm)
{
	if (imm == (u32)imm) {
		if (to >= 8)
			emit_u8(e, 0x41);
		emit_u8(e, 0xb8 | (to & 7));
		emit_u32(e, (u32)imm);
	} else if ((s64)imm == (s32)imm) {
		emit_mov_simm32(e, to, (s32)imm);
	} else {
		emit_mov_imm64(e, to, imm);
	}
}

/* Arithmetic group 1 (/0 add, /4 and, /5 sub, /7 cmp) with an imm32. */
static inline void emit_alu_imm(struct emitter *e, unsigned which, u8 reg, s32 imm)
{
	if (imm == (s8)imm) {
		emit_rr(e, true, 0x83, (u8)which, reg);
		emit_u8(e, (u8)imm);
	} else {
		emit_rr(e, true, 0x81, (u8)which, reg);
		emit_u32(e, (u32)imm);
	}
}

static inline void emit_shr(struct emitter *e, u8 reg, u8 count)
{
	emit_rr(e, true, 0xc1, 5, reg);
	emit_u8(e, count);
}

/* Jumps with a 32-bit displacement to be filled in: return the place of the displacement. */
static inline u8 *emit_jcc(struct emitter *e, enum condition cc)
{
	emit_u8(e, 0x0f);
	emit_u8(e, 0x80 | (u8)cc);
	emit_u32(e, 0);
	return e->at - 4;
}

static inline u8 *emit_jmp(struct emitter *e)
{
	emit_u8(e, 0xe9);
	emit_u32(e, 0);
	return e->at - 4;
}

static inline u8 *emit_call(struct emitter *e)
{
	emit_u8(e, 0xe8);
	emit_u32(e, 0);
	return e->at - 4;
}

/* Points a 32-bit displacement at `target` (same view). */
static inline void emit_patch(u8 *displacement, const u8 *target)
{
	s32 value = (s32)(target - (displacement + 4));

	__builtin_memcpy(displacement, &value, 4);
}

/* jmp/call qword [a] */
static inline void emit_jmp_mem(struct emitter *e, struct address a)
{
	emit_rm(e, false, 0xff, 4, a);
}

static inline void emit_call_mem(struct emitter *e, struct address a)
{
	emit_rm(e, false, 0xff, 2, a);
}

#endif
