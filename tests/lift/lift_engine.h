/* An engine for tests: every unit is lifted when it is first executed (slow: LLVM takes 0.3 ms an instruction). */
#ifndef AVANT_TEST_LIFT_ENGINE_H
#define AVANT_TEST_LIFT_ENGINE_H

#include <stdbool.h>

struct translation;
struct unit;

/* For live.lift. Counts what it does; see lift_engine_report(). */
bool lift_engine(struct translation *t, struct unit *unit);
/* Makes it that of the instruction cases (tests/insn/machine.h). */
void lift_engine_install(void);
/* Units lifted, and why others were not, to stderr. */
void lift_engine_report(void);

#endif
