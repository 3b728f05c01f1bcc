/* Why code is lifted, or is not. Decided where the names say; told by reports, by these words. */
#ifndef AVANT_AOT_LIFT_VERDICT_H
#define AVANT_AOT_LIFT_VERDICT_H

/* clang-format off */
#define LIFT_VERDICTS(X)                                                                                               \
	X(LIFTED,          "lifted")               /* it is */                                                         \
	X(NO_LOOP,         "no_loop")              /* only loops are (loops.c) */                                      \
	X(INSTRUCTION,     "instruction")          /* the loop has one that the lifter does not know (loops.c) */      \
	X(ENTRIES_UNKNOWN, "entries_unknown")      /* counts do not tell how often it is entered (choose.c) */         \
	X(FEW_ACCESSES,    "few_accesses")         /* … for each time that it is entered (choose.c) */                 \
	X(RARE,            "executed_rarely")      /* below the rule's least (lift_units.c, as all that follows) */    \
	X(NOT_EXECUTED,    "not_executed")         /* in no recording */                                               \
	X(INDEPENDENT,     "position_independent") /* a template */                                                    \
	X(CAREFUL,         "careful")              /* a unit that is made without windows on purpose */                \
	X(OFF,             "switched_off")         /* the rule allows nothing */                                       \
	X(OVER_BUDGET,     "over_budget")          /* hotter ones have used up what the rule allows */                 \
	X(COMPILER,        "compiler")             /* chosen, but given up by the lifter or by LLVM */                 \
	X(KEPT,            "kept")                 /* of an older cache: decided when that was made (reuse.c) */
/* clang-format on */

enum lift_verdict {
#define X(name, word) LIFT_##name,
	LIFT_VERDICTS(X)
#undef X
		LIFT_VERDICT_COUNT
};

#endif
