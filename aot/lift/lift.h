/*
 * Lifting: the guest code of one unit becomes LLVM IR and then host code that checks less often than a copy does.
 *
 * Phase 1 (lift_compile) needs nothing but the scanned unit; any number of threads may each run it with a worker of its
 * own. Phase 2 (lift_place, place.h) puts the result into a code cache, with the stubs that lead into and out of it. The
 * two meet in struct lifted, which knows no LLVM.
 */
#ifndef AVANT_AOT_LIFT_H
#define AVANT_AOT_LIFT_H

#include "translate/scan.h"
#include "util/types.h"

struct err;

struct lift_options {
	bool counted;      /* blocks take their instructions off vcpu.budget */
	bool returns_host; /* guest calls are host calls: code after a call is entered by a host return */
	u64 tally;         /* address (low 2 GiB) of a u64 to which blocks add their instructions, or 0 */
	/* The arithmetic flags that code at guest address pc may read, for direct exits; NULL: all of them. */
	u16 (*live_flags)(void *opaque, u64 pc);
	void *opaque;
};

/* How lifted code is left: by a jump to a stub that place.c emits. */
enum lift_exit_kind {
	LIFT_EXIT_GOTO,     /* for guest address pc */
	LIFT_EXIT_CAREFUL,  /* this item must be executed by a copy: it may fault, or is not an access to RAM */
	LIFT_EXIT_POLL,     /* before this item */
	LIFT_EXIT_BUDGET,   /* before this item, whose block does not fit the budget */
	LIFT_EXIT_CALL,     /* the return address is pushed; to pc */
	LIFT_EXIT_CALL_IND, /* the same, r10 is the target */
	LIFT_EXIT_JMP_IND,  /* r10 is the target */
	LIFT_EXIT_RET,      /* r10 is the target */
	LIFT_EXIT_COPY,     /* items from this one on that are not lifted */
};

struct lift_exit {
	u8 kind;   /* enum lift_exit_kind */
	u16 item;  /* of the scan */
	u16 flags; /* arithmetic flags that are live; in r10, or in vcpu.scratch[2] if r10 is the target */
	u16 last;  /* LIFT_EXIT_COPY: last item of the run */
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
	u32 function[SCAN_MAX]; /* by item: offset of the code that goes on at it, or LIFT_NONE; [0] is the entry */
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
 * NULL with *reason (a constant string) if the unit cannot or should not be lifted; it is to be copied then. The result
 * is the caller's, to be released with lift_free().
 */
struct lifted *lift_compile(struct lift_worker *worker, const struct scan *scan, const struct lift_options *options,
			    const char **reason);
void lift_free(struct lifted *lifted);

/* For development: the IR of the last unit is printed here after optimisation; NULL: not. */
void lift_worker_dump(struct lift_worker *worker, void (*sink)(const char *ir));

#endif
