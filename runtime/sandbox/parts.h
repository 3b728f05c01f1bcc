/* What sandbox_enter() consists of. */
#ifndef AVANT_SANDBOX_PARTS_H
#define AVANT_SANDBOX_PARTS_H

#include "sandbox/sandbox.h"

/* Capabilities, new privileges and paths, of all threads (rights.c). 0, or -1 with a message in err. */
int sandbox_give_up_rights(const struct sandbox_config *config, struct err *err);

/* The signal that a forbidden call raises becomes a message (forbidden.c). 0, or -1 with a message in err. */
int sandbox_catch_forbidden(const struct sandbox_config *config, struct err *err);

#endif
