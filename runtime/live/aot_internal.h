/* What the files about caches in use (aot.h) share: aot.c opens them, aot_bind.c puts their units to use. */
#ifndef AVANT_LIVE_AOT_INTERNAL_H
#define AVANT_LIVE_AOT_INTERNAL_H

#include <tcache.h>

#include "live/aot.h"

/* What is kept of each of the cache's units. */
struct binding {
	u32 unit; /* number in the live tables that it has, or had; UNIT_NONE if none since these were emptied */
	bool bound;
	bool dirty; /* its cells have been written */
	u8 rebinds;
	bool rejected;
	u32 mark; /* of the last search that came by */
};

struct aot {
	struct tcache *file;
	const struct tcache_placement *place;
	const struct tcache_unit *units;
	const struct tcache_link *links;
	const u32 *by_code;
	struct aot_index *index;
	const struct tcache_pc *host_pcs; /* all; those of a unit are checked when it is bound */
	u32 *code_starts, *link_starts;   /* of the units' code and links, in the order of by_code, to search in */
	bool damage_said;                 /* a warning of it has been given */
	struct binding *bindings;
	u64 *cells;           /* private, where the code looks for them */
	struct insn *decoded; /* private, zeroed: length 0 means not decoded yet */
	u64 decoded_size;
	u32 unit_count, link_count, target_count;
	u32 mark;
	u32 code;                  /* offset of its code in the live engine's terms */
	u64 code_size, cells_size; /* bytes mapped */
	u8 id;
};

#endif
