/*
 * Where translations go: a buffer of code and the tables that describe it. The live engine has one that lives as long
 * as the guest runs; the build step fills one and writes it to a file (offline), which `avant run` maps where this
 * process had it: all addresses of a store are those at which its code will run.
 *
 * Two forms of code: in a live store links are jumps that are patched, in an offline one they go through cells, so that
 * code is never written to. Code of a relocatable store is in the first form and is never run where it lies: it is
 * copied, and what depends on the guest's address is noted as fix-ups. So is code of a store for kernel modules, with
 * fix-ups of other kinds; there, fields of instructions may be unknown as well.
 */
#ifndef AVANT_TRANSLATE_STORE_H
#define AVANT_TRANSLATE_STORE_H

#include "mem/mem.h"
#include "util/types.h"
#include "x86/insn.h"

/* Fixed places in the low 2 GiB, so that generated code reaches all of them by rel32 and abs32. */
#define LIVE_CODE_ADDRESS 0x20000000UL /* read-execute view of the live engine's code cache */
#define LIVE_CODE_MAX     0x18000000UL
#define LIVE_META_ADDRESS 0x38000000UL /* those of its tables that generated code names */
#define LIVE_META_MAX     0x18000000UL
#define AOT_ADDRESS       0x50000000UL /* caches: code, cells, decoded instructions */
#define AOT_END           0x7f000000UL

/* Entry points that generated code reaches through v->stub[] (all in live/enter.S). */
enum stub {
	STUB_HELPER,      /* call; r10 = struct insn * */
	STUB_INTERP,      /* call; v->rip = instruction */
	STUB_TLB_MISS,    /* push imm32 (size | write << 7), call; r10 = gva */
	STUB_WINDOW_MISS, /* push imm32 (length | write << 15), call; r10 = gva */
	STUB_TARGET_MISS, /* jmp; v->exit_info = target number, which has no entry */
	STUB_JUMP_MISS,   /* jmp; v->rip = target, nothing in the jump table fits */
	STUB_RETURN_MISS, /* jmp; r10 = target of a return that was not predicted */
	STUB_LINK,        /* jmp; v->exit_info = link number */
	STUB_POLL,        /* jmp; v->rip = where to go on */
	STUB_BUDGET,      /* jmp; counted mode: v->rip = block start, budget used up */
	STUB_CAREFUL,     /* jmp; v->rip = an instruction that lifted code leaves to a careful translation */
	/* call, from lifted code: r10 = gva; r10 := addend | 1 (| 2: may be written), or 0. Keeps all other registers.
	 */
	STUB_FILL_READ,                       /* + log2 of the size */
	STUB_FILL_WRITE = STUB_FILL_READ + 6, /* likewise */
	/* like STUB_HELPER, for what is in live/quick.S */
	STUB_MOVS1 = STUB_FILL_WRITE + 6,
	STUB_MOVS4,
	STUB_MOVS8,
	STUB_STOS1,
	STUB_STOS4,
	STUB_STOS8,
	STUB_PUSHF,
	STUB_COUNT
};

/* Who made a translation: what --count tells apart. */
enum origin { ORIGIN_AOT_LIFTED, ORIGIN_AOT_COPIED, ORIGIN_LIVE, ORIGIN_INTERP, ORIGIN_COUNT };

/* Host pc → guest pc. `home` has a bit for each guest register whose value is in v->gpr instead of its host register.
 */
struct pc_entry {
	u32 code;  /* offset in the code buffer */
	u16 guest; /* offset from the unit's pc */
	u16 home;
	u16 left; /* counted mode: instructions of the block not executed yet, this one included */
	u16 pad;
};

#define UNIT_NONE 0u
#define NO_FRAME  (~0ULL)

/*
 * A translation. Numbered from 1; records do not move while the store is not emptied. Offsets of code are from
 * LIVE_CODE_ADDRESS in the live engine's tables, from the beginning of the buffer in an offline store.
 */
