/*
 * General-purpose instructions, one small function for each family, and the table that says which mnemonic is whose.
 * Results are IR; so are flags where a formula is short. Flags that have none, or that the manuals leave undefined,
 * come from executing the instruction itself on register operands (host_insn.c), so they are what this
 * kind of processor does.
 */
#include <Zydis/Zydis.h>

#include "host_insn.h"
#include "ir.h"

#define N(x) ZYDIS_MNEMONIC_##x

static unsigned size_of(const struct lift *l)
{
	return l->insn->op[0].size;
}

/* --- moves ------------------------------------------------------------------------------------------------------- */

static void lift_mov(struct lift *l)
{
	lift_write(l, 0, lift_read(l, 1, size_of(l)));
}

static void lift_movx(struct lift *l)
{
	unsigned to = l->insn->op[0].size, from = l->insn->op[1].size;
	LLVMValueRef value = lift_read(l, 1, from < to ? from : to);

	lift_write(l, 0, l->insn->mnemonic == N(MOVZX) ? lift_zext(l, value, to) : lift_sext(l, value, to));
}

static void lift_movbe(struct lift *l)
{
	lift_write(l, 0, lift_intrinsic1(l, "llvm.bswap", lift_read(l, 1, size_of(l))));
}

static void lift_lea(struct lift *l)
{
	lift_write(l, 0, lift_trunc(l, lift_ea(l, false), size_of(l)));
}

static void lift_bswap(struct lift *l)
{
	lift_write(l, 0, lift_intrinsic1(l, "llvm.bswap", lift_read(l, 0, size_of(l))));
}

static LLVMValueRef atomic(struct lift *l, LLVMAtomicRMWBinOp op, LLVMValueRef value)
{
	return LLVMBuildAtomicRMW(l->b, op, lift_operand(l), value, LLVMAtomicOrderingSequentiallyConsistent, false);
}

static void lift_xchg(struct lift *l)
{
	unsigned size = size_of(l), memory = l->insn->op[0].kind == OPERAND_MEM ? 0 : 1;

	if (l->insn->has_mem) {
		LLVMValueRef old = atomic(l, LLVMAtomicRMWBinOpXchg, lift_read(l, !memory, size));

		lift_write(l, !memory, old);
		return;
	}
	LLVMValueRef a = lift_read(l, 0, size), b = lift_read(l, 1, size);

	lift_write(l, 0, b);
	lift_write(l, 1, a);
}

static void lift_cmov(struct lift *l)
{
	LLVMValueRef value = lift_read(l, 1, size_of(l)), old = lift_read(l, 0, size_of(l));

	lift_write(l, 0, LLVMBuildSelect(l->b, lift_condition(l, l->insn->cond), value, old, ""));
}

static void lift_set_cc(struct lift *l)
{
	lift_write(l, 0, lift_zext(l, lift_condition(l, l->insn->cond), 1));
}

/* cbw cwde cdqe */
static void lift_widen(struct lift *l)
{
	unsigned size = l->insn->opsize;

	lift_set_part(l, RAX, false, lift_sext(l, lift_get_part(l, RAX, size / 2, false), size));
}

/* cwd cdq cqo */
static void lift_sign(struct lift *l)
{
	unsigned size = l->insn->opsize;
	LLVMValueRef value = lift_get_part(l, RAX, size, false);

	lift_set_part(l, RDX, false, LLVMBuildAShr(l->b, value, lift_const(l, size, size * 8 - 1), ""));
}

static void lift_nothing(struct lift *l)
{
	(void)l;
}

static void lift_fence(struct lift *l)
{
	const char *text = l->insn->mnemonic == N(MFENCE)   ? "mfence"
			   : l->insn->mnemonic == N(LFENCE) ? "lfence"
							    : "sfence";

	lift_asm(l, l->none, text, "~{memory}", NULL, 0, true, false);
}

/* --- addition and subtraction ------------------------------------------------------------------------------------ */

/* result and carry of a + b. */
static LLVMValueRef add_with_carry(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef *carry)
{
	LLVMValueRef args[] = {a, b};
	LLVMValueRef both = lift_intrinsic(l, "llvm.uadd.with.overflow", LLVMTypeOf(a), args, 2);

	*carry = LLVMBuildExtractValue(l->b, both, 1, "");
	return LLVMBuildExtractValue(l->b, both, 0, "");
}

static LLVMValueRef sub_with_borrow(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef *borrow)
{
	LLVMValueRef args[] = {a, b};
	LLVMValueRef both = lift_intrinsic(l, "llvm.usub.with.overflow", LLVMTypeOf(a), args, 2);

	*borrow = LLVMBuildExtractValue(l->b, both, 1, "");
	return LLVMBuildExtractValue(l->b, both, 0, "");
}

static bool locked(const struct lift *l)
{
	return l->insn->prefix_lock && l->insn->op[0].kind == OPERAND_MEM;
}

