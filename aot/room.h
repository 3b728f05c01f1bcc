/* Room for code that may be anywhere: is a unit that cannot be made too long, or is the store full? */
#ifndef AVANT_AOT_ROOM_H
#define AVANT_AOT_ROOM_H

#include <tcache.h>

#include "translate/scan.h"
#include "translate/store.h"

/* A table that the store does not have has a size of 0. */
static inline bool room_in_table(u32 count, u32 max, u32 more)
{
	return !max || (u64)count + more <= max;
}

/*
 * Is there room for any unit of TCACHE_MAX_TEMPLATE_CODE bytes, in so many bytes of code? No record is made for less
 * than a byte of code, or of an instruction more than once. Where there is not, a shorter unit may still fit.
 */
static inline bool room_for_unit(const struct store *store, u64 code_size)
{
	const u32 most = TCACHE_MAX_TEMPLATE_CODE;

	return store->used + most <= code_size && store->unit_count < store->bound_first &&
	       room_in_table(store->pc_count, store->pc_max, most) &&
	       room_in_table(store->entry_count, store->entry_max, most) &&
	       room_in_table(store->link_count, store->link_max, most) &&
	       room_in_table(store->landing_count, store->landing_max, most) &&
	       room_in_table(store->fixup_count, store->fixup_max, most) &&
	       room_in_table(store->goal_count, store->goal_max, most) &&
	       room_in_table(store->insn_count, store->insn_max, SCAN_ROOM);
}

#endif
