#include "dev/debug_exit.h"

#include "dev/bus.h"
#include "dev/platform.h"
#include "vm.h"

static void port_write(void *device, u64 offset, unsigned size, u64 value)
{
	(void)offset;
	(void)size;
	vm_stop(device, EXIT_DEBUG, (int)(2 * (u32)value + 1));
}

void debug_exit_add(struct vm *vm)
{
	static const struct bus_ops ops = {.write = port_write};

	bus_add(&vm->ports, PORT_DEBUG_EXIT, 4, &ops, vm, "debug exit");
}
