/* rdtsc, rdtscp, rdpid, rdpmc. */
#include "cpu/system.h"
#include "vm.h"

u64 guest_tsc(struct vcpu *v)
{
	return clock_tsc(&v->vm->clock) + v->tsc_offset;
}

static enum exec read_tsc(struct vcpu *v)
{
	u64 tsc;

	if ((v->cr4 & CR4_TSD) && v->cpl != 0)
		return raise_gp0(v);
	tsc = guest_tsc(v);
	v->gpr[RAX] = (u32)tsc;
	v->gpr[RDX] = tsc >> 32;
	return EXEC_OK;
}

enum exec help_rdtsc(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return read_tsc(v);
}

enum exec help_rdtscp(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	if (read_tsc(v) != EXEC_OK)
		return EXEC_FAULT;
	v->gpr[RCX] = (u32)v->tsc_aux;
	return EXEC_OK;
}

enum exec help_rdpid(struct vcpu *v, const struct insn *insn)
{
	v->gpr[insn_modrm_rm(insn)] = (u32)v->tsc_aux;
	return EXEC_OK;
}

/* No performance counters are offered: every index is an invalid one. */
enum exec help_rdpmc(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return raise_gp0(v);
}
