#include "cpu/interrupt.h"

#include "cpu/segment.h"
#include "cpu/system.h"
#include "vm.h"

#define ERROR_EXT 1u
#define ERROR_IDT 2u

#define GATE_SIZE 16u

/* Offsets in the 64-bit TSS (SDM vol. 3A, figure 8-11). */
#define TSS_RSP0 4u
#define TSS_IST1 36u

struct gate {
	u64 offset;
	u16 selector;
	u16 attr; /* type and DPL as in descriptors */
	u8 ist;
};

/* Where an event goes: everything that delivery changes, collected before anything is. */
struct target {
	struct gate gate;
	u64 code; /* descriptor of the new CS */
	u64 rsp;
	u8 cpl;
};

static inline u32 ext_bit(const struct event *event)
{
	return event->external ? ERROR_EXT : 0;
}

static enum exec gate_fault(struct vcpu *v, const struct event *event, u8 vector)
{
	return vcpu_raise_error(v, vector, event->vector * 8u | ERROR_IDT | ext_bit(event));
}

static enum exec read_gate(struct vcpu *v, const struct event *event, struct gate *gate)
{
	const u32 at = event->vector * GATE_SIZE;
	u64 raw[2];

	if (at + GATE_SIZE - 1 > v->idtr.limit)
		return gate_fault(v, event, VEC_GP);
	if (mem_read(v, v->idtr.base + at, raw, GATE_SIZE, ACCESS_READ | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	gate->offset = (raw[0] & 0xffff) | (raw[0] >> 48 << 16) | raw[1] << 32;
	gate->selector = (u16)(raw[0] >> 16);
	gate->attr = (u16)(raw[0] >> 40) & 0xff;
	gate->ist = raw[0] >> 32 & 7;
	if ((gate->attr & (SEG_ATTR_S | SEG_ATTR_TYPE)) != SYSTEM_INTERRUPT_GATE &&
	    (gate->attr & (SEG_ATTR_S | SEG_ATTR_TYPE)) != SYSTEM_TRAP_GATE)
		return gate_fault(v, event, VEC_GP);
	if (event->software && attr_dpl(gate->attr) < v->cpl)
		return gate_fault(v, event, VEC_GP);
	if (!(gate->attr & SEG_ATTR_P))
		return gate_fault(v, event, VEC_NP);
	return EXEC_OK;
}

/* The handler's code segment and the privilege level that it brings. */
static enum exec read_code(struct vcpu *v, const struct event *event, struct target *target)
{
	const u16 selector = target->gate.selector;
	const u32 error = (selector & SELECTOR_INDEX) | ext_bit(event);
	u16 attr;

	if (selector_is_null(selector))
		return vcpu_raise_error(v, VEC_GP, ext_bit(event));
	if (descriptor_read(v, selector, VEC_GP, ext_bit(event), &target->code) != EXEC_OK)
		return EXEC_FAULT;
	attr = descriptor_attr(target->code);
	if (!attr_is_code(attr) || attr_dpl(attr) > v->cpl)
		return vcpu_raise_error(v, VEC_GP, error);
	if (!(attr & SEG_ATTR_P))
		return vcpu_raise_error(v, VEC_NP, error);
	if ((attr & (SEG_ATTR_L | SEG_ATTR_DB)) != SEG_ATTR_L)
		return vcpu_raise_error(v, VEC_GP, error);
	target->cpl = attr & TYPE_CONFORMING ? v->cpl : (u8)attr_dpl(attr);
	return EXEC_OK;
}

/* A stack pointer from the TSS. */
static enum exec read_tss(struct vcpu *v, const struct event *event, u32 offset, u64 *value)
{
	const struct segment *tss = &v->seg[SEG_TR];

	if (offset + 7 > tss->limit)
		return vcpu_raise_error(v, VEC_TS, (tss->selector & SELECTOR_INDEX) | ext_bit(event));
	if (mem_read(v, tss->base + offset, value, 8, ACCESS_READ | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	if (!vcpu_canonical(*value))
		return vcpu_raise_error(v, VEC_SS, ext_bit(event));
	return EXEC_OK;
}

static enum exec choose_stack(struct vcpu *v, const struct event *event, struct target *target)
{
	if (target->gate.ist)
		return read_tss(v, event, TSS_IST1 + (target->gate.ist - 1u) * 8, &target->rsp);
	if (target->cpl != v->cpl)
		return read_tss(v, event, TSS_RSP0 + target->cpl * 8u, &target->rsp);
	target->rsp = v->gpr[RSP];
	return EXEC_OK;
}

static enum exec push_frame(struct vcpu *v, const struct event *event, struct target *target)
{
	u64 frame[6];
	u64 *at = frame;
	unsigned length;

	if (event->has_error)
		*at++ = event->error;
	*at++ = event->rip;
	*at++ = v->seg[SEG_CS].selector;
	*at++ = event->rflags;
	*at++ = v->gpr[RSP];
	*at++ = v->seg[SEG_SS].selector;
	length = (unsigned)(at - frame) * 8;
	target->rsp = (target->rsp & ~15ULL) - length;
	if (LIKELY(mem_write(v, target->rsp, frame, length,
			     ACCESS_WRITE | (target->cpl == 3 ? ACCESS_USER : ACCESS_SYSTEM)) == EXEC_OK))
		return EXEC_OK;
	stack_fault(v, target->rsp);
	if (v->fault.vector == VEC_SS)
		v->fault.error |= ext_bit(event);
	return EXEC_FAULT;
}

static void enter(struct vcpu *v, const struct target *target)
{
	const u64 cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM |
			    ((target->gate.attr & SEG_ATTR_TYPE) == SYSTEM_INTERRUPT_GATE ? FLAG_IF : 0);

	v->gpr[RSP] = target->rsp;
	segment_set(&v->seg[SEG_CS], (u16)((target->gate.selector & ~SELECTOR_RPL) | target->cpl), target->code);
	if (target->cpl != v->cpl) {
		v->seg[SEG_SS].selector = target->cpl;
		v->seg[SEG_SS].attr = (u16)(target->cpl << SEG_ATTR_DPL_SHIFT);
	}
	v->rip = target->gate.offset;
	v->rflags &= ~cleared;
	v->shadow = 0;
	v->trap = 0; /* what INT n enters is not stepped (SDM vol. 3B, 17.3.1.4) */
	if (target->cpl != v->cpl)
		cpu_set_cpl(v, target->cpl);
	vcpu_update_poll(v);
}

enum exec event_deliver(struct vcpu *v, const struct event *event)
{
	struct target target;

	if (read_gate(v, event, &target.gate) != EXEC_OK || read_code(v, event, &target) != EXEC_OK ||
	    choose_stack(v, event, &target) != EXEC_OK)
		return EXEC_FAULT;
	if (!vcpu_canonical(target.gate.offset))
		return vcpu_raise_error(v, VEC_GP, ext_bit(event));
	if (descriptor_mark(v, target.gate.selector, &target.code, TYPE_ACCESSED) != EXEC_OK ||
	    push_frame(v, event, &target) != EXEC_OK)
		return EXEC_FAULT;
	enter(v, &target);
	return EXEC_JUMP;
}

enum exec cpu_deliver_interrupt(struct vcpu *v, u8 vector)
{
	const struct event event = {
		.vector = vector,
		.external = true,
		.rip = v->rip,
		.rflags = vcpu_rflags(v),
	};
	const enum exec result = event_deliver(v, &event);

	/* an interrupt is benign: whatever its delivery raises is delivered in its place */
	return result == EXEC_FAULT ? cpu_deliver_fault(v) : result;
}

enum exec cpu_software_interrupt(struct vcpu *v, u8 vector, u64 next)
{
	const struct event event = {
		.vector = vector,
		.software = true,
		.rip = next,
		.rflags = vcpu_rflags(v),
	};

	return event_deliver(v, &event);
}
