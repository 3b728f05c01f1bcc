/* Internal to x86/: the allow-list, by mnemonic. */
#ifndef AVANT_X86_CLASSIFY_H
#define AVANT_X86_CLASSIFY_H

#include <Zydis/Zydis.h>

#include "x86/insn.h"

/* Where the mnemonic alone does not decide. */
enum insn_trait {
	TRAIT_NONE,
	TRAIT_NOP,           /* a hint: operands are not touched */
	TRAIT_MOV,           /* mov may name a segment, control or debug register */
	TRAIT_BIT,           /* bt and kin address a bit string with memory and a register */
	TRAIT_STRING,        /* string instruction */
	TRAIT_STRING_OR_SSE, /* movsd, cmpsd: string instruction if the opcode is one byte */
	TRAIT_MMX_OR_SSE,    /* MMX or XMM registers */
	TRAIT_BRANCH,        /* direct, indirect or far */
	TRAIT_STACK,         /* push and pop may name a segment register */
};

struct insn_rule {
	bool offered;
	u8 class;
	u8 helper;
	u8 unit;
	u8 trait;
};

/* By ZydisMnemonic. */
extern const struct insn_rule insn_rules[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* Is this encoding of an allow-listed mnemonic offered too? */
bool insn_isa_offered(ZydisInstructionEncoding encoding, ZydisISASet set);

#endif
