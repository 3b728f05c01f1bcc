/*
 * Which memory accesses will probably be to the page that they were to last time: streams through an array, small
 * tables, addresses that a loop does not change. A guess: it decides how an access is checked, not whether.
 */
#ifndef AVANT_TRANSLATE_LOCALITY_H
#define AVANT_TRANSLATE_LOCALITY_H

#include "translate/scan.h"

struct locality {
	u8 first[SCAN_ROOM], last[SCAN_ROOM]; /* the innermost loop around an item, or the whole unit */
	bool loop[SCAN_ROOM];
	u16 steps[SCAN_ROOM]; /* registers that the item moves by a small constant */
	u16 bytes[SCAN_ROOM]; /* registers that it leaves below 256 */
};

/* Looks at all items of the scan. */
void locality_find(struct locality *locality, const struct scan *scan);

/* Is an access of item i, off these registers (INSN_NO_REG for none), likely to find the page it found before? */
bool locality_stays(const struct locality *locality, const struct scan *scan, unsigned i, u8 base, u8 index);

#endif
