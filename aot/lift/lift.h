/*
 * Lifting: loops of a unit become LLVM IR and then host code that checks less often than a copy does. The rest of the
 * unit is copied as ever.
 *
 * Phase 1 (lift_compile) needs nothing but the scanned unit; any number of threads may each run it with a worker of its
 * own. Phase 2 (place.h) puts the result into a code cache, with the stubs that lead into and out of it. The two meet
 * in struct lifted, which knows no LLVM.
 */
#ifndef AVANT_AOT_LIFT_H
#define AVANT_AOT_LIFT_H

#include "translate/scan.h"
#include "util/types.h"
#include "verdict.h"

struct err;

/* A loop that can be lifted: it makes no calls, and all of its instructions are known to the lifter. */
struct lift_loop {
	u16 first, last; /* items; all in between belong to it */
};

/*
 * Finds the largest such loops (none is within another) in the order of their first items; returns how many. mode:
 * MODE_* of the unit.
 */
unsigned lift_find_loops(const struct scan *scan, u32 mode, struct lift_loop loops[SCAN_ROOM]);
/*
 * Those that cannot be lifted, the largest from each head on, by heads from the last one to the first, so that an inner
 * loop comes before the outer one. They may hold loops that can be. `unknown[i]` is the first item of loops[i] that the
 * lifter does not know.
 */
unsigned lift_find_refused(const struct scan *scan, u32 mode, struct lift_loop loops[SCAN_ROOM],
			   u16 unknown[SCAN_ROOM]);
/*
 * Is it faster lifted than copied, when the items were executed so often? It must run its memory accesses often enough
 * for each time that it is entered. LIFT_LIFTED, or why not.
 */
enum lift_verdict lift_judge(const struct scan *scan, const struct lift_loop *loop, const u64 executed[SCAN_ROOM]);
/* Can this instruction be lifted, wherever it is? For tests, which lift all that can be. */
bool lift_possible(const struct insn *insn, u32 mode);

struct lift_options {
	bool counted; /* blocks take their instructions off vcpu.budget */
	u64 tally;    /* address (low 2 GiB) of a u64 to which blocks add their instructions, or 0 */
};

/* How lifted code is left: by a jump to a stub that place.c emits. Flags that are live are in r10. */
enum lift_exit_kind {
	LIFT_EXIT_ITEM,     /* for this item, which is copied */
	LIFT_EXIT_GOTO,     /* for guest address pc, outside of the unit */
	LIFT_EXIT_CAREFUL,  /* this item must be executed by a copy: it may fault, or is not an access to RAM */
	LIFT_EXIT_UNMASKED, /* this item is where the code is entered, and floating-point exceptions are unmasked:
			       careful too */
	LIFT_EXIT_POLL,     /* before this item */
	LIFT_EXIT_BUDGET,   /* before this item, whose block does not fit the budget */
};

struct lift_exit {
	u8 kind;   /* enum lift_exit_kind */
	u16 item;  /* of the scan */
	u16 flags; /* arithmetic flags that are live */
	u64 pc;
};

/* A 32-bit displacement in the text, to be pointed at an exit's stub: value = stub + addend - at. */
struct lift_fix {
	u32 at;
	u16 exit;
	s32 addend;
};

#define LIFT_NONE 0xffffffffu

struct lifted {
	u8 *text; /* position-independent but for the fixes; to be aligned to 16 bytes */
	u32 text_size;
	bool lifted[SCAN_ROOM];  /* items that are not to be copied */
	u32 function[SCAN_ROOM]; /* by item: offset of the code that is entered there, or LIFT_NONE */
	struct lift_fix *fix;
	unsigned fix_count;
	struct lift_exit *exit;
	unsigned exit_count;
	bool counted;
	u64 tally;
};

struct lift_worker;

/* The LLVM state of one thread. NULL with a message in err. */
struct lift_worker *lift_worker_create(struct err *err);
void lift_worker_destroy(struct lift_worker *worker);

/*
 * Lifts the items that `wanted` names (those of lift_possible() only); it is they that the result then stands for. NULL
 * with *reason (a constant string) if they should be copied after all. The result is the caller's, to be released with
 * lift_free().
 */
struct lifted *lift_compile(struct lift_worker *worker, const struct scan *scan, const bool wanted[SCAN_ROOM],
			    const struct lift_options *options, const char **reason);
void lift_free(struct lifted *lifted);

/* For development: the IR of the last unit is printed here after optimisation; NULL: not. */
void lift_worker_dump(struct lift_worker *worker, void (*sink)(const char *ir));

#endif
