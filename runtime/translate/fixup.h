/*
 * Moving relocatable code: what translate_unit() made for one address of the guest's page becomes, by these fix-ups,
 * what it would have made for another one, byte for byte.
 */
#ifndef AVANT_TRANSLATE_FIXUP_H
#define AVANT_TRANSLATE_FIXUP_H

#include "translate/store.h"
#include "x86/mode.h"

/*
 * Is code at this address translated in relocatable form? User code that is not linked to addresses below 4 GiB, as
 * programs with fixed ones are: it is position-independent, and the kernel puts it anywhere.
 */
static inline bool fixup_moves(u64 pc, u32 mode)
{
	return (mode & MODE_USER) && pc - BIT(32) < BIT(47) - BIT(32);
}

/* A unit's fix-ups, by kind: offsets from its first byte, all of the first kind, then all of the second … */
struct fixup_list {
	const u32 *at;
	u16 count[FIXUP_KINDS];
};

struct fixup_move {
	u64 pages;      /* bytes from the address that it was made for to the new one: a multiple of the page size */
	u32 first_link; /* added to the numbers of links */
	u32 insns;      /* added to the addresses of instruction records */
};

/* Moves `code`, which has been copied already. */
void fixup_apply(u8 *code, const struct fixup_list *list, const struct fixup_move *move);

/* Gives a jump to another page its number. */
void fixup_goal(u8 *code, u32 number_at, u32 entry_at, u32 number);

/*
 * Brings what a store has noted for a unit in the order of a list: `at` has room for all. Returns false if there are
 * more of one kind than can be counted.
 */
bool fixup_sort(const struct store *store, const struct unit *unit, u32 *at, u16 count[FIXUP_KINDS]);

#endif
