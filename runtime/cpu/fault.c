/* Exceptions: side effects, delivery, escalation (SDM vol. 3A, 6.15, "Interrupt 8"). */
#include "cpu/interrupt.h"
#include "cpu/system.h"
#include "vm.h"

#define DR6_B_MASK 0xfULL
#define DR7_GD     BIT(13)

enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

static enum fault_class class_of(u8 vector)
{
	switch (vector) {
	case VEC_DE:
	case VEC_TS:
	case VEC_NP:
	case VEC_SS:
	case VEC_GP:
		return CLASS_CONTRIBUTORY;
	case VEC_PF:
		return CLASS_PAGE_FAULT;
	case VEC_DF:
		return CLASS_DOUBLE_FAULT;
	default:
		return CLASS_BENIGN;
	}
}

/* Does `second`, raised while `first` was delivered, make a double fault? (table 6-5) */
static bool is_double_fault(enum fault_class first, enum fault_class second)
{
	if (first == CLASS_CONTRIBUTORY)
		return second == CLASS_CONTRIBUTORY;
	return first == CLASS_PAGE_FAULT && (second == CLASS_CONTRIBUTORY || second == CLASS_PAGE_FAULT);
}

/* What an exception changes whether its delivery succeeds or not. */
static void note_cause(struct vcpu *v)
{
	if (v->fault.vector == VEC_PF) {
		v->cr2 = v->fault.cr2;
		v->vm->stats.page_faults++;
	}
	if (v->fault.vector == VEC_DB) {
		v->dr[6] = (v->dr[6] & ~DR6_B_MASK) | v->fault.dr6;
		v->dr[7] &= ~DR7_GD;
	}
}

/* RF in the pushed image: set for faults; #DB is one by an instruction breakpoint, or where a debug register was
 * touched (SDM vol. 3B, 17.3.1.1). */
static u64 pushed_rf(const struct vcpu *v)
{
	switch (v->fault.vector) {
	case VEC_DB:
		return v->fault.before ? FLAG_RF : 0;
	case VEC_NMI:
	case VEC_BP:
	case VEC_OF:
	case VEC_DF:
	case VEC_MC:
		return 0;
	default:
		return FLAG_RF;
	}
}

enum exec cpu_deliver_fault(struct vcpu *v)
{
	for (;;) {
		const struct event event = {
			.vector = v->fault.vector,
			.external = true,
			.has_error = v->fault.has_error,
			.error = v->fault.error,
			.rip = v->rip,
			.rflags = vcpu_rflags(v) | pushed_rf(v),
		};
		const enum fault_class first = class_of(event.vector);
		enum exec result;

		note_cause(v);
		result = event_deliver(v, &event);
		if (LIKELY(result != EXEC_FAULT))
			return result;
		if (first == CLASS_DOUBLE_FAULT && class_of(v->fault.vector) != CLASS_BENIGN) {
			vm_stop(v->vm, EXIT_TRIPLE_FAULT, 0);
			return EXEC_STOP;
		}
		if (is_double_fault(first, class_of(v->fault.vector))) {
			if (v->fault.vector == VEC_PF)
				v->cr2 = v->fault.cr2;
			vcpu_raise_error(v, VEC_DF, 0);
		}
	}
}
