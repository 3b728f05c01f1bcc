/*
 * Caches in use: units that the build step made, bound to guest memory when their bytes are found there. A bound unit
 * is an ordinary unit in the live engine's tables whose code lies in the cache's mapping, read-only, or has been copied
 * from there; its links go through cells, which are private to this process, or straight to units bound with it.
 */
#ifndef AVANT_LIVE_AOT_H
#define AVANT_LIVE_AOT_H

#include "live/live.h"
#include "util/err.h"

struct aot;

/*
 * Opens the cache at path for this VM (after live_create()), maps it and makes its units available. Returns 0, or -1
 * with a message in err that names file and reason: then nothing has changed. `trust`: whoever owns the file.
 */
int aot_open(struct live *live, const char *path, bool trust, struct err *err);
void aot_close(struct aot *aot);
/* Number of units of all caches. */
u64 aot_units(const struct live *live);
/* Number of their templates. */
u64 aot_template_count(const struct live *live);
/* Gives the numbered targets of all caches back to the live tables, which have been emptied. */
void aot_number_targets(struct live *live);

/*
 * What some cache keeps as unpacked from the kernel file with these contents, checked; NULL if none does. Warns of
 * caches that were made for another kernel.
 */
const u8 *aot_unpacked(const struct live *live, const u8 *file, u64 size, u64 *unpacked_size);

/*
 * Maps whole pages of what aot_unpacked() returned at `to`, in memory of the caller's; private, readable and writable.
 * Returns how many of the `size` bytes at `data` are there now: 0 if they are no cache's or do not begin with a page.
 */
u64 aot_map_unpacked(const struct live *live, const u8 *data, u64 size, u8 *to);

/*
 * What aot_unpacked() gave has been used, or it was not asked: it need not stay in memory. No thread of a cache's is
 * left then, which sandboxes rely on.
 */
void aot_forget_unpacked(const struct live *live);

/* Units that are bound at once, at most: no page has more of them that were executed. */
#define AOT_TOGETHER 1024u

/*
 * Binds a unit for v->rip at gpa in this mode, and those of its page that it jumps straight into: if they are not all
 * there or more than `max`, the unit alone, as a copy that need not. Returns how many; their numbers in the live tables
 * are in `numbers`, its own is the first. 0: no cache has one, or there is no room for a copy. *full says that the
 * tables are full: nothing else can be done until they are emptied.
 */
unsigned aot_bind(struct vcpu *v, u64 gpa, u32 mode, u32 *numbers, unsigned max, bool *full);

/*
 * Binds the other units of v->rip's page, which is at gpa's, that the recorded run executed: they will be wanted soon,
 * and together they cost less. At most `max` numbers; returns how many.
 */
unsigned aot_bind_page(struct vcpu *v, u64 gpa, u32 mode, u32 *numbers, unsigned max);
/* Completes the links between these units, all published now and of one page. */
void aot_link_page(struct live *live, const u32 *numbers, unsigned count);

/* The unit is dropped, or all are: its code is not entered any more. General registers only. */
void aot_unbind(struct live *live, const struct unit *unit);
void aot_unbind_all(struct live *live);

/* Is this an offset (in the live engine's terms) in some cache's code? Then as live_find_pc(). General registers only.
 */
bool aot_owns(const struct live *live, u32 offset);
bool aot_find_pc(const struct live *live, u32 offset, const struct unit **unit, const struct pc_entry **entry);
/* The same among units that were copied. */
bool aot_find_copied_pc(const struct live *live, u32 offset, const struct unit **unit, const struct pc_entry **entry);

/* Links of caches are numbered from here on. */
#define AOT_FIRST_LINK (1u << 26)
/* The link with this number; its unit is UNIT_NONE if it is not bound. General registers only. */
struct link aot_link(const struct live *live, u32 number);
/* Lets the link go on at this host address. General registers only. */
void aot_set_link(struct live *live, u32 number, u64 host);

/*
 * Decodes an instruction record of a cache that was not used before. Keeps the guest's vector state loaded. False if it
 * is none, which ends the run.
 */
bool aot_decode(struct vcpu *v, const struct insn *insn);

#endif
