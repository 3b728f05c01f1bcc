/* Phase 2 of lifting: the code goes into a code cache. Independent of LLVM. */
#ifndef AVANT_AOT_LIFT_PLACE_H
#define AVANT_AOT_LIFT_PLACE_H

#include "lift.h"
#include "translate/translate.h"

/*
 * Emits the unit that t is set up for by translate_begin() from `lifted`, which was compiled from t->scan.
 * t->e.overflow says that something did not fit.
 */
void lift_place(struct translation *t, struct unit *unit, const struct lifted *lifted);

#endif
