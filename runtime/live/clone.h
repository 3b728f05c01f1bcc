/*
 * Clones: copies of templates (template.h) that run, each for one address of its page. They have a part of the code
 * cache of their own, which is a ring of segments: the oldest one is emptied when there is no other, so that processes
 * that are gone do not push out code that is still wanted.
 *
 * A page frame with user code has a record as long as it is not written to: which group of templates its bytes are, and
 * which of them have been compared with it. The clones of a page for one address and mode, in one segment, are an
 * instance. Clones are found by frame, address and offset: no table has entries for each of them.
 */
#ifndef AVANT_LIVE_CLONE_H
#define AVANT_LIVE_CLONE_H

#include "live/live.h"
#include "live/template.h"
#include "translate/emit.h"

/* Links of clones are numbered from here on; below are the live store's, from AOT_FIRST_LINK on those of caches. */
#define CLONE_FIRST_LINK (1u << 25)

#define CLONE_VERIFIED 256u /* templates of a page of which it is remembered that they fit */

struct instance;

struct clone_page {
	struct instance *first;
	struct group *group; /* NULL: the record is free */
	u64 gpa;
	u64 verified[CLONE_VERIFIED / 64];
	u32 next_free;
};

struct instance {
	struct instance *next, **before; /* of the page's; what leads here */
	struct instance *next_hashed;
	struct clone_page *page; /* NULL: dropped */
	struct group *group;     /* the page's */
	struct number_set *set;
	u64 base, gpa; /* the page's addresses */
	u32 mode;
	u32 segment;
	u32 room;
	bool learns; /* which templates are wanted together */
	bool tied;   /* some link leads to code that is good for this address only, and no clone of the page */
	u16 units[]; /* by template: 1 + the clone's number in the segment, or 0 */
};

struct clone_segment {
	u64 age;  /* ascends in the order in which they were begun; 0: empty */
	u32 used; /* bytes of code */
	u32 units, links;
	u32 instance_bytes;
};

/* What is known of a clone besides its struct unit. */
struct clone {
	struct instance *instance;
	const struct template *template;
};

/* What a target's number means where it is one of clones. */
struct clone_target {
	u32 base; /* number of the view's base that it counts from */
	bool saved;
	s64 target;
};

struct clones {
	struct templates *templates;
	struct store forms; /* in which templates are made */
	struct clone_segment *segments;
	u32 first, segment_count; /* in use: first … segment_count - 1 */
	u32 current;
	u64 clock;
	u32 segment_size, segment_units, segment_links, segment_instances; /* the last in bytes */
	u32 unit_first;           /* number of the first clone in the live store */
	struct clone *clones;     /* by number from there */
	u8 *instances;            /* memory of each segment's */
	struct clone_page *pages; /* element 0 is not used */
	u32 page_count, page_max, page_free;
	u32 *page_of;                 /* by frame of RAM: its page, or 0 */
	struct instance **hash;       /* [1 << INSTANCE_HASH_BITS], newest first */
	struct clone_target *targets; /* by number */
	u32 target_first;             /* numbers from here on are clones' */
	u32 base_count;               /* bases given */
	void *memory;
	u64 memory_size;
};

#define INSTANCE_HASH_BITS 16

/* Instances by their page's guest and physical addresses, and others. */
static inline struct instance **instance_chain(const struct clones *clones, u64 base, u64 gpa)
{
	u64 hash = (base >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ULL ^ (gpa >> PAGE_SHIFT) * 0xc2b2ae3d27d4eb4fULL;

	return &clones->hash[hash >> (64 - INSTANCE_HASH_BITS)];
}

static inline bool clones_own(const struct live *live, u32 offset)
{
	const struct clones *clones = live->clones;

	return offset < live->code_size && offset >= clones->first * clones->segment_size;
}

static inline bool is_clone(const struct live *live, u32 unit)
{
	return unit >= live->clones->unit_first;
}

/* --- making (clone.c): ordinary C ------------------------------------------------------------------------------- */

/* For a code cache of live->code_size bytes. -1 with a message in err. */
int clones_create(struct live *live, struct err *err);
void clones_destroy(struct live *live);
/* Units that the live store must have room for, from clones->unit_first on. */
u32 clones_unit_max(u64 code_size);
/*
 * A clone for v->rip, which is at gpa, in this mode, in the segment that is being filled; others that have followed it
 * before are made with it. UNIT_NONE: this code is not for clones, or memory is short.
 */
u32 clones_make(struct vcpu *v, u64 gpa, u32 mode);
/* No clone is left. */
void clones_flush(struct live *live);
/* Completes the clone's links to others of its instance. */
void clone_complete_links(struct live *live, u32 number);
/* For a piece of code that lasts as long as the clones that exist now, at least. False: no room. */
bool clones_begin_piece(const struct live *live, struct emitter *e);
void clones_end_piece(struct live *live, const struct emitter *e);
/* Gives so many bytes of the code cache at the end of the store's back to it; false if clones need them. */
bool clones_yield(struct live *live);

/* --- moving (clone_move.c): ordinary C ---------------------------------------------------------------------------- */

/*
 * The page is at `base` in the view in force, where it has no clones in this mode. Gives it those that it has where a
 * program had it which is gone, if there are any that no other view knows a way to.
 */
void clones_take_over(struct vcpu *v, struct clone_page *page, u64 base, u32 mode);

/* --- finding and dropping (clone_find.c): general registers only -------------------------------------------------- */

struct found {
	u32 unit; /* or UNIT_NONE */
	u32 code; /* offset in the code cache of where it is entered */
};

/*
 * A clone for v->rip, which is at gpa, in this mode; with `whole` only one that begins there. Not older than `age`. It
 * may be entered in the view in force.
 */
struct found clones_find(struct vcpu *v, u64 gpa, bool whole, u32 mode, u64 age);
/* Enters an instance, whose page exists, in the page's list and in the hash, as the newest. */
void instance_link(struct clones *clones, struct instance *instance);
void instance_unlink(struct clones *clones, struct instance *instance);
/* May a clone that fits otherwise be entered in the view in force? */
bool clone_may_run(struct vcpu *v, u32 unit);
/* How old a clone is. */
u64 clone_age(const struct live *live, u32 unit);
void clones_drop_frame(struct vcpu *v, u64 frame);
bool clones_find_pc(const struct live *live, u32 offset, const struct unit **unit, const struct pc_entry **entry);
struct link clone_link(const struct live *live, u32 number);
/* The link has been taken, to the unit `to`; `direct`: nothing is between it and that unit. */
void clone_note_link(struct live *live, u32 number, u32 to, bool direct);
/* Are both clones of one page at one address, whose numbers of targets mean the same in every view? */
bool clones_agree(const struct live *live, u32 one, u32 other);
/* What the number of a target stands for in the view in force; false: not a clone's. */
bool clone_target_pc(struct vcpu *v, u32 number, u64 *pc, bool *saved);

#endif
