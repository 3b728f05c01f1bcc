/*
 * Exceptions that guest instructions raise on the host processor: division errors, unmasked floating-point exceptions,
 * misaligned vector operands, and the guard page of a prediction stack. The host's trap number is the guest's vector.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "interp/interp.h"
#include "live/live.h"
#include "translate/translate.h"
#include "vm.h"

void live_leave(void);

/* ucontext's register numbers by guest register; RSP's value is in host r11. */
static const int context_register[GPR_COUNT] = {
	[RAX] = REG_RAX, [RCX] = REG_RCX, [RDX] = REG_RDX, [RBX] = REG_RBX, [RSP] = REG_R11,
	[RBP] = REG_RBP, [RSI] = REG_RSI, [RDI] = REG_RDI, [R8] = REG_R8,   [R9] = REG_R9,
	[R12] = REG_R12, [R13] = REG_R13, [R14] = REG_R14, [R15] = REG_R15,
};

static struct vcpu *the_vcpu(void)
{
	return (struct vcpu *)VCPU_ADDRESS;
}

/* Which exception the guest is owed, or -1 if this is none of its doing. */
static int guest_vector(const greg_t *regs)
{
	switch (regs[REG_TRAPNO]) {
	case VEC_DE:
	case VEC_UD:
	case VEC_GP:
	case VEC_MF:
	case VEC_XM:
		return (int)regs[REG_TRAPNO];
	default:
		return -1;
	}
}

static void record_fault(struct vcpu *v, int vector)
{
	v->fault = (struct fault){.vector = (u8)vector, .has_error = vector == VEC_GP};
}

/* Generated code: takes the guest's registers from the context and leaves with EXEC_FAULT. */
static bool fault_in_unit(struct vcpu *v, greg_t *regs, int vector)
{
	struct live *live = v->vm->live;
	u64 pc = (u64)regs[REG_RIP];
	const struct unit *unit;
	const struct pc_entry *entry;

	if (!live || pc < LIVE_CODE_ADDRESS || pc >= AOT_END ||
	    !live_find_pc(live, (u32)(pc - LIVE_CODE_ADDRESS), &unit, &entry) || !entry)
		return false;
	for (unsigned i = 0; i < GPR_COUNT; i++) {
		if (i != R10 && i != R11 && !(entry->home & BIT(i)))
			v->gpr[i] = (u64)regs[context_register[i]];
	}
	v->arith = entry->home & HOME_FLAGS ? live_saved_flags(v) : (u64)regs[REG_EFL] & FLAGS_ARITH;
	v->rip = unit->pc + entry->guest;
	if (live->store.counted)
		live_count_in(v, unit, entry->left);
	record_fault(v, vector);
	v->prediction_sp[v->cpl == 3] = (u64)regs[REG_RSP];
	v->live_exit = LIVE_EXIT_EXEC;
	v->live_exec = EXEC_FAULT;
	regs[REG_RIP] = (greg_t)live_leave;
	regs[REG_RSP] = (greg_t)v->host_sp;
	return true;
}

/* A prediction stack is nearly full: open the reserve; at the next safepoint it will be emptied. */
static bool open_reserve(struct vcpu *v, u64 address)
{
	for (unsigned user = 0; user < 2; user++) {
		u64 guard = PREDICTION_ADDRESS + user * PREDICTION_SIZE;

		if (address - guard >= PREDICTION_GUARD)
			continue;
		if (mprotect((void *)guard, PREDICTION_GUARD, PROT_READ | PROT_WRITE) < 0)
			return false;
		if (user)
			v->forget_user = true;
		else
			v->forget_kernel = true;
		v->predictions_full = true;
		vcpu_notify(v);
		return true;
	}
	return false;
}

void live_close_reserve(struct vcpu *v)
{
	for (unsigned user = 0; user < 2; user++) {
		live_reset_predictions(v, user);
		mprotect((void *)(PREDICTION_ADDRESS + user * PREDICTION_SIZE), PREDICTION_GUARD, PROT_NONE);
	}
	v->predictions_full = false;
}

/* Signals that faults come by, and what was to happen to them before: the terminal is put back by it. */
static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[ARRAY_SIZE(numbers)];

/* Not the guest's doing: as if there were no handler here. */
static void give_back(int number)
{
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (numbers[i] == number)
			sigaction(number, &before[i], NULL);
	}
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct vcpu *v = the_vcpu();
	int vector, saved = errno;

	/* sent by a process: the context tells of some earlier fault */
	if (info->si_code <= 0) {
		give_back(number);
		raise(number);
		return;
	}
	vector = guest_vector(regs);
	if (number == SIGSEGV && regs[REG_TRAPNO] == VEC_PF && open_reserve(v, (u64)info->si_addr)) {
		errno = saved;
		return;
	}
	if (vector >= 0 && v->vm->interp && interp_owns(v->vm->interp, (u64)regs[REG_RIP])) {
		record_fault(v, vector);
		regs[REG_RIP] = (greg_t)interp_thunk_fault;
		return;
	}
	if (vector >= 0 && fault_in_unit(v, regs, vector))
		return;
	give_back(number); /* our own fault: die by it, when it comes again */
}

int live_signals_init(struct vm *vm, struct err *err)
{
	stack_t stack = {.ss_size = 64 * 1024};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	stack.ss_sp = vm->signal_stack = malloc(stack.ss_size);
	if (!stack.ss_sp || sigaltstack(&stack, NULL) < 0)
		return err_set(err, "cannot set up a signal stack: %s", strerror(errno));
	sigemptyset(&action.sa_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (sigaction(numbers[i], &action, &before[i]) < 0)
			return err_set(err, "cannot install a signal handler: %s", strerror(errno));
	}
	return 0;
}
