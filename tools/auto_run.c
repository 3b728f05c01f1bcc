#include "auto_run.h"

#include "boot/blob.h"
#include "cpu/cpu.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Fewer new units than this would not be felt at the next launch. */
#define WORTH_TRANSLATING 500

static int find_guest_of(struct auto_guest *guest, const struct blob *kernel, const struct cpu_model *cpu,
			 struct err *err)
{
	const u8 *data = blob_map(kernel, err);
	int result;

	if (!data)
		return -1;
	result = auto_guest_find(guest, data, kernel->size, cpu_model_name(cpu), err);
	if (kernel->size)
		munmap((void *)data, kernel->size);
	return result;
}

static int find_guest(struct auto_guest *guest, const struct vm_config *config, struct err *err)
{
	struct blob file;
	int result;

	if (config->kernel)
		return find_guest_of(guest, config->kernel, config->cpu, err);
	if (blob_open(&file, config->kernel_path, "kernel", err) < 0)
		return -1;
	result = find_guest_of(guest, &file, config->cpu, err);
	blob_release(&file);
	return result;
}

int auto_run_begin(struct auto_run *automatic, struct vm_config *config, struct err *err)
{
	automatic->builder.pipe = -1;
	if (find_guest(&automatic->guest, config, err) < 0 ||
	    auto_builder_start(&automatic->builder, &automatic->guest, err) < 0)
		return -1;
	automatic->on = true;
	automatic->cache = auto_guest_cache(&automatic->guest);
	automatic->recording = auto_guest_recording(&automatic->guest);
	config->record_path = automatic->recording.text;
	if (auto_guest_has_cache(&automatic->guest))
		config->caches[config->cache_count++] = automatic->cache.text;
	else
		fprintf(stderr, "avant run: no cache for this guest yet: it is made from this run\n");
	return 0;
}

void auto_run_end(struct auto_run *automatic, struct vm *vm, int (*keep)(struct vm *vm, void *opaque, struct err *err),
		  void *opaque)
{
	u64 made = vm->stats.units_translated;
	struct err err = ERR_INIT;

	if (!automatic->on)
		return;
	if (made < WORTH_TRANSLATING && vm->stats.aot_units + vm->stats.aot_templates) {
		fprintf(stderr, "avant run: the cache has served all but %llu units\n", (unsigned long long)made);
	} else if (keep(vm, opaque, &err) < 0) {
		warn("what was new in this run is not kept: %s", err.text);
	} else {
		auto_builder_go(&automatic->builder);
		fprintf(stderr, "avant run: %llu units were new and are being translated for the next launch\n",
			(unsigned long long)made);
	}
	auto_builder_release(&automatic->builder);
}
