/*
 * The vCPU's loop. Compiled for general registers only: the guest's vector state stays in the host's registers from
 * one round to the next, and is put away (vcpu_fpu_put) only before something that may use them.
 */
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "ahead.h"
#include "cpu/cpu.h"
#include "cpu/kvmclock.h"
#include "cpu/observe.h"
#include "debug/debugger.h"
#include "debug/trace.h"
#include "dev/acpi_pm.h"
#include "dev/console.h"
#include "dev/uart.h"
#include "interp/interp.h"
#include "live/live.h"
#include "poller.h"
#include "virtio/console.h"
#include "vm.h"

/* Counted mode: the C side has v->budget and v->icount right; generated code needs the sum. */
static void begin_counting(struct vcpu *v)
{
	v->icount_limit = v->icount + (u64)v->budget;
}

static bool interrupts_open(const struct vcpu *v)
{
	return (v->rflags & FLAG_IF) && !v->shadow;
}

/* Timers, input and requests from outside. */
static void look_at_events(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;

	__atomic_store_n(&v->event, 0, __ATOMIC_SEQ_CST);
	vcpu_fpu_put(v);
	if (v->predictions_full)
		live_close_reserve(v);
	clock_run(&vm->clock);
	if (UNLIKELY(vm->clock.stopped)) {
		vm->clock.stopped = false;
		kvmclock_tell_stop(v);
	}
	if (UNLIKELY(vm->ram.ahead_due))
		ahead_go_on(vm);
	poller_run(vm->poller);
	uart_poll(vm->uart);
	vm->console->flush(vm->console); /* a prompt has no line end; nothing to do if all is written */
	if (vm->virtio_console)
		virtio_console_poll(vm->virtio_console);
	if (vm->power_button) {
		vm->power_button = 0;
		if (!acpi_pm_press_power_button(vm->pm))
			vm_stop(vm, EXIT_USER, 0);
	}
	if (vm->stop_requested)
		vm_stop(vm, EXIT_USER, 0);
	if (vm->debugger && debugger_wants_attention(vm->debugger))
		debugger_attend(vm);
	if (vm->tracer)
		trace_limit_budget(vm->tracer, v);
}

static bool deliver_nmi(struct vm *vm)
{
	if (vm->vcpu->nmi_blocked || !irqchip_take_nmi(vm->irqchip))
		return false;
	vm->vcpu->nmi_blocked = true;
	cpu_deliver_interrupt(vm->vcpu, VEC_NMI);
	return true;
}

static enum exec deliver_interrupt(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;
	int vector = irqchip_acknowledge(vm->irqchip);

	if (vector < 0)
		return EXEC_OK;
	vm->stats.interrupts++;
	return cpu_deliver_interrupt(v, (u8)vector);
}

/* Everything that waits to be done between two instructions. */
static void service(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;
	bool due = vm->counted && v->budget <= 0;

	if (due && vm->tracer)
		trace_step(vm->tracer, v);
	if (due || __atomic_load_n(&v->event, __ATOMIC_SEQ_CST))
		look_at_events(vm);
	if (!deliver_nmi(vm) && v->irq_line && interrupts_open(v) &&
	    !(vm->debugger && debugger_holds_interrupts(vm->debugger)))
		deliver_interrupt(vm);
	vcpu_update_poll(v);
}

/* HLT: sleeps until an interrupt can be delivered. */
static void wait_for_interrupt(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;

	vm->stats.halts++;
	v->shadow = 0;
	vcpu_fpu_put(v);
	while (vm->exit == EXIT_RUNNING && !(v->irq_line && (v->rflags & FLAG_IF))) {
		if (vm->clock.source == CLOCK_SOURCE_INSTRUCTIONS && clock_next_deadline(&vm->clock) != CLOCK_NEVER) {
			clock_skip_to_next(&vm->clock);
			v->event = 1;
		} else if (!__atomic_load_n(&v->event, __ATOMIC_SEQ_CST)) {
			vm->console->flush(vm->console);
			vm_sleep(vm);
		}
		look_at_events(vm);
		if (deliver_nmi(vm))
			break;
	}
	poller_unpark(vm->poller);
	vcpu_update_poll(v);
}

/* The result of an instruction that C executed with rip already moved (or, on a fault, not). */
static void conclude(struct vm *vm, enum exec result)
{
	struct vcpu *v = vm->vcpu;

	switch (result) {
	case EXEC_FAULT:
		vm->stats.exceptions++;
		cpu_deliver_fault(v);
		break;
	case EXEC_HALT:
		wait_for_interrupt(vm);
		break;
	case EXEC_LEAVE:
		if (vm->live)
			live_check_mode(v);
		break;
	case EXEC_OK:
	case EXEC_JUMP:
	case EXEC_AGAIN:
	case EXEC_STOP:
		break;
	}
}