struct unit {
	/* what looking up reads comes first: it is in few cache lines, and seldom in the cache */
	u64 pc;
	u64 gpa;      /* of pc */
	u64 gpa_next; /* base of the following page's frame if guest bytes reach into it, else NO_FRAME */
	u32 mode;     /* MODE_* */
	u32 code;     /* offset of its first byte, which is its entry */
	u32 body;     /* offset of the entry for jumps from the same page, which do not set v->rip */
	u32 saved;    /* the same for jumps that leave the flags in v->scratch[2] */
	u16 guest_bytes;
	u16 instructions;
	u8 origin;   /* enum origin */
	u8 cache_id; /* which cache, with `cached` */
	bool dropped;
	u32 code_end;
	u32 stale, stale_saved;     /* offsets of what these are replaced by jumps to when it is dropped; live only */
	u32 pcs, pcs_count;         /* its pc entries */
	u32 entries, entries_count; /* its entries */
	u32 landings, landings_count;
	u32 links, links_count;
	u32 insns, insns_count;
	u32 counters, counters_count; /* of its blocks, when recording */
	u32 fixups, fixups_count;     /* relocatable and module store */
	u32 goals, goals_count;
	u32 next_frame[2]; /* chains of the frames of gpa and gpa_next */
	u32 cached;        /* bound from a cache: 1 + number in it, else 0 */
};

/* A place in a unit that is entered with v->rip == pc: its beginning, or the way into a landing. */
struct entry {
	u64 pc;
	u32 unit;
	u32 code; /* offset */
	u32 next; /* in its hash chain; 0 ends it (entry 0 is not used) */
};

/* An exit to another place of the same page. */
struct link {
	u32 unit;
	u32 patch; /* live: offset of the displacement to patch; offline: of the cold path that its cell holds at first
		    */
	u64 target;
	u32 site;    /* offline: offset of the jump or call through the cell */
	bool saved;  /* the flags are in v->scratch[2] */
	bool direct; /* offline: the jump has been made one that needs no cell */
};

/*
 * What a place in relocatable code depends on besides the unit's bytes. The numbers after the unit was made for one
 * address of the guest's page are right for another one after fixup_apply().
 */
enum fixup_kind {
	FIXUP_ADDRESS, /* 8 bytes: a guest address */
	FIXUP_MINUS,   /* 8 bytes: minus a guest address */
	FIXUP_READ,    /* 4 bytes: where the view has the tag for reading of a guest page */
	FIXUP_WRITE,   /* … for writing */
	FIXUP_ADDEND,  /* … its addend */
	FIXUP_LINK,    /* 4 bytes: the number of a link, counted from the unit's first one */
	FIXUP_INSN,    /* 4 bytes: the address of an instruction record */
	FIXUP_KINDS
};

struct fixup {
	u32 at; /* offset from the unit's first byte */
	u16 kind;
	u16 from;  /* of a module: enum module_from … */
	u32 value; /* … and what belongs to it */
};

/*
 * The same of a kernel module's code. All of it lies in the top 2 GiB, as what it refers to does (or in the lowest 2,
 * if it is an offset), so addresses take 4 bytes as in other kernel code.
 */
enum module_fixup {
	MODULE_ADDRESS,       /* 4 bytes: an address, to be sign-extended */
	MODULE_WIDE,          /* 8 bytes: the same */
	MODULE_MINUS,         /* 4 bytes: minus an address */
	MODULE_TAG,           /* 4 bytes: minus the address of its page */
	MODULE_READ,          /* 4 bytes: where the view has the tag for reading of its page */
	MODULE_WRITE,         /* … for writing */
	MODULE_ADDEND,        /* … the addend */
	MODULE_NUMBER,        /* 4 bytes: the number of the target that it is */
	MODULE_NUMBER_SAVED,  /* … of the one that finds the flags saved */
	MODULE_ELEMENT,       /* 4 bytes: where the view has that target */
	MODULE_ELEMENT_SAVED, /* … */
	MODULE_LINK,          /* 4 bytes: number `value`, counted from the unit's first link */
	MODULE_INSN,          /* 4 bytes: the address of instruction record `value`, counted likewise */
	MODULE_FIXUPS
};

/* Where a module's address comes from. */
enum module_from {
	MODULE_FROM_PAGE,     /* `value` bytes from the beginning of the unit's page (signed) */
	MODULE_FROM_RELATIVE, /* the field of an instruction: 4 bytes, counted from the instruction's end */
	MODULE_FROM_ABSOLUTE, /* the same, sign-extended */
	MODULE_FROM_WIDE,     /* … of 8 bytes */
	MODULE_FROMS
};

