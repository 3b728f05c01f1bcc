/* State of one translation, shared by translate.c (layout) and emit_insn.c (instructions). */
#ifndef AVANT_LIVE_TRANSLATE_H
#define AVANT_LIVE_TRANSLATE_H

#include "live/emit.h"
#include "live/live.h"
#include "live/scan.h"
#include "mem/mem.h"

/* Host registers with a meaning of their own; all others hold the guest register of the same name. */
#define HOST_R10 10 /* scratch */
#define HOST_RSP 11 /* guest RSP */

#define COLD_MAX 1024

enum cold_kind {
	COLD_TLB,      /* a TLB check failed */
	COLD_MISMATCH, /* v->rip is not this place's; guest rcx in r10 */
	COLD_POLL,     /* something is pending */
	COLD_POLL_RCX, /* the same, guest rcx in r10 */
	COLD_BUDGET,   /* counted mode: block does not fit */
	COLD_LINK,     /* an exit within the page that is not linked yet */
	COLD_GOTO,     /* a conditional branch out of the unit */
};

struct cold {
	enum cold_kind kind;
	u16 item;
	u8 *from; /* displacement of the jump that leads here */
	u8 scratch;
	/* COLD_TLB */
	u8 *retry;
	bool simple, flags_saved;
	u8 info; /* size | write << 7 */
	s32 tag_offset;
	struct address address;
	/* others */
	u32 link;
	u64 pc;
};

struct translation {
	struct vcpu *v;
	struct live *live;
	struct scan *scan;
	u32 unit;
	struct emitter e;
	struct scan_item *item; /* being emitted */
	bool ended;             /* it emitted its own continuation */
	u8 unit_scratch;        /* register that is in v->gpr throughout the unit, or NO_REG */
	u8 scratch;             /* register to use as scratch now */
	u8 *host[SCAN_MAX];
	struct {
		u8 *from;
		u16 item;
	} branch[SCAN_MAX * 2];
	unsigned branch_count;
	struct cold cold[COLD_MAX];
	unsigned cold_count;
};

/* Emits the whole unit; t->e.overflow says that something did not fit. */
void translate_emit(struct translation *t, struct unit *unit);

/* A register not in `used` that emitted sequences may use, or NO_REG; never rax, rcx, rsp, r10, r11. */
u8 translate_pick_scratch(u16 used);
/* Notes that the host code from here on belongs to the current item; `home`: guest registers that are in v->gpr. */
void translate_record(struct translation *t, u16 home);
struct cold *translate_cold(struct translation *t, enum cold_kind kind, u8 *from);
/* v->rip = pc; may use r10, no flags. */
void translate_store_rip(struct translation *t, u64 pc);
/* The unit's scratch register to and from its place in v->gpr. */
void translate_spill(struct translation *t);
void translate_unspill(struct translation *t);
/* Arithmetic flags to and from v->scratch[2]; rax is kept (through scratch[1]). */
void translate_save_flags(struct translation *t);
void translate_restore_flags(struct translation *t);
/* The place that a guest return comes back to. */
void translate_landing(struct translation *t, u64 pc);
/* Goes (or makes a host call) to guest address pc; every register is in place. */
void translate_goto(struct translation *t, u64 pc, bool call);
/* The same to v->rip, which r10 holds too. */
void translate_goto_rip(struct translation *t, bool call);
/* Leaves the unit for guest address pc. */
void translate_exit(struct translation *t, u64 pc);

/* Emits t->item; false if this instruction must be executed by emit_insn_by_interp(). */
bool emit_insn(struct translation *t);
void emit_insn_by_interp(struct translation *t);

#endif
