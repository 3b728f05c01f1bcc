/* Port 0xf4: a write of n ends the run with status 2n + 1. For test guests, only with --debug-exit. */
#ifndef AVANT_DEV_DEBUG_EXIT_H
#define AVANT_DEV_DEBUG_EXIT_H

struct vm;

/* Adds the port; it has no state of its own. */
void debug_exit_add(struct vm *vm);

#endif
