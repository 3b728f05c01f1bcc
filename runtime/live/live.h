/*
 * The live engine: code cache, units, and the entry into generated code. README.md in this folder tells the story.
 */
#ifndef AVANT_LIVE_LIVE_H
#define AVANT_LIVE_LIVE_H

#include "cpu/vcpu.h"
#include "mem/mem.h"
#include "translate/store.h"
#include "util/types.h"
#include "x86/insn.h"
#include "x86/mode.h"

struct vm;
struct err;
struct translation;
struct translate_parts;
struct scan;
struct aot;
struct aot_templates;
struct aot_modules;
struct recorder;
struct clones;

/* In the low 2 GiB, as all that generated code names. */
#define PREDICTION_ADDRESS 0x18000000UL /* the two stacks that generated code runs on */
#define PREDICTION_SIZE    0x100000UL
#define PREDICTION_GUARD   0x4000UL /* at the low end of each: inaccessible until it is needed */

/* Why generated code was left. */
enum live_exit {
	LIVE_EXIT_DISPATCH, /* no translation for v->rip yet */
	LIVE_EXIT_LINK,     /* link v->exit_info wants its target */
	LIVE_EXIT_POLL,
	LIVE_EXIT_BUDGET,
	LIVE_EXIT_CAREFUL, /* v->rip needs a careful translation that is not there yet */
	LIVE_EXIT_EXEC,    /* v->live_exec says what an instruction came to */
};

/* The first bytes of the code cache: where dropped entries (v->rip is set) and landings (r10 is rip) lead. */
#define CACHE_STALE_ENTRY   0
#define CACHE_STALE_LANDING 16
#define CACHE_FIRST_OFFSET  64

/* There is no translation for pc, as generated code has just found out; it was to become this target's, if not 0. */
struct missed {
	u64 pc;
	u32 target;
	bool saved, yes;
};

/* Which careful translation the window at `back`, a return address of generated code, led to last. */
struct careful {
	const void *back;
	u64 generation;
	u64 pc;
	u32 unit;
	const struct unit *from; /* what `back` is in, and where that was: clones move */
	u64 from_pc;
};

#define CAREFULS        1024
#define ENTRY_HASH_BITS 19
#define AOT_MAX         4
/* Units of caches that are bound at a time; more have the tables emptied. */
#define AOT_UNITS_MAX   65536u

struct live {
	struct vm *vm;
	struct store store;        /* code cache and tables, which bound units of caches are in as well */
	u64 generation;            /* counts flushes: unit and link numbers are good for one */
	void *named, *meta;        /* the regions of tables: what generated code names, and the others */
	u64 named_size, meta_size; /* bytes */
	u32 *hash;                 /* [1 << ENTRY_HASH_BITS], first entry of each chain */
	u32 *frame_head;           /* by page of RAM: first unit */
	u32 *frame_drops;          /* by page of RAM: translations of it have been dropped so often, and when last */
	u64 frame_count;
	u32 mode; /* of the jump tables' content, without the CPL */
	struct careful careful[CAREFULS];
	struct missed missed;                         /* good for the next live_find() */
	bool dropped_code;                            /* translations were dropped since this was last cleared */
	struct translation *translation;              /* work area */
	struct aot *aot[AOT_MAX];                     /* caches in use */
	struct aot_templates *aot_templates[AOT_MAX]; /* of each, or NULL */
	unsigned aot_count;
	struct aot_modules *modules; /* of all caches, or NULL */
	u32 *copied;                 /* units of caches that have been copied, in the order of code */
	u32 copied_count;
	u32 targets_kept; /* numbers up to here that flushes do not take back: caches' */
	void *code_room;  /* what its writable view lies in */
	u64 code_size;    /* bytes of the code cache, of which the store may use store.size */
	u64 code_pages[LIVE_CODE_MAX / 0x200000 / 64]; /* those that are huge already, or cannot be: code_pages.h */
	struct clones *clones;                         /* … and these the rest */
	struct insn *form_insns;                       /* what templates hand over */
	u64 *form_counters;                            /* of their blocks, when recording */
	u32 form_insn_max, form_counter_max;
	struct recorder *recorder; /* or NULL */
	/*
	 * For tests, else NULL: parts of a unit to be emitted in another way than by copying (valid until it is called
	 * again), or NULL. Not asked for careful translations.
	 */
	const struct translate_parts *(*lift)(const struct scan *scan, const struct store *store, u32 mode);
};

static inline u32 live_entry_hash(u64 pc)
{
	return (u32)((pc * 0x9e3779b97f4a7c15ULL) >> (64 - ENTRY_HASH_BITS));
}