/*
 * `value` of what comes from a field: where that begins in the unit's guest bytes, how many bytes of the instruction
 * follow it, and the bytes of an access there, which must not run over the end of the page (0: there is none).
 */
#define MODULE_FIELD(at, behind, access) ((u32)(at) | (u32)(behind) << 16 | (u32)(access) << 24)
#define MODULE_FIELD_AT(value)           ((value)&0xffff)
#define MODULE_FIELD_BEHIND(value)       ((value) >> 16 & 0xff)
#define MODULE_FIELD_ACCESS(value)       ((value) >> 24)

/* A jump of relocatable code to another page by the number of a target, which is not known when it is made. */
struct goal {
	u32 number; /* offsets from the unit's first byte: of the number in 4 bytes, */
	u32 entry;  /* … of the displacement of its entry in view.target, made for number 0 */
	s64 target; /* where it leads, from the beginning of the unit's page */
	bool saved; /* the flags are in v->scratch[2] */
};

/* In a target's pc, where it makes the address non-canonical: jumps to it leave the flags in v->scratch[2]. */
#define TARGET_SAVED BIT(62)

static inline bool target_is_saved(u64 pc)
{
	return (pc >> 62 & 1) != pc >> 63;
}

/* A guest address that direct jumps from other pages go to. */
struct target {
	u64 pc;
	u32 next; /* in its hash chain; 0 ends it (target 0 is not used) */
};

#define TARGET_HASH_BITS TARGET_BITS

struct store {
	u8 *code_rw; /* writable view */
	u8 *code;    /* the address that it runs at */
	u64 size;    /* bytes */
	u64 used;
	/* tables; element 0 of each is not used, except for links and instructions of an offline store */
	struct unit *units;
	struct pc_entry *pcs;
	struct entry *entries;
	struct link *links;
	struct insn *insns;
	u32 *landings;        /* offsets; live only, else landing_max is 0 */
	u64 *counters;        /* how often a block was entered, when recording */
	u64 *cells;           /* by link; offline only, else NULL */
	struct fixup *fixups; /* relocatable and module only */
	struct goal *goals;
	struct target *targets;
	u32 *target_hash; /* [1 << TARGET_HASH_BITS] */
	u32 unit_count, unit_max;
	u32 bound_first; /* units from here on are bound ones of caches; the others end below */
	u32 pc_count, pc_max;
	u32 entry_count, entry_max;
	u32 link_count, link_max;
	u32 insn_count, insn_max;
	u32 landing_count, landing_max;
	u32 counter_count, counter_max;
	u32 fixup_count, fixup_max;
	u32 goal_count, goal_max;
	u32 target_count, target_max; /* numbers up to target_max may be given */
	u32 first_link;               /* offline: added to a link's number in exit_info */
	/* how code is made */
	bool bmi2;        /* the host has RORX */
	bool counted;     /* emit instruction counting */
	bool recording;   /* emit counters of blocks */
	bool exact_flags; /* treat flags as always live: frames and traces equal the interpreter's */
	bool returns_host;
	bool relocatable;
	bool module; /* code of kernel modules, with MODULE_… fix-ups */
	u8 origin;   /* of units made now */
};

static inline u32 store_offset(const struct store *store, const u8 *writable)
{
	return (u32)(writable - store->code_rw);
}

/* New elements; NULL (false) when the table is full. */
struct pc_entry *store_add_pc(struct store *store);
struct link *store_add_link(struct store *store);
struct insn *store_add_insn(struct store *store);
u64 *store_add_counter(struct store *store);
struct fixup *store_add_fixup(struct store *store);
struct goal *store_add_goal(struct store *store);
/* A place that host returns come back to; nothing in an offline store. */
void store_add_landing(struct store *store, u32 code);
/* A place (offset) that is entered with v->rip == pc. */
bool store_add_entry(struct store *store, u32 unit, u64 pc, u32 code);
/* The number of a target of direct jumps, 0 if it has none. General registers only. */
u32 store_find_target(const struct store *store, u64 pc);
/* Another number of the same target, 0 if there is none: each cache gives its own. General registers only. */
u32 store_find_target_again(const struct store *store, u32 number);
/* The same, new if need be; 0 if no number is left. */
u32 store_target(struct store *store, u64 pc);
/* Gives target `number`, which must be the next one or beyond, to pc. */
void store_set_target(struct store *store, u32 number, u64 pc);

#endif
