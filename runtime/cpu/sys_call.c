/* Control transfers between privilege levels: syscall, sysenter and their returns, iret, software interrupts. */
#include "cpu/interrupt.h"
#include "cpu/segment.h"
#include "cpu/system.h"
#include "cpu/transfer.h"
#include "vm.h"

/* What SYSRET takes from R11 (SDM vol. 2B, SYSRET). */
#define SYSRET_FLAGS 0x3c7fd7ULL

enum exec help_syscall(struct vcpu *v, const struct insn *insn)
{
	const u16 cs = (u16)(v->star >> 32) & SELECTOR_INDEX;

	if (!(v->efer & EFER_SCE))
		return vcpu_raise(v, VEC_UD);
	v->vm->stats.syscalls++;
	v->gpr[RCX] = next_rip(v, insn);
	v->gpr[R11] = vcpu_rflags(v) & ~FLAG_RF;
	vcpu_set_rflags(v, vcpu_rflags(v) & ~(v->sfmask | FLAG_RF));
	segment_set_flat(v, cs, ATTR_KERNEL_CODE64, (u16)(cs + 8), ATTR_KERNEL_DATA);
	v->rip = v->lstar;
	v->trap &= !!(v->rflags & FLAG_TF); /* masked before the trap would come */
	cpu_set_cpl(v, 0);
	vcpu_update_poll(v);
	return EXEC_JUMP;
}

enum exec help_sysret(struct vcpu *v, const struct insn *insn)
{
	const u16 base = (u16)(v->star >> 48);

	if (!(v->efer & EFER_SCE))
		return vcpu_raise(v, VEC_UD);
	if (require_cpl0(v) != EXEC_OK)
		return EXEC_FAULT;
	if (insn->rex & 8) {
		if (!vcpu_canonical(v->gpr[RCX]))
			return raise_gp0(v);
		v->rip = v->gpr[RCX];
		segment_set_flat(v, (u16)(base + 16) | 3, ATTR_USER_CODE64, (u16)(base + 8) | 3, ATTR_USER_DATA);
	} else {
		v->rip = (u32)v->gpr[RCX];
		segment_set_flat(v, base | 3, ATTR_USER_CODE32, (u16)(base + 8) | 3, ATTR_USER_DATA);
	}
	vcpu_set_rflags(v, v->gpr[R11] & SYSRET_FLAGS);
	cpu_set_cpl(v, 3);
	vcpu_update_poll(v);
	return EXEC_JUMP;
}

enum exec help_sysenter(struct vcpu *v, const struct insn *insn)
{
	const u16 cs = (u16)v->sysenter_cs & SELECTOR_INDEX;

	(void)insn;
	if (!cs)
		return raise_gp0(v);
	v->rflags &= ~(FLAG_IF | FLAG_VM | FLAG_RF);
	v->gpr[RSP] = v->sysenter_esp;
	v->rip = v->sysenter_eip;
	segment_set_flat(v, cs, ATTR_KERNEL_CODE64, (u16)(cs + 8), ATTR_KERNEL_DATA);
	cpu_set_cpl(v, 0);
	vcpu_update_poll(v);
	return EXEC_JUMP;
}

enum exec help_sysexit(struct vcpu *v, const struct insn *insn)
{
	const u16 cs = (u16)v->sysenter_cs & SELECTOR_INDEX;

	if (!cs || v->cpl != 0)
		return raise_gp0(v);
	if (insn->rex & 8) {
		if (!vcpu_canonical(v->gpr[RCX]) || !vcpu_canonical(v->gpr[RDX]))
			return raise_gp0(v);
		v->gpr[RSP] = v->gpr[RCX];
		v->rip = v->gpr[RDX];
		segment_set_flat(v, (u16)(cs + 32) | 3, ATTR_USER_CODE64, (u16)(cs + 40) | 3, ATTR_USER_DATA);
	} else {
		v->gpr[RSP] = (u32)v->gpr[RCX];
		v->rip = (u32)v->gpr[RDX];
		segment_set_flat(v, (u16)(cs + 16) | 3, ATTR_USER_CODE32, (u16)(cs + 24) | 3, ATTR_USER_DATA);
	}
	cpu_set_cpl(v, 3);
	return EXEC_JUMP;
}

/* The frame that IRET pops in 64-bit mode, widened to 8 bytes each. */
struct iret_frame {
	u64 rip, cs, rflags, rsp, ss;
};

static enum exec read_frame(struct vcpu *v, unsigned size, struct iret_frame *frame)
{
	u8 raw[5 * 8];
	u64 value[5] = {0};

	if (mem_read(v, v->gpr[RSP], raw, 5 * size, ACCESS_READ) != EXEC_OK) {
		stack_fault(v, v->gpr[RSP]);
		return EXEC_FAULT;
	}
	for (unsigned i = 0; i < 5; i++)
		for (unsigned b = 0; b < size; b++)
			value[i] |= (u64)raw[i * size + b] << b * 8;
	frame->rip = value[0];
	frame->cs = value[1] & 0xffff;
	frame->rflags = value[2];
	frame->rsp = value[3];
	frame->ss = value[4] & 0xffff;
	return EXEC_OK;
}

