/*
 * The guest code that one unit will cover: decoded instructions in address order, which of them are jumped to, and
 * which flags are live before each. Knows the guest's bytes only, no VMM state, so that aot can use it too.
 */
#ifndef AVANT_TRANSLATE_SCAN_H
#define AVANT_TRANSLATE_SCAN_H

#include "x86/insn.h"

#define SCAN_MAX  64  /* instructions in a unit that the live engine makes */
#define SCAN_ROOM 192 /* … in any: long ones hold loops as a whole, for the build step to lift */

struct scan_item {
	struct insn insn;
	u16 offset;     /* from the unit's pc */
	s16 target;     /* item that a direct branch goes to, or -1: outside of the unit */
	bool label;     /* some branch of the unit goes here */
	bool loop_head; /* … backward */
	bool block;     /* first of a basic block */
	bool falls;     /* the next item follows at the next address */
	u16 live_in;    /* arithmetic flags whose values may be read from here on */
	u16 block_left; /* instructions of its block from here on */
};

struct scan {
	u64 pc;
	unsigned count;
	unsigned bytes; /* from pc to the end of the last instruction */
	bool straddles; /* the only instruction reaches into the next page */
	struct scan_item item[SCAN_ROOM];
};

struct scan_options {
	bool calls_end;   /* nothing after a call belongs to the unit */
	bool exact_flags; /* all flags are always live */
	unsigned max;     /* instructions, ≤ SCAN_ROOM */
};

/*
 * Scans from pc on; `bytes` are the guest's from pc to the end of its page, which is `in_page` bytes away; `length` is
 * the same. With more than one page wanted, i.e. when the very first instruction straddles, returns -1 and the caller
 * calls again with `length` extended into the next page: then exactly that one instruction is scanned. Else 0.
 */
int scan_unit(struct scan *scan, u64 pc, const u8 *bytes, unsigned length, unsigned in_page,
	      const struct scan_options *options);

/* Does this instruction never continue at the next address? */
bool scan_ends_flow(const struct insn *insn);

#endif
