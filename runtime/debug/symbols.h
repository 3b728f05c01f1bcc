/* Names for guest addresses, from a file as `nm` writes it: System.map, or /proc/kallsyms read as root in the guest. */
#ifndef AVANT_DEBUG_SYMBOLS_H
#define AVANT_DEBUG_SYMBOLS_H

#include "util/types.h"

struct err;
struct symbols;

/*
 * Reads the code symbols (types t, T, w, W) of `path`. Lines that do not look like symbols are skipped, but there must
 * be some. NULL with a message in err.
 */
struct symbols *symbols_load(const char *path, struct err *err);
void symbols_free(struct symbols *symbols);

/* The last symbol at or before `address`, at most 16 MiB away, and the distance to it; NULL if there is none. */
const char *symbols_find(const struct symbols *symbols, u64 address, u64 *offset);

#endif
