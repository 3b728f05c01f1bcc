/*
 * Arithmetic flags. Each that is live has a variable of one bit; what set them last is remembered beside that as long
 * as it is certain, because conditions and whole flag words are cheaper made from the operands than from the bits.
 */
#include <stdio.h>

#include "ir.h"

const u16 flag_bits[F_COUNT] = {FLAG_CF, FLAG_PF, FLAG_AF, FLAG_ZF, FLAG_SF, FLAG_OF};

/* Where lahf and seto al put them. */
static const u8 word_bit[F_COUNT] = {8, 10, 12, 14, 15, 0};

static bool live(const struct lift *l, unsigned flag)
{
	return l->live_out & flag_bits[flag];
}

LLVMValueRef lift_flag(struct lift *l, unsigned flag)
{
	return LLVMBuildLoad2(l->b, l->i1, l->flag[flag], "");
}

void lift_set_flag(struct lift *l, unsigned flag, LLVMValueRef bit)
{
	if (live(l, flag))
		LLVMBuildStore(l->b, bit, l->flag[flag]);
}

static LLVMValueRef bit_of(struct lift *l, LLVMValueRef value, unsigned bit)
{
	LLVMValueRef shifted =
		bit ? LLVMBuildLShr(l->b, value, LLVMConstInt(LLVMTypeOf(value), bit, false), "") : value;

	return LLVMBuildTrunc(l->b, shifted, l->i1, "");
}

void lift_flags_result(struct lift *l, LLVMValueRef result)
{
	if (live(l, F_ZF))
		lift_set_flag(l, F_ZF, lift_is_zero(l, result));
	if (live(l, F_SF))
		lift_set_flag(l, F_SF, lift_negative(l, result));
	if (live(l, F_PF)) {
		LLVMValueRef byte = lift_trunc(l, result, 1);
		LLVMValueRef ones = lift_intrinsic1(l, "llvm.ctpop", byte);

		lift_set_flag(l, F_PF, LLVMBuildNot(l->b, bit_of(l, ones, 0), ""));
	}
}

static void remember(struct lift *l, enum flag_source source, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result)
{
	l->flags = (struct flag_state){.source = source,
				       .size = (u8)(LLVMGetIntTypeWidth(LLVMTypeOf(result)) / 8),
				       .a = a,
				       .b = b,
				       .result = result};
}

static void adjust_flag(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result)
{
	if (live(l, F_AF))
		lift_set_flag(l, F_AF, bit_of(l, LLVMBuildXor(l->b, LLVMBuildXor(l->b, a, b, ""), result, ""), 4));
}

void lift_flags_sub(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result)
{
	lift_flags_result(l, result);
	adjust_flag(l, a, b, result);
	if (live(l, F_CF))
		lift_set_flag(l, F_CF, LLVMBuildICmp(l->b, LLVMIntULT, a, b, ""));
	if (live(l, F_OF))
		lift_set_flag(l, F_OF,
			      lift_negative(l, LLVMBuildAnd(l->b, LLVMBuildXor(l->b, a, b, ""),
							    LLVMBuildXor(l->b, a, result, ""), "")));
	remember(l, FLAGS_SUB, a, b, result);
}

void lift_flags_add(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result, LLVMValueRef carry)
{
	lift_flags_result(l, result);
	adjust_flag(l, a, b, result);
	if (live(l, F_CF))
		lift_set_flag(l, F_CF, carry ? carry : LLVMBuildICmp(l->b, LLVMIntULT, result, a, ""));
	if (live(l, F_OF))
		lift_set_flag(l, F_OF,
			      lift_negative(l, LLVMBuildAnd(l->b, LLVMBuildXor(l->b, a, result, ""),
							    LLVMBuildXor(l->b, b, result, ""), "")));
	remember(l, FLAGS_ADD, a, b, result);
}

