/*
 * Templates: translations of user code that are good for every address at which its page may be mapped, kept by
 * content. They are never run: clone.c copies them. A program or library that is loaded somewhere else is not
 * translated again, whoever maps it, and not even looked at when its page frame is known.
 *
 * Templates of one page of code form a group. What they share are the places that may be jumped to, and the targets on
 * other pages that they jump to by number.
 */
#ifndef AVANT_LIVE_TEMPLATE_H
#define AVANT_LIVE_TEMPLATE_H

#include "translate/fixup.h"
#include "translate/store.h"
#include "util/types.h"

struct aot_templates;
struct group;
struct tcache_template_view;

/* A jump within the page. */
struct template_link {
	u32 patch;  /* offset of its displacement, which leads to a cold path */
	u16 target; /* where it leads, in the page */
	u16 to;     /* the template that it led to last: 1 + its index, or 0 */
	bool saved; /* the flags are in v->scratch[2] */
	bool taken; /* it has been */
};

/* A jump to another page. */
struct template_goal {
	u32 number, entry; /* as in struct goal */
	u32 slot;          /* in the group */
};

struct template
{
	struct template *next; /* with the same hash */
	struct group *group;
	u64 base; /* address of the page that the code was made for */
	u32 mode, mode_mask;
	u16 offset; /* of its first byte in the page */
	u16 guest_length, instructions;
	u16 index;                    /* in its group */
	u32 code_length, body, saved; /* offsets from the first byte of code */
	u32 pc_count, link_count, goal_count;
	u32 uses;  /* in how many of the instances that learn it was wanted */
	u8 origin; /* enum origin */
	struct fixup_list fixups;
	const u8 *code, *guest;
	const struct pc_entry *pcs; /* their `code` is an offset from the first byte */
	const struct template_goal *goals;
	struct template_link *links;
};

/* Where a template is entered with v->rip set. */
struct place {
	u16 offset; /* in the page */
	u16 template;
	u32 code;     /* offset from the first byte; 0 at the template's beginning */
	bool careful; /* the template's mode has MODE_CAREFUL */
};

/* Where jumps of the group's templates lead to, on other pages. */
struct slot_target {
	s64 target; /* from the beginning of the page */
	bool saved;
};

/*
 * Numbers of targets that the group's copies use, with one base of each view (mem.h) for the page's address. One set
 * serves any number of address spaces; a second one is needed where a page is mapped twice in one of them.
 */
struct number_set {
	struct number_set *next;
	u32 base; /* number of the base */
	u32 count;
	u32 *numbers; /* by slot; those of further slots have not been given yet */
};

struct group {
	struct group *next;
	struct aot_templates *aot; /* the cache that has more of them, in this page; or NULL */
	u32 aot_cold, aot_end;     /* numbers there: from the first to behind the last that was not executed */
	struct template **templates;
	struct place *places; /* by offset */
	struct slot_target *slots;
	struct number_set *sets;
	u32 template_count, template_room;
	u32 place_count, place_room;
	u32 slot_count, slot_room;
	/*
	 * Templates that are wanted most often when the page is run somewhere: they are copied together. Which ones
	 * these are is learnt from some of the instances, in which each is copied when it is wanted.
	 */
	u16 *together;
	u32 together_count;
	u32 instance_count, learnt; /* instances, and those of them that learned */
};

#define GROUP_TEMPLATES_MAX 4096u

struct templates;

/* `limit`: bytes that all templates may take. NULL: out of memory. */
struct templates *templates_create(u64 limit);
void templates_destroy(struct templates *templates);

struct group *group_create(struct templates *templates);

/*
 * Adds the relocatable unit to the group: `bytes` are its guest's. NULL if there is no room or no memory, or if it
 * cannot be a template (too much of something).
 */
struct template *template_add(struct templates *templates, struct group *group, const struct store *store, u32 unit,
			      u32 mode_mask, const u8 *bytes);

/*
 * Adds one of a cache, whose memory it goes on using. NULL if there is no memory, or if it cannot be.
 */
struct template *template_import(struct templates *templates, struct group *group,
				 const struct tcache_template_view *view);
/* Finds out for links of which it is known that they are taken where they lead. */
void group_resolve_links(struct group *group);

/* A new instance of the group: does it learn? */
bool group_begin_instance(struct group *group);

/* All templates, groups and sets are no more. */
void templates_clear(struct templates *templates);
/* All sets are no more. */
void templates_clear_sets(struct templates *templates);
/* Has the limit been reached? */
bool templates_full(const struct templates *templates);

/* Is it what `length` bytes at this offset of a page mean in this mode? */
bool template_fits(const struct template *template, u32 offset, u32 mode, const u8 *bytes, u32 length);
/* The group's template for these bytes; NULL if there is none. */
struct template *group_find(const struct group *group, u32 offset, u32 mode, const u8 *bytes, u32 length);
/* The same among all groups. */
struct template *templates_find(const struct templates *templates, u32 offset, u32 mode, const u8 *bytes, u32 length);

/* The first of the group's places at this offset; they end with another offset or place_count. General registers only.
 */
static inline u32 group_place(const struct group *group, u32 offset)
{
	u32 low = 0, high = group->place_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (group->places[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

#endif
