/*
 * Inline assembly. The text is built from parts; operand numbers depend on whether the flags are wanted, whose word is
 * operand 0 then.
 */
#include "host_insn.h"

#include <stdio.h>

struct part {
	LLVMValueRef value;
	const char *constraint;
};

/*
 * Flags that are live behind the instruction and that it may leave as they were (some processors leave undefined ones
 * so): as a word, or NULL if there are none.
 */
static LLVMValueRef surviving_flags(struct lift *l)
{
	u16 mask = l->insn->flags_read & l->live_out;

	return mask ? lift_flags_word(l, mask) : NULL;
}

/* In `body` %0 is the result, %1, %2 … are the inputs in order. */
static LLVMValueRef build(struct lift *l, const char *body, LLVMTypeRef type, bool tied, const struct part *in,
			  unsigned count, LLVMValueRef carry, LLVMValueRef *word)
{
	char text[160], constraints[96];
	unsigned shift = word ? 1 : 0, at = 0;
	LLVMValueRef args[6], before = word ? surviving_flags(l) : NULL;
	int n;

	if (before)
		at += (unsigned)snprintf(text, sizeof(text), "add al, 127\n\tsahf\n\t");
	if (carry) {
		unsigned number = 1 + shift + count;

		at += (unsigned)snprintf(text + at, sizeof(text) - at, "bt $%u, 0\n\t", number);
	}
	for (const char *c = body; *c && at < sizeof(text) - 32; c++) {
		if (*c == '%')
			text[at++] = '$', text[at++] = (char)(*++c + (int)shift);
		else
			text[at++] = *c;
	}
	text[at] = 0;
	if (word)
		snprintf(text + at, sizeof(text) - at, "\n\tlahf\n\tseto al");
	n = snprintf(constraints, sizeof(constraints), "%s=&r", word ? "=&{ax}," : "");
	for (unsigned i = 0; i < count; i++) {
		args[i] = in[i].value;
		if (i == 0 && tied)
			n += snprintf(constraints + n, sizeof(constraints) - (size_t)n, ",%u", shift);
		else
			n += snprintf(constraints + n, sizeof(constraints) - (size_t)n, ",%s", in[i].constraint);
	}
	if (carry) {
		args[count++] = lift_zext(l, carry, 4);
		n += snprintf(constraints + n, sizeof(constraints) - (size_t)n, ",r");
	}
	if (before) {
		args[count++] = before;
		n += snprintf(constraints + n, sizeof(constraints) - (size_t)n, ",0");
	}
	snprintf(constraints + n, sizeof(constraints) - (size_t)n, ",~{flags}");
	if (!word)
		return lift_asm(l, type, text, constraints, args, count, false, false);
	LLVMTypeRef parts[] = {l->i64, type};
	LLVMValueRef both = lift_asm(l, LLVMStructTypeInContext(l->context, parts, 2, false), text, constraints, args,
				     count, false, false);

	*word = LLVMBuildExtractValue(l->b, both, 0, "");
	return LLVMBuildExtractValue(l->b, both, 1, "");
}

LLVMValueRef host_shift(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b, LLVMValueRef count,
			LLVMValueRef carry, LLVMValueRef *word)
{
	struct part in[3] = {{a, "r"}};
	unsigned n = 1;
	char body[32];

	if (b)
		in[n++] = (struct part){b, "r"};
	in[n++] = (struct part){count, "{cx}"};
	snprintf(body, sizeof(body), b ? "%s %%0, %%2, cl" : "%s %%0, cl", name);
	return build(l, body, LLVMTypeOf(a), true, in, n, carry, word);
}

LLVMValueRef host_two(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b, LLVMValueRef carry,
		      LLVMValueRef *word)
{
	struct part in[] = {{a, "r"}, {b, "r"}};
	char body[32];

	snprintf(body, sizeof(body), "%s %%0, %%2", name);
	return build(l, body, LLVMTypeOf(a), true, in, 2, carry, word);
}

LLVMValueRef host_one(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef *word)
{
	struct part in[] = {{a, "r"}};
	char body[32];

	snprintf(body, sizeof(body), "%s %%0, %%1", name);
	return build(l, body, LLVMTypeOf(a), false, in, 1, NULL, word);
}

