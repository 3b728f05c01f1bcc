/*
 * SSE and AVX instructions. LLVM's code uses no vector register, so the guest's stay in the host's throughout lifted
 * code, and an instruction on them is its own bytes with another memory operand ([r10]) and another general register
 * (rax), as inline assembly. What could raise an exception is not left to the processor: accesses are checked, those
 * that must be aligned for that as well, and a function with floating-point instructions begins by looking whether all
 * of their exceptions are masked (LDMXCSR is in no loop that is lifted).
 */
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "ir.h"
#include "x86/encode.h"
#include "x86/mode.h"

/* The general register that it names besides its address; INSN_NO_REG if none, or -1 if it is more than that. */
static int named_register(const struct insn *insn)
{
	u16 rest = insn->gpr_read | insn->gpr_write, address = 0;
	int found = INSN_NO_REG;

	for (unsigned i = 0; i < ARRAY_SIZE(insn->op); i++) {
		if (insn->op[i].kind != OPERAND_GPR)
			continue;
		if (found != INSN_NO_REG || insn->has_mem)
			return -1;
		found = insn->op[i].reg;
		rest &= (u16)~BIT(found);
	}
	if (insn->has_mem && insn->base < GPR_COUNT)
		address |= (u16)BIT(insn->base);
	if (insn->has_mem && insn->index < GPR_COUNT)
		address |= (u16)BIT(insn->index);
	return rest & (u16)~address ? -1 : found;
}

/* Those between MMX and XMM registers answer for pending x87 exceptions too. */
static bool is_mmx(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_CVTPD2PI:
	case ZYDIS_MNEMONIC_CVTPI2PD:
	case ZYDIS_MNEMONIC_CVTPI2PS:
	case ZYDIS_MNEMONIC_CVTPS2PI:
	case ZYDIS_MNEMONIC_CVTTPD2PI:
	case ZYDIS_MNEMONIC_CVTTPS2PI:
	case ZYDIS_MNEMONIC_MOVDQ2Q:
	case ZYDIS_MNEMONIC_MOVQ2DQ:
		return true;
	default:
		return false;
	}
}

bool lift_vector_possible(const struct insn *insn, u32 mode)
{
	if (insn->class != INSN_COPY || (insn->unit != UNIT_SSE && insn->unit != UNIT_AVX) || insn->gpr_high ||
	    is_mmx(insn))
		return false;
	if (insn->has_mem && (!insn->mem_size || insn->mem_size > 32 || (insn->mem_size & (insn->mem_size - 1))))
		return false;
	return mode_unit_fault(mode, insn) < 0 && named_register(insn) >= 0;
}

/* May it raise a floating-point exception? Not if its name says that it moves or computes integers. */
bool lift_vector_floats(const struct insn *insn)
{
	static const char *const harmless[] = {"mov", "vmov", "p", "vp", "xor", "vxor", "vzero"};
	const char *name = ZydisMnemonicGetString((ZydisMnemonic)insn->mnemonic);

	if (insn->unit != UNIT_SSE && insn->unit != UNIT_AVX)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(harmless); i++) {
		if (name && strncmp(name, harmless[i], strlen(harmless[i])) == 0)
			return false;
	}
	return true;
}

/* Does the operand have to be aligned to its size? */
static bool aligned(const struct insn *insn)
{
	if (insn->mem_size < 16)
		return false;
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
		return false;
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
	case ZYDIS_MNEMONIC_VMOVNTPD:
	case ZYDIS_MNEMONIC_VMOVNTPS:
		return true;
	default:
		return !insn->vex;
	}
}

static void check_alignment(struct lift *l)
{
	LLVMValueRef low = LLVMBuildAnd(l->b, lift_ea(l, true), lift_const(l, 8, l->insn->mem_size - 1u), "");
	LLVMBasicBlockRef next = lift_block(l, "aligned");

	lift_unlikely(l, LLVMBuildNot(l->b, lift_is_zero(l, low), ""), lift_fault(l), next);
	lift_to(l, next);
}

static bool make_text(const struct insn *insn, int reg, char *text, size_t size)
{
	struct reencode how = REENCODE_IDENTITY;
	u8 bytes[INSN_MAX];
	unsigned at = 0;

	how.address = REENCODE_REPLACE;
	how.base = R10;
	if (reg != INSN_NO_REG)
		how.host_reg[reg] = RAX;
	unsigned length = insn_reencode(insn, &how, bytes);

	for (unsigned i = 0; i < length; i++)
		at += (unsigned)snprintf(text + at, size - at, "%s0x%02x", i ? ", " : ".byte ", bytes[i]);
	return length;
}

void lift_vector(struct lift *l)
{
	const struct insn *insn = l->insn;
	int reg = named_register(insn);
	bool writes = reg != INSN_NO_REG && (insn->gpr_write & BIT(reg)), flags = insn->flags_write & l->live_out;
	bool reads = reg != INSN_NO_REG && (insn->gpr_read & BIT(reg));
	char text[160], constraints[64] = "";
	LLVMValueRef args[2];
	unsigned count = 0;

	if (insn->has_mem && aligned(insn))
		check_alignment(l);
	if (!make_text(insn, reg, text, sizeof(text))) {
		l->reason = "a vector instruction cannot be encoded anew";
		return;
	}
	if (flags)
		strcat(text, "\n\tlahf\n\tseto al");
	if (writes || flags)
		strcat(constraints, "={ax},");
	if (insn->has_mem) {
		args[count++] = lift_operand(l);
		strcat(constraints, "{r10},");
	}
	if (reads) {
		args[count++] = lift_get(l, (unsigned)reg);
		strcat(constraints, writes ? "0," : "{ax},");
	}
	strcat(constraints, "~{flags}");
	LLVMValueRef result =
		lift_asm(l, writes || flags ? l->i64 : l->none, text, constraints, args, count, true, false);

	if (writes)
		lift_set(l, (unsigned)reg, result);
	else if (flags)
		lift_flags_from_word(l, result, insn->flags_write, NULL);
}

#define MXCSR_MASKS 0x1f80 /* all exceptions masked (SDM vol. 1, 10.2.3) */

LLVMValueRef lift_unmasked(struct lift *l)
{
	u64 slot = VCPU_ADDRESS + offsetof(struct vcpu, scratch) + 6 * 8;
	char text[32];

	snprintf(text, sizeof(text), "stmxcsr %llu", (unsigned long long)slot);
	lift_asm(l, l->none, text, "~{memory}", NULL, 0, true, true);
	LLVMValueRef masks =
		LLVMBuildAnd(l->b, lift_load(l, lift_address(l, slot), 4), lift_const(l, 4, MXCSR_MASKS), "");

	return LLVMBuildICmp(l->b, LLVMIntNE, masks, lift_const(l, 4, MXCSR_MASKS), "");
}