void lift_flags_logic(struct lift *l, LLVMValueRef result)
{
	LLVMValueRef zero = LLVMConstInt(l->i1, 0, false);

	lift_flags_result(l, result);
	lift_set_flag(l, F_CF, zero);
	lift_set_flag(l, F_OF, zero);
	lift_set_flag(l, F_AF, zero); /* undefined; processors clear it */
	remember(l, FLAGS_LOGIC, result, result, result);
}

void lift_flags_step(struct lift *l, LLVMValueRef a, LLVMValueRef result, bool up)
{
	LLVMTypeRef type = LLVMTypeOf(result);
	unsigned bits = LLVMGetIntTypeWidth(type);
	u64 edge = up ? BIT(bits - 1) : BIT(bits - 1) - 1;

	lift_flags_result(l, result);
	if (live(l, F_AF))
		lift_set_flag(l, F_AF,
			      LLVMBuildICmp(l->b, LLVMIntEQ,
					    LLVMBuildAnd(l->b, result, LLVMConstInt(type, 15, false), ""),
					    LLVMConstInt(type, up ? 0 : 15, false), ""));
	if (live(l, F_OF))
		lift_set_flag(l, F_OF, LLVMBuildICmp(l->b, LLVMIntEQ, result, LLVMConstInt(type, edge, false), ""));
	remember(l, up ? FLAGS_INC : FLAGS_DEC, a, LLVMConstInt(type, 1, false), result);
}

void lift_flags_from_word(struct lift *l, LLVMValueRef word, u16 mask, LLVMValueRef unless)
{
	for (unsigned i = 0; i < F_COUNT; i++) {
		if (!(mask & flag_bits[i]) || !live(l, i))
			continue;
		LLVMValueRef bit = bit_of(l, word, word_bit[i]);

		if (unless)
			bit = LLVMBuildSelect(l->b, unless, lift_flag(l, i), bit, "");
		lift_set_flag(l, i, bit);
	}
	l->flags.source = FLAGS_UNKNOWN;
	if (!unless)
		l->flags = (struct flag_state){.source = FLAGS_WORD, .word = word, .known = mask};
}

/* --- conditions -------------------------------------------------------------------------------------------------- */

/* The comparison of a with b (FLAGS_SUB) that a condition stands for, if there is one. */
static bool predicate(unsigned cc, LLVMIntPredicate *p)
{
	switch (cc & 14) {
	case 2:
		*p = LLVMIntULT;
		break;
	case 4:
		*p = LLVMIntEQ;
		break;
	case 6:
		*p = LLVMIntULE;
		break;
	case 12:
		*p = LLVMIntSLT;
		break;
	case 14:
		*p = LLVMIntSLE;
		break;
	default:
		return false;
	}
	return true;
}

/* The condition without its lowest bit (which negates) straight from operands, or NULL. */
static LLVMValueRef direct_condition(struct lift *l, unsigned cc)
{
	const struct flag_state *f = &l->flags;
	LLVMIntPredicate p;
	bool has = predicate(cc, &p), is_signed = cc >= 12;

	switch (f->source) {
	case FLAGS_SUB:
		return has ? LLVMBuildICmp(l->b, p, f->a, f->b, "") : NULL;
	case FLAGS_LOGIC: /* no carry, no overflow: as if compared with 0 */
		return has ? LLVMBuildICmp(l->b, p, f->result, LLVMConstNull(LLVMTypeOf(f->result)), "") : NULL;
	case FLAGS_DEC: /* a - 1 without regard to overflow */
		return has && is_signed ? LLVMBuildICmp(l->b, p, f->a, f->b, "") : NULL;
	case FLAGS_INC:
		return has && is_signed ? LLVMBuildICmp(l->b, p, f->a, LLVMConstAllOnes(LLVMTypeOf(f->a)), "") : NULL;
	default:
		return NULL;
	}
}