LLVMValueRef host_three(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b, LLVMValueRef *word)
{
	struct part in[] = {{a, "r"}, {b, "r"}};
	char body[32];

	snprintf(body, sizeof(body), "%s %%0, %%1, %%2", name);
	return build(l, body, LLVMTypeOf(a), false, in, 2, NULL, word);
}

/* What rax is to hold first: flags for sahf, or anything if no flag survives. */
static LLVMValueRef flags_before(struct lift *l)
{
	LLVMValueRef word = surviving_flags(l);

	return word ? word : LLVMGetPoison(l->i64);
}

#define LOAD_FLAGS "add al, 127\n\tsahf\n\t"

LLVMValueRef host_mul_flags(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b)
{
	LLVMValueRef args[] = {flags_before(l), lift_zext(l, a, 8), b};
	char text[96];

	snprintf(text, sizeof(text), LOAD_FLAGS "mov rax, $2\n\t%s $3\n\tlahf\n\tseto al", name);
	return lift_asm(l, l->i64, text, "=&{ax},0,r,r,~{dx},~{flags}", args, 3, false, false);
}

/* ax by a byte */
static LLVMValueRef divide_byte(struct lift *l, const char *name, LLVMValueRef high, LLVMValueRef low,
				LLVMValueRef divisor, LLVMValueRef *rest, LLVMValueRef *word)
{
	LLVMValueRef dividend = LLVMBuildOr(l->b, LLVMBuildShl(l->b, lift_zext(l, high, 8), lift_const(l, 8, 8), ""),
					    lift_zext(l, low, 8), "");
	LLVMValueRef args[] = {flags_before(l), dividend, divisor};
	LLVMTypeRef parts[] = {l->i64, l->i64};
	char text[96];

	snprintf(text, sizeof(text), LOAD_FLAGS "mov rax, $3\n\t%s $4\n\tmov $0, rax\n\tlahf\n\tseto al", name);
	LLVMValueRef both = lift_asm(l, LLVMStructTypeInContext(l->context, parts, 2, false), text,
				     "=&r,=&{ax},1,r,r,~{flags}", args, 3, true, false);
	LLVMValueRef result = LLVMBuildExtractValue(l->b, both, 0, "");

	if (word)
		*word = LLVMBuildExtractValue(l->b, both, 1, "");
	*rest = lift_trunc(l, LLVMBuildLShr(l->b, result, lift_const(l, 8, 8), ""), 1);
	return lift_trunc(l, result, 1);
}

LLVMValueRef host_divide(struct lift *l, bool is_signed, LLVMValueRef high, LLVMValueRef low, LLVMValueRef divisor,
			 LLVMValueRef *rest, LLVMValueRef *word)
{
	unsigned size = LLVMGetIntTypeWidth(LLVMTypeOf(low)) / 8;
	const char *name = is_signed ? "idiv" : "div";
	char text[96];

	if (size == 1)
		return divide_byte(l, name, high, low, divisor, rest, word);
	if (!word) {
		LLVMTypeRef parts[] = {LLVMTypeOf(low), LLVMTypeOf(low)};
		LLVMValueRef args[] = {low, high, divisor};

		snprintf(text, sizeof(text), "%s $4", name);
		LLVMValueRef both = lift_asm(l, LLVMStructTypeInContext(l->context, parts, 2, false), text,
					     "=&{ax},=&{dx},0,1,r,~{flags}", args, 3, true, false);

		*rest = LLVMBuildExtractValue(l->b, both, 1, "");
		return LLVMBuildExtractValue(l->b, both, 0, "");
	}
	LLVMTypeRef parts[] = {l->i64, l->i64, LLVMTypeOf(high)};
	LLVMValueRef args[] = {flags_before(l), high, lift_zext(l, low, 8), divisor};

	snprintf(text, sizeof(text), LOAD_FLAGS "mov rax, $5\n\t%s $6\n\tmov $0, rax\n\tlahf\n\tseto al", name);
	LLVMValueRef all = lift_asm(l, LLVMStructTypeInContext(l->context, parts, 3, false), text,
				    "=&r,=&{ax},=&{dx},1,2,r,r,~{flags}", args, 4, true, false);

	*word = LLVMBuildExtractValue(l->b, all, 1, "");
	*rest = LLVMBuildExtractValue(l->b, all, 2, "");
	return lift_trunc(l, LLVMBuildExtractValue(l->b, all, 0, ""), size);
}
