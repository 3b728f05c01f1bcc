/* What the files of this folder share: privilege checks, memory operands with the right fault, segment bases. */
#ifndef AVANT_CPU_SYSTEM_H
#define AVANT_CPU_SYSTEM_H

#include "cpu/cpu.h"
#include "cpu/operand.h"
#include "cpu/vcpu.h"
#include "mem/mem.h"
#include "util/types.h"

static inline enum exec raise_gp0(struct vcpu *v)
{
	return vcpu_raise_error(v, VEC_GP, 0);
}

/* EXEC_OK at CPL 0, else #GP(0). */
static inline enum exec require_cpl0(struct vcpu *v)
{
	return LIKELY(v->cpl == 0) ? EXEC_OK : raise_gp0(v);
}

/* sgdt, sidt, sldt, str and smsw tell user code about the kernel unless CR4.UMIP forbids. */
static inline enum exec require_umip_off(struct vcpu *v)
{
	return v->cpl != 0 && (v->cr4 & CR4_UMIP) ? raise_gp0(v) : EXEC_OK;
}

static inline u64 next_rip(const struct vcpu *v, const struct insn *insn)
{
	return v->rip + insn->length;
}

/* The opcode byte that tells forms apart: the one after 0f, or the only one. */
static inline u8 insn_opcode(const struct insn *insn)
{
	const u8 first = insn->bytes[insn->opcode_at];

	return first == 0x0f ? insn->bytes[insn->opcode_at + 1] : first;
}

/* ModRM's reg field without REX.R: an opcode extension or a segment register. */
static inline unsigned insn_reg_field(const struct insn *insn)
{
	return insn->bytes[insn->modrm_at] >> 3 & 7;
}

/* ModRM's two register numbers, for instructions whose ModRM always means registers (mov cr, rdfsbase …). */
static inline unsigned insn_modrm_reg(const struct insn *insn)
{
	return insn_reg_field(insn) | (insn->rex & 4 ? 8 : 0);
}

static inline unsigned insn_modrm_rm(const struct insn *insn)
{
	return (insn->bytes[insn->modrm_at] & 7) | (insn->rex & 1 ? 8 : 0);
}

/* Operand size in bytes where 64 bits need REX.W (iret, far transfers, mov from segment …). */
static inline unsigned insn_size(const struct insn *insn)
{
	return insn->rex & 8 ? 8 : insn->prefix_66 ? 2 : 4;
}

static inline u64 size_mask(unsigned size)
{
	return size >= 8 ? ~0ULL : BIT(size * 8) - 1;
}

/* A fault of an access relative to RSP or RBP: a non-canonical address is #SS(0) and not #GP(0). Returns EXEC_FAULT. */
enum exec stack_fault(struct vcpu *v, u64 address);

/* The same for the access of `length` bytes to the memory operand at `address` that has just faulted. */
enum exec operand_fault(struct vcpu *v, const struct insn *insn, u64 address, unsigned length);

/*
 * Access to the memory operand at `address`, as computed by operand_address(). `access` is what to ask for beyond
 * reading: 0, or ACCESS_WRITE before a write that must not fail half-way.
 */
enum exec operand_load(struct vcpu *v, const struct insn *insn, u64 address, void *buffer, unsigned length,
		       unsigned access);
enum exec operand_store(struct vcpu *v, const struct insn *insn, u64 address, const void *buffer, unsigned length);

/* Writes a selector or machine status word: 2 bytes to memory, the operand size to the register that ModRM.rm names. */
enum exec operand_store_word(struct vcpu *v, const struct insn *insn, u64 value);

/* Generated code adds copies of these two bases: both must change together. */
static inline void set_fs_base(struct vcpu *v, u64 base)
{
	v->seg[SEG_FS].base = base;
	v->fs_base = base;
}

static inline void set_gs_base(struct vcpu *v, u64 base)
{
	v->seg[SEG_GS].base = base;
	v->gs_base = base;
}

/* Sets RFLAGS and whatever depends on AC and IF. Returns EXEC_LEAVE if the mode changed or an event is due, else
 * EXEC_OK. */
enum exec change_rflags(struct vcpu *v, u64 value);

/* Guest TSC as RDTSC returns it. */
u64 guest_tsc(struct vcpu *v);

#endif
