/* Control and debug registers, TLB and cache invalidation, XCR0, HLT. */
#include "cpu/control.h"
#include "cpu/system.h"
#include "vm.h"

/* --- control registers ----------------------------------------------------------------------------------------- */

enum exec help_mov_from_cr(struct vcpu *v, const struct insn *insn)
{
	u64 *to = &v->gpr[insn_modrm_rm(insn)];

	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	switch (insn_modrm_reg(insn)) {
	case 0:
		*to = v->cr0;
		return EXEC_OK;
	case 2:
		*to = v->cr2;
		return EXEC_OK;
	case 3:
		*to = v->cr3;
		return EXEC_OK;
	case 4:
		*to = v->cr4;
		return EXEC_OK;
	case 8:
		*to = lapic_read_cr8(v->vm->irqchip);
		return EXEC_OK;
	default:
		return vcpu_raise(v, VEC_UD);
	}
}

enum exec help_mov_to_cr(struct vcpu *v, const struct insn *insn)
{
	const u64 value = v->gpr[insn_modrm_rm(insn)];

	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	switch (insn_modrm_reg(insn)) {
	case 0:
		return cpu_write_cr0(v, value);
	case 2:
		v->cr2 = value;
		return EXEC_OK;
	case 3:
		return cpu_write_cr3(v, value);
	case 4:
		return cpu_write_cr4(v, value);
	case 8:
		if (value & ~0xfULL)
			return raise_gp0(v);
		lapic_write_cr8(v->vm->irqchip, value);
		return EXEC_LEAVE;
	default:
		return vcpu_raise(v, VEC_UD);
	}
}

enum exec help_clts(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	v->cr0 &= ~CR0_TS;
	return EXEC_LEAVE;
}

enum exec help_lmsw(struct vcpu *v, const struct insn *insn)
{
	const u64 writable = CR0_MP | CR0_EM | CR0_TS;
	u64 value = 0;

	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	if (!insn->has_mem)
		value = v->gpr[insn_modrm_rm(insn)];
	else if (operand_load(v, insn, operand_address(v, insn), &value, 2, 0) != EXEC_OK)
		return EXEC_FAULT;
	/* PE can be set but not cleared: here it is set */
	v->cr0 = (v->cr0 & ~writable) | (value & writable);
	return EXEC_LEAVE;
}

enum exec help_smsw(struct vcpu *v, const struct insn *insn)
{
	return require_umip_off(v) == EXEC_OK ? operand_store_word(v, insn, v->cr0) : EXEC_FAULT;
}

enum exec help_xgetbv(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (!(v->cr4 & CR4_OSXSAVE))
		return vcpu_raise(v, VEC_UD);
	if ((u32)v->gpr[RCX] != 0)
		return raise_gp0(v);
	v->gpr[RAX] = (u32)v->xcr0;
	v->gpr[RDX] = v->xcr0 >> 32;
	return EXEC_OK;
}

enum exec help_xsetbv(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (!(v->cr4 & CR4_OSXSAVE))
		return vcpu_raise(v, VEC_UD);
	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	if ((u32)v->gpr[RCX] != 0)
		return raise_gp0(v);
	return cpu_write_xcr0(v, v->gpr[RDX] << 32 | (u32)v->gpr[RAX]);
}

/* --- debug registers (SDM vol. 3B, 17.2) ----------------------------------------------------------------------- */

#define DR6_FIXED    0xffff0ff0ULL
#define DR6_WRITABLE 0xe00fULL
#define DR6_BD       BIT(13)
#define DR7_FIXED    0x400ULL
#define DR7_WRITABLE 0xffff2bffULL
#define DR7_GD       BIT(13)

/* The register that a debug move names, with DR4 and DR5 as DR6 and DR7; or EXEC_FAULT. */
static enum exec debug_register(struct vcpu *v, const struct insn *insn, unsigned *number)
{
	*number = insn_modrm_reg(insn);
	if (*number > 7)
		return vcpu_raise(v, VEC_UD);
	if (*number == 4 || *number == 5) {
		if (v->cr4 & CR4_DE)
			return vcpu_raise(v, VEC_UD);
		*number += 2;
	}
	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	if (v->dr[7] & DR7_GD) {
		vcpu_raise(v, VEC_DB);
		v->fault.dr6 = DR6_BD;
		v->fault.before = true;
		return EXEC_FAULT;
	}
	return EXEC_OK;
}

enum exec help_mov_from_dr(struct vcpu *v, const struct insn *insn)
{
	unsigned number;

	if (debug_register(v, insn, &number) != EXEC_OK)
		return EXEC_FAULT;
	v->gpr[insn_modrm_rm(insn)] = v->dr[number];
	return EXEC_OK;
}

enum exec help_mov_to_dr(struct vcpu *v, const struct insn *insn)
{
	const u64 value = v->gpr[insn_modrm_rm(insn)];
	unsigned number;

	if (debug_register(v, insn, &number) != EXEC_OK)
		return EXEC_FAULT;
	if (number >= 6 && value >> 32)
		return raise_gp0(v);
	if (number == 6)
		v->dr[6] = (value & DR6_WRITABLE) | DR6_FIXED;
	else if (number == 7)
		v->dr[7] = (value & DR7_WRITABLE) | DR7_FIXED;
	else
		v->dr[number] = value;
	return EXEC_LEAVE;
}

/* --- invalidation ---------------------------------------------------------------------------------------------- */

enum exec help_invlpg(struct vcpu *v, const struct insn *insn)
{
	const u64 address = operand_address(v, insn);

	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	if (vcpu_canonical(address))
		mmu_flush_page(v, address);
	return EXEC_LEAVE;
}

enum exec help_invpcid(struct vcpu *v, const struct insn *insn)
{
	enum { ONE_ADDRESS, ONE_CONTEXT, ALL_WITH_GLOBAL, ALL_BUT_GLOBAL };
	const u64 type = v->gpr[insn_modrm_reg(insn)];
	u64 descriptor[2]; /* PCID, address */

	if (require_cpl0(v) != EXEC_OK ||
	    operand_load(v, insn, operand_address(v, insn), descriptor, sizeof(descriptor), 0) != EXEC_OK)
		return EXEC_FAULT;
	if (type > ALL_BUT_GLOBAL || descriptor[0] >> 12)
		return raise_gp0(v);
	if (type <= ONE_CONTEXT && !(v->cr4 & CR4_PCIDE) && descriptor[0])
		return raise_gp0(v);
	switch (type) {
	case ONE_ADDRESS:
		if (!vcpu_canonical(descriptor[1]))
			return raise_gp0(v);
		mmu_flush_pcid_page(v, descriptor[0], descriptor[1]);
		break;
	case ONE_CONTEXT:
		mmu_flush_pcid(v, descriptor[0]);
		break;
	case ALL_WITH_GLOBAL:
		mmu_flush_all(v);
		break;
	default:
		mmu_flush_non_global(v);
		break;
	}
	return EXEC_LEAVE;
}

/* Guest memory is coherent with everything that looks at it: nothing to write back. */
static enum exec cache_operation(struct vcpu *v)
{
	return require_cpl0(v);
}

enum exec help_invd(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return cache_operation(v);
}

enum exec help_wbinvd(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return cache_operation(v);
}

enum exec help_hlt(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return require_cpl0(v) == EXEC_OK ? EXEC_HALT : EXEC_FAULT;
}
