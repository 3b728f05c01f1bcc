/*
 * Windows: several memory accesses off one unmodified base register share one TLB look-up. The look-up covers the whole
 * range that they touch; if that range does not lie in one page of the right permission, a careful translation without
 * windows takes over. The stack pointer is followed through pushes, pops and constant adjustments.
 */
#ifndef AVANT_TRANSLATE_WINDOW_H
#define AVANT_TRANSLATE_WINDOW_H

#include "translate/scan.h"

#define WINDOW_MAX   64
#define WINDOW_NONE  0xff
/* A window is at most this long: longer ones would too often run over the end of a page. */
#define WINDOW_BYTES 512

struct window {
	u8 base;
	u8 reg; /* register that holds the addend while it is open, or 0xff: no window after all */
	bool write;
	u8 count;        /* accesses */
	u16 first, last; /* items of the first and last access */
	u16 check;       /* item before which the look-up is made: first, or earlier, where no flag is live */
	s32 low, high;   /* bytes touched, relative to the base register before item `check` */
};

/* The memory accesses of one instruction as far as windows know them: its operand, and the stack. */
struct access {
	u8 base;
	bool write;
	u8 size;
	s32 disp;
};

struct window_plan {
	struct window window[WINDOW_MAX];
	unsigned count;
	unsigned loose;        /* accesses that are in no window */
	u8 operand[SCAN_ROOM]; /* by item: window of its operand's access, or WINDOW_NONE */
	u8 stack[SCAN_ROOM];   /* … of its stack access */
};

/*
 * Operand that is base + displacement and nothing else, in host terms addressable as it is. in_memory: guest registers
 * that are in no host register.
 */
bool window_simple_operand(const struct insn *insn, u16 in_memory);

/* Finds windows. They have no registers yet. */
void window_find(struct window_plan *plan, const struct scan *scan, u16 in_memory);

/* Gives them registers out of `regs`, anew each time; returns how many accesses are loose for lack of one. */
unsigned window_assign(struct window_plan *plan, const struct scan *scan, const u8 *regs, unsigned reg_count);

/* No more registers will be given: accesses by windows without one are loose. */
void window_settle(struct window_plan *plan, const struct scan *scan);

#endif
