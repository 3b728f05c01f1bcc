/* From bytes to struct insn: Zydis decodes, this file condenses. */
#include <string.h>

#include "x86/classify.h"
#include "x86/flags.h"
#include "x86/insn.h"

_Static_assert(sizeof(struct insn) <= 96, "struct insn is copied and stored a lot");

static ZydisDecoder decoders[3]; /* by enum insn_code */

static void decoder_init(enum insn_code code, ZydisMachineMode mode, ZydisStackWidth width)
{
	ZydisDecoderInit(&decoders[code], mode, width);
	ZydisDecoderEnableMode(&decoders[code], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE); /* no MPX: its opcodes are nops */
}

/* Before main, so that decoding needs neither a check nor a lock. Modes name what the guest's processor lacks. */
static __attribute__((constructor)) void decoders_init(void)
{
	decoder_init(CODE_64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	decoder_init(CODE_32, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	decoder_init(CODE_16, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
}

struct gpr_name {
	u8 number; /* INSN_NO_REG if it is no general register */
	u8 size;
	bool high;
};

static inline struct gpr_name gpr_name(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return (struct gpr_name){(u8)(reg - ZYDIS_REGISTER_RAX), 8, false};
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return (struct gpr_name){(u8)(reg - ZYDIS_REGISTER_EAX), 4, false};
	if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		return (struct gpr_name){(u8)(reg - ZYDIS_REGISTER_AX), 2, false};
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return (struct gpr_name){(u8)(reg - ZYDIS_REGISTER_AL), 1, false};
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (struct gpr_name){(u8)(reg - ZYDIS_REGISTER_AH + 4), 1, true};
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return (struct gpr_name){(u8)(reg - ZYDIS_REGISTER_SPL + 4), 1, false};
	return (struct gpr_name){INSN_NO_REG, 0, false};
}

static inline u16 gpr_mask(ZydisRegister reg)
{
	struct gpr_name name = gpr_name(reg);

	if (name.number == INSN_NO_REG)
		return 0;
	return (u16)BIT(name.high ? name.number - 4 : name.number);
}

static inline u8 address_register(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return INSN_RIP;
	if (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_XMM15)
		return (u8)(reg - ZYDIS_REGISTER_XMM0);
	if (reg >= ZYDIS_REGISTER_YMM0 && reg <= ZYDIS_REGISTER_YMM15)
		return (u8)(reg - ZYDIS_REGISTER_YMM0);
	return gpr_name(reg).number;
}

static inline bool is_mmx(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_MM0 &&
	       op->reg.value <= ZYDIS_REGISTER_MM7;
}

static void take_prefixes(struct insn *insn, const ZydisDecodedInstruction *zi)
{
	u8 repeat = 0;

	for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
		u8 value = zi->raw.prefixes[i].value;

		if (zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			insn->mandatory = value;
		switch (value) {
		case 0x66:
			insn->prefix_66 = 1;
			break;
		case 0x67:
			insn->prefix_67 = 1;
			break;
		case 0xf0:
			insn->prefix_lock = 1;
			break;
		case 0xf2:
			insn->prefix_f2 = 1;
			repeat = value;
			break;
		case 0xf3:
			insn->prefix_f3 = 1;
			repeat = value;
			break;
		case 0x64: /* the last of FS and GS counts; ES, CS, SS, DS are null prefixes (AMD APM vol. 3, 1.2.4) */
			insn->seg = SEG_FS;
			break;
		case 0x65:
			insn->seg = SEG_GS;
			break;
		default:
			break;
		}
	}
	/* A string instruction repeats with either prefix; cmps and scas look which one. */
	if (repeat &&
	    (zi->meta.category == ZYDIS_CATEGORY_STRINGOP || zi->meta.category == ZYDIS_CATEGORY_IOSTRINGOP)) {
		insn->rep = repeat;
		insn->mandatory = 0;
	}
}

static void take_layout(struct insn *insn, const ZydisDecodedInstruction *zi)
{
	insn->opcode_at = zi->raw.prefix_count;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_REX)
		insn->rex = insn->bytes[zi->raw.rex.offset];
	if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		insn->vex = zi->raw.vex.size;
		insn->opcode_at = (u8)(zi->raw.vex.offset + zi->raw.vex.size);
	}
	insn->imm_at = insn->length;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		insn->modrm_at = zi->raw.modrm.offset;
		insn->imm_at = insn->modrm_at + 1;
		if (zi->attributes & ZYDIS_ATTRIB_HAS_SIB)
			insn->imm_at++;
		insn->imm_at = (u8)(insn->imm_at + zi->raw.disp.size / 8);
	} else if (zi->raw.imm[0].size) {
		insn->imm_at = zi->raw.imm[0].offset;
	}
	insn->opsize = zi->operand_width / 8;
	insn->addrsize = zi->address_width / 8;
}