LLVMValueRef lift_condition(struct lift *l, unsigned cc)
{
	LLVMValueRef value = direct_condition(l, cc);

	if (!value) {
		switch (cc >> 1) {
		case 0:
			value = lift_flag(l, F_OF);
			break;
		case 1:
			value = lift_flag(l, F_CF);
			break;
		case 2:
			value = lift_flag(l, F_ZF);
			break;
		case 3:
			value = LLVMBuildOr(l->b, lift_flag(l, F_CF), lift_flag(l, F_ZF), "");
			break;
		case 4:
			value = lift_flag(l, F_SF);
			break;
		case 5:
			value = lift_flag(l, F_PF);
			break;
		default:
			value = LLVMBuildXor(l->b, lift_flag(l, F_SF), lift_flag(l, F_OF), "");
			if (cc >= 14)
				value = LLVMBuildOr(l->b, value, lift_flag(l, F_ZF), "");
			break;
		}
	}
	return cc & 1 ? LLVMBuildNot(l->b, value, "") : value;
}

/* --- all together ------------------------------------------------------------------------------------------------ */

static LLVMValueRef word_from_bits(struct lift *l, u16 mask)
{
	LLVMValueRef word = lift_const(l, 8, 0);

	for (unsigned i = 0; i < F_COUNT; i++) {
		if (!(mask & flag_bits[i]))
			continue;
		LLVMValueRef bit = lift_zext(l, lift_flag(l, i), 8);

		word = LLVMBuildOr(l->b, word, LLVMBuildShl(l->b, bit, lift_const(l, 8, word_bit[i]), ""), "");
	}
	return word;
}

/* One instruction that sets them as the last one did. */
static LLVMValueRef word_by_instruction(struct lift *l, const char *text, LLVMValueRef a, LLVMValueRef b,
					LLVMValueRef carry)
{
	LLVMTypeRef parts[] = {l->i64, LLVMTypeOf(a)};
	LLVMTypeRef result = LLVMStructTypeInContext(l->context, parts, 2, false);
	LLVMValueRef args[] = {a, b, carry ? lift_zext(l, carry, 4) : lift_const(l, 4, 0)};
	LLVMValueRef both = lift_asm(l, result, text, carry ? "=&{ax},=&r,1,r,r,~{flags}" : "=&{ax},=&r,1,r,~{flags}",
				     args, carry ? 3 : 2, false, false);

	return LLVMBuildExtractValue(l->b, both, 0, "");
}

LLVMValueRef lift_flags_word(struct lift *l, u16 mask)
{
	const struct flag_state *f = &l->flags;
	bool few = (mask & (mask - 1)) == 0;

	if (f->source == FLAGS_WORD && !(mask & ~f->known))
		return f->word;
	if (few)
		return word_from_bits(l, mask);
	switch (f->source) {
	case FLAGS_SUB: {
		LLVMValueRef args[] = {f->a, f->b};

		return lift_asm(l, l->i64, "cmp $1, $2\n\tlahf\n\tseto al", "=&{ax},r,r,~{flags}", args, 2, false,
				false);
	}
	case FLAGS_LOGIC:
		return lift_asm(l, l->i64, "test $1, $1\n\tlahf\n\tseto al", "=&{ax},r,~{flags}",
				(LLVMValueRef[]){f->result}, 1, false, false);
	case FLAGS_ADD:
		return word_by_instruction(l, "add $1, $3\n\tlahf\n\tseto al", f->a, f->b, NULL);
	case FLAGS_INC:
	case FLAGS_DEC:
		if (!(mask & FLAG_CF))
			return word_by_instruction(
				l, f->source == FLAGS_INC ? "inc $1\n\tlahf\n\tseto al" : "dec $1\n\tlahf\n\tseto al",
				f->a, f->b, NULL);
		return word_by_instruction(l,
					   f->source == FLAGS_INC ? "bt $4, 0\n\tinc $1\n\tlahf\n\tseto al"
								  : "bt $4, 0\n\tdec $1\n\tlahf\n\tseto al",
					   f->a, f->b, lift_flag(l, F_CF));
	default:
		return word_from_bits(l, mask);
	}
}
