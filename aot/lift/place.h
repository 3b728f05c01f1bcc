/* Phase 2 of lifting: the code goes into a code cache. Independent of LLVM. */
#ifndef AVANT_AOT_LIFT_PLACE_H
#define AVANT_AOT_LIFT_PLACE_H

#include "lift.h"
#include "translate/translate.h"

struct lift_parts {
	struct translate_parts parts; /* first */
	const struct lifted *lifted;
	u8 *jump[SCAN_ROOM]; /* displacements of the jumps into lifted code, by item */
};

/*
 * Sets up what translate_unit_with() takes to make a unit of copied and lifted code. `lifted` was compiled from the
 * scan that will be translated; it and `parts` must outlive that call. partial: items of a basic block may be lifted
 * without the rest of it (tests).
 */
void lift_parts_init(struct lift_parts *parts, const struct lifted *lifted, bool partial);

#endif
