/*
 * Kernel modules' units of caches: found by content, and copied to become units like any that live translation has
 * made, wherever the guest has loaded the module and whatever it has filled into the holes.
 */
#ifndef AVANT_LIVE_AOT_MODULE_H
#define AVANT_LIVE_AOT_MODULE_H

#include "live/live.h"
#include "util/types.h"

struct tcache;

/* What is known of the code in a frame of the guest's memory. */
struct module_frame {
	u64 gpa;     /* of the frame, or NO_FRAME */
	u32 page;    /* the cache's page that it is, if it has been recognized */
	u8 cache;    /* … number of that cache */
	bool known;  /* … */
	u8 searches; /* among all pages, so far */
};

#define MODULE_FRAME_BITS 12

struct aot_modules {
	struct tcache *cache[AOT_MAX]; /* those that have such units */
	u8 *seen[AOT_MAX];             /* by cache, a bit for each of its pages: a frame has been recognized as that */
	unsigned count;
	bool damage_said;
	struct module_frame frames[1 << MODULE_FRAME_BITS]; /* by frame; another one's is given up */
};

/* Adds those of the cache, which must outlive the result, to live->modules, if it has any. -1: out of memory. */
int aot_modules_add(struct live *live, struct tcache *cache);
/* NULL is allowed. */
void aot_modules_destroy(struct aot_modules *modules);
/* Number of them in all caches. */
u64 aot_modules_count(const struct live *live);

/*
 * A unit for v->rip, at gpa, in this mode: not published yet. UNIT_NONE: no cache has one, or there is no room for it,
 * which is live translation's to make.
 */
u32 aot_modules_make(struct vcpu *v, u64 gpa, u32 mode);

static inline struct module_frame *module_frame(struct aot_modules *modules, u64 gpa)
{
	return &modules->frames[(gpa >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ULL >> (64 - MODULE_FRAME_BITS)];
}

/* The frame, which had live units, has been written to: others are not watched. General registers only. */
static inline void aot_modules_forget(struct live *live, u64 gpa)
{
	struct module_frame *frame = live->modules ? module_frame(live->modules, gpa) : NULL;

	if (frame && frame->gpa == PAGE_BASE(gpa))
		frame->gpa = NO_FRAME;
}

#endif
