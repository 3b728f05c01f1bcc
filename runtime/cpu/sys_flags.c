/* Instructions on RFLAGS: cli sti cld std stac clac pushf popf. */
#include "cpu/system.h"

enum exec change_rflags(struct vcpu *v, u64 value)
{
	const u64 changed = (v->rflags ^ value) & (FLAG_AC | FLAG_IF);
	const bool view_changed = (changed & FLAG_AC) && v->cpl != 3;

	vcpu_set_rflags(v, value);
	if (LIKELY(!changed))
		return EXEC_OK;
	if (view_changed)
		vcpu_update_view(v);
	if (changed & FLAG_IF)
		vcpu_update_poll(v);
	return view_changed || v->poll ? EXEC_LEAVE : EXEC_OK;
}

static inline unsigned iopl(const struct vcpu *v)
{
	return v->rflags >> 12 & 3;
}

enum exec help_cli(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (v->cpl > iopl(v))
		return raise_gp0(v);
	v->rflags &= ~FLAG_IF;
	vcpu_update_poll(v);
	return EXEC_OK;
}

enum exec help_sti(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (v->cpl > iopl(v))
		return raise_gp0(v);
	if (v->rflags & FLAG_IF)
		return EXEC_OK;
	v->rflags |= FLAG_IF;
	v->shadow = 1;
	vcpu_update_poll(v);
	return v->poll ? EXEC_LEAVE : EXEC_OK;
}

enum exec help_cld(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	v->rflags &= ~FLAG_DF;
	return EXEC_OK;
}

enum exec help_std(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	v->rflags |= FLAG_DF;
	return EXEC_OK;
}

static enum exec set_ac(struct vcpu *v, u64 ac)
{
	/* both are #UD above CPL 0 (SDM vol. 2, STAC) */
	if (v->cpl != 0)
		return vcpu_raise(v, VEC_UD);
	if ((v->rflags & FLAG_AC) == ac)
		return EXEC_OK;
	v->rflags ^= FLAG_AC;
	vcpu_update_view(v);
	return EXEC_LEAVE;
}

enum exec help_stac(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return set_ac(v, FLAG_AC);
}

enum exec help_clac(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return set_ac(v, 0);
}

/* pushf and popf move 8 bytes, or 2 with 66. */
static unsigned flags_size(const struct insn *insn)
{
	return insn->prefix_66 && !(insn->rex & 8) ? 2 : 8;
}

enum exec help_pushf(struct vcpu *v, const struct insn *insn)
{
	const u64 value = vcpu_rflags(v) & ~(FLAG_VM | FLAG_RF);
	const unsigned size = flags_size(insn);
	const u64 to = v->gpr[RSP] - size;

	if (mem_write(v, to, &value, size, ACCESS_WRITE) != EXEC_OK)
		return stack_fault(v, to);
	v->gpr[RSP] = to;
	return EXEC_OK;
}

enum exec help_popf(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = flags_size(insn);
	u64 changeable = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID;
	u64 value = 0;

	if (mem_read(v, v->gpr[RSP], &value, size, ACCESS_READ) != EXEC_OK)
		return stack_fault(v, v->gpr[RSP]);
	if (v->cpl == 0)
		changeable |= FLAG_IOPL;
	if (v->cpl <= iopl(v))
		changeable |= FLAG_IF;
	changeable &= size_mask(size);
	v->gpr[RSP] += size;
	return change_rflags(v, ((vcpu_rflags(v) & ~changeable) | (value & changeable)) & ~FLAG_RF);
}
