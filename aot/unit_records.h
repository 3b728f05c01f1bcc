/* What a cache says of a unit, from the tables of the store that it was translated into. */
#ifndef AVANT_AOT_UNIT_RECORDS_H
#define AVANT_AOT_UNIT_RECORDS_H

#include <tcache_disk.h>

#include "translate/store.h"

/* Element i (from the table's beginning) of each table; the unit is the one that it belongs to. */
struct tcache_pc unit_pc_record(const struct store *store, const struct unit *unit, u32 i);
struct tcache_entry unit_entry_record(const struct store *store, const struct unit *unit, u32 i);
struct tcache_link unit_link_record(const struct store *store, const struct unit *unit, u32 i);
struct tcache_insn unit_insn_record(const struct store *store, u32 i);
/* The same of templates. */
struct tcache_template_link template_link_record(const struct store *store, const struct unit *unit, u32 i);
struct tcache_goal template_goal_record(const struct store *store, u32 i);
/* Of a kernel module's unit, its i-th fix-up: those that the translator has noted, its jumps, its landings. */
struct tcache_module_fixup module_fixup_record(const struct store *store, const struct unit *unit, u32 i);

#endif
