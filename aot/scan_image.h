/* From the pre-scan to the plan: units that an image's code would be translated as. */
#ifndef AVANT_AOT_SCAN_IMAGE_H
#define AVANT_AOT_SCAN_IMAGE_H

#include "discover/discover.h"
#include "plan.h"
#include "recorded.h"

/* Mode words of Linux once it has set up the processor: CR0.MP, CR4.OSFXSR, OSXSAVE and SMAP, x87, SSE and AVX. */
#define MODE_LINUX_KERNEL (MODE_MP | MODE_OSFXSR | MODE_OSXSAVE | MODE_SMAP | 7u << MODE_XCR0_SHIFT)
#define MODE_LINUX_USER   (MODE_LINUX_KERNEL | MODE_USER)

/* As in struct want. */
struct scan_ranks {
	u16 image;    /* of all code … */
	u16 run_page; /* … but that of pages in which something was executed in a recording */
};

/*
 * Calls `add` for each disjoint unit of the image's code, in the order of units_next(), until it returns another number
 * than 0, which is the result then. -1 with a message in err: out of memory.
 */
int scan_disjoint(const struct plan *plan, const struct image *image, int (*add)(void *opaque, const struct scan *scan),
		  void *opaque, struct err *err);

/*
 * Adds the units of a kernel (CPL 0) or a program (CPL 3); of what may be loaded anywhere, templates. Where recordings
 * know a unit, none is added. Returns 0, or -1 with a message in err.
 */
int plan_add_image(struct plan *plan, const struct image *image, const struct recorded *recorded,
		   struct scan_ranks ranks, struct err *err);

#endif
