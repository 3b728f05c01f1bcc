/* State of one translation, shared by translate.c (layout) and emit_insn.c (instructions). Knows no VMM. */
#ifndef AVANT_TRANSLATE_TRANSLATE_H
#define AVANT_TRANSLATE_TRANSLATE_H

#include "translate/emit.h"
#include "translate/locality.h"
#include "translate/scan.h"
#include "translate/store.h"
#include "translate/window.h"

/* Host registers with a meaning of their own; all others hold the guest register of the same name. */
#define HOST_R10 10 /* scratch */
#define HOST_RSP 11 /* guest RSP */

/*
 * Guest registers that are in v->gpr whenever control passes between units or to a stub: the host registers of the same
 * name are free there. A unit that names one often loads it when it is entered and stores it when it is left; one that
 * names it rarely has it in memory all the time.
 */
#define MEMORY_HOME ((u16)(BIT(R8) | BIT(R9)))

#define COLD_MAX 1024

/* In pc_entry.home, where r10's own bit would say nothing: the flags are in v->scratch[2]. */
#define HOME_FLAGS BIT(R10)

enum cold_kind {
	COLD_TLB,      /* a TLB check failed */
	COLD_CELL,     /* the check of a cell failed: look up in the TLB */
	COLD_MISMATCH, /* v->rip is not this place's; guest rcx in r9 */
	COLD_LANDING,  /* r10 is not this landing's address; guest rcx in r9 */
	COLD_STALE,    /* where the body leads when the unit has been dropped */
	COLD_SAVED,    /* into a body that wants the flags in the host's register, which are in v->scratch[2] */
	COLD_INDIRECT, /* the pair table does not know the target of an indirect jump or call */
	COLD_REENTRY,  /* a landing as the target of a jump */
	COLD_POLL,     /* something is pending */
	COLD_POLL_RCX, /* the same, guest rcx in r10 */
	COLD_BUDGET,   /* counted mode: block does not fit */
	COLD_LINK,     /* an exit within the page that is not linked yet */
	COLD_HELPER,   /* an inline form does not do: call the helper */
	COLD_GOTO,     /* a conditional branch out of the unit */
};

struct cold {
	enum cold_kind kind;
	u16 item;
	u8 *from; /* displacement of the jump that leads here */
	u8 scratch;
	/* COLD_TLB and COLD_CELL */
	u8 *retry;
	bool simple, constant, flags_saved; /* constant: the address is `pc` */
	bool relative;                      /* … which moves with the code */
	bool window;                        /* the look-up is that of a window */
	u16 keep;                           /* registers that hold addends of open windows */
	u32 info;                           /* size | write << 7; window: length | write << 15 */
	s32 tag_offset;
	struct address address;
	/* COLD_CELL */
	u8 *back;
	u16 size;
	bool write;
	u8 cell;
	/* others */
	u32 link;
	u64 pc;
};

struct translation;

/* Code for some of a unit's items that does not come from emit_insn(): see translate_unit_with(). */
struct translate_parts {
	/*
	 * Is asked for each item in turn, with t->item set and registers as they are within the unit. Emits it and
	 * returns true; or returns false, and the item is copied. The flags may be saved (t->flags_saved); ways into a
	 * block bring them in the host's register.
	 */
	bool (*item)(const struct translate_parts *parts, struct translation *t, unsigned i);
	/* Emits what all items have been emitted before. */
	void (*end)(const struct translate_parts *parts, struct translation *t);
	bool no_windows; /* parts of basic blocks are replaced, across which no look-up may be kept */
};

struct translation {
	struct vcpu *v; /* where generated code will find it; not to be read from here */
	struct store *store;
	u32 mode; /* MODE_*, without MODE_CAREFUL */
	struct scan *scan;
	bool careful;                        /* no windows */
	const struct translate_parts *parts; /* or NULL */
	u32 unit;
	struct emitter e;
	struct scan_item *item; /* being emitted */
	bool ended;             /* it emitted its own continuation */
	u8 stub;                /* … and what executes it: an enum stub, or STUB_COUNT for the copy itself */
	u8 regs[3];             /* registers that the unit does not name: their guest values are in v->gpr throughout */
	unsigned reg_count;
	u16 home;      /* guest registers whose values are in v->gpr throughout, as a mask */
	u16 resident;  /* those of MEMORY_HOME that are in their host registers meanwhile */
	u16 dirty;     /* … and written */
	u16 in_memory; /* registers that are in no host register though they may be named: r10, r11, some of MEMORY_HOME
			*/
	u8 loose_reg;  /* the one of them for accesses outside of windows, or NO_REG: one is borrowed for each */
	u8 scratch;    /* register to use as scratch now */
	bool flags_saved; /* the guest's flags are in v->scratch[2]; the host's mean nothing */
	struct window_plan plan;
	struct locality locality;
	bool window_open[WINDOW_MAX];
	u8 *host[SCAN_ROOM];
	u8 handed[SCAN_ROOM]; /* by item: the enum stub that executes it; STUB_COUNT: the unit's own code does */
	struct {
		u8 *from;
		u16 item;
	} branch[SCAN_ROOM * 2];
	unsigned branch_count;
	struct cold cold[COLD_MAX];
	unsigned cold_count;
};

