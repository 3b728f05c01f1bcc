/* A guest without a kernel that runs cases: 64-bit mode, the regions mapped for user and kernel alike. */
#ifndef AVANT_TEST_INSN_MACHINE_H
#define AVANT_TEST_INSN_MACHINE_H

#include "case.h"

struct variant {
	const char *name;
	bool live, table, exact, counted, lifted;
};

#define VARIANTS 11u
extern const struct variant variants[VARIANTS];

struct translate_parts;
struct scan;
struct store;
/* live.lift for the variants that are lifted; without it they are left out, with it the other live ones are. */
extern const struct translate_parts *(*machine_lift)(const struct scan *scan, const struct store *store, u32 mode);

/* One machine at a time: the vCPU has a fixed address. Exits on failure. */
void machine_create(void);
void machine_destroy(void);

/* To be called once within each test (cmocka sets signal handlers before it): takes the signals. */
void machine_take_signals(void);

/* How the following cases run. Drops all translations. */
void machine_select(const struct variant *variant);

/*
 * Runs a case at CPL 0 or 3. `again`: what is left of the case's last run (translations of its code, TLB entries) is
 * used.
 */
void machine_run(const struct insn_case *c, unsigned cpl, bool again, struct outcome *out);

#endif
