/* Segment registers, descriptor tables, and queries on descriptors. */
#include "cpu/observe.h"
#include "cpu/segment.h"
#include "cpu/system.h"

/* --- segment registers ----------------------------------------------------------------------------------------- */

enum exec help_swapgs(struct vcpu *v, const struct insn *insn)
{
	const u64 base = v->kernel_gs_base;

	(void)insn;
	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	v->kernel_gs_base = v->seg[SEG_GS].base;
	set_gs_base(v, base);
	return EXEC_OK;
}

enum exec segment_load_held(struct vcpu *v, unsigned seg, u16 selector)
{
	if (segment_load(v, seg, selector) != EXEC_OK)
		return EXEC_FAULT;
	if (seg == SEG_SS) {
		v->shadow = 1;
		v->trap = 0; /* no single-step trap after it, and none of a breakpoint (SDM vol. 3A, 6.8.3) */
		observe_hold_back(v);
	}
	return EXEC_OK;
}

enum exec help_mov_to_seg(struct vcpu *v, const struct insn *insn)
{
	const unsigned seg = insn_reg_field(insn);
	u64 selector;

	if (seg == SEG_CS || seg > SEG_GS)
		return vcpu_raise(v, VEC_UD);
	if (insn->has_mem) {
		selector = 0;
		if (operand_load(v, insn, operand_address(v, insn), &selector, 2, 0) != EXEC_OK)
			return EXEC_FAULT;
	} else {
		selector = v->gpr[insn_modrm_rm(insn)];
	}
	return segment_load_held(v, seg, (u16)selector);
}

enum exec help_mov_from_seg(struct vcpu *v, const struct insn *insn)
{
	const unsigned seg = insn_reg_field(insn);

	if (seg > SEG_GS)
		return vcpu_raise(v, VEC_UD);
	return operand_store_word(v, insn, v->seg[seg].selector);
}

/* 0f a0/a1: FS, 0f a8/a9: GS. */
static unsigned stacked_segment(const struct insn *insn)
{
	return insn_opcode(insn) & 8 ? SEG_GS : SEG_FS;
}

static unsigned stacked_size(const struct insn *insn)
{
	return insn->prefix_66 && !(insn->rex & 8) ? 2 : 8;
}

enum exec help_push_seg(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = stacked_size(insn);
	const u64 value = v->seg[stacked_segment(insn)].selector;
	const u64 to = v->gpr[RSP] - size;

	if (mem_write(v, to, &value, size, ACCESS_WRITE) != EXEC_OK)
		return stack_fault(v, to);
	v->gpr[RSP] = to;
	return EXEC_OK;
}

enum exec help_pop_seg(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = stacked_size(insn);
	u64 value = 0;

	if (mem_read(v, v->gpr[RSP], &value, size, ACCESS_READ) != EXEC_OK)
		return stack_fault(v, v->gpr[RSP]);
	if (segment_load(v, stacked_segment(insn), (u16)value) != EXEC_OK)
		return EXEC_FAULT;
	v->gpr[RSP] += size;
	return EXEC_OK;
}

/* lss, lfs, lgs: offset, then selector. */
enum exec help_load_far(struct vcpu *v, const struct insn *insn)
{
	const u8 opcode = insn_opcode(insn);
	const unsigned seg = opcode == 0xb2 ? SEG_SS : opcode == 0xb4 ? SEG_FS : SEG_GS;
	const struct operand reg = {.kind = OPERAND_GPR, .reg = (u8)insn_modrm_reg(insn), .size = (u8)insn_size(insn)};
	u8 raw[10];
	u64 offset = 0;

	if (operand_load(v, insn, operand_address(v, insn), raw, reg.size + 2u, 0) != EXEC_OK)
		return EXEC_FAULT;
	for (unsigned i = 0; i < reg.size; i++)
		offset |= (u64)raw[i] << i * 8;
	if (segment_load_held(v, seg, (u16)(raw[reg.size] | raw[reg.size + 1] << 8)) != EXEC_OK)
		return EXEC_FAULT;
	operand_set_gpr(v, &reg, offset);
	return EXEC_OK;
}

static enum exec read_base(struct vcpu *v, const struct insn *insn, unsigned seg)
{
	const u64 base = v->seg[seg].base;

	if (!(v->cr4 & CR4_FSGSBASE))
		return vcpu_raise(v, VEC_UD);
	v->gpr[insn_modrm_rm(insn)] = insn->rex & 8 ? base : (u32)base;
	return EXEC_OK;
}

/* The new base, or EXEC_FAULT. */
static enum exec written_base(struct vcpu *v, const struct insn *insn, u64 *base)
{
	const u64 value = v->gpr[insn_modrm_rm(insn)];

