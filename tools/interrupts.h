/*
 * SIGINT, SIGTERM and SIGHUP of a command that works for a long time: they end it at once, or are noted first where it
 * can keep what it has done so far.
 */
#ifndef AVANT_TOOLS_INTERRUPTS_H
#define AVANT_TOOLS_INTERRUPTS_H

#include "util/types.h"

/* Handles them from now on: they end the process with STATUS_ERROR and a message with `name`, a string that stays. */
void interrupts_catch(const char *name);
/* While `note` is set, the first one is only noted; the second ends the process. */
void interrupts_note(bool note);
/* Has one been noted? */
bool interrupts_noted(void);

#endif
