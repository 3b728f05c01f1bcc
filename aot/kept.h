/*
 * Translations of an older cache on their way into a new one: what is known of them besides their code, and their place
 * in a store.
 */
#ifndef AVANT_AOT_KEPT_H
#define AVANT_AOT_KEPT_H

#include <tcache.h>

#include "translate/store.h"

struct kept {
	u64 executions;
	const char *name; /* "" for none; of the cache, which must stay open */
	u32 name_offset;
	u16 flags; /* TCACHE_UNIT_*; 0: it was made now */
};

/* An instruction record as far as it is written again. */
static inline struct insn kept_insn(const struct tcache_insn *record)
{
	struct insn insn = {.length = record->length};

	__builtin_memcpy(insn.bytes, record->bytes, sizeof(record->bytes));
	return insn;
}

/* Nobody has seen it running: a training run that is known now would have counted it, or the older cache says so. */
static inline bool kept_is_cold(const struct kept *kept, bool counted)
{
	return !counted && (!kept->flags || kept->flags & TCACHE_UNIT_COLD);
}

/*
 * Adds a unit with its code, links, cells and all, at the offsets and numbers that it has in the cache: its code names
 * them. The store must have its instruction records already. Number of the unit, or UNIT_NONE: no room, or something is
 * taken already.
 */
u32 kept_add_unit(struct store *store, const struct tcache_unit_view *view);

/* The same for a template in a relocatable store, where only the numbers of instruction records must be the same. */
u32 kept_add_template(struct store *store, const struct tcache_template_view *view);

/* The same for code of a kernel module in a module store: nothing must stay where it is. */
u32 kept_add_module(struct store *store, const struct tcache_module_view *view);

#endif
