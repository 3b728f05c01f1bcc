/*
 * What became of every planned instruction: lifted, copied, handed over to the runtime, kept of an older cache, or left
 * to live translation; how often each was executed in the recordings; and why loops were not lifted. Counted while
 * units are translated.
 */
#ifndef AVANT_AOT_ACCOUNT_H
#define AVANT_AOT_ACCOUNT_H

#include "lift_units.h"
#include "plan.h"

struct lifted;
struct account;

/* Instructions, and their executions in the recordings. What counts add up to has an upper limit: 2^64 - 1. */
struct amount {
	u64 places, executed;
};

enum account_fate { FATE_LIFTED, FATE_COPIED, FATE_HANDED, FATE_KEPT, FATE_LEFT, FATES };

/* Why units are left to live translation. */
/* clang-format off */
#define ACCOUNT_REASONS(X)                                                                                             \
	X(NO_ROOM,      "no_room")           /* the cache is full */                                                   \
	X(UNSEEN_LIMIT, "unseen_limit")      /* more than is wanted of what no recording has seen */                   \
	X(NO_TEMPLATE,  "no_template")       /* reaches into the next page, has holes in odd places, or is too long */ \
	X(MOVES,        "moves")             /* recorded where it was written by the guest, at a place of chance */    \
	X(VERSIONS,     "too_many_versions") /* recorded at a place that had many others before */                     \
	X(INVALID,      "invalid")           /* recorded, but not one unit */
/* clang-format on */

enum account_reason {
#define X(name, word) LEFT_##name,
	ACCOUNT_REASONS(X)
#undef X
		LEFT_REASONS
};

/* Who executes what is handed over. */
enum account_hand { HAND_QUICK, HAND_HELPER, HAND_INTERPRETER, HANDS };

/* An instruction that is handed over. */
struct account_handed {
	u16 mnemonic; /* ZydisMnemonic */
	u8 hand;      /* enum account_hand */
	u8 rep;       /* as in struct insn */
	u8 helper;    /* enum insn_helper of sensitive ones, or HELP_COUNT */
	struct amount amount;
};

/* A loop that was executed and not lifted. */
struct account_loop {
	size_t want; /* its unit's number in the plan */
	u16 offset;  /* of its first instruction, bytes from the unit's beginning */
	enum lift_verdict verdict;
	u16 unknown; /* ZydisMnemonic, with LIFT_INSTRUCTION */
	const char *detail;
	struct amount amount; /* without loops in it that were judged by themselves */
};

struct account_units {
	u64 units, instructions, executed;
};

/* Counts what is planned; plan and choice are complete, and outlive it. NULL: out of memory, with a message in err. */
struct account *account_create(const struct plan *plan, const struct lift_units *lift, struct err *err);
void account_destroy(struct account *account);

/*
 * The planned unit with this number was translated: `scan` and `handed` as struct translation has them afterwards,
 * `lifted` or NULL as it was used. -1: out of memory.
 */
int account_translated(struct account *account, size_t number, const struct scan *scan, const u8 *handed,
		       const struct lifted *lifted, struct err *err);
/* … or was taken over from an older cache, which does not say how each instruction was made. */
void account_kept(struct account *account, size_t number);
/* … or was not. */
void account_left(struct account *account, size_t number, enum account_reason reason);

/* --- results ----------------------------------------------------------------------------------------------------- */

/* All that is planned or recorded, counted before anything was translated. */
const struct account_units *account_all(const struct account *account);
const struct account_units *account_done(const struct account *account);
const struct account_units *account_reason(const struct account *account, enum account_reason reason);
u64 account_lifted_units(const struct account *account);
const struct amount *account_fate(const struct account *account, enum account_fate fate);
/* Of what was translated, by the verdict on the loop that it is in; and how many such loops there are. */
const struct amount *account_verdict(const struct account *account, enum lift_verdict verdict, u64 *loops);
/* What is handed over, most executed first. Valid until the next call. */
const struct account_handed *account_handed(struct account *account, size_t *count);
/* Loops that recordings saw running and that were not lifted, most executed first. Valid until the next call. */
const struct account_loop *account_loops(struct account *account, size_t *count);

#endif
