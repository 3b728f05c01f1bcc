#include "image/reader/index.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MOST 8000000u /* an image with more files is none that anybody wants to translate */

static int no_memory(struct err *err)
{
	return err_set(err, "not enough memory for the names in it");
}

/* FNV-1a; what an attacker gains by collisions is slowness, which the limit on processor time ends. */
static u32 hash(u32 parent, const char *name, size_t length)
{
	u32 value = 2166136261u ^ parent * 2654435761u;

	for (size_t i = 0; i < length; i++)
		value = (value ^ (u8)name[i]) * 16777619u;
	return value ^ value >> 15;
}

static bool is(const struct index *index, u32 node, u32 parent, const char *name, size_t length)
{
	const char *have = index_name(index, node);

	return index->node[node].parent == parent && strncmp(have, name, length) == 0 && !have[length];
}

/* Where the node is, or where it belongs. */
static u32 find_slot(const struct index *index, u32 parent, const char *name, size_t length)
{
	u32 at = hash(parent, name, length);

	for (;; at++) {
		u32 node = index->slot[at & (index->slots - 1)];

		if (node == INDEX_NONE || is(index, node, parent, name, length))
			return at & (index->slots - 1);
	}
}

u32 index_find(const struct index *index, u32 parent, const char *name, size_t length)
{
	return index->slot[find_slot(index, parent, name, length)];
}

static int grow_slots(struct index *index, struct err *err)
{
	u32 slots = index->slots ? index->slots * 2 : 1024, *grown = malloc(slots * sizeof(*grown));

	if (!grown)
		return no_memory(err);
	memset(grown, 0xff, slots * sizeof(*grown));
	free(index->slot);
	index->slot = grown;
	index->slots = slots;
	for (u32 i = 1; i < index->count; i++) {
		const char *name = index_name(index, i);

		grown[find_slot(index, index->node[i].parent, name, strlen(name))] = i;
	}
	return 0;
}

static int grow(struct index *index, size_t name_length, struct err *err)
{
	if (index->count == index->room) {
		u32 room = index->room ? index->room * 2 : 256;
		struct index_node *grown = realloc(index->node, room * sizeof(*grown));

		if (!grown)
			return no_memory(err);
		index->node = grown;
		index->room = room;
	}
	if (index->names_room - index->names_size <= name_length) {
		u64 room = index->names_room * 2 + name_length + 4096;
		char *grown = room > UINT32_MAX ? NULL : realloc(index->names, room);

		if (!grown)
			return no_memory(err);
		index->names = grown;
		index->names_room = room;
	}
	return index->count * 2ULL >= index->slots ? grow_slots(index, err) : 0;
}

static u32 new_node(struct index *index, u32 parent, const char *name, size_t length)
{
	u32 node = index->count++;

	index->node[node] = (struct index_node){parent, INDEX_NONE, INDEX_NONE, INDEX_NONE, (u32)index->names_size};
	memcpy(index->names + index->names_size, name, length);
	index->names[index->names_size + length] = '\0';
	index->names_size += length + 1;
	return node;
}

int index_init(struct index *index, struct err *err)
{
	*index = (struct index){0};
	if (grow(index, 0, err) < 0) {
		index_release(index);
		return -1;
	}
	new_node(index, INDEX_NONE, "", 0);
	return 0;
}

u32 index_add(struct index *index, u32 parent, const char *name, size_t length, struct err *err)
{
	u32 node = index_find(index, parent, name, length);
	struct index_node *above;

	if (node != INDEX_NONE)
		return node;
	if (index->count == NODES_MOST) {
		err_set(err, "it has more than %u files", NODES_MOST);
		return INDEX_NONE;
	}
	if (grow(index, length, err) < 0)
		return INDEX_NONE;
	node = new_node(index, parent, name, length);
	index->slot[find_slot(index, parent, name, length)] = node;
	above = &index->node[parent];
	if (above->last_child == INDEX_NONE)
		above->first_child = node;
	else
		index->node[above->last_child].next = node;
	above->last_child = node;
	return node;
}

void index_release(struct index *index)
{
	free(index->node);
	free(index->names);
	free(index->slot);
	*index = (struct index){0};
}
