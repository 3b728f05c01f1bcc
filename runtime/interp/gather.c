/*
 * Gathers, masked moves and byte-masked stores (SDM vol. 2: VGATHERDPS and kin, VMASKMOV, VPMASKMOV, MASKMOVQ,
 * MASKMOVDQU). Elements that are masked off are not touched: they neither fault nor reach a device.
 */
#include "interp/gather.h"

#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/fpu.h"
#include "cpu/observe.h"
#include "cpu/system.h"
#include "mem/mem.h"
#include "util/bytes.h"
#include "x86/insn.h"
#include "x86/mode.h"

#define XMM_AT      160u /* in the XSAVE area, standard format (SDM vol. 1, 13.4) */
#define YMM_HIGH_AT 576u
#define ST_AT       32u
#define FSW_AT      2u
#define FTW_AT      4u
#define FSW_ES      BIT(7)
#define FSW_TOP     11

union lanes {
	u8 byte[32];
	u32 dword[8];
	u64 qword[4];
};

/* Makes a component's part of the area valid: one that is not marked present has its initial value, zero. */
static void need_component(struct vcpu *v, u64 component, unsigned offset, unsigned size)
{
	u64 *present = (u64 *)(v->xsave + XSAVE_XSTATE_BV);

	if (*present & component)
		return;
	bytes_zero(v->xsave + offset, size);
	*present |= component;
}

static void need_vectors(struct vcpu *v)
{
	need_component(v, XCR0_SSE, XMM_AT, 16 * 16);
	if (v->host_xsave & XCR0_AVX)
		need_component(v, XCR0_AVX, YMM_HIGH_AT, 16 * 16);
}

static void load_vector(const struct vcpu *v, unsigned number, union lanes *to)
{
	bytes_copy(to->byte, v->xsave + XMM_AT + 16 * (number & 15), 16);
	bytes_copy(to->byte + 16, v->xsave + YMM_HIGH_AT + 16 * (number & 15), 16);
}

static void store_vector(struct vcpu *v, unsigned number, const union lanes *from)
{
	bytes_copy(v->xsave + XMM_AT + 16 * (number & 15), from->byte, 16);
	bytes_copy(v->xsave + YMM_HIGH_AT + 16 * (number & 15), from->byte + 16, 16);
}

/* The last byte of the VEX prefix has vvvv, L and pp; that of three bytes W as well. */
static bool vex_w(const struct insn *insn)
{
	return insn->vex == 3 && (insn->bytes[insn->opcode_at - 1] & 0x80);
}

static unsigned vector_length(const struct insn *insn)
{
	return insn->bytes[insn->opcode_at - 1] & 4 ? 32 : 16;
}

static bool element_enabled(const union lanes *mask, unsigned i, unsigned size)
{
	return mask->byte[(i + 1) * size - 1] & 0x80;
}

static void set_element(union lanes *vector, unsigned i, unsigned size, u64 value)
{
	if (size == 4)
		vector->dword[i] = (u32)value;
	else
		vector->qword[i] = value;
}

/* --- gathers ----------------------------------------------------------------------------------------------------- */

static u64 element_address(const struct vcpu *v, const struct insn *insn, s64 index)
{
	u64 address = (u64)insn->disp + (u64)index * insn->scale;

	if (insn->base != INSN_NO_REG)
		address += v->gpr[insn->base & 15];
	return operand_linear(v, insn, address);
}

/*
 * Elements are loaded from the lowest on. A fault leaves those before it loaded and their masks cleared, so that the
 * instruction goes on from there when it is executed again. What lies above the vector length is cleared even
 * then, of the destination only if an element was loaded: so do processors.
 */
static enum exec gather(struct vcpu *v, const struct insn *insn)
{
	bool wide_index = insn->bytes[insn->opcode_at] & 1;
	unsigned size = vex_w(insn) ? 8 : 4, index_size = wide_index ? 8 : 4;
	unsigned length = vector_length(insn), count = length / (size > index_size ? size : index_size);
	union lanes to, mask, index;
	enum exec result = EXEC_OK;
	bool loaded = false;

