/* Guest and host instructions of a unit, as text, and which come from which. */
#ifndef AVANT_TOOLS_CACHE_DISASM_H
#define AVANT_TOOLS_CACHE_DISASM_H

#include "tcache.h"
#include "util/types.h"

#define DISASM_NO_GUEST (~0u)

/* What a host instruction does to the flow of control, as far as it matters here. */
enum disasm_flow {
	DISASM_NEXT, /* goes on with the next one, perhaps */
	DISASM_CALL, /* calls what memory or a register says: the runtime */
	DISASM_JUMP, /* jumps to another place of the unit */
	DISASM_END,  /* leaves the unit */
};

struct disasm_line {
	u32 offset; /* from the unit's code, or from its pc */
	u32 length;
	u32 segment; /* host: the segment it lies in */
	enum disasm_flow flow;
	u32 target;    /* of DISASM_JUMP, from the unit's code */
	char text[96]; /* Intel syntax; bytes that are no instruction as .byte */
	char note[96]; /* what is known of it besides, or "" */
};

/*
 * A piece of host code that comes from the guest instruction at `guest` (and from those after it that have none). By
 * the pc table, which has only those places that the runtime may be called from; and by this: a slow path calls the
 * runtime and then jumps to the beginning of the instruction that it serves, or of a part of it.
 */
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