/* The instruction that a jump led to is executed in another way than by what live_find() finds for it. */
static inline void live_forget_miss(struct live *live)
{
	live->missed.yes = false;
}

struct live *live_create(struct vm *vm, struct err *err);
void live_destroy(struct live *live);

/*
 * Code for v->rip in the current mode, translating if needed. NULL: *fault true if fetching faulted (v->fault),
 * else nothing can be translated here and the single-instruction path must do it.
 */
void *live_find(struct vcpu *v, bool *fault);
/* The same for a careful translation (never entered through the jump table). */
void *live_find_careful(struct vcpu *v, bool *fault);
void *live_lookup_careful(struct vcpu *v);
/* The same for an instruction of `from` that was left at `back`, which is remembered: see live_recall_careful(). */
void *live_lookup_careful_at(struct vcpu *v, const struct unit *from, const void *back);
/* The same, where the instruction was left at `back`, which is not in counted mode; sets v->rip if it finds one. */
void *live_recall_careful(struct vcpu *v, const void *back);
/* An existing translation for v->rip, entered in the jump table; NULL if there is none. General registers only. */
void *live_lookup(struct vcpu *v);
/* Enters this unit for v->rip, where it begins, in the jump table; its code. General registers only. */
void *live_note_unit(struct vcpu *v, u32 number);
/* Lets this number of a target, which stands for v->rip, lead to that unit. General registers only. */
void live_note_target(struct vcpu *v, u32 number, u32 unit, bool saved);
/* The unit that begins at v->rip, or UNIT_NONE. General registers only. */
u32 live_lookup_unit(struct vcpu *v);
/* Link number `link` was taken: makes v->rip its target and, if there is a translation that it may go to, patches it.
 */
void live_take_link(struct vcpu *v, u32 link);

/* Enters generated code with the guest's registers loaded; returns why it was left (enum live_exit). */
int live_enter(void *code);

/* Drops every unit made from the frame at gpa. General registers only. */
void live_drop_frame(struct vcpu *v, u64 gpa);
/* No unit is made from the frame at gpa any longer, and writes to it need not be watched. General registers only. */
void live_forget_frame(struct live *live, u64 gpa);
/* The frame at gpa need not be watched for the sake of clones any longer. */
void live_release_frame(struct live *live, u64 gpa);
/* How often translations of a page of RAM have been dropped, lately. General registers only. */
unsigned live_frame_drops(const struct live *live, u64 frame);
/* Forgets all translations. */
void live_flush(struct live *live);
/* Empties the prediction stack of user (cpl 3) or kernel code. General registers only. */
void live_reset_predictions(struct vcpu *v, bool user);
/* Empties those that a change of mappings made doubtful (v->forget_user, _kernel). General registers only. */
void live_forget_predictions(struct vcpu *v);
/* What translations depend on besides their bytes and CPL may have changed. General registers only. */
void live_check_mode(struct vcpu *v);

/* The unit and pc entry that a code cache offset belongs to; false if none. General registers only. */
bool live_find_pc(const struct live *live, u32 offset, const struct unit **unit, const struct pc_entry **entry);

/* The arithmetic flags that generated code has put into v->scratch[2] by lahf and seto al. */
static inline u64 live_saved_flags(const struct vcpu *v)
{
	return (v->scratch[2] >> 8 & 0xd5) | (v->scratch[2] & 1) << 11;
}

/*
 * Counted mode: makes v->budget, v->icount and v->tally agree, with `left` instructions of the unit's block not
 * executed. unit: NULL if left is 0.
 */
void live_count_in(struct vcpu *v, const struct unit *unit, unsigned left);

/* Called by enter.S (calls.c). Each returns the host address to go on at, or NULL to leave with v->live_exit. */
void *live_call_helper(struct vcpu *v, const struct insn *insn, void *back);
void *live_call_interp(struct vcpu *v, void *back);
void *live_call_tlb_miss(struct vcpu *v, u64 gva, u64 info, void *back);
void *live_call_window_miss(struct vcpu *v, u64 gva, u64 info, void *back);
void *live_call_target_miss(struct vcpu *v);
void *live_call_jump_miss(struct vcpu *v);
void *live_call_careful(struct vcpu *v);
/* For lifted code: a look-up that its stub could not make. Returns what the stub does. */
u64 live_call_fill(struct vcpu *v, u64 gva, u64 info);

/* A prediction stack ran full (v->predictions_full): empties them and closes the reserve again. */
void live_close_reserve(struct vcpu *v);

/* Signals raised by guest instructions in generated code or thunks. */
int live_signals_init(struct vm *vm, struct err *err);

#endif
