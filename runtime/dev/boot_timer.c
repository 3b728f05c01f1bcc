#include "dev/boot_timer.h"

#include "dev/bus.h"
#include "dev/platform.h"
#include "vm.h"

#include <stdlib.h>

struct boot_timer {
	struct vm *vm;
	u64 mark_ns[BOOT_MARKS];
};

static void port_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct boot_timer *timer = device;
	u64 *mark = &timer->mark_ns[value & 0xff];

	(void)offset;
	(void)size;
	if (*mark == CLOCK_NEVER)
		*mark = clock_ns(&timer->vm->clock);
}

struct boot_timer *boot_timer_create(struct vm *vm)
{
	static const struct bus_ops ops = {.write = port_write, .widest = 1};
	struct boot_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return NULL;
	timer->vm = vm;
	for (unsigned i = 0; i < BOOT_MARKS; i++)
		timer->mark_ns[i] = CLOCK_NEVER;
	bus_add(&vm->ports, PORT_BOOT_TIMER, 1, &ops, timer, "boot timer");
	return timer;
}

void boot_timer_destroy(struct boot_timer *timer)
{
	free(timer);
}

u64 boot_timer_mark(const struct boot_timer *timer, u8 mark)
{
	return timer->mark_ns[mark];
}
