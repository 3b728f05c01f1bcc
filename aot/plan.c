#include "plan.h"

#include "translate/fixup.h"
#include "translate/translate.h"

#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#define PLAN_MAX (1u << 24) /* units */

/* Code that is written anew all the time is the live translator's. */
#define VERSIONS_MAX 64
#define VERSION_BITS 20

/* Memory that lives as long as the plan: bytes and counts do not move. */
struct block {
	struct block *next;
	u64 used, size;
	u64 data[];
};

struct plan {
	struct want *wants;
	size_t count, room;
	u32 *table; /* open hash by pc, mode, hash: 1 + number, or 0 */
	size_t table_size;
	struct block *blocks;
	struct want ignored;
	const struct store *store;
	u8 versions[1 << VERSION_BITS];
	struct scan scan; /* of the record being added */
	struct plan_dropped dropped[PLAN_DROPS];
};

#define BLOCK_SIZE (1u << 20)

struct plan *plan_create(const struct store *store, struct err *err)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		err_set(err, "out of memory");
	else
		plan->store = store;
	return plan;
}

void plan_destroy(struct plan *plan)
{
	if (!plan)
		return;
	for (struct block *block = plan->blocks, *next; block; block = next) {
		next = block->next;
		free(block);
	}
	free(plan->wants);
	free(plan->table);
	free(plan);
}

static void *keep(struct plan *plan, const void *data, u64 size)
{
	struct block *block = plan->blocks;
	u64 rounded = align_up(size, 8);

	if (!block || block->used + rounded > block->size) {
		u64 room = rounded > BLOCK_SIZE ? rounded : BLOCK_SIZE;

		block = malloc(sizeof(*block) + room);
		if (!block)
			return NULL;
		*block = (struct block){.next = plan->blocks, .size = room};
		plan->blocks = block;
	}
	u8 *at = (u8 *)block->data + block->used;

	block->used += rounded;
	return memcpy(at, data, size);
}

static u64 key_of(const struct want *want)
{
	return ((want->pc ^ want->page[0]) * 0x9e3779b97f4a7c15ULL ^ want->hash[0]) + want->mode;
}

static bool same(const struct want *a, const struct want *b)
{
	return a->pc == b->pc && a->page[0] == b->page[0] && a->page[1] == b->page[1] && a->mode == b->mode &&
	       a->length == b->length && a->hash[0] == b->hash[0] && a->hash[1] == b->hash[1];
}

/* The place of the want in the table: taken by an equal one, or free. */
static u32 *find(const struct plan *plan, const struct want *want)
{
	size_t i = (key_of(want) >> 20) & (plan->table_size - 1);

	while (plan->table[i] && !same(&plan->wants[plan->table[i] - 1], want))
		i = (i + 1) & (plan->table_size - 1);
	return &plan->table[i];
}

bool plan_find(const struct plan *plan, const struct want *key, size_t *number)
{
	const struct want *want;
	u32 place = plan->count ? *find(plan, key) : 0;

	if (!place)
		return false;
	*number = place - 1;
	want = &plan->wants[*number];
	return want->mode_mask == key->mode_mask && !memcmp(want->bytes, key->bytes, want->length);
}

static int grow(struct plan *plan)
{
	size_t room = plan->room ? plan->room * 2 : 4096;
	struct want *wants = realloc(plan->wants, room * sizeof(*wants));

	if (!wants)
		return -1;
	plan->wants = wants;
	u32 *table = calloc(room * 2, sizeof(*table));

	if (!table)
		return -1;
	free(plan->table);
	plan->table = table;
	plan->table_size = room * 2;
	plan->room = room;
	for (size_t i = 0; i < plan->count; i++)
		*find(plan, &plan->wants[i]) = (u32)i + 1;
	return 0;
}

/* How many versions of code at one address (of one page) are planned, by a hash of the address. */
static u8 *versions_at(struct plan *plan, const struct want *want)
{
	return &plan->versions[((want->pc ^ want->page[0]) * 0x9e3779b97f4a7c15ULL) >> (64 - VERSION_BITS)];
}

/*
 * The plan's own record of the want, new or known; &plan->ignored if its address has had too many versions already;
 * NULL if memory is short.
 */
static struct want *enter(struct plan *plan, struct want want)
{
	if (plan->count == plan->room && (plan->count >= PLAN_MAX || grow(plan) < 0))
		return NULL;
	tcache_hash(want.bytes, want.length, want.hash);
	u32 *place = find(plan, &want);