	if (!(v->cr4 & CR4_FSGSBASE))
		return vcpu_raise(v, VEC_UD);
	*base = insn->rex & 8 ? value : (u32)value;
	return vcpu_canonical(*base) ? EXEC_OK : raise_gp0(v);
}

enum exec help_rdfsbase(struct vcpu *v, const struct insn *insn)
{
	return read_base(v, insn, SEG_FS);
}

enum exec help_rdgsbase(struct vcpu *v, const struct insn *insn)
{
	return read_base(v, insn, SEG_GS);
}

enum exec help_wrfsbase(struct vcpu *v, const struct insn *insn)
{
	u64 base;

	if (written_base(v, insn, &base) != EXEC_OK)
		return EXEC_FAULT;
	set_fs_base(v, base);
	return EXEC_OK;
}

enum exec help_wrgsbase(struct vcpu *v, const struct insn *insn)
{
	u64 base;

	if (written_base(v, insn, &base) != EXEC_OK)
		return EXEC_FAULT;
	set_gs_base(v, base);
	return EXEC_OK;
}

/* --- descriptor tables ----------------------------------------------------------------------------------------- */

static enum exec load_table(struct vcpu *v, const struct insn *insn, struct table_register *table)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} raw;

	if (require_cpl0(v) != EXEC_OK || operand_load(v, insn, operand_address(v, insn), &raw, 10, 0) != EXEC_OK)
		return EXEC_FAULT;
	if (!vcpu_canonical(raw.base))
		return raise_gp0(v);
	table->limit = raw.limit;
	table->base = raw.base;
	return EXEC_OK;
}

static enum exec store_table(struct vcpu *v, const struct insn *insn, const struct table_register *table)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} raw = {.limit = table->limit, .base = table->base};

	if (require_umip_off(v) != EXEC_OK)
		return EXEC_FAULT;
	return operand_store(v, insn, operand_address(v, insn), &raw, insn->seg & INSN_SEG_LEGACY ? 6 : 10);
}

enum exec help_lgdt(struct vcpu *v, const struct insn *insn)
{
	return load_table(v, insn, &v->gdtr);
}

enum exec help_lidt(struct vcpu *v, const struct insn *insn)
{
	return load_table(v, insn, &v->idtr);
}

enum exec help_sgdt(struct vcpu *v, const struct insn *insn)
{
	return store_table(v, insn, &v->gdtr);
}

enum exec help_sidt(struct vcpu *v, const struct insn *insn)
{
	return store_table(v, insn, &v->idtr);
}

/* The selector operand of lldt, ltr, lar, lsl, verr, verw: a register or 2 bytes of memory. */
static enum exec read_selector(struct vcpu *v, const struct insn *insn, u16 *selector)
{
	if (insn->has_mem)
		return operand_load(v, insn, operand_address(v, insn), selector, 2, 0);
	*selector = (u16)v->gpr[insn_modrm_rm(insn)];
	return EXEC_OK;
}

/* A system segment of 16 bytes in the GDT. */
static enum exec load_system(struct vcpu *v, u16 selector, unsigned type, struct segment *segment, u64 *address)
{
	const u32 error = selector & SELECTOR_INDEX;
	u64 raw[2];

