/*
 * Names in directories, numbered: for containers that have no numbers of their own for their files. Node 0 is the root.
 */
#ifndef AVANT_IMAGE_INDEX_H
#define AVANT_IMAGE_INDEX_H

#include "util/err.h"
#include "util/types.h"

#define INDEX_NONE UINT32_MAX

struct index_node {
	u32 parent;
	u32 first_child, last_child, next; /* in the order in which they were added; or INDEX_NONE */
	u32 name;                          /* offset in names */
};

struct index {
	struct index_node *node;
	u32 count, room;
	char *names;
	u64 names_size, names_room; /* bytes */
	u32 *slot;                  /* hash table of nodes by parent and name; a power of two of them */
	u32 slots;
};

/* The root alone. 0, or -1 with a message in err. */
int index_init(struct index *index, struct err *err);
void index_release(struct index *index);

/* The child of that name, or INDEX_NONE. */
u32 index_find(const struct index *index, u32 parent, const char *name, size_t length);

/* The child of that name, new if there was none; INDEX_NONE with a message in err. */
u32 index_add(struct index *index, u32 parent, const char *name, size_t length, struct err *err);

static inline const char *index_name(const struct index *index, u32 node)
{
	return index->names + index->node[node].name;
}

#endif
