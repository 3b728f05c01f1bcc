/* Tables of units that may be anywhere, templates and modules', as they are in a cache: those of all units in a row. */
#ifndef AVANT_AOT_UNIT_TABLES_H
#define AVANT_AOT_UNIT_TABLES_H

#include <tcache.h>

#include "plan.h"
#include "translate/store.h"

/* Appends them to the chunk that has been begun. `wants`: by unit of the store; unit 0 is none. */
void unit_tables_write_pcs(const struct store *store, struct tcache_writer *writer);
void unit_tables_write_entries(const struct store *store, struct tcache_writer *writer);
void unit_tables_write_guest(const struct store *store, const struct want *const *wants, struct tcache_writer *writer);
/* Bytes that the last one appends. */
u64 unit_tables_guest_size(const struct store *store, const struct want *const *wants);

#endif