/* Does the debugger stop the guest here, before the next instruction? It has been looked at when this returns. */
static bool stop_for_debugger(struct vm *vm)
{
	enum debugger_stop why;

	if (!debugger_stops(vm->debugger, vm->vcpu, &why))
		return false;
	vcpu_fpu_put(vm->vcpu);
	debugger_stop(vm, why);
	return true;
}

/*
 * The breakpoints on the instruction at rip, unless RFLAGS.RF says that they have been met already; as a fault
 * (SDM vol. 3B, 17.3.1.1).
 */
static bool meets_breakpoint(struct vcpu *v)
{
	u64 found = v->rflags & FLAG_RF ? 0 : observe_breakpoints_at(v, interp_pc(v));

	if (!found)
		return false;
	v->fault = (struct fault){.vector = VEC_DB, .dr6 = found, .before = true};
	v->observed_late = 0;
	return true;
}

/* The trap after an instruction: single-step, data breakpoints, or both at once (SDM vol. 3B, 17.3.1.2, 17.3.1.4). */
static enum exec trap_after(struct vm *vm, enum exec result)
{
	struct vcpu *v = vm->vcpu;
	const u64 causes = v->observed | (v->trap ? DR6_BS : 0);

	if (result == EXEC_FAULT || result == EXEC_STOP || result == EXEC_HALT)
		return result;
	/* a REP goes on with its next element, on which instruction breakpoints have been met */
	if (result == EXEC_AGAIN && (v->dr[7] & DR7_ENABLED))
		v->rflags |= FLAG_RF;
	if (!causes)
		return result;
	if (result == EXEC_LEAVE)
		conclude(vm, result);
	v->fault = (struct fault){.vector = VEC_DB, .dr6 = causes};
	return EXEC_FAULT;
}

/* One instruction by the single-instruction path, with debug exceptions. */
static void step(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;
	enum exec result;

	if (vm->live)
		live_forget_miss(vm->live);
	if (vm->debugger && stop_for_debugger(vm))
		return;
	if (UNLIKELY(v->dr[7] & DR7_ENABLED) && meets_breakpoint(v)) {
		conclude(vm, EXEC_FAULT);
		return;
	}
	v->rflags &= ~FLAG_RF;
	v->trap = !!(v->rflags & FLAG_TF);
	observe_begin(v);
	result = interp_step(v);
	observe_end(v);
	if (vm->counted && result != EXEC_FAULT && result != EXEC_AGAIN)
		v->budget--;
	conclude(vm, trap_after(vm, result));
}

static void run_live(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;
	bool fault;

	void *code = v->careful ? live_find_careful(v, &fault) : live_find(v, &fault);

	/* binding a unit of a cache may have dropped others, whose landings are not to be returned to */
	live_forget_predictions(v);
	v->careful = false;

	if (fault) {
		conclude(vm, EXEC_FAULT);
		return;
	}
	if (!code) {
		step(vm);
		return;
	}
	vcpu_fpu_get(v);
	begin_counting(v);
	v->rflags &= ~FLAG_RF;
	int why = live_enter(code);

	if (vm->counted && why != LIVE_EXIT_EXEC && why != LIVE_EXIT_DISPATCH && why != LIVE_EXIT_CAREFUL)
		live_count_in(v, NULL, 0);
	switch ((enum live_exit)why) {
	case LIVE_EXIT_DISPATCH:
		break;
	case LIVE_EXIT_CAREFUL:
		v->careful = true;
		break;
	case LIVE_EXIT_LINK:
		vm->stats.exits_link++;
		live_take_link(v, (u32)v->exit_info);
		break;
	case LIVE_EXIT_POLL:
		vm->stats.exits_poll++;
		break;
	case LIVE_EXIT_BUDGET:
		/* the next event lies within the block ahead */
		while (vm->exit == EXIT_RUNNING && v->budget > 0 && !v->poll)
			step(vm);
		break;
	case LIVE_EXIT_EXEC:
		conclude(vm, (enum exec)v->live_exec);
		break;
	}
}

void loop_run(struct vm *vm)
{
	struct vcpu *v = vm->vcpu;
	bool live = vm->live != NULL;

	vcpu_update_view(v);
	look_at_events(vm);
	if (vm->debugger)
		debugger_stop(vm, DEBUGGER_STOP_ASKED);
	while (vm->exit == EXIT_RUNNING) {
		if (v->poll || (vm->counted && v->budget <= 0))
			service(vm);
		if (!live || (v->shadow && (v->poll || vm->counted)) || observe_wanted(v) ||
		    (vm->debugger && debugger_single_steps(vm->debugger, v->rip)))
			step(vm);
		else
			run_live(vm);
	}
	vcpu_fpu_put(v);
	vm->console->flush(vm->console);
}
