/*
 * What recordings hold, by place: which code needs no scan any more, and which pages have been run. Made when all
 * recordings are in the plan, and right as long as none is added.
 */
#ifndef AVANT_AOT_RECORDED_H
#define AVANT_AOT_RECORDED_H

#include "plan.h"

struct recorded;

/* NULL: out of memory, with a message in err. */
struct recorded *recorded_create(const struct plan *plan, struct err *err);
void recorded_destroy(struct recorded *recorded);

/*
 * Was a unit executed that begins here and is what the guest's bytes say, of which `length` are there? `page` and `pc`
 * as in struct want; the mode fits if it agrees in what matters to the unit.
 */
bool recorded_unit(const struct recorded *recorded, const u64 page[2], u64 pc, u32 mode, const u8 *bytes, u64 length);

/* Was anything executed in the page with this hash? */
bool recorded_page(const struct recorded *recorded, const u64 page[2]);

/* Are there pages at all: code that may be anywhere? */
bool recorded_has_pages(const struct recorded *recorded);

#endif
