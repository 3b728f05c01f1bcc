/*
 * One decoded guest instruction, in the compact form that every engine works from: interp, live and (offline) aot.
 * Knows nothing of the VMM: bytes in, description out.
 */
#ifndef AVANT_X86_INSN_H
#define AVANT_X86_INSN_H

#include "cpu/vcpu.h"
#include "util/types.h"

/* How an instruction is executed. */
enum insn_class {
	INSN_COPY,     /* harmless: its own bytes, re-encoded with other registers and addresses, do the work */
	INSN_JMP,      /* direct jump; target = end + imm */
	INSN_JCC,      /* conditional jump on flags; `cond` is the condition code 0–15 */
	INSN_JRCXZ,    /* jrcxz/jecxz, loop, loope, loopne: conditional on rcx */
	INSN_CALL,     /* direct call */
	INSN_JMP_IND,  /* jmp r/m64 */
	INSN_CALL_IND, /* call r/m64 */
	INSN_RET,      /* near ret; imm = bytes to release */
	INSN_STACK,    /* push, pop, leave, enter: data moves through [rsp] as well as an operand */
	INSN_STRING, /* movs, stos, lods, cmps, scas with or without REP; xlat, maskmovq, [v]maskmovdqu: implicit [rdi],
			[rbx+al] */
	INSN_BITSTRING, /* bt, bts, btr, btc with memory and a register: the bit offset reaches beyond the operand */
	INSN_GATHER,    /* vgather*, vmaskmov*, vpmaskmov*: elements that are masked off must not be touched */
	INSN_HELPER,    /* sensitive: the helper named by `helper` */
	INSN_LEGACY,    /* in 32-bit and 16-bit code only: pusha, daa, bound, les … */
	INSN_UNDEFINED, /* #UD in this code, or not offered by any CPU model */
};

/* Sensitive instructions, each emulated by help_<name>() in runtime/cpu. */
/* clang-format off */
#define INSN_HELPERS(X)                                                                                                \
	X(cpuid)                                                                                                       \
	X(rdtsc)                                                                                                       \
	X(rdtscp)                                                                                                      \
	X(rdpid) X(rdpmc) X(rdmsr) X(wrmsr) X(hlt) X(cli) X(sti) X(cld) X(std) X(stac) X(clac) X(pushf) X(popf)        \
		X(syscall) X(sysret) X(sysenter) X(sysexit) X(iret) X(int_n) X(int3) X(int1) X(ud) X(swapgs)           \
			X(mov_from_cr) X(mov_to_cr) X(mov_from_dr) X(mov_to_dr) X(clts) X(lmsw) X(smsw) X(invlpg)      \
				X(invpcid) X(invd) X(wbinvd) X(lgdt) X(lidt) X(sgdt) X(sidt) X(lldt) X(ltr) X(sldt)    \
					X(str) X(lar) X(lsl) X(verr) X(verw) X(mov_to_seg) X(mov_from_seg) X(pop_seg)  \
						X(push_seg) X(load_far) X(jmp_far) X(call_far) X(ret_far) X(in) X(out) \
							X(ins) X(outs) X(xgetbv) X(xsetbv) X(xsave) X(xrstor)          \
								X(fxsave) X(fxrstor) X(ldmxcsr) X(stmxcsr) X(rdfsbase) \
									X(rdgsbase) X(wrfsbase) X(wrgsbase) X(monitor) \
										X(mwait) X(pause) X(rdrand) X(rdseed)  \
											X(clflush) X(fpu_env)
/* clang-format on */

enum insn_helper {
#define X(name) HELP_##name,
	INSN_HELPERS(X)
#undef X
		HELP_COUNT
};

enum operand_kind {
	OPERAND_NONE,
	OPERAND_GPR,
	OPERAND_MEM,
	OPERAND_IMM,
	OPERAND_SEG,
	OPERAND_CR,
	OPERAND_DR,
	OPERAND_OTHER
};

struct operand {
	u8 kind;
	u8 reg;    /* register number; for OPERAND_GPR of size 1, 4–7 with `high` set means AH–BH */
	u8 size;   /* bytes */
	bool high; /* AH, CH, DH, BH */
};

#define INSN_NO_REG 0xff
#define INSN_RIP    0xfe /* as base: RIP-relative */
#define INSN_MAX    15   /* bytes */

/*
 * What code segments hold. Compatibility mode is 32-bit or 16-bit code under a 64-bit kernel. Only interp/ executes it;
 * everything else decodes 64-bit code.
 */
enum insn_code { CODE_64, CODE_32, CODE_16 };

/* In insn.seg of 32-bit and 16-bit code: the segment is one of six, with base and limit, and addresses have 32 bits. */
#define INSN_SEG_LEGACY 0x80u

/*
 * Which encoding fields name a general register, so that re-encoding may rename it; and which of these name a byte
 * register (there, without REX, numbers 4–7 are AH–BH). Implicit registers (rax of mul, cl of shl …) are in none.
 */
#define GPR_FIELD_REG     BIT(0) /* ModRM.reg */
#define GPR_FIELD_RM      BIT(1) /* ModRM.rm with mod 3 */
#define GPR_FIELD_VVVV    BIT(2) /* VEX.vvvv */
#define GPR_FIELD_OPCODE  BIT(3) /* low three bits of the last opcode byte */
#define GPR_FIELD_REG8    BIT(4)
#define GPR_FIELD_RM8     BIT(5)
#define GPR_FIELD_OPCODE8 BIT(6)