static void lift_add(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef b = lift_read(l, 1, size), a, result, carry = NULL;

	if (locked(l)) {
		a = atomic(l, LLVMAtomicRMWBinOpAdd, b);
		lift_flags_add(l, a, b, LLVMBuildAdd(l->b, a, b, ""), NULL);
		return;
	}
	a = lift_read(l, 0, size);
	if (l->live_out & FLAG_CF)
		result = add_with_carry(l, a, b, &carry);
	else
		result = LLVMBuildAdd(l->b, a, b, "");
	lift_write(l, 0, result);
	lift_flags_add(l, a, b, result, carry);
}

static void lift_sub(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef b = lift_read(l, 1, size), a;

	if (locked(l))
		a = atomic(l, LLVMAtomicRMWBinOpSub, b);
	else
		a = lift_read(l, 0, size);
	LLVMValueRef result = LLVMBuildSub(l->b, a, b, "");

	if (l->insn->mnemonic != N(CMP) && !locked(l))
		lift_write(l, 0, result);
	lift_flags_sub(l, a, b, result);
}

static void carry_flags(struct lift *l, bool subtract, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result,
			LLVMValueRef carry)
{
	/* the formulas for AF and OF hold with a carry as well */
	if (subtract)
		lift_flags_sub(l, a, b, result);
	else
		lift_flags_add(l, a, b, result, carry);
	lift_set_flag(l, F_CF, carry);
	l->flags.source = FLAGS_UNKNOWN;
}

static void lift_adc(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef b = lift_read(l, 1, size), a = lift_read(l, 0, size), first, second;
	LLVMValueRef in = lift_zext(l, lift_flag(l, F_CF), size);
	LLVMValueRef result = add_with_carry(l, a, b, &first);

	result = add_with_carry(l, result, in, &second);
	lift_write(l, 0, result);
	carry_flags(l, false, a, b, result, LLVMBuildOr(l->b, first, second, ""));
}

static void lift_sbb(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef b = lift_read(l, 1, size), a = lift_read(l, 0, size), first, second;
	LLVMValueRef in = lift_zext(l, lift_flag(l, F_CF), size);
	LLVMValueRef result = sub_with_borrow(l, a, b, &first);

	result = sub_with_borrow(l, result, in, &second);
	lift_write(l, 0, result);
	carry_flags(l, true, a, b, result, LLVMBuildOr(l->b, first, second, ""));
}

static void lift_adx(struct lift *l)
{
	unsigned size = size_of(l), flag = l->insn->mnemonic == N(ADCX) ? F_CF : F_OF;
	LLVMValueRef b = lift_read(l, 1, size), a = lift_read(l, 0, size), first, second;
	LLVMValueRef result = add_with_carry(l, a, b, &first);

	result = add_with_carry(l, result, lift_zext(l, lift_flag(l, flag), size), &second);
	lift_write(l, 0, result);
	lift_set_flag(l, flag, LLVMBuildOr(l->b, first, second, ""));
	l->flags.source = FLAGS_UNKNOWN;
}

static void lift_step(struct lift *l)
{
	unsigned size = size_of(l);
	bool up = l->insn->mnemonic == N(INC);
	LLVMValueRef one = lift_const(l, size, 1), a;

	if (locked(l))
		a = atomic(l, up ? LLVMAtomicRMWBinOpAdd : LLVMAtomicRMWBinOpSub, one);
	else
		a = lift_read(l, 0, size);
	LLVMValueRef result = up ? LLVMBuildAdd(l->b, a, one, "") : LLVMBuildSub(l->b, a, one, "");

	if (!locked(l))
		lift_write(l, 0, result);
	lift_flags_step(l, a, result, up);
}

static void lift_neg(struct lift *l)
{
	LLVMValueRef a = lift_read(l, 0, size_of(l)), zero = lift_const(l, size_of(l), 0);
	LLVMValueRef result = LLVMBuildSub(l->b, zero, a, "");

	lift_write(l, 0, result);
	lift_flags_sub(l, zero, a, result);
}

static void lift_xadd(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef b = lift_read(l, 1, size), a;

	if (locked(l)) {
		a = atomic(l, LLVMAtomicRMWBinOpAdd, b);
		lift_write(l, 1, a);
		lift_flags_add(l, a, b, LLVMBuildAdd(l->b, a, b, ""), NULL);
		return;
	}
	a = lift_read(l, 0, size);
	LLVMValueRef result = LLVMBuildAdd(l->b, a, b, "");

	if (l->insn->has_mem) {
		lift_write(l, 0, result);
		lift_write(l, 1, a);
	} else { /* the sum last: xadd of a register with itself leaves that */
		lift_write(l, 1, a);
		lift_write(l, 0, result);
	}
	lift_flags_add(l, a, b, result, NULL);
}

