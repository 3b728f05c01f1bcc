/* From the pre-scan to the plan: all units that an image's code would be translated as. */
#ifndef AVANT_AOT_SCAN_IMAGE_H
#define AVANT_AOT_SCAN_IMAGE_H

#include "discover/discover.h"
#include "plan.h"

/* Mode words of Linux once it has set up the processor: CR0.MP, CR4.OSFXSR, OSXSAVE and SMAP, x87, SSE and AVX. */
#define MODE_LINUX_KERNEL (MODE_MP | MODE_OSFXSR | MODE_OSXSAVE | MODE_SMAP | 7u << MODE_XCR0_SHIFT)
#define MODE_LINUX_USER   (MODE_LINUX_KERNEL | MODE_USER)

/*
 * Adds the units of a kernel (CPL 0) or a program (CPL 3); of what may be loaded anywhere, templates. `rank` as in
 * plan_add(). Returns 0, or -1 with a message in err.
 */
int plan_add_image(struct plan *plan, const struct image *image, u16 rank, struct err *err);

#endif
