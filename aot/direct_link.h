/*
 * Links of a cache's units that need no cell. A cell is memory that a jump waits for, and code that runs seldom waits
 * for it as long as for the code itself. The price: the runtime binds a unit together with those that it jumps straight
 * into (aot_bind()), or copies it, so these should be what is most likely there as well.
 */
#ifndef AVANT_AOT_DIRECT_LINK_H
#define AVANT_AOT_DIRECT_LINK_H

#include "translate/store.h"

/* Makes link n of an offline store a jump, or call, straight to this unit's code. */
void direct_link_make(struct store *store, u32 n, const struct unit *to);

/* Lets it go through its cell. */
void direct_link_undo(struct store *store, u32 n);

/*
 * Makes all links direct that may be: where no other unit begins at the target, and that one fits wherever the unit
 * that jumps does, as far as `fits` knows: it gets the numbers of both. -1: out of memory.
 */
int direct_link_all(struct store *store, bool (*fits)(const void *opaque, u32 from, u32 to), const void *opaque);

#endif
