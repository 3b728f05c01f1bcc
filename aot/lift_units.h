/* Which of the planned units have loops worth LLVM's time, and their lifting by several threads. */
#ifndef AVANT_AOT_LIFT_UNITS_H
#define AVANT_AOT_LIFT_UNITS_H

#include "lift/verdict.h"
#include "plan.h"

struct lifted;
struct lift_units;

/*
 * The cost rule. A loop is lifted if training runs executed at least `least` instructions in it, and if its accesses
 * outweigh what entering it costs (lift_judge()). Loops that execute most come first; when the instructions of the
 * chosen units exceed `most`, the rest is copied. Decided by counts alone: equal input gives equal caches.
 */
struct lift_rule {
	u64 least; /* executed instructions */
	u64 most;  /* instructions to be compiled */
	/* Is there a lifted translation of this one already? It is chosen, but not compiled. NULL: of none. */
	bool (*have)(void *opaque, size_t number);
	void *opaque;
};

#define LIFT_LEAST      20000u
/* Instructions that LLVM compiles in a minute of processor time, low enough for slow machines. */
#define LIFT_PER_MINUTE 60000u

/* Makes the choice. NULL with a message in err. */
struct lift_units *lift_units_choose(const struct plan *plan, const struct lift_rule *rule, struct err *err);
void lift_units_destroy(struct lift_units *units);

size_t lift_units_count(const struct lift_units *units);

/* Called now and then, from the calling thread, with the number done; false: no more of them are begun. */
typedef bool lift_progress(void *opaque, size_t done);

/* Compiles all of them with so many threads. `progress` may be NULL. Returns 0, or -1 with a message in err. */
int lift_units_compile(struct lift_units *units, unsigned threads, lift_progress *progress, void *opaque,
		       struct err *err);

/* What became of the planned unit with this number: NULL if it is to be copied, or there already. */
const struct lifted *lift_units_result(const struct lift_units *units, size_t number);

/* A loop of a unit, and what was decided about it. */
struct lift_told {
	u16 first, last; /* items */
	enum lift_verdict verdict;
	u16 unknown;        /* with LIFT_INSTRUCTION: the item that the lifter does not know; else LIFT_KNOWN */
	const char *detail; /* with LIFT_COMPILER: why; constant, or NULL if LLVM's pass over it was not reached */
};
#define LIFT_KNOWN 0xffffu

struct lift_story {
	unsigned loop_count;
	struct lift_told loop[2 * SCAN_ROOM];
	u16 loop_of[SCAN_ROOM]; /* by item: 1 + the loop that it was judged with, the innermost one; 0: it is in none */
};

/* After compiling: the decisions on the planned unit with this number, which `scan` is of. */
void lift_units_explain(const struct lift_units *units, size_t number, const struct scan *scan,
			struct lift_story *story);

#endif