	load_vector(v, insn->op[0].reg, &to);
	load_vector(v, insn->op[2].reg, &mask);
	load_vector(v, insn->index, &index);
	for (unsigned i = 0; i < length / size; i++)
		set_element(&mask, i, size, element_enabled(&mask, i, size) ? ~0ULL : 0);
	for (unsigned i = 0; i < count && result == EXEC_OK; i++) {
		s64 at = wide_index ? (s64)index.qword[i] : (s32)index.dword[i];
		u64 value = 0;

		if (!element_enabled(&mask, i, size))
			continue;
		result = operand_load(v, insn, element_address(v, insn, at), &value, size, 0);
		if (result == EXEC_OK) {
			set_element(&to, i, size, value);
			set_element(&mask, i, size, 0);
			loaded = true;
		}
	}
	if (result == EXEC_OK) {
		bytes_zero(&mask, sizeof(mask));
		bytes_zero(to.byte + count * size, sizeof(to) - count * size);
	}
	bytes_zero(mask.byte + length, sizeof(mask) - length);
	if (loaded)
		bytes_zero(to.byte + length, sizeof(to) - length);
	store_vector(v, insn->op[0].reg, &to);
	store_vector(v, insn->op[2].reg, &mask);
	return result;
}

/* --- masked loads and stores ------------------------------------------------------------------------------------- */

/* Bytes of an element: vmaskmovps and pd by opcode, vpmaskmovd and q by W. */
static unsigned masked_size(const struct insn *insn)
{
	u8 opcode = insn->bytes[insn->opcode_at];

	if (opcode == 0x8c || opcode == 0x8e)
		return vex_w(insn) ? 8 : 4;
	return opcode & 1 ? 8 : 4;
}

static enum exec masked_load(struct vcpu *v, const struct insn *insn)
{
	unsigned size = masked_size(insn), count = vector_length(insn) / size;
	u64 address = operand_address(v, insn);
	union lanes to, mask;

	bytes_zero(&to, sizeof(to));
	load_vector(v, insn->op[1].reg, &mask);
	for (unsigned i = 0; i < count; i++) {
		if (element_enabled(&mask, i, size) &&
		    operand_load(v, insn, address + i * size, to.byte + i * size, size, 0) != EXEC_OK)
			return EXEC_FAULT;
	}
	store_vector(v, insn->op[0].reg, &to);
	return EXEC_OK;
}

static enum exec probe(struct vcpu *v, u64 address, unsigned size)
{
	u64 gpa;

	if (mmu_translate(v, address, ACCESS_WRITE, &gpa) != EXEC_OK)
		return EXEC_FAULT;
	if (PAGE_BASE(address) == PAGE_BASE(address + size - 1))
		return EXEC_OK;
	return mmu_translate(v, PAGE_BASE(address + size - 1), ACCESS_WRITE, &gpa);
}

/* Stores the enabled elements, or none if one of them faults. */
static enum exec masked_store(struct vcpu *v, const struct insn *insn, u64 address, const u8 *from,
			      const union lanes *mask, unsigned size, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!element_enabled(mask, i, size))
			continue;
		if (operand_check(v, insn, address + i * size, size, ACCESS_WRITE) != EXEC_OK)
			return EXEC_FAULT;
		if (probe(v, address + i * size, size) != EXEC_OK)
			return operand_fault(v, insn, address + i * size, size);
	}
	for (unsigned i = 0; i < count; i++) {
		if (element_enabled(mask, i, size) &&
		    operand_store(v, insn, address + i * size, from + i * size, size) != EXEC_OK)
			return EXEC_FAULT;
	}
	return EXEC_OK;
}

enum exec interp_gather(struct vcpu *v, const struct insn *insn)
{
	int vector = mode_unit_fault(vcpu_mode(v), insn);

