/* Instructions executed as they are, on register operands, where IR has no word for them or their flags. */
#ifndef AVANT_AOT_LIFT_HOST_INSN_H
#define AVANT_AOT_LIFT_HOST_INSN_H

#include "ir.h"

/* In each: *word is the flags afterwards, as lahf and seto al leave them; NULL if they are not wanted. */

/* a = name a[, b], count; carry: CF before, or NULL if it does not matter. */
LLVMValueRef host_shift(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b, LLVMValueRef count,
			LLVMValueRef carry, LLVMValueRef *word);
/* a = name a, b */
LLVMValueRef host_two(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b, LLVMValueRef carry,
		      LLVMValueRef *word);
/* result = name a */
LLVMValueRef host_one(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef *word);
/* result = name a, b */
LLVMValueRef host_three(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b, LLVMValueRef *word);
/* The flags of mul or imul with one operand. */
LLVMValueRef host_mul_flags(struct lift *l, const char *name, LLVMValueRef a, LLVMValueRef b);
/* The quotient and *rest of high:low by divisor; there must be one. */
LLVMValueRef host_divide(struct lift *l, bool is_signed, LLVMValueRef high, LLVMValueRef low, LLVMValueRef divisor,
			 LLVMValueRef *rest, LLVMValueRef *word);

#endif