	if (*place)
		return &plan->wants[*place - 1];
	if (*versions_at(plan, &want) == VERSIONS_MAX)
		return &plan->ignored;
	want.bytes = keep(plan, want.bytes, want.length);
	if (!want.bytes)
		return NULL;
	++*versions_at(plan, &want);
	plan->wants[plan->count] = want;
	*place = (u32)++plan->count;
	return &plan->wants[plan->count - 1];
}

void plan_count_items(const struct scan *scan, const struct want *want, u64 executed[SCAN_ROOM])
{
	u32 block = 0;

	for (unsigned i = 0; i < scan->count; i++) {
		block += scan->item[i].block;
		executed[i] = block && block <= want->count_count ? want->counts[block - 1] : 0;
	}
}

static struct want make_want(const struct scan *scan, u32 mode, const u8 *bytes, const u64 page[2])
{
	u32 mask = translate_mode_mask(scan);
	struct want want = {
		.pc = scan->pc, .mode = mode & mask, .mode_mask = mask, .bytes = bytes, .length = (u16)scan->bytes};

	if (page) {
		want.pc = TCACHE_TEMPLATE_BASE + PAGE_OFFSET(scan->pc);
		memcpy(want.page, page, sizeof(want.page));
	}
	return want;
}

static int add_unseen(struct plan *plan, struct want wanted, u16 rank, struct err *err)
{
	struct want *want;

	wanted.rank = rank;
	want = enter(plan, wanted);
	if (!want)
		return err_set(err, "out of memory");
	if (rank < want->rank)
		want->rank = rank;
	return 0;
}

int plan_add(struct plan *plan, const struct scan *scan, u32 mode, const u8 *bytes, const u64 page[2], u16 rank,
	     struct err *err)
{
	return add_unseen(plan, make_want(scan, mode, bytes, page), rank, err);
}

const struct module_page *plan_module_page(struct plan *plan, const u8 *bytes, const u16 *holes, u32 count)
{
	struct {
		u8 bytes[PAGE_SIZE];
		u16 holes[PAGE_SIZE / 4];
	} all;
	struct module_page page = {.hole_count = count};

	memcpy(all.bytes, bytes, sizeof(all.bytes));
	memcpy(all.holes, holes, count * sizeof(*holes));
	tcache_hash(&all, sizeof(all.bytes) + count * sizeof(*holes), page.hash);
	page.holes = keep(plan, holes, count * sizeof(*holes));
	return page.holes ? keep(plan, &page, sizeof(page)) : NULL;
}

int plan_add_module(struct plan *plan, const struct scan *scan, u32 mode, const u8 *bytes,
		    const struct module_page *page, u16 rank, struct err *err)
{
	struct want want = make_want(scan, mode, bytes, page->hash);

	want.pc = TCACHE_MODULE_BASE + PAGE_OFFSET(scan->pc);
	want.module = page;
	return add_unseen(plan, want, rank, err);
}

/* Adds one record's counts to the want's. */
static int add_counts(struct plan *plan, struct want *want, const u64 *counts, u32 count)
{
	if (!want->count_count) {
		want->counts = keep(plan, counts, count * sizeof(u64));
		want->count_count = want->counts ? count : 0;
		return want->counts ? 0 : -1;
	}
	/* equal bytes have equal blocks, unless somebody made the file up */
	for (u32 i = 0; i < count && i < want->count_count; i++)
		((u64 *)want->counts)[i] += counts[i];
	return 0;
}

int plan_add_counted(struct plan *plan, const struct scan *scan, u32 mode, const u8 *bytes, const u64 page[2],
		     const u64 *counts, u32 count, struct err *err)
{
	struct want *want = enter(plan, make_want(scan, mode, bytes, page));

	if (want == &plan->ignored || (want && want->count_count))
		return 0;
	if (!want || add_counts(plan, want, counts, count) < 0)
		return err_set(err, "out of memory");
	want->derived = true;
	return 0;
}

/*
 * Code that may be anywhere gets an address of its own. False: it is not worth planning: it was executed where it was
 * written anew, or reaches into the next page; at that address nobody will ever see it again.
 */
static bool place(struct tcache *file, const struct tcache_executed *record, u64 *pc, const u64 **page)
{
	const struct tcache_recorded_page *recorded;

	*pc = record->pc;
	*page = NULL;
	if (!fixup_moves(record->pc, record->mode))
		return true;
	if (!record->page || PAGE_OFFSET(record->pc) + record->guest_length > PAGE_SIZE)
		return false;
	recorded = tcache_recorded_pages(file, record->page - 1, 1);
	*pc = TCACHE_TEMPLATE_BASE + PAGE_OFFSET(record->pc);
	*page = recorded ? recorded->hash : NULL;
	return recorded;
}

