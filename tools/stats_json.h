/* The --stats file: what a run came to, as one JSON object. */
#ifndef AVANT_TOOLS_STATS_JSON_H
#define AVANT_TOOLS_STATS_JSON_H

#include "util/err.h"
#include "util/types.h"

struct vm;

struct run_times {
	u64 wall_ns; /* since the command was started */
	u64 cpu_ns;  /* of the whole process */
	u64 mark_ns; /* from start to the first appearance of --mark's text; 0: it never appeared */
};

/* Can `path` be written at the end of the run? Returns 0, or -1 with a message in err. */
int stats_json_check(const char *path, struct err *err);

/*
 * Writes the object to a file of another name and moves it to `path`, so that readers see all or nothing. What is not
 * a regular file (/dev/stderr, a pipe) is written directly. Returns 0, or -1 with a message in err.
 */
int stats_json_write(const char *path, const struct vm *vm, const struct run_times *times, struct err *err);

#endif
