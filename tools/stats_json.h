/* The --stats file: what a run came to, as one JSON object. */
#ifndef AVANT_TOOLS_STATS_JSON_H
#define AVANT_TOOLS_STATS_JSON_H

#include "util/types.h"

struct vm;

struct run_times {
	u64 wall_ns; /* since the command was started */
	u64 cpu_ns;  /* of the whole process */
	u64 mark_ns; /* from start to the first appearance of --mark's text; 0: it never appeared */
};

/* The object as text, which the caller frees; NULL: out of memory. */
char *stats_json_text(const struct vm *vm, const struct run_times *times);

#endif