/* Counts a record that is not planned; plan->scan is of it unless it is invalid. */
/* Counts it among those that are not planned. Returns 0. */
static int drop(struct plan *plan, enum plan_drop why, const u64 *counts, u32 count)
{
	const struct want want = {.counts = counts, .count_count = count};
	struct plan_dropped *dropped = &plan->dropped[why];
	u64 executed[SCAN_ROOM];

	dropped->units++;
	if (why == PLAN_DROP_INVALID)
		return 0;
	plan_count_items(&plan->scan, &want, executed);
	dropped->instructions += plan->scan.count;
	for (unsigned i = 0; i < plan->scan.count; i++) /* up to the limit: anybody may have written them */
		dropped->executed =
			executed[i] > UINT64_MAX - dropped->executed ? UINT64_MAX : dropped->executed + executed[i];
	return 0;
}

static int add_record(struct plan *plan, struct tcache *file, const struct tcache_executed *record, struct err *err)
{
	const u64 *page;
	u64 pc;
	const u8 *bytes = tcache_guest(file, record->bytes_first, record->guest_length);
	const u64 *counts = tcache_counts(file, record->count_first, record->count_count);
	struct want *want;
	bool placed;

	if (!bytes || !counts)
		return err_set(err, "%s", tcache_error(file));
	if (record->guest_length == 0 || record->guest_length > TCACHE_MAX_GUEST_LENGTH ||
	    record->count_count > PAGE_SIZE)
		return err_set(err, "recording '%s' holds code of %u bytes with %u blocks: it is damaged",
			       tcache_name(file), record->guest_length, record->count_count);
	placed = place(file, record, &pc, &page);
	if (!plan_scan(plan->store, &plan->scan, pc, record->mode, bytes, record->guest_length))
		return drop(plan, PLAN_DROP_INVALID, counts, record->count_count);
	if (!placed)
		return drop(plan, PLAN_DROP_MOVES, counts, record->count_count);
	want = enter(plan, make_want(&plan->scan, record->mode, bytes, page));
	if (want == &plan->ignored)
		return drop(plan, PLAN_DROP_VERSIONS, counts, record->count_count);
	if (!want || (record->count_count && add_counts(plan, want, counts, record->count_count) < 0))
		return err_set(err, "out of memory");
	return 0;
}

int plan_add_recording(struct plan *plan, const char *path, struct err *err)
{
	struct tcache *file;
	char error[512];
	int result = 0;

	/* data, not code: whoever owns it */
	if (tcache_open(path, TCACHE_TRUST, &file, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	u64 count = tcache_executed_count(file);
	const struct tcache_executed *records = tcache_executed(file, 0, count);

	if (!records)
		result = err_set(err, "%s", tcache_error(file));
	else if (!count)
		result = err_set(err, "'%s' is no recording of avant run --record", path);
	for (u64 i = 0; i < count && result == 0; i++)
		result = add_record(plan, file, &records[i], err);
	tcache_close(file);
	return result;
}

enum heat want_heat(const struct want *want)
{
	for (u32 i = 0; i < want->count_count; i++) {
		if (want->counts[i] >= HOT_COUNT)
			return HOT;
	}
	return want->count_count ? WARM : UNSEEN;
}

/* Sorted by counting: ranks are small numbers. */
size_t *plan_unseen(const struct plan *plan, size_t *count)
{
	size_t *order = malloc((plan->count + 1) * sizeof(*order));
	size_t *next = calloc(UINT16_MAX + 2, sizeof(*next)); /* place in the order, by rank */

	*count = 0;
	if (!order || !next) {
		free(order);
		free(next);
		return NULL;
	}
	for (size_t i = 0; i < plan->count; i++)
		next[plan->wants[i].rank + 1] += !plan->wants[i].count_count;
	for (unsigned rank = 0; rank <= UINT16_MAX; rank++)
		next[rank + 1] += next[rank];
	*count = next[UINT16_MAX + 1];
	for (size_t i = 0; i < plan->count; i++)
		if (!plan->wants[i].count_count)
			order[next[plan->wants[i].rank]++] = i;
	free(next);
	return order;
}

const struct plan_dropped *plan_dropped(const struct plan *plan, enum plan_drop why)
{
	return &plan->dropped[why];
}

const struct store *plan_store(const struct plan *plan)
{
	return plan->store;
}

size_t plan_count(const struct plan *plan)
{
	return plan->count;
}

const struct want *plan_at(const struct plan *plan, size_t number)
{
	return &plan->wants[number];
}
