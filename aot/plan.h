/*
 * What is to be translated: guest code as units, each with its address, mode, bytes, and how often its basic blocks ran
 * in training runs. Fed by recordings (avant run --record) and by the pre-scan; order is that of first mention, in
 * which cmd_translate.c goes through the hot ones, the others that were executed, and the rest.
 */
#ifndef AVANT_AOT_PLAN_H
#define AVANT_AOT_PLAN_H

#include "translate/scan.h"
#include "translate/store.h"
#include "util/err.h"
#include "util/types.h"

/* A page of a kernel module: what is filled in there when it is loaded. */
struct module_page {
	u64 hash[2];
	const u16 *holes; /* as scan_note_holes() takes them; owned by the plan */
	u32 hole_count;
};

struct want {
	u64 pc;      /* of a template, a module: its place in the page at TCACHE_TEMPLATE_BASE, TCACHE_MODULE_BASE */
	u64 hash[2]; /* of the bytes */
	u64 page[2]; /* hash of the page of which this is to be a template; zero: a unit for its address */
	const struct module_page *module; /* it is a module's, and this is its page, owned by the plan; or NULL */
	const u8 *bytes;                  /* owned by the plan */
	const u64 *counts; /* executions of its basic blocks in the order of scan_unit(); owned by the plan */
	u32 mode;          /* MODE_*, only those bits that matter to this code */
	u32 mode_mask;     /* the bits that matter */
	u32 count_count;   /* 0: never seen executed */
	u16 length;
	u16 rank;     /* of what nobody has seen executed: which goes first */
	bool derived; /* the counts are those of blocks of other units, told once more */
};

/* May the code be anywhere? */
static inline bool want_moves(const struct want *want)
{
	return want->page[0] | want->page[1];
}

static inline bool want_is_template(const struct want *want)
{
	return want_moves(want) && !want->module;
}

struct plan;

/*
 * In this order code is laid out: hot code lies together, and has the numbers of jump targets, of which there are not
 * enough for all. Then comes what was executed at all, then what nobody has seen.
 */
enum heat { HOT, WARM, UNSEEN, HEATS };
#define HOT_COUNT 1000u /* executions of a basic block in the training runs that make code hot */
enum heat want_heat(const struct want *want);

/* `store` says how translations are scanned, and must outlive the plan. NULL with a message in err. */
struct plan *plan_create(const struct store *store, struct err *err);
void plan_destroy(struct plan *plan);

/*
 * Adds what the recording at `path` holds; counts of what is known already are added up. The file is not trusted.
 * Returns 0, or -1 with a message in err that names the file.
 */
int plan_add_recording(struct plan *plan, const char *path, struct err *err);

/*
 * Adds code that nobody has seen executed, `bytes` of what was scanned, unless it is there already. `page` as in struct
 * want, or NULL; with one, of the address that it was scanned at only the offset in the page matters. What is added
 * several times keeps its lowest rank. -1: out of memory.
 */
int plan_add(struct plan *plan, const struct scan *scan, u32 mode, const u8 *bytes, const u64 page[2], u16 rank,
	     struct err *err);

/*
 * A page of a kernel module, for plan_add_module(): 4,096 bytes with SCAN_HOLE_FILLING in the holes. NULL: out of
 * memory.
 */
const struct module_page *plan_module_page(struct plan *plan, const u8 *bytes, const u16 *holes, u32 count);

/* Adds code of such a page, scanned with the holes filled, as plan_add() does. */
int plan_add_module(struct plan *plan, const struct scan *scan, u32 mode, const u8 *bytes,
		    const struct module_page *page, u16 rank, struct err *err);

/*
 * Adds code that was executed so often, by basic block, as other units that have it in them tell; unless it is there
 * already with counts of its own. -1: out of memory.
 */
int plan_add_counted(struct plan *plan, const struct scan *scan, u32 mode, const u8 *bytes, const u64 page[2],
		     const u64 *counts, u32 count, struct err *err);

/* Executions of each item, from those of its basic block. */
void plan_count_items(const struct scan *scan, const struct want *want, u64 executed[SCAN_ROOM]);

/* What recordings hold that is not planned, and why. */
enum plan_drop {
	PLAN_DROP_INVALID,  /* bytes that are not one unit: the recording is of another version, or made up */
	PLAN_DROP_MOVES,    /* may be anywhere, but was written by the guest or reaches into the next page */
	PLAN_DROP_VERSIONS, /* its place has had too many versions of code already */
	PLAN_DROPS
};

struct plan_dropped {
	u64 units, instructions;
	u64 executed; /* instructions; of what is invalid nobody can say */
};
const struct plan_dropped *plan_dropped(const struct plan *plan, enum plan_drop why);

/* Scans exactly these bytes; false if they are not one unit. */
bool plan_scan(const struct store *store, struct scan *scan, u64 pc, u32 mode, const u8 *bytes, unsigned length);
/* The same of a module's code, with its page's holes: these must be fields of instructions. */
bool plan_scan_module(const struct store *store, struct scan *scan, u64 pc, u32 mode, const u8 *bytes, unsigned length,
		      const u16 *holes, u32 hole_count);

/*
 * Is this planned? Of `key`, pc, hash, page, mode, mode_mask, length and bytes are compared. Then *number is that of
 * the plan's own record.
 */
bool plan_find(const struct plan *plan, const struct want *key, size_t *number);

/* The store that it is planned for. */
const struct store *plan_store(const struct plan *plan);
/* Numbers of those that nobody has seen executed, by rank, then in order. The caller frees them; NULL: out of memory.
 */
size_t *plan_unseen(const struct plan *plan, size_t *count);
size_t plan_count(const struct plan *plan);
const struct want *plan_at(const struct plan *plan, size_t number);

#endif
