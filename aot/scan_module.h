/* From a kernel module to the plan: its units, each with the holes of its page. */
#ifndef AVANT_AOT_SCAN_MODULE_H
#define AVANT_AOT_SCAN_MODULE_H

#include "discover/module.h"
#include "plan.h"

/*
 * Adds the units of a module. What reaches over the end of a page, or has holes in other places than fields of
 * instructions, is left out. Returns 0, or -1 with a message in err.
 */
int plan_add_module_image(struct plan *plan, const struct module *module, u16 rank, struct err *err);

#endif