/* Bytes that a work area takes: struct translation and struct scan. */
struct translation *translation_create(void);
void translation_destroy(struct translation *t);
/* The scan that belongs to the work area: to be filled before translate_unit(). */
struct scan *translation_scan(struct translation *t);

/* How to scan for a translation in this mode. */
struct scan_options translate_scan_options(const struct store *store, u32 mode);

/* Which bits of the mode word the translation of this code depends on. */
u32 translate_mode_mask(const struct scan *scan);

/*
 * Translates what was scanned at the address scan->pc, for the mode (MODE_*); with MODE_CAREFUL without windows.
 * Returns the number of the new unit, whose run-time fields (gpa, gpa_next) are the caller's to set; or UNIT_NONE if
 * the store has no room for it, and then it is as it was.
 */
u32 translate_unit(struct translation *t, struct store *store, u32 mode);
/* The same with parts that come from elsewhere; parts may be NULL. */
u32 translate_unit_with(struct translation *t, struct store *store, u32 mode, const struct translate_parts *parts);

/* A register not in `used` that emitted sequences may use, or NO_REG; never rax, rcx, rsp, r10, r11. */
u8 translate_pick_scratch(u16 used);
/* Notes that the host code from here on belongs to the current item; `home`: guest registers that are in v->gpr. */
void translate_record(struct translation *t, u16 home);
struct cold *translate_cold(struct translation *t, enum cold_kind kind, u8 *from);
/*
 * Constants that depend on where the guest's code is. In a relocatable store they have one length and a fix-up. No
 * flags.
 */
void translate_load_address(struct translation *t, u8 to, u64 address);
void translate_load_minus(struct translation *t, u8 to, u64 address); /* to = -address */
/* The same of an address that the current item's displacement makes, relative to RIP or as it is. */
void translate_load_operand(struct translation *t, u8 to, u64 address);
/* May this one be a sign-extended imm32? */
bool translate_is_small(const struct translation *t, u64 value);
/* The last `size` bytes that were emitted depend on it so. */
void translate_fixup(struct translation *t, enum fixup_kind kind, unsigned size);
/*
 * In a module's code: the bytes that were emitted `back` bytes ago are made of an address of the unit's page, of the
 * current item's displacement (of an operand of which `access` bytes are touched), or of its immediate.
 */
void translate_note_own(struct translation *t, enum module_fixup kind, unsigned back, u64 address);
void translate_note_disp(struct translation *t, enum module_fixup kind, unsigned back, unsigned access);
void translate_note_imm(struct translation *t, unsigned back);
/* … or say which of the unit's links or instruction records is meant. */
void translate_note_number(struct translation *t, enum module_fixup kind, u32 number);
/* Is this field (SCAN_HOLE_…) of the current item a hole? */
static inline bool translate_has_hole(const struct translation *t, u8 field)
{
	return t->item->holes & field;
}
/* v->rip = pc; may use r10, no flags. */
void translate_store_rip(struct translation *t, u64 pc);
/*
 * From the registers' places between units to those within this one, and back: its scratch registers go to v->gpr, and
 * those of MEMORY_HOME that it names come from there.
 */
void translate_spill(struct translation *t);
void translate_unspill(struct translation *t);
/*
 * Arithmetic flags to and from v->scratch[2]. rax is kept in the register `temp`, which is destroyed, or if that is
 * NO_REG in scratch[1].
 */
void translate_save_flags(struct translation *t, u8 temp);
void translate_restore_flags(struct translation *t, u8 temp);
/* An instruction that needs the flags follows: emits no more than the state demands. */
void translate_need_flags(struct translation *t, u8 temp);
/* The place that a guest return comes back to. */
void translate_landing(struct translation *t, u64 pc);
/*
 * Goes (or makes a host call) to guest address pc; every register is in place. The flags may be saved: then the target
 * is entered where it finds them so.
 */
void translate_goto(struct translation *t, u64 pc, bool call);
/* The same through the jump table, for targets that may be on another page. */
void translate_goto_far(struct translation *t, u64 pc, bool call);
/* The same to v->rip, which r10 holds too. */
void translate_goto_rip(struct translation *t, bool call);
/* The same to the address in r10; v->rip need not be set, and the flags may be saved. */
void translate_goto_indirect(struct translation *t, bool call);
/* Leaves the unit for guest address pc. */
void translate_exit(struct translation *t, u64 pc);

/* Does what item i emits begin with the check of an access? */
bool emit_checks_first(const struct translation *t, unsigned i);
/* What is emitted for item `here` loses the addends of windows (and does not open any): later accesses look up. */
void translate_close_windows(struct translation *t, unsigned here);
/* Emits the look-ups that are due before t->item. */
void emit_window_checks(struct translation *t);
/* Emits t->item; false if this instruction must be executed by emit_insn_by_interp(). */
bool emit_insn(struct translation *t);
void emit_insn_by_interp(struct translation *t);
/* The look-up in the TLB behind a cell that did not fit, and the way back. */
void emit_cold_cell(struct translation *t, const struct cold *cold);
/* Calls a stub for t->item, with every register in place. */
void emit_stub_call(struct translation *t, enum stub stub);

#endif
