/* What devices and helpers ask of the VM while the guest's vector registers are live: general registers only. */
#include "util/bytes.h"
#include "vm.h"

void vm_stop(struct vm *vm, enum exit_reason reason, int code)
{
	if (vm->exit != EXIT_RUNNING)
		return;
	vm->exit = reason;
	vm->exit_code = code;
	vcpu_notify(vm->vcpu);
}

void vm_stop_message(struct vm *vm, enum exit_reason reason, const char *message)
{
	u64 length = 0;

	if (vm->exit != EXIT_RUNNING)
		return;
	while (message[length] && length < sizeof(vm->exit_message) - 1)
		length++;
	bytes_copy(vm->exit_message, message, length);
	vm->exit_message[length] = 0;
	vm_stop(vm, reason, 0);
}

void vm_stop_error(struct vm *vm, const char *message)
{
	vm_stop_message(vm, EXIT_ERROR, message);
}

void vm_set_irq_line(struct vm *vm, bool asserted)
{
	vm->vcpu->irq_line = asserted;
	vcpu_update_poll(vm->vcpu);
}
