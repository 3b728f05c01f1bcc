/*
 * /tmp/perf-PID.map: tells perf(1) which guest code a host address was generated from. One line for each translation:
 * start, size (both hexadecimal), name.
 */
#ifndef AVANT_DEBUG_PERF_MAP_H
#define AVANT_DEBUG_PERF_MAP_H

#include "util/types.h"

struct vm;
struct err;
struct perf_map;

/* From vm->config: perf_map, symbols_path. *map is NULL if no map is wanted. 0, or -1 with a message in err. */
int perf_map_open(const struct vm *vm, struct perf_map **map, struct err *err);
void perf_map_close(struct perf_map *map);

/*
 * `size` bytes at host address `host`, in the executable view, were generated from guest code at `pc`. Not from where
 * the guest's vector state is loaded. Does nothing if no map is wanted.
 */
void perf_map_add(struct vm *vm, u64 host, u32 size, u64 pc);

#endif