	if (vector >= 0)
		return vcpu_raise(v, (u8)vector);
	v->observe &= (u8)~OBSERVE_ALIGNMENT; /* no #AC from these (SDM vol. 2, VGATHERDPS; exceptions type 6) */
	vcpu_fpu_put(v);
	need_vectors(v);
	if (insn_has_vsib(insn))
		return gather(v, insn);
	if (!insn->mem_write)
		return masked_load(v, insn);

	unsigned size = masked_size(insn);
	union lanes mask, from;

	load_vector(v, insn->op[1].reg, &mask);
	load_vector(v, insn->op[2].reg, &from);
	return masked_store(v, insn, operand_address(v, insn), from.byte, &mask, size, vector_length(insn) / size);
}

enum exec interp_zero_vectors(struct vcpu *v, const struct insn *insn)
{
	const bool all = vector_length(insn) == 32;
	int vector = mode_unit_fault(vcpu_mode(v), insn);

	if (vector >= 0)
		return vcpu_raise(v, (u8)vector);
	vcpu_fpu_put(v);
	need_vectors(v);
	bytes_zero(v->xsave + YMM_HIGH_AT, 8 * 16);
	if (all)
		bytes_zero(v->xsave + XMM_AT, 8 * 16);
	return EXEC_OK;
}

/* --- byte-masked stores ------------------------------------------------------------------------------------------ */

/* MM registers are the mantissas of the physical x87 registers; the area holds these from the top of stack on. */
static u8 *mmx_register(struct vcpu *v, unsigned number)
{
	unsigned top = *(u16 *)(v->xsave + FSW_AT) >> FSW_TOP & 7;

	return v->xsave + ST_AT + 16 * ((number - top) & 7);
}

/* What every MMX instruction but EMMS does to the x87: top of stack 0, all registers valid (SDM vol. 1, 9.5.1). */
static void enter_mmx(struct vcpu *v)
{
	u8 rotated[8 * 16];

	for (unsigned i = 0; i < 8; i++)
		bytes_copy(rotated + 16 * i, mmx_register(v, i), 16);
	bytes_copy(v->xsave + ST_AT, rotated, sizeof(rotated));
	*(u16 *)(v->xsave + FSW_AT) &= (u16) ~(7u << FSW_TOP);
	v->xsave[FTW_AT] = 0xff;
}

static void need_x87(struct vcpu *v)
{
	if (*(u64 *)(v->xsave + XSAVE_XSTATE_BV) & XCR0_X87)
		return;
	need_component(v, XCR0_X87, ST_AT, 8 * 16);
	bytes_zero(v->xsave, FXSAVE_MXCSR);
	*(u16 *)(v->xsave + FXSAVE_FCW) = FCW_DEFAULT;
}

/* Processors fault for the whole operand, whatever the mask. */
enum exec interp_masked_bytes(struct vcpu *v, const struct insn *insn)
{
	bool mmx = insn->unit == UNIT_MMX;
	unsigned size = mmx ? 8 : 16;
	u64 address = operand_linear(v, insn, v->gpr[RDI]);
	int vector = mode_unit_fault(vcpu_mode(v), insn);
	union lanes mask, from;

	if (vector >= 0)
		return vcpu_raise(v, (u8)vector);
	vcpu_fpu_put(v);
	need_vectors(v);
	need_x87(v);
	if (mmx && (*(u16 *)(v->xsave + FSW_AT) & FSW_ES))
		return vcpu_raise(v, VEC_MF);
	if (mmx) {
		bytes_copy(from.byte, mmx_register(v, insn->op[0].reg & 7), 8);
		bytes_copy(mask.byte, mmx_register(v, insn->op[1].reg & 7), 8);
	} else {
		load_vector(v, insn->op[0].reg, &from);
		load_vector(v, insn->op[1].reg, &mask);
	}
	if (operand_check(v, insn, address, size, ACCESS_WRITE) != EXEC_OK || probe(v, address, size) != EXEC_OK ||
	    masked_store(v, insn, address, from.byte, &mask, 1, size) != EXEC_OK)
		return EXEC_FAULT;
	if (mmx)
		enter_mmx(v);
	return EXEC_OK;
}
