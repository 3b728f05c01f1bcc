#include "auto_run.h"

#include "boot/file.h"
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Fewer new units than this would not be felt at the next launch. */
#define WORTH_TRANSLATING 500

static int find_guest(struct auto_guest *guest, const struct vm_config *config, struct err *err)
{
	u64 size;
	int fd = file_open(config->kernel_path, "kernel", &size, err), result = -1;
	void *kernel;

	if (fd < 0)
		return -1;
	kernel = malloc(size + 1);
	if (!kernel)
		err_set(err, "not enough memory to read '%s'", config->kernel_path);
	else if (file_read(fd, kernel, size, config->kernel_path, "kernel", err) == 0)
		result = auto_guest_find(guest, kernel, size, cpu_model_name(config->cpu), err);
	free(kernel);
	close(fd);
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
	if (made < WORTH_TRANSLATING && vm->stats.aot_units) {
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