static void lift_cmpxchg(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef expected = lift_get_part(l, RAX, size, false), value = lift_read(l, 1, size), old, equal;

	if (locked(l)) {
		LLVMValueRef both = LLVMBuildAtomicCmpXchg(l->b, lift_operand(l), expected, value,
							   LLVMAtomicOrderingSequentiallyConsistent,
							   LLVMAtomicOrderingSequentiallyConsistent, false);

		old = LLVMBuildExtractValue(l->b, both, 0, "");
		equal = LLVMBuildICmp(l->b, LLVMIntEQ, old, expected, "");
	} else {
		old = lift_read(l, 0, size);
		equal = LLVMBuildICmp(l->b, LLVMIntEQ, old, expected, "");
		/* memory is written in any case; a 32-bit register only if equal: its upper half else stays */
		if (l->insn->has_mem)
			lift_store(l, lift_operand(l), LLVMBuildSelect(l->b, equal, value, old, ""));
	}
	/* likewise rax: it is written (and its upper half cleared) only if the values differ */
	LLVMValueRef rax = lift_get(l, RAX), full;

	lift_set_part(l, RAX, false, old);
	full = LLVMBuildSelect(l->b, equal, rax, lift_get(l, RAX), "");
	lift_set(l, RAX, full);
	if (!l->insn->has_mem) {
		const struct operand *op = &l->insn->op[0];
		unsigned reg = op->high ? op->reg - 4u : op->reg;
		LLVMValueRef before = lift_get(l, reg);

		lift_write(l, 0, value);
		lift_set(l, reg, LLVMBuildSelect(l->b, equal, lift_get(l, reg), before, ""));
	}
	lift_flags_sub(l, expected, old, LLVMBuildSub(l->b, expected, old, ""));
}

/* --- logic ------------------------------------------------------------------------------------------------------- */

static LLVMValueRef logic(struct lift *l, LLVMValueRef a, LLVMValueRef b)
{
	switch (l->insn->mnemonic) {
	case N(OR):
		return LLVMBuildOr(l->b, a, b, "");
	case N(XOR):
		return LLVMBuildXor(l->b, a, b, "");
	default:
		return LLVMBuildAnd(l->b, a, b, "");
	}
}

static bool same_register(const struct insn *insn)
{
	return insn->op[0].kind == OPERAND_GPR && insn->op[1].kind == OPERAND_GPR &&
	       insn->op[0].reg == insn->op[1].reg && insn->op[0].high == insn->op[1].high;
}

static void lift_logic(struct lift *l)
{
	unsigned size = size_of(l);
	bool clears = l->insn->mnemonic == N(XOR) && same_register(l->insn);
	LLVMValueRef b = clears ? lift_const(l, size, 0) : lift_read(l, 1, size), result;

	if (locked(l)) {
		LLVMAtomicRMWBinOp op = l->insn->mnemonic == N(OR)    ? LLVMAtomicRMWBinOpOr
					: l->insn->mnemonic == N(XOR) ? LLVMAtomicRMWBinOpXor
								      : LLVMAtomicRMWBinOpAnd;

		lift_flags_logic(l, logic(l, atomic(l, op, b), b));
		return;
	}
	result = logic(l, clears ? b : lift_read(l, 0, size), b);
	if (l->insn->mnemonic != N(TEST))
		lift_write(l, 0, result);
	lift_flags_logic(l, result);
}

static void lift_not(struct lift *l)
{
	lift_write(l, 0, LLVMBuildNot(l->b, lift_read(l, 0, size_of(l)), ""));
}

/* --- shifts ------------------------------------------------------------------------------------------------------ */

static LLVMValueRef shift_value(struct lift *l, LLVMValueRef a, LLVMValueRef count, unsigned size)
{
	/* narrow ones may be shifted by more than their width */
	unsigned wide = size < 4 ? 4 : size;
	LLVMValueRef value = l->insn->mnemonic == N(SAR) || l->insn->mnemonic == N(SARX) ? lift_sext(l, a, wide)
											 : lift_zext(l, a, wide);

	count = LLVMBuildAnd(l->b, count, LLVMConstInt(LLVMTypeOf(count), size == 8 ? 63 : 31, false), "");
	count = LLVMGetIntTypeWidth(LLVMTypeOf(count)) < wide * 8 ? lift_zext(l, count, wide)
								  : lift_trunc(l, count, wide);
	switch (l->insn->mnemonic) {
	case N(SHR):
	case N(SHRX):
		value = LLVMBuildLShr(l->b, value, count, "");
		break;
	case N(SAR):
	case N(SARX):
		value = LLVMBuildAShr(l->b, value, count, "");
		break;
	default:
		value = LLVMBuildShl(l->b, value, count, "");
		break;
	}
	return lift_trunc(l, value, size);
}

static const char *shift_name(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case N(SHR):
		return "shr";
	case N(SAR):
		return "sar";
	case N(ROL):
		return "rol";
	case N(ROR):
		return "ror";
	case N(RCL):
		return "rcl";
	case N(RCR):
		return "rcr";
	case N(SHLD):
		return "shld";
	case N(SHRD):
		return "shrd";
	default:
		return "shl";
	}
}

