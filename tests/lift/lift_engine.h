/* An engine for tests: every unit is lifted when it is first executed (slow: LLVM takes 0.3 ms an instruction). */
#ifndef AVANT_TEST_LIFT_ENGINE_H
#define AVANT_TEST_LIFT_ENGINE_H

#include "translate/translate.h"

/* Lift every instruction that can be, not just loops. */
extern bool lift_engine_all;

/* For live.lift. Counts what it does; see lift_engine_report(). */
const struct translate_parts *lift_engine(const struct scan *scan, const struct store *store, u32 mode);
/* Makes it that of the instruction cases (tests/insn/machine.h). */
void lift_engine_install(void);
/* Units lifted, and why others were not, to stderr. */
void lift_engine_report(void);

#endif
