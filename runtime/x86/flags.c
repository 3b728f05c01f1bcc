/* Flags: what Zydis knows, made conservative where an instruction may leave them alone. */
#include "x86/flags.h"

/* All of them may survive: old values pass through. */
static void may_survive(struct insn *insn, u16 flags)
{
	insn->flags_survive |= insn->flags_write & flags & (u16)~insn->flags_read;
	insn->flags_read |= insn->flags_write & flags;
	insn->flags_kill &= (u16)~flags;
}

/* A shift or rotate by a masked count of 0 changes nothing (SDM vol. 2, SAL/SAR/SHL/SHR and RCL/RCR/ROL/ROR). */
static void shift_flags(struct insn *insn)
{
	unsigned last = insn->op[2].kind == OPERAND_NONE ? 1 : 2;

	if (insn->op[last].kind != OPERAND_IMM) {
		may_survive(insn, FLAGS_ARITH);
	} else if (!(insn->imm & (insn->opsize == 8 ? 63 : 31))) {
		insn->flags_read = insn->flags_write = insn->flags_kill = insn->flags_survive = 0;
	} else if (insn->imm != 1 && !(insn->flags_write & FLAG_ZF)) {
		may_survive(insn, FLAG_OF); /* a rotate: undefined, and kept by some processors */
	}
}

void insn_flags(struct insn *insn, const ZydisAccessedFlags *accessed)
{
	u16 undefined = 0;

	if (accessed) {
		undefined = accessed->undefined & FLAGS_ARITH;
		insn->flags_read = accessed->tested & FLAGS_ARITH;
		insn->flags_write = (accessed->modified | accessed->set_0 | accessed->set_1 | undefined) & FLAGS_ARITH;
		insn->flags_kill = insn->flags_write;
	}
	/* C code that takes over may raise an exception, which stores all flags. */
	if (insn->class == INSN_HELPER) {
		insn->flags_read = FLAGS_ARITH;
		insn->flags_kill = 0;
		return;
	}
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		shift_flags(insn);
		break;
	case ZYDIS_MNEMONIC_BSF: /* undefined, and on some processors left as they were */
	case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
		may_survive(insn, undefined);
		break;
	case ZYDIS_MNEMONIC_VPTEST: /* Zydis has ZF and CF only; the others are cleared (SDM vol. 2, PTEST and VTESTPS)
				     */
	case ZYDIS_MNEMONIC_VTESTPS:
	case ZYDIS_MNEMONIC_VTESTPD:
		insn->flags_write = insn->flags_kill = FLAGS_ARITH;
		break;
	default:
		if (insn->rep) /* rcx may be 0 */
			may_survive(insn, FLAGS_ARITH);
		break;
	}
}
