/*
 * The live translator: code cache, units, and the entry into generated code. README.md in this folder tells the story.
 */
#ifndef AVANT_LIVE_LIVE_H
#define AVANT_LIVE_LIVE_H

#include "cpu/vcpu.h"
#include "mem/mem.h"
#include "util/types.h"
#include "x86/insn.h"

struct vm;
struct err;
struct translation;

/* Fixed places in the low 2 GiB, so that generated code reaches all of them by rel32 and abs32. */
#define LIVE_CODE_ADDRESS  0x20000000UL /* read-execute view of the code cache */
#define LIVE_CODE_MAX      0x20000000UL
#define LIVE_META_ADDRESS  0x40000000UL /* unit records, pc tables, decoded sensitive instructions */
#define LIVE_META_MAX      0x30000000UL
#define PREDICTION_ADDRESS 0x18000000UL /* the two stacks that generated code runs on */
#define PREDICTION_SIZE    0x100000UL
#define PREDICTION_GUARD   0x4000UL /* at the low end of each: inaccessible until it is needed */

/* Entry points that generated code reaches through v->stub[] (all in enter.S). */
enum stub {
	STUB_HELPER,      /* call; r10 = struct insn * */
	STUB_INTERP,      /* call; v->rip = instruction */
	STUB_TLB_MISS,    /* push imm32 (size | write << 7), call; r10 = gva */
	STUB_WINDOW_MISS, /* push imm32 (length | write << 15), call; r10 = gva */
	STUB_TARGET_MISS, /* jmp; v->exit_info = target number, which has no entry */
	STUB_JUMP_MISS,   /* jmp; v->rip = target, nothing in the jump table fits */
	STUB_LINK,        /* jmp; v->exit_info = link number */
	STUB_POLL,        /* jmp; v->rip = where to go on */
	STUB_BUDGET,      /* jmp; counted mode: v->rip = block start, budget used up */
	STUB_CAREFUL,     /* jmp; v->rip = an instruction that lifted code leaves to a careful translation */
	/* call, from lifted code: r10 = gva; r10 := addend | 1 (| 2: may be written), or 0. Keeps all other registers. */
	STUB_FILL_READ,                       /* + log2 of the size */
	STUB_FILL_WRITE = STUB_FILL_READ + 4, /* likewise */
	STUB_FILL_END = STUB_FILL_WRITE + 4,
	STUB_COUNT = STUB_FILL_END
};

/* Why generated code was left. */
enum live_exit {
	LIVE_EXIT_DISPATCH, /* no translation for v->rip yet */
	LIVE_EXIT_LINK,     /* link v->exit_info wants its target */
	LIVE_EXIT_POLL,
	LIVE_EXIT_BUDGET,
	LIVE_EXIT_CAREFUL, /* v->rip needs a careful translation that is not there yet */
	LIVE_EXIT_EXEC,    /* v->live_exec says what an instruction came to */
};

/* Host pc → guest pc. `home` has a bit for each guest register whose value is in v->gpr instead of its host register.
 */
struct pc_entry {
	u32 code;  /* offset in the code cache */
	u16 guest; /* offset from the unit's pc */
	u16 home;
	u16 left; /* counted mode: instructions of the block not executed yet, this one included */
	u16 pad;
};

#define UNIT_NONE    0u
#define MODE_CAREFUL 0x80000000u /* in unit.mode: translated without windows, for where one does not fit */
#define NO_FRAME     (~0ULL)

/* A translation. Numbered from 1; records do not move while the cache is not flushed. */
struct unit {
	u64 pc;
	u64 gpa;      /* of pc */
	u64 gpa_next; /* base of the following page's frame if the last instruction reaches into it, else NO_FRAME */
	u32 mode;
	u32 code; /* offset of its first byte in the code cache, which is its entry */
	u32 body; /* offset of the entry for jumps from the same page, which do not set v->rip */
	u32 code_end;
	u32 stale;                  /* offset of what its body is replaced by a jump to when it is dropped */
	u32 pcs, pcs_count;         /* its pc entries */
	u32 entries, entries_count; /* its entries */
	u32 landings, landings_count;
	u32 next_frame[2]; /* chains of the frames of gpa and gpa_next */
	u16 instructions;
	u16 guest_bytes;
	bool dropped;
};

