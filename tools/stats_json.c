#include "stats_json.h"

#include "dev/boot_timer.h"
#include "translate/store.h"
#include "virtio/devices.h"
#include "vm.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *exit_reason_name(enum exit_reason reason)
{
	static const char *const names[] = {
		[EXIT_RUNNING] = "running",  [EXIT_POWER_OFF] = "power_off",
		[EXIT_RESET] = "reset",      [EXIT_TRIPLE_FAULT] = "triple_fault",
		[EXIT_DEBUG] = "debug_exit", [EXIT_LIMIT] = "limit",
		[EXIT_USER] = "user",        [EXIT_ERROR] = "error",
	};

	return (size_t)reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "unknown";
}

/* Milliseconds with three digits after the point: more would be noise. */
static json_t *json_ms(u64 ns)
{
	return json_real((double)(ns / 1000) / 1000.0);
}

/* {"1": 12.5, …}: when the guest wrote which byte to the boot timer's port. */
static json_t *boot_marks(const struct vm *vm)
{
	json_t *marks = json_object();
	char name[8];

	for (unsigned mark = 0; vm->boot_timer && mark < BOOT_MARKS; mark++) {
		u64 ns = boot_timer_mark(vm->boot_timer, (u8)mark);

		if (ns == CLOCK_NEVER)
			continue;
		snprintf(name, sizeof(name), "%u", mark);
		json_object_set_new(marks, name, json_ms(ns));
	}
	return marks;
}

/* {"aot_lifted": {"kernel": N, "user": N}, …}: executed instructions by who made the code that executed them. */
static json_t *guest_instructions(const struct vm *vm)
{
	static const char *const names[ORIGIN_COUNT] = {
		[ORIGIN_AOT_LIFTED] = "aot_lifted",
		[ORIGIN_AOT_COPIED] = "aot_copied",
		[ORIGIN_LIVE] = "live",
		[ORIGIN_INTERP] = "interp",
	};
	json_t *object = json_object();

	for (unsigned i = 0; i < ORIGIN_COUNT; i++) {
		json_t *pair = json_object();

		json_object_set_new(pair, "kernel", json_integer((json_int_t)vm->vcpu->tally[i][0]));
		json_object_set_new(pair, "user", json_integer((json_int_t)vm->vcpu->tally[i][1]));
		json_object_set_new(object, names[i], pair);
	}
	json_object_set_new(object, "total", json_integer((json_int_t)vm->vcpu->icount));
	return object;
}

/* [{"device": "virtio-blk", "slot": 1, "kicks": N, …}, …]: what each virtio device has done. */
static json_t *virtio_devices(const struct vm *vm)
{
	json_t *list = json_array();
	struct virtio_figures figures;

	for (unsigned n = 0; virtio_figures_at(vm, n, &figures); n++) {
		json_t *device = json_object();

		json_object_set_new(device, "device", json_string(figures.name));
		json_object_set_new(device, "slot", json_integer(figures.slot));
		json_object_set_new(device, "kicks", json_integer((json_int_t)figures.kicks));
		json_object_set_new(device, "interrupts", json_integer((json_int_t)figures.interrupts));
		json_object_set_new(device, "requests", json_integer((json_int_t)figures.chains));
		json_object_set_new(device, "bytes_from_guest", json_integer((json_int_t)figures.bytes_read));
		json_object_set_new(device, "bytes_to_guest", json_integer((json_int_t)figures.bytes_written));
		json_array_append_new(list, device);
	}
	return list;
}

static json_t *stats_object(const struct vm *vm, const struct run_times *times)
{
	json_t *object = json_object();

	json_object_set_new(object, "exit_reason", json_string(exit_reason_name(vm->exit)));
	json_object_set_new(object, "exit_code", json_integer(vm->exit_code));
	if (vm->exit_message[0])
		json_object_set_new(object, "exit_message", json_string(vm->exit_message));
	json_object_set_new(object, "wall_ms", json_ms(times->wall_ns));
	json_object_set_new(object, "cpu_ms", json_ms(times->cpu_ns));
	json_object_set_new(object, "live_translate_cpu_ms", json_ms(vm->stats.translate_ns));
	json_object_set_new(object, "mark_ms", times->mark_ns ? json_ms(times->mark_ns) : json_null());
	json_object_set_new(object, "boot_marks", boot_marks(vm));
	json_object_set_new(object, "virtio", virtio_devices(vm));
	if (vm->config.count)
		json_object_set_new(object, "guest_instructions", guest_instructions(vm));
#define STAT(field) json_object_set_new(object, #field, json_integer((json_int_t)vm->stats.field));
#include "stats.def"
#undef STAT
	return object;
}

char *stats_json_text(const struct vm *vm, const struct run_times *times)
{
	/* by default it is read from a file, which may not be opened any more; these keys are nobody's attack */
	json_object_seed(1);

	json_t *object = stats_object(vm, times);
	char *json = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(12)), *text = NULL;

	json_decref(object);
	if (json && asprintf(&text, "%s\n", json) < 0)
		text = NULL;
	free(json);
	return text;
}