/* Condition under which a count leaves flags alone; NULL: never. */
static LLVMValueRef count_is_zero(struct lift *l, LLVMValueRef count, unsigned size)
{
	if (LLVMIsConstant(count))
		return NULL;
	return lift_is_zero(l, LLVMBuildAnd(l->b, count, lift_const(l, 1, size == 8 ? 63 : 31), ""));
}

static bool no_shift(const struct insn *insn, unsigned n, unsigned size)
{
	return insn->op[n].kind == OPERAND_IMM && !(insn->imm & (size == 8 ? 63 : 31));
}

/* The last bit shifted out of a by a constant count below its width. */
static LLVMValueRef last_bit(struct lift *l, LLVMValueRef a, unsigned bit, unsigned size)
{
	return LLVMBuildTrunc(l->b, LLVMBuildLShr(l->b, a, lift_const(l, size, bit), ""), l->i1, "");
}

static void lift_shift(struct lift *l)
{
	unsigned size = size_of(l), bits = size * 8;
	LLVMValueRef a = lift_read(l, 0, size), count = lift_read(l, 1, 1);
	LLVMValueRef result = shift_value(l, a, count, size);

	lift_write(l, 0, result);
	if (no_shift(l->insn, 1, size) || !(l->live_out & FLAGS_ARITH))
		return;
	unsigned n = (unsigned)l->insn->imm & (size == 8 ? 63 : 31);

	if (l->insn->op[1].kind == OPERAND_IMM && n < bits && !(l->live_out & (FLAG_OF | FLAG_AF))) {
		lift_flags_result(l, result);
		lift_set_flag(l, F_CF, last_bit(l, a, l->insn->mnemonic == N(SHL) ? bits - n : n - 1, size));
		l->flags.source = FLAGS_UNKNOWN;
		return;
	}
	LLVMValueRef word;

	host_shift(l, shift_name(l->insn), a, NULL, count, NULL, &word);
	lift_flags_from_word(l, word, FLAGS_ARITH, count_is_zero(l, count, size));
}

static void lift_rotate(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 0, size), count = lift_read(l, 1, 1), result, word = NULL;

	if (no_shift(l->insn, 1, size)) {
		lift_write(l, 0, a);
		return;
	}
	if (l->live_out & (FLAG_CF | FLAG_OF)) {
		result = host_shift(l, shift_name(l->insn), a, NULL, count, NULL, &word);
		lift_write(l, 0, result);
		lift_flags_from_word(l, word, FLAG_CF | FLAG_OF, count_is_zero(l, count, size));
		return;
	}
	LLVMValueRef args[] = {a, a, NULL};

	args[2] = size == 1 ? count : lift_zext(l, count, size);
	if (size == 4) /* the count is masked before it is taken modulo the width */
		args[2] = LLVMBuildAnd(l->b, args[2], lift_const(l, 4, 31), "");
	result = lift_intrinsic(l, l->insn->mnemonic == N(ROL) ? "llvm.fshl" : "llvm.fshr", LLVMTypeOf(a), args, 3);
	lift_write(l, 0, result);
}

static void lift_rotate_carry(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 0, size), count = lift_read(l, 1, 1), word;

	if (no_shift(l->insn, 1, size)) {
		lift_write(l, 0, a);
		return;
	}
	lift_write(l, 0, host_shift(l, shift_name(l->insn), a, NULL, count, lift_flag(l, F_CF), &word));
	lift_flags_from_word(l, word, FLAG_CF | FLAG_OF, count_is_zero(l, count, size));
}

static void lift_shift_double(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 0, size), b = lift_read(l, 1, size), count = lift_read(l, 2, 1), word;

	if (no_shift(l->insn, 2, size)) {
		lift_write(l, 0, a);
		return;
	}
	bool flags = l->live_out & FLAGS_ARITH;

	lift_write(l, 0, host_shift(l, shift_name(l->insn), a, b, count, NULL, flags ? &word : NULL));
	if (flags)
		lift_flags_from_word(l, word, FLAGS_ARITH, count_is_zero(l, count, size));
}

/* rorx shlx shrx sarx: no flags */
static void lift_shift_bmi(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 1, size);

	if (l->insn->mnemonic == N(RORX)) {
		LLVMValueRef args[] = {a, a, lift_const(l, size, (u64)l->insn->imm & (size * 8 - 1))};

		lift_write(l, 0, lift_intrinsic(l, "llvm.fshr", LLVMTypeOf(a), args, 3));
		return;
	}
	lift_write(l, 0, shift_value(l, a, lift_read(l, 2, size), size));
}

/* --- multiplication and division --------------------------------------------------------------------------------- */

#define UNDEFINED_BY_MUL (FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF)