/* A place in a unit that is entered with v->rip == pc: its beginning, or the way into a landing. */
struct entry {
	u64 pc;
	u32 unit;
	u32 code; /* offset in the code cache */
	u32 next; /* in its hash chain; 0 ends it (entry 0 is not used) */
};

/* An exit to another place of the same page, not linked yet. */
struct link {
	u32 unit;
	u32 patch; /* code cache offset of the displacement to patch */
	u64 target;
};

/* A guest address that direct jumps from other pages go to. */
struct target {
	u64 pc;
	u32 next; /* in its hash chain; 0 ends it (target 0 is not used) */
};

#define ENTRY_HASH_BITS  16
#define TARGET_HASH_BITS TARGET_BITS

struct live {
	struct vm *vm;
	u8 *code_rw; /* writable view */
	u8 *code;    /* executable view, at LIVE_CODE_ADDRESS */
	u64 size;    /* bytes */
	u64 used;
	u64 generation; /* counts flushes: unit and link numbers are good for one */
	/* tables in the metadata region; element 0 of each is not used */
	struct unit *units;
	struct pc_entry *pcs;
	struct entry *entries;
	struct link *links;
	struct insn *insns;
	u32 unit_count, unit_max;
	u32 pc_count, pc_max;
	u32 entry_count, entry_max;
	u32 link_count, link_max;
	u32 insn_count, insn_max;
	struct target *targets;
	u32 target_count;
	u32 *target_hash;
	u32 *landings; /* code cache offsets */
	u32 landing_count, landing_max;
	u64 meta_size;   /* bytes of the metadata region */
	u32 *hash;       /* [1 << ENTRY_HASH_BITS], first entry of each chain */
	u32 *frame_head; /* by page of RAM: first unit */
	u64 frame_count;
	u32 mode;         /* of the jump tables' content, without the CPL */
	bool bmi2;        /* the host has RORX */
	bool counted;     /* emit instruction counting */
	bool exact_flags; /* treat flags as always live: frames and traces equal the interpreter's */
	bool returns_host;
	bool dropped_code;               /* translations were dropped since this was last cleared */
	struct translation *translation; /* work area */
	/*
	 * For tests: emits the unit that t is set up for in another way than by copying, false if it cannot. Not asked for
	 * careful translations.
	 */
	bool (*lift)(struct translation *t, struct unit *unit);
};

static inline u32 live_entry_hash(u64 pc)
{
	return (u32)((pc * 0x9e3779b97f4a7c15ULL) >> (64 - ENTRY_HASH_BITS));
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
/* An existing translation for v->rip, entered in the jump table; NULL if there is none. General registers only. */
void *live_lookup(struct vcpu *v);
/* The unit that begins at v->rip, or UNIT_NONE. General registers only. */
u32 live_lookup_unit(struct vcpu *v);
/* Link number `link` was taken: makes v->rip its target and, if there is a translation that it may go to, patches it.
 */
void live_take_link(struct vcpu *v, u32 link);

/* Enters generated code with the guest's registers loaded; returns why it was left (enum live_exit). */
int live_enter(void *code);

/* The number of a target of direct jumps, 0 if it has none. */
u32 live_find_target(const struct live *live, u64 pc);
/* Drops every unit made from the frame at gpa. General registers only. */
void live_drop_frame(struct vcpu *v, u64 gpa);
/* No unit is made from the frame at gpa any longer, and writes to it need not be watched. General registers only. */
void live_forget_frame(struct live *live, u64 gpa);
/* Forgets all translations. */
void live_flush(struct live *live);
/* Empties the prediction stack of user (cpl 3) or kernel code. General registers only. */
void live_reset_predictions(struct vcpu *v, bool user);
/* Empties those that a change of mappings made doubtful (v->forget_user, _kernel). General registers only. */
void live_forget_predictions(struct vcpu *v);
/* What translations depend on besides their bytes and CPL may have changed. General registers only. */
void live_check_mode(struct vcpu *v);

/* Mode word of translations: what changes their meaning besides their bytes. */
u32 live_mode(const struct vcpu *v);

/* The unit and pc entry that a code cache offset belongs to; false if none. General registers only. */
bool live_find_pc(const struct live *live, u32 offset, const struct unit **unit, const struct pc_entry **entry);

/* Counted mode: v->budget and v->icount agree with `left` instructions of the block not executed. */
void live_count_in(struct vcpu *v, unsigned left);

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
