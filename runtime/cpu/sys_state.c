/*
 * Saving and loading x87, SSE and AVX state: xsave, xrstor, fxsave, fxrstor, ldmxcsr, stmxcsr, fnstenv and kin.
 * The host's own instructions do the work on v->image, which is copied from or to guest memory; so a guest's image is
 * checked before the host sees it. Instruction and data pointers of the x87 would tell host addresses: they are 0.
 */
#include "cpu/features.h"
#include "cpu/fpu.h"
#include "cpu/system.h"
#include "util/bytes.h"
#include "x86/mode.h"

#define FSW_ES BIT(7) /* an unmasked x87 exception is pending */

static u32 *image32(struct vcpu *v, unsigned offset)
{
	return (u32 *)(v->image + offset);
}

static u64 *image64(struct vcpu *v, unsigned offset)
{
	return (u64 *)(v->image + offset);
}

static enum exec raise_unit(struct vcpu *v, unsigned unit)
{
	const int vector = mode_unit_fault_of(vcpu_mode(v), unit);

	return vector < 0 ? EXEC_OK : vcpu_raise(v, (u8)vector);
}

/* Hides what is the host's in an image just saved. */
static void cleanse(struct vcpu *v, bool x87, bool sse)
{
	if (x87) {
		*image64(v, FXSAVE_POINTERS) = 0;
		*image64(v, FXSAVE_POINTERS + 8) = 0;
	}
	if (sse)
		*image32(v, FXSAVE_MXCSR_MASK) = MXCSR_DEFINED;
}

/* --- xsave, xrstor (SDM vol. 1, 13.7 and 13.8) ----------------------------------------------------------------- */

/* The components asked for that are enabled; or a fault. *address is that of the area. */
static enum exec begin_xsave(struct vcpu *v, const struct insn *insn, u64 *address, u64 *components)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		return vcpu_raise(v, VEC_UD);
	if (v->cr0 & CR0_TS)
		return vcpu_raise(v, VEC_NM);
	*address = operand_address(v, insn);
	if (*address & 63)
		return raise_gp0(v);
	*components = v->xcr0 & (v->gpr[RDX] << 32 | (u32)v->gpr[RAX]);
	return EXEC_OK;
}

/* XSAVEC is 0f c7 /4; it is not offered. XSAVEOPT does what XSAVE does. */
enum exec help_xsave(struct vcpu *v, const struct insn *insn)
{
	u64 address, components;
	u32 size;