/* rdx:rax (ax for bytes) = a product of twice the size. */
static void write_product(struct lift *l, LLVMValueRef product, unsigned size)
{
	if (size == 1) {
		lift_set_part(l, RAX, false, product);
		return;
	}
	lift_set_part(l, RAX, false, lift_trunc(l, product, size));
	lift_set_part(l, RDX, false,
		      lift_trunc(l, LLVMBuildLShr(l->b, product, lift_const(l, size * 2, size * 8), ""), size));
}

static void lift_mul_wide(struct lift *l)
{
	unsigned size = size_of(l);
	bool is_signed = l->insn->mnemonic == N(IMUL);
	LLVMValueRef a = lift_get_part(l, RAX, size, false), b = lift_read(l, 0, size);
	LLVMValueRef wa = is_signed ? lift_sext(l, a, size * 2) : lift_zext(l, a, size * 2);
	LLVMValueRef wb = is_signed ? lift_sext(l, b, size * 2) : lift_zext(l, b, size * 2);
	LLVMValueRef product = LLVMBuildMul(l->b, wa, wb, "");

	write_product(l, product, size);
	if (l->live_out & UNDEFINED_BY_MUL) {
		lift_flags_from_word(l, host_mul_flags(l, is_signed ? "imul" : "mul", a, b), FLAGS_ARITH, NULL);
		return;
	}
	LLVMValueRef low = lift_trunc(l, product, size);
	LLVMValueRef back = is_signed ? lift_sext(l, low, size * 2) : lift_zext(l, low, size * 2);
	LLVMValueRef over = LLVMBuildICmp(l->b, LLVMIntNE, back, product, "");

	lift_set_flag(l, F_CF, over);
	lift_set_flag(l, F_OF, over);
	l->flags.source = FLAGS_UNKNOWN;
}

static void lift_imul(struct lift *l)
{
	if (l->insn->op[1].kind == OPERAND_NONE) {
		lift_mul_wide(l);
		return;
	}
	unsigned size = size_of(l), first = l->insn->op[2].kind == OPERAND_NONE ? 0 : 1;
	LLVMValueRef args[] = {lift_read(l, first, size), lift_read(l, first + 1, size)};

	if (l->live_out & UNDEFINED_BY_MUL) {
		LLVMValueRef word;

		lift_write(l, 0, host_two(l, "imul", args[0], args[1], NULL, &word));
		lift_flags_from_word(l, word, FLAGS_ARITH, NULL);
	} else if (l->live_out & (FLAG_CF | FLAG_OF)) {
		LLVMValueRef both = lift_intrinsic(l, "llvm.smul.with.overflow", LLVMTypeOf(args[0]), args, 2);
		LLVMValueRef over = LLVMBuildExtractValue(l->b, both, 1, "");

		lift_write(l, 0, LLVMBuildExtractValue(l->b, both, 0, ""));
		lift_set_flag(l, F_CF, over);
		lift_set_flag(l, F_OF, over);
		l->flags.source = FLAGS_UNKNOWN;
	} else {
		lift_write(l, 0, LLVMBuildMul(l->b, args[0], args[1], ""));
	}
}

static void lift_mulx(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_zext(l, lift_get_part(l, RDX, size, false), size * 2);
	LLVMValueRef product = LLVMBuildMul(l->b, a, lift_zext(l, lift_read(l, 2, size), size * 2), "");
	LLVMValueRef high = LLVMBuildLShr(l->b, product, lift_const(l, size * 2, size * 8), "");

	lift_write(l, 1, lift_trunc(l, product, size));
	lift_write(l, 0, lift_trunc(l, high, size));
}

/* Leaves for a copy, which raises #DE if that is what is due, where the condition holds. */
static void leave_if(struct lift *l, LLVMValueRef condition)
{
	LLVMBasicBlockRef next = lift_block(l, "divide");

	lift_unlikely(l, condition, lift_fault(l), next);
	lift_to(l, next);
}

static void lift_div(struct lift *l)
{
	unsigned size = size_of(l), bits = size * 8;
	bool is_signed = l->insn->mnemonic == N(IDIV);
	LLVMValueRef divisor = lift_read(l, 0, size), low = lift_get_part(l, RAX, size, false), word = NULL;
	LLVMValueRef high = size == 1 ? lift_get_part(l, 4, 1, true) : lift_get_part(l, RDX, size, false);
	LLVMValueRef quotient, rest;

	if (is_signed) {
		/* only where high:low is low extended by its sign, as compilers have it; the rest is the copy's */
		LLVMValueRef sign = LLVMBuildAShr(l->b, low, lift_const(l, size, bits - 1), "");
		LLVMValueRef odd = LLVMBuildICmp(l->b, LLVMIntNE, high, sign, "");
		LLVMValueRef edge = LLVMBuildAnd(
			l->b, LLVMBuildICmp(l->b, LLVMIntEQ, divisor, LLVMConstAllOnes(LLVMTypeOf(low)), ""),
			LLVMBuildICmp(l->b, LLVMIntEQ, low, lift_const(l, size, BIT(bits - 1)), ""), "");

		leave_if(l, LLVMBuildOr(l->b, LLVMBuildOr(l->b, odd, edge, ""), lift_is_zero(l, divisor), ""));
	} else {
		leave_if(l, LLVMBuildICmp(l->b, LLVMIntUGE, high, divisor, "")); /* 0 too */
	}
	quotient = host_divide(l, is_signed, high, low, divisor, &rest, l->live_out & FLAGS_ARITH ? &word : NULL);
	if (size == 1) {
		lift_set_part(l, RAX, false, quotient);
		lift_set_part(l, 4, true, rest);
	} else {
		lift_set_part(l, RAX, false, quotient);
		lift_set_part(l, RDX, false, rest);
	}
	if (word)
		lift_flags_from_word(l, word, FLAGS_ARITH, NULL);
}