	if ((selector & SELECTOR_LDT) || !descriptor_locate(v, selector, 16, address))
		return vcpu_raise_error(v, VEC_GP, error);
	if (mem_read(v, *address, raw, 16, ACCESS_READ | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	if ((descriptor_attr(raw[0]) & (SEG_ATTR_S | SEG_ATTR_TYPE)) != type)
		return vcpu_raise_error(v, VEC_GP, error);
	if (!(descriptor_attr(raw[0]) & SEG_ATTR_P))
		return vcpu_raise_error(v, VEC_NP, error);
	segment_set(segment, selector, raw[0]);
	segment->base |= raw[1] << 32;
	if (!vcpu_canonical(segment->base))
		return vcpu_raise_error(v, VEC_GP, error);
	return EXEC_OK;
}

static void copy_segment(struct segment *to, const struct segment *from)
{
	to->selector = from->selector;
	to->attr = from->attr;
	to->limit = from->limit;
	to->base = from->base;
}

enum exec help_lldt(struct vcpu *v, const struct insn *insn)
{
	struct segment segment = {0};
	u64 address;
	u16 selector;

	if (require_cpl0(v) != EXEC_OK || read_selector(v, insn, &selector) != EXEC_OK)
		return EXEC_FAULT;
	if (selector_is_null(selector))
		segment.selector = selector;
	else if (load_system(v, selector, SYSTEM_LDT, &segment, &address) != EXEC_OK)
		return EXEC_FAULT;
	copy_segment(&v->seg[SEG_LDTR], &segment);
	return EXEC_OK;
}

enum exec help_ltr(struct vcpu *v, const struct insn *insn)
{
	struct segment segment;
	u64 address;
	u16 selector;
	u8 type;

	if (require_cpl0(v) != EXEC_OK || read_selector(v, insn, &selector) != EXEC_OK)
		return EXEC_FAULT;
	if (selector_is_null(selector))
		return raise_gp0(v);
	if (load_system(v, selector, SYSTEM_TSS_FREE, &segment, &address) != EXEC_OK)
		return EXEC_FAULT;
	segment.attr |= SYSTEM_TSS_BUSY;
	type = (u8)segment.attr;
	if (mem_write(v, address + 5, &type, 1, ACCESS_WRITE | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	copy_segment(&v->seg[SEG_TR], &segment);
	return EXEC_OK;
}

enum exec help_sldt(struct vcpu *v, const struct insn *insn)
{
	return require_umip_off(v) == EXEC_OK ? operand_store_word(v, insn, v->seg[SEG_LDTR].selector) : EXEC_FAULT;
}

enum exec help_str(struct vcpu *v, const struct insn *insn)
{
	return require_umip_off(v) == EXEC_OK ? operand_store_word(v, insn, v->seg[SEG_TR].selector) : EXEC_FAULT;
}

/* --- queries --------------------------------------------------------------------------------------------------- */

/*
 * Reads the descriptor that LAR, LSL, VERR or VERW asks about. *visible is false if the selector is null or beyond its
 * table, or if CPL and RPL do not allow the answer.
 */
static enum exec query(struct vcpu *v, const struct insn *insn, u64 *descriptor, bool *visible)
{
	u64 address;
	u16 selector, attr;

	*visible = false;
	if (read_selector(v, insn, &selector) != EXEC_OK)
		return EXEC_FAULT;
	if (selector_is_null(selector) || !descriptor_locate(v, selector, 8, &address))
		return EXEC_OK;
	if (mem_read(v, address, descriptor, 8, ACCESS_READ | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	attr = descriptor_attr(*descriptor);
	*visible =
		attr_is_conforming(attr) || (attr_dpl(attr) >= v->cpl && attr_dpl(attr) >= (selector & SELECTOR_RPL));
	return EXEC_OK;
}

static void set_zf(struct vcpu *v, bool set)
{
	v->arith = (v->arith & ~FLAG_ZF) | (set ? FLAG_ZF : 0);
}

static enum exec answer(struct vcpu *v, const struct insn *insn, bool known, u64 value)
{
	const struct operand reg = {.kind = OPERAND_GPR, .reg = (u8)insn_modrm_reg(insn), .size = (u8)insn_size(insn)};

	set_zf(v, known);
	if (known)
		operand_set_gpr(v, &reg, value);
	return EXEC_OK;
}

/* Types of system descriptors that exist in long mode: bit n set for type n. */
#define LSL_TYPES (BIT(SYSTEM_LDT) | BIT(SYSTEM_TSS_FREE) | BIT(SYSTEM_TSS_BUSY))
#define LAR_TYPES (LSL_TYPES | BIT(SYSTEM_CALL_GATE))

static bool type_known(u64 descriptor, u64 types)
{
	const u16 attr = descriptor_attr(descriptor);

	return (attr & SEG_ATTR_S) || (types >> (attr & SEG_ATTR_TYPE) & 1);
}

enum exec help_lar(struct vcpu *v, const struct insn *insn)
{
	u64 descriptor = 0;
	bool visible;

	if (query(v, insn, &descriptor, &visible) != EXEC_OK)
		return EXEC_FAULT;
	return answer(v, insn, visible && type_known(descriptor, LAR_TYPES), descriptor >> 32 & 0xf0ff00);
}

enum exec help_lsl(struct vcpu *v, const struct insn *insn)
{
	u64 descriptor = 0;
	bool visible;

	if (query(v, insn, &descriptor, &visible) != EXEC_OK)
		return EXEC_FAULT;
	return answer(v, insn, visible && type_known(descriptor, LSL_TYPES), descriptor_limit(descriptor));
}

enum exec help_verr(struct vcpu *v, const struct insn *insn)
{
	u64 descriptor = 0;
	bool visible;
	u16 attr;

	if (query(v, insn, &descriptor, &visible) != EXEC_OK)
		return EXEC_FAULT;
	attr = descriptor_attr(descriptor);
	set_zf(v, visible && (attr & SEG_ATTR_S) && (!attr_is_code(attr) || (attr & TYPE_READABLE)));
	return EXEC_OK;
}

enum exec help_verw(struct vcpu *v, const struct insn *insn)
{
	u64 descriptor = 0;
	bool visible;

	if (query(v, insn, &descriptor, &visible) != EXEC_OK)
		return EXEC_FAULT;
	set_zf(v, visible && attr_is_writable_data(descriptor_attr(descriptor)));
	return EXEC_OK;
}
