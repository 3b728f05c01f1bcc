/* Runs cases natively and in every variant of the guest, and compares. */
#ifndef AVANT_TEST_INSN_CHECK_H
#define AVANT_TEST_INSN_CHECK_H

#include "case.h"

/* Makes case number `number`; false if there is none. */
typedef bool case_maker(void *opaque, u64 number, struct insn_case *c);

/* Checks cases first … first + count - 1 (or until there are no more). Returns how many of them failed. */
unsigned check_cases(case_maker *maker, void *opaque, u64 first, u64 count);

/* What has been checked, for the end. */
u64 check_ran(void);

#endif