/* --- bits -------------------------------------------------------------------------------------------------------- */

static void lift_bit_test(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef index = LLVMBuildAnd(l->b, lift_read(l, 1, size), lift_const(l, size, size * 8 - 1), "");
	LLVMValueRef mask = LLVMBuildShl(l->b, lift_const(l, size, 1), index, ""), a, result = NULL;

	if (locked(l)) {
		switch (l->insn->mnemonic) {
		case N(BTS):
			a = atomic(l, LLVMAtomicRMWBinOpOr, mask);
			break;
		case N(BTR):
			a = atomic(l, LLVMAtomicRMWBinOpAnd, LLVMBuildNot(l->b, mask, ""));
			break;
		default:
			a = atomic(l, LLVMAtomicRMWBinOpXor, mask);
			break;
		}
	} else {
		a = lift_read(l, 0, size);
		if (l->insn->mnemonic == N(BTS))
			result = LLVMBuildOr(l->b, a, mask, "");
		else if (l->insn->mnemonic == N(BTR))
			result = LLVMBuildAnd(l->b, a, LLVMBuildNot(l->b, mask, ""), "");
		else if (l->insn->mnemonic == N(BTC))
			result = LLVMBuildXor(l->b, a, mask, "");
		if (result)
			lift_write(l, 0, result);
	}
	lift_set_flag(l, F_CF, LLVMBuildNot(l->b, lift_is_zero(l, LLVMBuildAnd(l->b, a, mask, "")), ""));
	l->flags.source = FLAGS_UNKNOWN;
}

/* A source of 0 leaves the destination as it was, whatever that means for its upper half. */
static void lift_bit_scan(struct lift *l)
{
	unsigned size = size_of(l);
	const char *name = l->insn->mnemonic == N(BSF) ? "bsf" : "bsr";
	LLVMValueRef source = lift_read(l, 1, size), old = lift_read(l, 0, size), word;
	LLVMValueRef result;

	if (l->live_out & (FLAGS_ARITH & ~FLAG_ZF)) {
		result = host_two(l, name, old, source, NULL, &word);
		lift_write(l, 0, result);
		lift_flags_from_word(l, word, FLAGS_ARITH, NULL);
		return;
	}
	result = host_two(l, name, old, source, NULL, NULL);
	lift_write(l, 0, result);
	lift_set_flag(l, F_ZF, lift_is_zero(l, source));
	l->flags.source = FLAGS_UNKNOWN;
}

/* tzcnt lzcnt popcnt */
static void lift_count(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 1, size);
	bool ones = l->insn->mnemonic == N(POPCNT), trailing = l->insn->mnemonic == N(TZCNT);
	LLVMValueRef result, word;

	if (ones) {
		result = lift_intrinsic1(l, "llvm.ctpop", a);
	} else {
		LLVMValueRef args[] = {a, LLVMConstInt(l->i1, 0, false)};

		LLVMTypeRef type = LLVMTypeOf(a);
		const char *name = trailing ? "llvm.cttz" : "llvm.ctlz";

		result = lift_intrinsic(l, name, type, args, 2);
	}
	lift_write(l, 0, result);
	if (l->live_out & FLAGS_ARITH) {
		host_one(l, ones ? "popcnt" : trailing ? "tzcnt" : "lzcnt", a, &word);
		lift_flags_from_word(l, word, FLAGS_ARITH, NULL);
	}
}

/* andn bextr bzhi pdep pext: op[0] = f(op[1], op[2]) */
static void lift_bmi_two(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 1, size), b = lift_read(l, 2, size), word;
	bool flags = l->insn->flags_write & l->live_out;
	const char *name = l->insn->mnemonic == N(ANDN)    ? "andn"
			   : l->insn->mnemonic == N(BEXTR) ? "bextr"
			   : l->insn->mnemonic == N(BZHI)  ? "bzhi"
			   : l->insn->mnemonic == N(PDEP)  ? "pdep"
							   : "pext";

	if (l->insn->mnemonic == N(ANDN) && !(l->live_out & (FLAG_AF | FLAG_PF))) {
		LLVMValueRef result = LLVMBuildAnd(l->b, LLVMBuildNot(l->b, a, ""), b, "");

		lift_write(l, 0, result);
		lift_flags_logic(l, result);
		return;
	}
	lift_write(l, 0, host_three(l, name, a, b, flags ? &word : NULL));
	if (flags)
		lift_flags_from_word(l, word, FLAGS_ARITH, NULL);
}