	if (insn_opcode(insn) != 0xae)
		return vcpu_raise(v, VEC_UD);
	if (begin_xsave(v, insn, &address, &components) != EXEC_OK)
		return EXEC_FAULT;
	size = xsave_size(components);
	/* components not asked for, and what software keeps in the area, stay as they are */
	if (operand_load(v, insn, address, v->image, size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	vcpu_fpu_get(v);
	__asm__ volatile("xsave64 %0" : "+m"(v->image) : "a"((u32)components), "d"(0));
	cleanse(v, components & XCR0_X87, components & (XCR0_SSE | XCR0_AVX));
	return operand_store(v, insn, address, v->image, size);
}

enum exec help_xrstor(struct vcpu *v, const struct insn *insn)
{
	u64 address, components, present;

	if (insn_opcode(insn) != 0xae)
		return vcpu_raise(v, VEC_UD);
	if (begin_xsave(v, insn, &address, &components) != EXEC_OK ||
	    operand_load(v, insn, address, v->image, XSAVE_HEADER_END, 0) != EXEC_OK)
		return EXEC_FAULT;
	present = *image64(v, XSAVE_XSTATE_BV);
	/* standard format only: the compacted one comes with XSAVEC */
	if ((present & ~v->xcr0) || *image64(v, XSAVE_XCOMP_BV) || *image64(v, XSAVE_XCOMP_BV + 8))
		return raise_gp0(v);
	if ((components & (XCR0_SSE | XCR0_AVX)) && (*image32(v, FXSAVE_MXCSR) & ~MXCSR_DEFINED))
		return raise_gp0(v);
	if ((components & present & XCR0_AVX) &&
	    operand_load(v, insn, address + XSAVE_HEADER_END, v->image + XSAVE_HEADER_END,
			 xsave_size(XCR0_AVX) - XSAVE_HEADER_END, 0) != EXEC_OK)
		return EXEC_FAULT;
	bytes_zero(v->image + XSAVE_XCOMP_BV + 16, XSAVE_HEADER_END - XSAVE_XCOMP_BV - 16);
	cleanse(v, true, false);
	vcpu_fpu_get(v);
	__asm__ volatile("xrstor64 %0" : : "m"(v->image), "a"((u32)components), "d"(0));
	return EXEC_OK;
}

/* --- fxsave, fxrstor ------------------------------------------------------------------------------------------- */

static enum exec begin_fxsave(struct vcpu *v, const struct insn *insn, u64 *address)
{
	if (raise_unit(v, UNIT_X87) != EXEC_OK)
		return EXEC_FAULT;
	*address = operand_address(v, insn);
	return *address & 15 ? raise_gp0(v) : EXEC_OK;
}

enum exec help_fxsave(struct vcpu *v, const struct insn *insn)
{
	u64 address;

	if (begin_fxsave(v, insn, &address) != EXEC_OK)
		return EXEC_FAULT;
	vcpu_fpu_get(v);
	__asm__ volatile("fxsave64 %0" : "+m"(v->image));
	cleanse(v, true, true);
	return operand_store(v, insn, address, v->image, FXSAVE_USED);
}

enum exec help_fxrstor(struct vcpu *v, const struct insn *insn)
{
	u64 address;

	if (begin_fxsave(v, insn, &address) != EXEC_OK ||
	    operand_load(v, insn, address, v->image, FXSAVE_SIZE, 0) != EXEC_OK)
		return EXEC_FAULT;
	if (*image32(v, FXSAVE_MXCSR) & ~MXCSR_DEFINED)
		return raise_gp0(v);
	cleanse(v, true, false);
	vcpu_fpu_get(v);
	__asm__ volatile("fxrstor64 %0" : : "m"(v->image));
	return EXEC_OK;
}

/* --- ldmxcsr, stmxcsr ------------------------------------------------------------------------------------------ */

enum exec help_ldmxcsr(struct vcpu *v, const struct insn *insn)
{
	u32 value;

	if (raise_unit(v, insn->vex ? UNIT_AVX : UNIT_SSE) != EXEC_OK ||
	    operand_load(v, insn, operand_address(v, insn), &value, 4, 0) != EXEC_OK)
		return EXEC_FAULT;
	if (value & ~MXCSR_DEFINED)
		return raise_gp0(v);
	vcpu_fpu_get(v);
	__asm__ volatile("ldmxcsr %0" : : "m"(value));
	return EXEC_OK;
}

enum exec help_stmxcsr(struct vcpu *v, const struct insn *insn)
{
	u32 value;

	if (raise_unit(v, insn->vex ? UNIT_AVX : UNIT_SSE) != EXEC_OK)
		return EXEC_FAULT;
	vcpu_fpu_get(v);
	__asm__ volatile("stmxcsr %0" : "=m"(value));
	return operand_store(v, insn, operand_address(v, insn), &value, 4);
}

/* --- fldenv, fnstenv, frstor, fnsave --------------------------------------------------------------------------- */

/* The environment: control, status and tag word, then pointers. 14 bytes with 66, else 28. The stack adds 80. */
#define ENVIRONMENT_16 14u
#define ENVIRONMENT_32 28u
#define STACK_SIZE     80u

static bool x87_exception_pending(void)
{
	u16 status;

	__asm__ volatile("fnstsw %0" : "=a"(status));
	return status & FSW_ES;
}

static void clear_pointers(struct vcpu *v, bool narrow)
{
	if (narrow)
		bytes_zero(v->image + 6, 8);
	else
		bytes_zero(v->image + 12, 16);
}

/* The forms differ in opcode (d9: environment, dd: with stack), /4 load or /6 store, and operand size. */
static enum exec fpu_load(struct vcpu *v, const struct insn *insn, bool narrow, bool stack, unsigned size)
{
	/* these wait for pending exceptions; the host must not meet one here */
	vcpu_fpu_get(v);
	if (x87_exception_pending())
		return vcpu_raise(v, VEC_MF);
	if (operand_load(v, insn, operand_address(v, insn), v->image, size, 0) != EXEC_OK)
		return EXEC_FAULT;
	clear_pointers(v, narrow);
	if (stack && narrow)
		__asm__ volatile(".byte 0x66\n\tfrstor %0" : : "m"(v->image));
	else if (stack)
		__asm__ volatile("frstor %0" : : "m"(v->image));
	else if (narrow)
		__asm__ volatile(".byte 0x66\n\tfldenv %0" : : "m"(v->image));
	else
		__asm__ volatile("fldenv %0" : : "m"(v->image));
	return EXEC_OK;
}

static enum exec fpu_store(struct vcpu *v, const struct insn *insn, bool narrow, bool stack, unsigned size)
{
	const u64 address = operand_address(v, insn);

	/* storing changes the control word: the memory must be known to be writable first */
	if (operand_load(v, insn, address, v->image, size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	vcpu_fpu_get(v);
	if (stack && narrow)
		__asm__ volatile(".byte 0x66\n\tfnsave %0" : "=m"(v->image));
	else if (stack)
		__asm__ volatile("fnsave %0" : "=m"(v->image));
	else if (narrow)
		__asm__ volatile(".byte 0x66\n\tfnstenv %0" : "=m"(v->image));
	else
		__asm__ volatile("fnstenv %0" : "=m"(v->image));
	clear_pointers(v, narrow);
	return operand_store(v, insn, address, v->image, size);
}

enum exec help_fpu_env(struct vcpu *v, const struct insn *insn)
{
	const bool narrow = insn->prefix_66, stack = insn_opcode(insn) == 0xdd;
	const unsigned size = (narrow ? ENVIRONMENT_16 : ENVIRONMENT_32) + (stack ? STACK_SIZE : 0);

	if (raise_unit(v, UNIT_X87) != EXEC_OK)
		return EXEC_FAULT;
	return insn_reg_field(insn) == 4 ? fpu_load(v, insn, narrow, stack, size)
					 : fpu_store(v, insn, narrow, stack, size);
}
