/* Small pieces of IR: integers, guest registers, operands. */
#include <stdio.h>
#include <string.h>

#include "ir.h"

LLVMTypeRef lift_type(struct lift *l, unsigned size)
{
	switch (size) {
	case 1:
		return l->i8;
	case 2:
		return l->i16;
	case 4:
		return l->i32;
	case 16:
		return l->i128;
	default:
		return l->i64;
	}
}

LLVMValueRef lift_const(struct lift *l, unsigned size, u64 value)
{
	return LLVMConstInt(lift_type(l, size), value, false);
}

LLVMValueRef lift_zext(struct lift *l, LLVMValueRef value, unsigned size)
{
	return LLVMBuildZExtOrBitCast(l->b, value, lift_type(l, size), "");
}

LLVMValueRef lift_sext(struct lift *l, LLVMValueRef value, unsigned size)
{
	return LLVMBuildSExtOrBitCast(l->b, value, lift_type(l, size), "");
}

LLVMValueRef lift_trunc(struct lift *l, LLVMValueRef value, unsigned size)
{
	return LLVMBuildTruncOrBitCast(l->b, value, lift_type(l, size), "");
}

LLVMValueRef lift_address(struct lift *l, u64 address)
{
	return LLVMConstIntToPtr(LLVMConstInt(l->i64, address, false), l->ptr);
}

LLVMValueRef lift_intrinsic(struct lift *l, const char *name, LLVMTypeRef type, LLVMValueRef *args, unsigned count)
{
	unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
	LLVMValueRef function = LLVMGetIntrinsicDeclaration(l->module, id, &type, 1);

	return LLVMBuildCall2(l->b, LLVMIntrinsicGetType(l->context, id, &type, 1), function, args, count, "");
}

LLVMValueRef lift_intrinsic1(struct lift *l, const char *name, LLVMValueRef a)
{
	return lift_intrinsic(l, name, LLVMTypeOf(a), &a, 1);
}

LLVMValueRef lift_negative(struct lift *l, LLVMValueRef value)
{
	return LLVMBuildICmp(l->b, LLVMIntSLT, value, LLVMConstNull(LLVMTypeOf(value)), "");
}

LLVMValueRef lift_is_zero(struct lift *l, LLVMValueRef value)
{
	return LLVMBuildICmp(l->b, LLVMIntEQ, value, LLVMConstNull(LLVMTypeOf(value)), "");
}

LLVMBasicBlockRef lift_block(struct lift *l, const char *name)
{
	return LLVMAppendBasicBlockInContext(l->context, l->function, name);
}

void lift_unlikely(struct lift *l, LLVMValueRef condition, LLVMBasicBlockRef then, LLVMBasicBlockRef otherwise)
{
	LLVMValueRef branch = LLVMBuildCondBr(l->b, condition, then, otherwise);

	LLVMSetMetadata(branch, l->prof_kind, l->unlikely);
}

void lift_to(struct lift *l, LLVMBasicBlockRef block)
{
	LLVMPositionBuilderAtEnd(l->b, block);
}

static void call_attribute(struct lift *l, LLVMValueRef call, const char *name, u64 value)
{
	unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));

	LLVMAddCallSiteAttribute(call, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
				 LLVMCreateEnumAttribute(l->context, kind, value));
}

LLVMValueRef lift_asm(struct lift *l, LLVMTypeRef result, const char *text, const char *constraints, LLVMValueRef *args,
		      unsigned count, bool volatile_, bool att)
{
	LLVMTypeRef types[8];

	for (unsigned i = 0; i < count; i++)
		types[i] = LLVMTypeOf(args[i]);
	LLVMTypeRef type = LLVMFunctionType(result, types, count, false);
	LLVMValueRef code = LLVMGetInlineAsm(type, text, strlen(text), constraints, strlen(constraints), volatile_,
					     false, att ? LLVMInlineAsmDialectATT : LLVMInlineAsmDialectIntel, false);
	LLVMValueRef call = LLVMBuildCall2(l->b, type, code, args, count, "");

	call_attribute(l, call, "nounwind", 0);
	call_attribute(l, call, volatile_ ? "nomerge" : "willreturn", 0);
	if (!volatile_)
		call_attribute(l, call, "memory", 0);
	return call;
}

LLVMValueRef lift_variable(struct lift *l, LLVMTypeRef type, LLVMValueRef initial, const char *name)
{
	LLVMBasicBlockRef here = LLVMGetInsertBlock(l->b);
	LLVMValueRef end = LLVMGetBasicBlockTerminator(l->enter);

	if (end)
		LLVMPositionBuilderBefore(l->b, end);
	else
		LLVMPositionBuilderAtEnd(l->b, l->enter);
	LLVMValueRef variable = LLVMBuildAlloca(l->b, type, name);

	if (initial)
		LLVMBuildStore(l->b, initial, variable);
	LLVMPositionBuilderAtEnd(l->b, here);
	return variable;
}

LLVMValueRef lift_get(struct lift *l, unsigned reg)
{
	return LLVMBuildLoad2(l->b, l->i64, l->reg[reg], "");
}

void lift_set(struct lift *l, unsigned reg, LLVMValueRef value)
{
	LLVMBuildStore(l->b, value, l->reg[reg]);
}

LLVMValueRef lift_get_part(struct lift *l, unsigned reg, unsigned size, bool high)
{
	LLVMValueRef value = lift_get(l, high ? reg - 4 : reg);

	if (high)
		value = LLVMBuildLShr(l->b, value, lift_const(l, 8, 8), "");
	return size == 8 ? value : lift_trunc(l, value, size);
}

void lift_set_part(struct lift *l, unsigned reg, bool high, LLVMValueRef value)
{
	unsigned bits = LLVMGetIntTypeWidth(LLVMTypeOf(value));

	if (high)
		reg -= 4;
	if (bits >= 32) {
		lift_set(l, reg, bits == 64 ? value : lift_zext(l, value, 8));
		return;
	}
	u64 mask = (BIT(bits) - 1) << (high ? 8 : 0);
	LLVMValueRef wide = lift_zext(l, value, 8);

	if (high)
		wide = LLVMBuildShl(l->b, wide, lift_const(l, 8, 8), "");
	LLVMValueRef rest = LLVMBuildAnd(l->b, lift_get(l, reg), lift_const(l, 8, ~mask), "");

	lift_set(l, reg, LLVMBuildOr(l->b, rest, wide, ""));
}

LLVMValueRef lift_read(struct lift *l, unsigned n, unsigned size)
{
	const struct operand *op = &l->insn->op[n];

	switch (op->kind) {
	case OPERAND_IMM:
		return lift_const(l, size, (u64)l->insn->imm);
	case OPERAND_MEM:
		return lift_load(l, lift_operand(l), size);
	default:
		return lift_get_part(l, op->reg, size, op->high);
	}
}

void lift_write(struct lift *l, unsigned n, LLVMValueRef value)
{
	const struct operand *op = &l->insn->op[n];

	if (op->kind == OPERAND_MEM)
		lift_store(l, lift_operand(l), value);
	else
		lift_set_part(l, op->reg, op->high, value);
}