/* blsi blsmsk blsr */
static void lift_bmi_one(struct lift *l)
{
	unsigned size = size_of(l);
	LLVMValueRef a = lift_read(l, 1, size), result, word;
	LLVMValueRef less = LLVMBuildSub(l->b, a, lift_const(l, size, 1), "");
	bool isolate = l->insn->mnemonic == N(BLSI), mask = l->insn->mnemonic == N(BLSMSK);

	if (isolate)
		result = LLVMBuildAnd(l->b, a, LLVMBuildNeg(l->b, a, ""), "");
	else if (mask)
		result = LLVMBuildXor(l->b, a, less, "");
	else
		result = LLVMBuildAnd(l->b, a, less, "");
	lift_write(l, 0, result);
	if (l->live_out & FLAGS_ARITH) {
		host_one(l, isolate ? "blsi" : mask ? "blsmsk" : "blsr", a, &word);
		lift_flags_from_word(l, word, FLAGS_ARITH, NULL);
	}
}

static void lift_crc32(struct lift *l)
{
	unsigned to = size_of(l), from = l->insn->op[1].size;
	LLVMValueRef sum = lift_read(l, 0, to);

	lift_write(l, 0, host_two(l, "crc32", sum, lift_read(l, 1, from), NULL, NULL));
}

/* --- flags ------------------------------------------------------------------------------------------------------- */

static void lift_carry(struct lift *l)
{
	LLVMValueRef bit;

	if (l->insn->mnemonic == N(CMC))
		bit = LLVMBuildNot(l->b, lift_flag(l, F_CF), "");
	else
		bit = LLVMConstInt(l->i1, l->insn->mnemonic == N(STC), false);
	lift_set_flag(l, F_CF, bit);
	l->flags.source = FLAGS_UNKNOWN;
}

#define FLAGS_OF_LAHF (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF)

static void lift_lahf(struct lift *l)
{
	LLVMValueRef word = LLVMBuildLShr(l->b, lift_flags_word(l, FLAGS_OF_LAHF), lift_const(l, 8, 8), "");

	word = LLVMBuildAnd(l->b, word, lift_const(l, 8, FLAGS_OF_LAHF), "");
	lift_set_part(l, 4, true, lift_trunc(l, LLVMBuildOr(l->b, word, lift_const(l, 8, 2), ""), 1));
}

static void lift_sahf(struct lift *l)
{
	LLVMValueRef ah = lift_zext(l, lift_get_part(l, 4, 1, true), 8);

	lift_flags_from_word(l, LLVMBuildShl(l->b, ah, lift_const(l, 8, 8), ""), FLAGS_OF_LAHF, NULL);
}

/* --- stack ------------------------------------------------------------------------------------------------------- */

static bool can_stack(const struct insn *insn)
{
	u8 opcode = insn->bytes[insn->opcode_at];

	return !insn->prefix_66 && !insn->gpr_high && opcode != 0xc8 && !(opcode == 0x8f && insn->has_mem) &&
	       insn->op[0].kind != OPERAND_SEG;
}

static void lift_stack_class(struct lift *l)
{
	u8 opcode = l->insn->bytes[l->insn->opcode_at];
	LLVMValueRef sp = lift_get(l, RSP), value;

	if (opcode == 0xc9) {
		LLVMValueRef bp = lift_get(l, RBP);

		value = lift_load(l, lift_stack(l, RBP, bp, false), 8);
		lift_set(l, RSP, LLVMBuildAdd(l->b, bp, lift_const(l, 8, 8), ""));
		lift_set(l, RBP, value);
	} else if ((opcode & 0xf8) == 0x58 || opcode == 0x8f) {
		value = lift_load(l, lift_stack(l, RSP, sp, false), 8);
		lift_set(l, RSP, LLVMBuildAdd(l->b, sp, lift_const(l, 8, 8), ""));
		lift_set(l, l->insn->op[0].reg, value);
	} else {
		LLVMValueRef below = LLVMBuildSub(l->b, sp, lift_const(l, 8, 8), "");

		value = lift_read(l, 0, 8);
		lift_store(l, lift_stack(l, RSP, below, true), value);
		lift_set(l, RSP, below);
	}
}

/* --- the table --------------------------------------------------------------------------------------------------- */

