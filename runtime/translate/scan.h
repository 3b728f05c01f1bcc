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
	u8 holes;       /* SCAN_HOLE_…: fields of the instruction that are not known */
	u16 live_in;    /* arithmetic flags whose values may be read from here on */
	u16 block_left; /* instructions of its block from here on */
};

#define SCAN_HOLE_DISP BIT(0) /* the memory operand's displacement, 4 bytes */
#define SCAN_HOLE_IMM  BIT(1) /* the immediate, 4 or 8 bytes, or the displacement of a direct branch */

/*
 * Bytes of guest code that are filled in when it is loaded: 4 of them, or 8 with SCAN_HOLE_WIDE, at an offset in the
 * page. They do not lie across pages.
 */
#define SCAN_HOLE_WIDE       0x8000u
#define SCAN_HOLE_AT(hole)   ((hole)&0xfffu)
#define SCAN_HOLE_SIZE(hole) ((hole)&SCAN_HOLE_WIDE ? 8u : 4u)
#define SCAN_HOLE_FILLING    0x5a /* what stands for each byte */

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

/*
 * Notes which fields of the scanned instructions are holes, of which there are `count` in the page, ascending. The
 * bytes were scanned with SCAN_HOLE_FILLING in them, so no jump leads anywhere by one. False: something else than a
 * whole field of an instruction is a hole.
 */
bool scan_note_holes(struct scan *scan, const u16 *holes, unsigned count);

/* Does this instruction never continue at the next address? */
bool scan_ends_flow(const struct insn *insn);

#endif