/* What 32-bit code addresses memory through: the last override, else by the base register (SDM vol. 1, table 3-5). */
static void take_legacy_segment(struct insn *insn, const ZydisDecodedInstruction *zi)
{
	unsigned seg = insn->has_mem && (insn->base == RSP || insn->base == RBP) ? SEG_SS : SEG_DS;

	for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
		const u8 value = zi->raw.prefixes[i].value;

		if ((value & 0xe7) == 0x26)
			seg = SEG_ES + (value >> 3 & 3);
		else if ((value & 0xfe) == 0x64)
			seg = SEG_FS + (value & 1);
	}
	insn->seg = (u8)(INSN_SEG_LEGACY | seg);
}

/* The memory operand that the encoding names (not the implicit ones of push, movs …). */
static void take_memory(struct insn *insn, const ZydisDecodedOperand *op)
{
	insn->has_mem = true;
	insn->base = address_register(op->mem.base);
	insn->index = address_register(op->mem.index);
	insn->scale = op->mem.scale ? op->mem.scale : 1;
	insn->disp = insn->addrsize == 4 ? (s32)op->mem.disp.value : op->mem.disp.value; /* truncated later anyway */
	if (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
		return;
	insn->mem_size = op->size / 8;
	insn->mem_read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	insn->mem_write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static inline void take_register(struct insn *insn, const ZydisDecodedOperand *op)
{
	struct gpr_name name = gpr_name(op->reg.value);
	u16 mask;

	if (name.number == INSN_NO_REG)
		return;
	mask = (u16)BIT(name.high ? name.number - 4 : name.number);
	if (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		insn->gpr_read |= mask;
	if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
		insn->gpr_write |= mask;
		/* What a narrow or conditional write leaves of the old value is an input as well. */
		if (name.size < 4 || (op->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
			insn->gpr_read |= mask;
	}
	switch (op->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		insn->gpr_fields |= GPR_FIELD_REG | (name.size == 1 ? GPR_FIELD_REG8 : 0);
		insn->gpr_high |= name.high;
		break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		insn->gpr_fields |= GPR_FIELD_RM | (name.size == 1 ? GPR_FIELD_RM8 : 0);
		insn->gpr_high |= name.high;
		break;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		insn->gpr_fields |= GPR_FIELD_OPCODE | (name.size == 1 ? GPR_FIELD_OPCODE8 : 0);
		insn->gpr_high |= name.high;
		break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		insn->gpr_fields |= GPR_FIELD_VVVV;
		break;
	default:
		break;
	}
}

static struct operand condense_register(const ZydisDecodedOperand *op)
{
	ZydisRegister reg = op->reg.value;
	struct gpr_name name = gpr_name(reg);
	u8 size = op->size / 8;

	if (name.number != INSN_NO_REG)
		return (struct operand){OPERAND_GPR, name.number, name.size, name.high};
	if (reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS)
		return (struct operand){OPERAND_SEG, (u8)(reg - ZYDIS_REGISTER_ES), size, false};
	if (reg >= ZYDIS_REGISTER_CR0 && reg <= ZYDIS_REGISTER_CR15)
		return (struct operand){OPERAND_CR, (u8)(reg - ZYDIS_REGISTER_CR0), size, false};
	if (reg >= ZYDIS_REGISTER_DR0 && reg <= ZYDIS_REGISTER_DR15)
		return (struct operand){OPERAND_DR, (u8)(reg - ZYDIS_REGISTER_DR0), size, false};
	return (struct operand){OPERAND_OTHER, (u8)ZydisRegisterGetId(reg), size, false};
}

static void take_visible_operand(struct insn *insn, unsigned n, const ZydisDecodedOperand *op)
{
	struct operand condensed = {OPERAND_OTHER, INSN_NO_REG, 0, false};

	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		condensed = condense_register(op);
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		condensed = (struct operand){OPERAND_MEM, INSN_NO_REG,
					     op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ? 0 : (u8)(op->size / 8), false};
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		condensed = (struct operand){OPERAND_IMM, INSN_NO_REG,
					     op->imm.is_signed ? insn->opsize : (u8)(op->size / 8), false};
		break;
	default:
		break;
	}
	if (n < ARRAY_SIZE(insn->op))
		insn->op[n] = condensed;
}

static void take_operands(struct insn *insn, const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *ops)
{
	bool has_imm = false;

	for (unsigned i = 0; i < zi->operand_count; i++) {
		const ZydisDecodedOperand *op = &ops[i];

		switch (op->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			take_register(insn, op);
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			insn->gpr_read |= gpr_mask(op->mem.base) | gpr_mask(op->mem.index);
			if (op->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
				take_memory(insn, op);
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (!has_imm)
				insn->imm = op->imm.value.s;
			has_imm = true;
			break;
		default:
			break;
		}
		if (i < zi->operand_count_visible)
			take_visible_operand(insn, i, op);
	}
}

/* Zydis does not list all the registers of string instructions. */
static void string_registers(struct insn *insn, const ZydisDecodedInstruction *zi)
{
	u16 advanced = 0;

	switch (zi->opcode & 0xfe) {
	case 0xa4: /* movs */
	case 0xa6: /* cmps */
		advanced = BIT(RSI) | BIT(RDI);
		break;
	case 0xaa: /* stos */
		insn->gpr_read |= BIT(RAX);
		advanced = BIT(RDI);
		break;
	case 0xac: /* lods: a repeated one may leave rax alone */
		insn->gpr_write |= BIT(RAX);
		if (insn->opsize < 4 || insn->rep)
			insn->gpr_read |= BIT(RAX);
		advanced = BIT(RSI);
		break;
	case 0xae: /* scas */
		insn->gpr_read |= BIT(RAX);
		advanced = BIT(RDI);
		break;
	case 0x6c: /* ins */
		insn->gpr_read |= BIT(RDX);
		advanced = BIT(RDI);
		break;
	case 0x6e: /* outs */
		insn->gpr_read |= BIT(RDX);
		advanced = BIT(RSI);
		break;
	default:
		break;
	}
	if (insn->rep)
		advanced |= BIT(RCX);
	insn->gpr_read |= advanced;
	insn->gpr_write |= advanced;
}

static void become_helper(struct insn *insn, enum insn_helper helper)
{
	insn->class = INSN_HELPER;
	insn->helper = helper;
}

static void refine_mov(struct insn *insn)
{
	/* Order: what is written comes first. */
	switch (insn->op[0].kind) {
	case OPERAND_SEG:
		become_helper(insn, HELP_mov_to_seg);
		return;
	case OPERAND_CR:
		become_helper(insn, HELP_mov_to_cr);
		return;
	case OPERAND_DR:
		become_helper(insn, HELP_mov_to_dr);
		return;
	default:
		break;
	}
	switch (insn->op[1].kind) {
	case OPERAND_SEG:
		become_helper(insn, HELP_mov_from_seg);
		break;
	case OPERAND_CR:
		become_helper(insn, HELP_mov_from_cr);
		break;
	case OPERAND_DR:
		become_helper(insn, HELP_mov_from_dr);
		break;
	default:
		break;
	}
}

static void refine_branch(struct insn *insn, const ZydisDecodedInstruction *zi)
{
	if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		become_helper(insn, zi->mnemonic == ZYDIS_MNEMONIC_JMP    ? HELP_jmp_far
				    : zi->mnemonic == ZYDIS_MNEMONIC_CALL ? HELP_call_far
									  : HELP_ret_far);
		return;
	}
	if (insn->modrm_at)
		insn->class = insn->class == INSN_JMP ? INSN_JMP_IND : INSN_CALL_IND;
}

static void refine_nop(struct insn *insn)
{
	insn->nop = true;
	insn->has_mem = insn->mem_read = insn->mem_write = false;
	insn->mem_size = 0;
	insn->gpr_read = insn->gpr_write = 0;
	insn->gpr_fields = 0;
	insn->gpr_high = false;
}

static void become_string(struct insn *insn)
{
	insn->class = INSN_STRING;
	insn->unit = UNIT_NONE;
}

/* What the allow-list's line says, and what it leaves to the form. */
static void apply_rule(struct insn *insn, const struct insn_rule *rule, const ZydisDecodedInstruction *zi,
		       const ZydisDecodedOperand *ops)
{
	insn->class = rule->class;
	insn->helper = rule->helper;
	insn->unit = rule->unit;
	switch ((enum insn_trait)rule->trait) {
	case TRAIT_NONE:
	case TRAIT_STRING:
		break;
	case TRAIT_NOP:
		refine_nop(insn);
		break;
	case TRAIT_MOV:
		refine_mov(insn);
		break;
	case TRAIT_BIT:
		if (insn->has_mem && insn->op[1].kind == OPERAND_GPR)
			insn->class = INSN_BITSTRING;
		break;
	case TRAIT_STRING_OR_SSE:
		if (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
			become_string(insn);
		break;
	case TRAIT_MMX_OR_SSE:
		if (is_mmx(&ops[0]) || (zi->operand_count > 1 && is_mmx(&ops[1])))
			insn->unit = UNIT_MMX;
		break;
	case TRAIT_BRANCH:
		refine_branch(insn, zi);
		break;
	case TRAIT_STACK:
		if (insn->op[0].kind == OPERAND_SEG)
			become_helper(insn, zi->mnemonic == ZYDIS_MNEMONIC_PUSH ? HELP_push_seg : HELP_pop_seg);
		break;
	}
	if (zi->meta.category == ZYDIS_CATEGORY_STRINGOP || zi->meta.category == ZYDIS_CATEGORY_IOSTRINGOP)
		string_registers(insn, zi);
}

/* Where the tables of Zydis differ from what the instruction does or from what struct insn means. */
static void correct(struct insn *insn, const ZydisDecodedInstruction *zi)
{
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_BSF: /* source 0 leaves the destination as it was */
	case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
		insn->gpr_read |= insn->gpr_write;
		break;
	case ZYDIS_MNEMONIC_INVLPG: /* address only */
	case ZYDIS_MNEMONIC_XSAVE:  /* size varies */
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		insn->mem_size = 0;
		insn->mem_read = insn->mem_write = false;
		break;
	case ZYDIS_MNEMONIC_CLFLUSH: /* checked like a load of one byte (SDM vol. 2A, CLFLUSH) */
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		insn->mem_size = 1;
		insn->mem_read = true;
		insn->mem_write = false;
		break;
	case ZYDIS_MNEMONIC_XLAT:
		insn->opsize = 1;
		break;
	case ZYDIS_MNEMONIC_MASKMOVQ:
		insn->opsize = 8;
		break;
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		insn->opsize = 16;
		break;
	default:
		if (insn->unit != UNIT_NONE && insn->has_mem)
			insn->opsize = (u8)insn->mem_size;
		break;
	}
}

/* A condition code is the low four bits of the opcode in jcc, setcc and cmovcc. */
static inline bool has_condition(const ZydisDecodedInstruction *zi)
{
	return zi->meta.category == ZYDIS_CATEGORY_COND_BR || zi->meta.category == ZYDIS_CATEGORY_SETCC ||
	       zi->meta.category == ZYDIS_CATEGORY_CMOV;
}

/*
 * No instruction at all, or too few bytes to tell. The length of an undecodable one is the number of bytes that decide,
 * so that a translation that relies on it being undefined compares them all.
 */
static int undecodable(struct insn *insn, const u8 *bytes, unsigned available, enum insn_code code)
{
	ZydisDecodedInstruction zi;
	unsigned needed;
	ZyanStatus status = ZYDIS_STATUS_NO_MORE_DATA;

	memset(insn, 0, sizeof(*insn));
	for (needed = 1; needed <= available; needed++) {
		status = ZydisDecoderDecodeInstruction(&decoders[code], NULL, bytes, needed, &zi);
		if (status != ZYDIS_STATUS_NO_MORE_DATA)
			break;
	}
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return -1;
	memcpy(insn->bytes, bytes, needed);
	insn->length = (u8)needed;
	insn->class = INSN_UNDEFINED;
	insn->too_long = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
	insn->seg = SEG_DS;
	insn->base = insn->index = INSN_NO_REG;
	insn->scale = 1;
	insn->addrsize = 8;
	insn->opcode_at = 0;
	insn->imm_at = insn->length;
	insn->flags_read = FLAGS_ARITH;
	return 0;
}

/* 0f 18 is there for hints (SDM vol. 2B, NOP); Zydis 4.0 calls nop what 4.1 has names for (prefetchit0). */
static const struct insn_rule *rule_of(const ZydisDecodedInstruction *zi)
{
	bool hint = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && zi->opcode_map == ZYDIS_OPCODE_MAP_0F &&
		    zi->opcode == 0x18;

	return &insn_rules[hint ? ZYDIS_MNEMONIC_NOP : zi->mnemonic];
}

int insn_decode(struct insn *insn, const u8 *bytes, unsigned available)
{
	return insn_decode_code(insn, bytes, available, CODE_64);
}

int insn_decode_code(struct insn *insn, const u8 *bytes, unsigned available, enum insn_code code)
{
	const ZydisDecoder *decoder = &decoders[code];
	ZydisDecoderContext context;
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	const struct insn_rule *rule;

	if (available > INSN_MAX)
		available = INSN_MAX;
	if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(decoder, &context, bytes, available, &zi)) ||
	    ZYAN_FAILED(ZydisDecoderDecodeOperands(decoder, &context, &zi, ops, zi.operand_count)))
		return undecodable(insn, bytes, available, code);

	memset(insn, 0, sizeof(*insn));
	memcpy(insn->bytes, bytes, zi.length);
	insn->length = zi.length;
	insn->mnemonic = (u16)zi.mnemonic;
	insn->seg = SEG_DS;
	insn->base = insn->index = INSN_NO_REG;
	insn->scale = 1;
	take_prefixes(insn, &zi);
	take_layout(insn, &zi);
	take_operands(insn, &zi, ops);
	if (code != CODE_64)
		take_legacy_segment(insn, &zi);
	if (code == CODE_16)
		insn->prefix_66 = insn->mandatory == 0x66 || zi.operand_width == 16;

	rule = rule_of(&zi);
	if (!rule->offered || !insn_isa_offered(zi.encoding, zi.meta.isa_set)) {
		insn->class = INSN_UNDEFINED;
		insn->flags_read = FLAGS_ARITH;
		return 0;
	}
	apply_rule(insn, rule, &zi, ops);
	correct(insn, &zi);
	if (has_condition(&zi))
		insn->cond = zi.opcode & 15;
	insn_flags(insn, zi.cpu_flags);
	return 0;
}

bool insn_has_vsib(const struct insn *insn)
{
	return insn->class == INSN_GATHER && insn->mnemonic != ZYDIS_MNEMONIC_VMASKMOVPD &&
	       insn->mnemonic != ZYDIS_MNEMONIC_VMASKMOVPS && insn->mnemonic != ZYDIS_MNEMONIC_VPMASKMOVD &&
	       insn->mnemonic != ZYDIS_MNEMONIC_VPMASKMOVQ;
}