lift_handler *const lift_handlers[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	[N(MOV)] = lift_mov,           [N(MOVNTI)] = lift_mov,        [N(MOVZX)] = lift_movx,
	[N(MOVSX)] = lift_movx,        [N(MOVSXD)] = lift_movx,       [N(MOVBE)] = lift_movbe,
	[N(LEA)] = lift_lea,           [N(BSWAP)] = lift_bswap,       [N(XCHG)] = lift_xchg,
	[N(CBW)] = lift_widen,         [N(CWDE)] = lift_widen,        [N(CDQE)] = lift_widen,
	[N(CWD)] = lift_sign,          [N(CDQ)] = lift_sign,          [N(CQO)] = lift_sign,
	[N(LFENCE)] = lift_fence,      [N(MFENCE)] = lift_fence,      [N(SFENCE)] = lift_fence,
	[N(ADD)] = lift_add,           [N(SUB)] = lift_sub,           [N(CMP)] = lift_sub,
	[N(ADC)] = lift_adc,           [N(SBB)] = lift_sbb,           [N(ADCX)] = lift_adx,
	[N(ADOX)] = lift_adx,          [N(INC)] = lift_step,          [N(DEC)] = lift_step,
	[N(NEG)] = lift_neg,           [N(XADD)] = lift_xadd,         [N(CMPXCHG)] = lift_cmpxchg,
	[N(AND)] = lift_logic,         [N(OR)] = lift_logic,          [N(XOR)] = lift_logic,
	[N(TEST)] = lift_logic,        [N(NOT)] = lift_not,           [N(SHL)] = lift_shift,
	[N(SHR)] = lift_shift,         [N(SAR)] = lift_shift,         [N(ROL)] = lift_rotate,
	[N(ROR)] = lift_rotate,        [N(RCL)] = lift_rotate_carry,  [N(RCR)] = lift_rotate_carry,
	[N(SHLD)] = lift_shift_double, [N(SHRD)] = lift_shift_double, [N(RORX)] = lift_shift_bmi,
	[N(SHLX)] = lift_shift_bmi,    [N(SHRX)] = lift_shift_bmi,    [N(SARX)] = lift_shift_bmi,
	[N(MUL)] = lift_mul_wide,      [N(IMUL)] = lift_imul,         [N(MULX)] = lift_mulx,
	[N(DIV)] = lift_div,           [N(IDIV)] = lift_div,          [N(BT)] = lift_bit_test,
	[N(BTS)] = lift_bit_test,      [N(BTR)] = lift_bit_test,      [N(BTC)] = lift_bit_test,
	[N(BSF)] = lift_bit_scan,      [N(BSR)] = lift_bit_scan,      [N(TZCNT)] = lift_count,
	[N(LZCNT)] = lift_count,       [N(POPCNT)] = lift_count,      [N(ANDN)] = lift_bmi_two,
	[N(BEXTR)] = lift_bmi_two,     [N(BZHI)] = lift_bmi_two,      [N(PDEP)] = lift_bmi_two,
	[N(PEXT)] = lift_bmi_two,      [N(BLSI)] = lift_bmi_one,      [N(BLSMSK)] = lift_bmi_one,
	[N(BLSR)] = lift_bmi_one,      [N(CRC32)] = lift_crc32,       [N(CLC)] = lift_carry,
	[N(STC)] = lift_carry,         [N(CMC)] = lift_carry,         [N(LAHF)] = lift_lahf,
	[N(SAHF)] = lift_sahf,
};

/* What a mnemonic's handler does not do. */
static bool odd_form(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case N(BSWAP): /* of 16 bits: undefined */
		return insn->opsize == 2;
	case N(LEA):
		return insn->opsize < 4;
	case N(ADC):
	case N(SBB):
	case N(NEG):
	case N(NOT):
		return insn->prefix_lock;
	default:
		return false;
	}
}

bool lift_possible(const struct insn *insn, u32 mode)
{
	switch ((enum insn_class)insn->class) {
	case INSN_COPY:
		if (insn->nop || lift_vector_possible(insn, mode))
			return true;
		return insn->unit == UNIT_NONE && insn->mem_size <= 8 &&
		       ((insn->mnemonic >= N(CMOVB) && insn->mnemonic <= N(CMOVZ)) ||
			(insn->mnemonic >= N(SETB) && insn->mnemonic <= N(SETZ)) || lift_handlers[insn->mnemonic]) &&
		       !odd_form(insn);
	case INSN_STACK:
		return can_stack(insn);
	case INSN_JMP:
	case INSN_JCC:
		return true;
	case INSN_JRCXZ:
		return insn->addrsize == 8;
	default:
		return false;
	}
}

void lift_copy_class(struct lift *l)
{
	const struct insn *insn = l->insn;

	if (insn->class == INSN_STACK)
		lift_stack_class(l);
	else if (insn->nop)
		lift_nothing(l);
	else if (insn->unit != UNIT_NONE)
		lift_vector(l);
	else if (lift_handlers[insn->mnemonic])
		lift_handlers[insn->mnemonic](l);
	else if (insn->mnemonic >= N(CMOVB) && insn->mnemonic <= N(CMOVZ))
		lift_cmov(l);
	else
		lift_set_cc(l);
}
