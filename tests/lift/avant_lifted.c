/*
 * The avant command with an engine that lifts every unit, linked with --wrap=live_create. A torture test of the lifter,
 * and a way to measure what it does: slow to start, but what it then runs is what the build step would have made.
 */
#include <stdlib.h>

#include "lift_engine.h"
#include "live/live.h"

struct live *__real_live_create(struct vm *vm, struct err *err);
struct live *__wrap_live_create(struct vm *vm, struct err *err);

struct live *__wrap_live_create(struct vm *vm, struct err *err)
{
	struct live *live = __real_live_create(vm, err);

	if (live) {
		live->lift = lift_engine;
		atexit(lift_engine_report);
	}
	return live;
}
