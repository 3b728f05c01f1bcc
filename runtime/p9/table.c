#include "p9/table.h"

#include <errno.h>
#include <stdlib.h>

#define BITS_MIN 6
#define BITS_MAX 22

int p9_table_init(struct p9_table *table)
{
	table->count = 0;
	table->bits = BITS_MIN;
	table->buckets = calloc(1U << table->bits, sizeof(*table->buckets));
	return table->buckets ? 0 : -ENOMEM;
}

void p9_table_release(struct p9_table *table)
{
	free(table->buckets);
	table->buckets = NULL;
}

u64 p9_hash(u64 key)
{
	/* the finalizer of SplitMix64 (Steele, Lea, Flood 2014): every step can be undone */
	key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9;
	key = (key ^ key >> 27) * 0x94d049bb133111eb;
	return key ^ key >> 31;
}

static struct p9_link **bucket(const struct p9_table *table, u64 hash)
{
	return &table->buckets[hash >> (64 - table->bits)];
}

/* Without memory for a larger one the table goes on as it is, with longer chains. */
static void grow(struct p9_table *table)
{
	struct p9_table larger = {.bits = table->bits + 1};

	larger.buckets = calloc(1U << larger.bits, sizeof(*larger.buckets));
	if (!larger.buckets)
		return;
	for (u32 i = 0; i < 1U << table->bits; i++)
		for (struct p9_link *next, *link = table->buckets[i]; link; link = next) {
			next = link->next;
			p9_table_insert(&larger, link, link->hash);
		}
	free(table->buckets);
	*table = larger;
}

void p9_table_insert(struct p9_table *table, struct p9_link *link, u64 hash)
{
	if (table->count >> table->bits && table->bits < BITS_MAX)
		grow(table);
	struct p9_link **at = bucket(table, hash);

	link->hash = hash;
	link->next = *at;
	*at = link;
	table->count++;
}

void p9_table_remove(struct p9_table *table, struct p9_link *link)
{
	struct p9_link **at = bucket(table, link->hash);

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	table->count--;
}

static struct p9_link *same_hash(struct p9_link *link, u64 hash)
{
	while (link && link->hash != hash)
		link = link->next;
	return link;
}

struct p9_link *p9_table_first(const struct p9_table *table, u64 hash)
{
	return same_hash(*bucket(table, hash), hash);
}

struct p9_link *p9_table_next(const struct p9_link *link)
{
	return same_hash(link->next, link->hash);
}

struct p9_link *p9_table_take(struct p9_table *table, u32 *cursor)
{
	for (; *cursor < 1U << table->bits; (*cursor)++) {
		struct p9_link *link = table->buckets[*cursor];

		if (!link)
			continue;
		table->buckets[*cursor] = link->next;
		table->count--;
		return link;
	}
	return NULL;
}
