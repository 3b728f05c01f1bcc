/*
 * A hash table of things that hold a link; who looks something up knows what surrounds the link and compares keys:
 *
 *	for (struct p9_link *link = p9_table_first(&table, hash); link; link = p9_table_next(link)) …
 */
#ifndef AVANT_P9_TABLE_H
#define AVANT_P9_TABLE_H

#include "util/types.h"

struct p9_link {
	struct p9_link *next; /* in its bucket */
	u64 hash;
};

struct p9_table {
	struct p9_link **buckets;
	u32 count, bits; /* 1 << bits buckets */
};

#define P9_TABLE_OF(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* 0 or -ENOMEM */
int p9_table_init(struct p9_table *table);
/* Does not touch what is still in it. */
void p9_table_release(struct p9_table *table);

/* Spreads a key over 64 bits, one to one. */
u64 p9_hash(u64 key);

void p9_table_insert(struct p9_table *table, struct p9_link *link, u64 hash);
void p9_table_remove(struct p9_table *table, struct p9_link *link);

/* All links with this hash, in no order. */
struct p9_link *p9_table_first(const struct p9_table *table, u64 hash);
struct p9_link *p9_table_next(const struct p9_link *link);

/* Takes out any link, NULL if there is none. To empty a table: *cursor is 0 at first, and nothing is put in meanwhile.
 */
struct p9_link *p9_table_take(struct p9_table *table, u32 *cursor);

#endif
