/* Which unit of a cache is a translation of what a guest address holds now. */
#ifndef AVANT_LIVE_AOT_INDEX_H
#define AVANT_LIVE_AOT_INDEX_H

#include "cpu/vcpu.h"
#include "util/types.h"

struct tcache_unit;
struct aot_index;

#define AOT_INDEX_NONE (~0u)

/* Of `count` units in the order of tcache_unit_compare(), which must stay where they are. NULL: out of memory. */
struct aot_index *aot_index_create(const struct tcache_unit *units, u32 count);
void aot_index_destroy(struct aot_index *index);

/*
 * A unit for v->rip, whose physical address is gpa, in this mode: its number, or AOT_INDEX_NONE. *next is the frame of
 * the following page if the unit's bytes reach into it, else NO_FRAME. *cursor, at first 0, makes the next call go on
 * behind what was found. Not while the guest's vector registers are loaded.
 */
u32 aot_index_find(struct aot_index *index, struct vcpu *v, u64 gpa, u32 mode, u32 *cursor, u64 *next);

/* The first unit that begins at pc or beyond; their count if there is none. */
u32 aot_index_first(const struct aot_index *index, u64 pc);

/* Is there any unit that begins at pc? */
bool aot_index_has(const struct aot_index *index, u64 pc);

#endif
