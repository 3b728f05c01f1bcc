/* Instructions of 32-bit and 16-bit code, one at a time. */
#ifndef AVANT_INTERP_LEGACY_H
#define AVANT_INTERP_LEGACY_H

#include "cpu/vcpu.h"
#include "interp/thunk.h"

/* Executes it, as execute() in interp.c does with 64-bit code. */
enum exec legacy_execute(struct vcpu *v, const struct thunk *thunk);

#endif
