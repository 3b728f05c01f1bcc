/* What `avant run --cache auto` does before and after the run. */
#ifndef AVANT_TOOLS_AUTO_RUN_H
#define AVANT_TOOLS_AUTO_RUN_H

#include "auto_cache.h"
#include "vm.h"

struct auto_run {
	bool on;
	struct auto_guest guest;
	struct auto_path cache, recording;
	struct auto_builder builder;
};

/*
 * Adds the guest's cache to the configuration, if there is one, has the run recorded, and starts the process that may
 * translate it afterwards. The configuration refers to `automatic` from then on. -1 with a message in err.
 */
int auto_run_begin(struct auto_run *automatic, struct vm_config *config, struct err *err);

/*
 * The run is over: keeps what was new in it, by keep(), which has the recording written, and has it translated, and
 * says so. Does nothing unless it was begun.
 */
void auto_run_end(struct auto_run *automatic, struct vm *vm, int (*keep)(struct vm *vm, void *opaque, struct err *err),
		  void *opaque);

#endif