/* Which FPU-like state an instruction uses; each is checked against CR0/CR4/XCR0 at translation time. */
enum insn_unit { UNIT_NONE, UNIT_X87, UNIT_MMX, UNIT_SSE, UNIT_AVX };

struct insn {
	u8 bytes[15];
	u8 length;
	u16 mnemonic;  /* ZydisMnemonic */
	u8 class;      /* enum insn_class */
	u8 helper;     /* enum insn_helper, with INSN_HELPER */
	u8 cond;       /* condition code, with INSN_JCC (setcc and cmovcc have it as well) */
	u8 unit;       /* enum insn_unit */
	bool nop;      /* with INSN_COPY: does nothing at all (nop, endbr64, prefetches, other hints); needs no bytes */
	bool too_long; /* with INSN_UNDEFINED: longer than 15 bytes, which is #GP(0) and not #UD */

	/* Encoding. */
	u8 prefix_66, prefix_f2, prefix_f3, prefix_lock,
		prefix_67; /* 1 if present, with meaning or without; in 16-bit
			      code prefix_66 says that the operand size is 16 */
	u8 mandatory;      /* 0x66, 0xf2 or 0xf3 if it selects the opcode (movss, popcnt …), else 0; never with VEX */
	u8 rep;            /* 0, 0xf2 or 0xf3: a REP that means repetition (string instructions) */
	u8 seg;            /* SEG_FS or SEG_GS if overridden so, else SEG_DS (base 0); or see INSN_SEG_LEGACY */
	u8 rex;            /* REX byte that is in effect, or 0 */
	u8 vex;            /* bytes of the VEX prefix, or 0 */
	u8 opcode_at;  /* offset of the first opcode byte (0x0f of a two-byte opcode; after VEX the opcode itself) */
	u8 modrm_at;   /* offset of ModRM, or 0 if none */
	u8 imm_at;     /* offset of the immediate, or length */
	u8 opsize;     /* operand size in bytes: 1, 2, 4, 8 (vector instructions and x87: their memory operand's) */
	u8 addrsize;   /* 8, or 4 with 67; 4 or 2 in 32-bit and 16-bit code */
	u8 gpr_fields; /* GPR_FIELD_* */

	/*
	 * The memory operand that ModRM encodes (also lea's, with mem_size 0), and that of mov with a 64-bit offset: no
	 * base, no modrm_at, and a disp that may need all its 64 bits. The address is truncated to addrsize before
	 * seg's base is added. With INSN_GATHER `index` may be the number of a vector register (see insn_has_vsib). RSP
	 * as base of a pop means its value after the pop. mem_size is 0 for the areas of xsave and xrstor, whose size
	 * varies.
	 */
	bool has_mem;
	bool mem_read, mem_write;
	u8 base, index, scale; /* register numbers, INSN_NO_REG, or INSN_RIP; scale 1, 2, 4, 8 */
	u16 mem_size;          /* bytes touched; 0 if it is an address only */
	s64 disp;

	struct operand
		op[3]; /* operands that assembly language writes, in Intel order (shl's cl and 1, in's al and dx too) */
	s64 imm;       /* immediate, or displacement of a direct branch relative to the next instruction; enter: the
			  frame size, with the nesting level in bytes[length - 1] */

	/* Data flow; general registers as bit masks, with implicit ones and those of the address. */
	u16 gpr_read, gpr_write;
	bool gpr_high;   /* names AH, CH, DH or BH: cannot be encoded with REX */
	u16 flags_read;  /* FLAGS_ARITH bits that the outcome depends on, old values that may survive included */
	u16 flags_write; /* bits that may be changed */
	u16 flags_kill;  /* bits whose old value is certainly gone, whatever the data, if the instruction does not fault
			  */
	u16 flags_survive; /* of flags_read those that matter only as what the flag may be afterwards too */
};

/*
 * Decodes one 64-bit-mode instruction from at most `available` bytes.
 * Returns 0; -1 if the bytes end too early (more are needed); an undecodable or not offered instruction is
 * INSN_UNDEFINED, where length counts the bytes that were needed to know (1 at least).
 */
int insn_decode(struct insn *insn, const u8 *bytes, unsigned available);

/* The same for any code. */
int insn_decode_code(struct insn *insn, const u8 *bytes, unsigned available, enum insn_code code);

/*
 * For an instruction of 32-bit or 16-bit code with INSN_COPY: the 64-bit one that does the same with the same registers
 * and a memory operand somewhere else (it has an absolute address, 0). False if there is none.
 */
bool insn_widen(const struct insn *insn, struct insn *wide);

/* Intel syntax, for traces and dumps. 16-bit code is shown as 32-bit code. */
void insn_format(const struct insn *insn, u64 address, char *text, unsigned size);

/* The memory operand's index is a vector register (VSIB: the gathers). */
bool insn_has_vsib(const struct insn *insn);

/* The flags that are live before an instruction if `out` are live behind it. */
static inline u16 insn_live_flags(const struct insn *insn, u16 out)
{
	return (u16)((out & ~insn->flags_kill) | (insn->flags_read & ~insn->flags_survive));
}

static inline bool insn_ends_flow(const struct insn *insn)
{
	return insn->class == INSN_JMP || insn->class == INSN_JMP_IND || insn->class == INSN_RET ||
	       insn->class == INSN_UNDEFINED;
}

#endif
