/* Guest and host instructions of a unit, as text, and which come from which. */
#ifndef AVANT_TOOLS_CACHE_DISASM_H
#define AVANT_TOOLS_CACHE_DISASM_H

#include "tcache.h"
#include "util/types.h"

#define DISASM_NO_GUEST (~0u)

struct disasm_line {
	u32 offset; /* from the unit's code, or from its pc */
	u32 length;
	u32 segment;   /* host: the segment it lies in */
	char text[96]; /* Intel syntax; bytes that are no instruction as .byte */
	char note[96]; /* what is known of it besides, or "" */
};

/* A piece of host code that comes from the guest instruction at `guest` (and from those after it that have none). */
struct disasm_segment {
	u32 code;   /* where it begins, from the unit's code */
	u32 guest;  /* offset from the unit's pc; DISASM_NO_GUEST: belongs to no instruction */
	bool again; /* an earlier segment comes from the same instruction */
};

struct disasm {
	struct disasm_line *guest, *host;
	struct disasm_segment *segments;
	u32 guest_count, host_count, segment_count;
};

/* Returns 0, or -1 without memory. disasm_free() is due in both cases. A unit without guest bytes has no guest lines.
 */
int disasm_unit(struct tcache *cache, const struct tcache_unit_view *view, struct disasm *disasm);
void disasm_free(struct disasm *disasm);

#endif
