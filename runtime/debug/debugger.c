#include "debug/debugger.h"

#include <stdlib.h>

#include "debug/gdb_server.h"
#include "dev/console.h"
#include "dev/tsc_frequency.h"
#include "live/live.h"
#include "vm.h"

int debugger_create(struct vm *vm, struct debugger **result, struct err *err)
{
	struct debugger *d;

	*result = NULL;
	if (!vm->config.gdb)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, "out of memory");
	d->server = gdb_server_create(vm, d, vm->config.gdb, err);
	if (!d->server) {
		free(d);
		return -1;
	}
	if (vm->live)
		vm->live->store.exact_flags =
			true; /* the flags that are shown are the guest's, wherever it is stopped */
	*result = d;
	return 0;
}

void debugger_destroy(struct vm *vm)
{
	struct debugger *d = vm->debugger;

	if (!d)
		return;
	gdb_server_destroy(d->server);
	free(d);
	vm->debugger = NULL;
}

int debugger_add_breakpoint(struct debugger *d, u64 address)
{
	if (debugger_has_breakpoint(d, address))
		return 0;
	if (d->count == DEBUGGER_BREAKPOINTS)
		return -1;
	d->breakpoint[d->count++] = address;
	return 0;
}

void debugger_remove_breakpoint(struct debugger *d, u64 address)
{
	for (unsigned i = 0; i < d->count; i++) {
		if (d->breakpoint[i] == address) {
			d->breakpoint[i] = d->breakpoint[--d->count];
			return;
		}
	}
}

static bool is_clean(const struct debugger *d, u64 page)
{
	for (unsigned i = 0; i < d->clean_count; i++)
		if (d->clean[i] == page)
			return true;
	return false;
}

/* Forgets translations if there may be some of a page that has a breakpoint. */
static void forget_translations(struct vm *vm, struct debugger *d)
{
	bool clean = true;

	for (unsigned i = 0; i < d->count; i++)
		clean = clean && is_clean(d, PAGE_BASE(d->breakpoint[i]));
	if (!clean && vm->live)
		live_flush(vm->live);
	d->clean_count = d->count;
	for (unsigned i = 0; i < d->count; i++)
		d->clean[i] = PAGE_BASE(d->breakpoint[i]);
}

void debugger_resume(struct vm *vm, bool step)
{
	struct debugger *d = vm->debugger;
	struct vcpu *v = vm->vcpu;

	d->stepping = step;
	d->stepped = false;
	d->resumed_rip = v->rip;
	d->resumed_icount = v->icount;
	/* Nothing is translated while stepping: gdb may take all breakpoints out for one step and put them back. */
	if (!step)
		forget_translations(vm, d);
	/* gdb may have written to any register */
	if (vm->live)
		live_check_mode(v);
	vcpu_update_view(v);
	vcpu_notify(v);
}

void debugger_stop(struct vm *vm, enum debugger_stop why)
{
	u64 stopped = host_tsc();

	if (vm->exit != EXIT_RUNNING)
		return;
	vm->console->flush(vm->console);
	gdb_server_stop(vm->debugger->server, why);
	clock_leave_out(&vm->clock, host_tsc() - stopped);
}

void debugger_attend(struct vm *vm)
{
	__atomic_store_n(&vm->debugger->attention, 0, __ATOMIC_SEQ_CST);
	if (vm->exit == EXIT_RUNNING && gdb_server_wants_stop(vm->debugger->server))
		debugger_stop(vm, DEBUGGER_STOP_ASKED);
}