enum exec check_return_cs(struct vcpu *v, u16 selector, u64 *descriptor)
{
	const unsigned rpl = selector & SELECTOR_RPL;
	const u32 error = selector & SELECTOR_INDEX;
	u16 attr;

	if (selector_is_null(selector))
		return raise_gp0(v);
	if (descriptor_read(v, selector, VEC_GP, 0, descriptor) != EXEC_OK)
		return EXEC_FAULT;
	attr = descriptor_attr(*descriptor);
	if (!attr_is_code(attr) || rpl < v->cpl || (attr_is_conforming(attr) && attr_dpl(attr) > rpl) ||
	    (!attr_is_conforming(attr) && attr_dpl(attr) != rpl))
		return vcpu_raise_error(v, VEC_GP, error);
	if (!(attr & SEG_ATTR_P))
		return vcpu_raise_error(v, VEC_NP, error);
	if ((attr & (SEG_ATTR_L | SEG_ATTR_DB)) == (SEG_ATTR_L | SEG_ATTR_DB))
		return vcpu_raise_error(v, VEC_GP, error);
	return EXEC_OK;
}

enum exec check_return_ss(struct vcpu *v, u16 selector, unsigned cpl, u64 *descriptor)
{
	const u32 error = selector & SELECTOR_INDEX;
	u16 attr;

	*descriptor = 0;
	if (selector_is_null(selector))
		return cpl == 3 || (selector & SELECTOR_RPL) != cpl ? raise_gp0(v) : EXEC_OK;
	if ((selector & SELECTOR_RPL) != cpl)
		return vcpu_raise_error(v, VEC_GP, error);
	if (descriptor_read(v, selector, VEC_GP, 0, descriptor) != EXEC_OK)
		return EXEC_FAULT;
	attr = descriptor_attr(*descriptor);
	if (!attr_is_writable_data(attr) || attr_dpl(attr) != cpl)
		return vcpu_raise_error(v, VEC_GP, error);
	if (!(attr & SEG_ATTR_P))
		return vcpu_raise_error(v, VEC_SS, error);
	return descriptor_mark(v, selector, descriptor, TYPE_ACCESSED);
}

void set_return_ss(struct vcpu *v, u16 selector, u64 descriptor, unsigned cpl)
{
	segment_set(&v->seg[SEG_SS], selector, descriptor);
	if (selector_is_null(selector))
		v->seg[SEG_SS].attr = (u16)(cpl << SEG_ATTR_DPL_SHIFT);
}

void set_return_flags(struct vcpu *v, u64 value, unsigned size)
{
	u64 changeable = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID;

	if (v->cpl == 0)
		changeable |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
	if (v->cpl <= (v->rflags >> 12 & 3))
		changeable |= FLAG_IF;
	changeable &= size_mask(size);
	vcpu_set_rflags(v, (vcpu_rflags(v) & ~changeable) | (value & changeable));
}

enum exec help_iret(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = insn_size(insn);
	struct iret_frame frame;
	enum exec result;
	u64 code, stack;
	unsigned cpl;

	/* NMIs are let in again even if it faults (SDM vol. 3A, 6.7.1; vol. 3C, 27.2.3) */
	if (UNLIKELY(v->nmi_blocked)) {
		v->nmi_blocked = false;
		vcpu_notify(v);
	}
	if (v->rflags & FLAG_NT)
		return raise_gp0(v);
	if (read_frame(v, size, &frame) != EXEC_OK || check_return_cs(v, (u16)frame.cs, &code) != EXEC_OK)
		return EXEC_FAULT;
	cpl = frame.cs & SELECTOR_RPL;
	if (check_return_ss(v, (u16)frame.ss, cpl, &stack) != EXEC_OK)
		return EXEC_FAULT;
	result = code_check(v, code, cpl, &frame.rip);
	if (result != EXEC_OK)
		return result;
	if (descriptor_mark(v, (u16)frame.cs, &code, TYPE_ACCESSED) != EXEC_OK)
		return EXEC_FAULT;

	set_return_flags(v, frame.rflags, size);
	v->rip = frame.rip;
	v->gpr[RSP] = frame.rsp;
	segment_set(&v->seg[SEG_CS], (u16)frame.cs, code);
	set_return_ss(v, (u16)frame.ss, stack, cpl);
	if (cpl > v->cpl)
		segments_hide_from(v, cpl);
	/* AC may have changed as well */
	cpu_set_cpl(v, (u8)cpl);
	vcpu_update_poll(v);
	return EXEC_JUMP;
}

enum exec help_int_n(struct vcpu *v, const struct insn *insn)
{
	return cpu_software_interrupt(v, insn->bytes[insn->length - 1], next_rip(v, insn));
}

enum exec help_int3(struct vcpu *v, const struct insn *insn)
{
	return cpu_software_interrupt(v, VEC_BP, next_rip(v, insn));
}

/* ICEBP: a #DB trap that no DPL check applies to and that leaves DR6 alone. */
enum exec help_int1(struct vcpu *v, const struct insn *insn)
{
	const struct event event = {
		.vector = VEC_DB,
		.external = true,
		.rip = next_rip(v, insn),
		.rflags = vcpu_rflags(v),
	};

	v->observed = 0; /* what a load of SS before it has met is lost */
	return event_deliver(v, &event);
}

enum exec help_ud(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return vcpu_raise(v, VEC_UD);
}
