#include "image/reader/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- directories seen: a damaged file system may have one within itself ---- */

static u64 *find_seen(u64 *seen, u64 slots, u64 key)
{
	u64 at = key * 0x9e3779b97f4a7c15ULL >> 20;

	while (seen[at & (slots - 1)] && seen[at & (slots - 1)] != key)
		at++;
	return &seen[at & (slots - 1)];
}

static int grow_seen(struct walk_state *walk)
{
	u64 slots = walk->seen_slots ? walk->seen_slots * 2 : 1024, *grown = calloc(slots, sizeof(*grown));

	if (!grown)
		return -1;
	for (u64 i = 0; i < walk->seen_slots; i++)
		if (walk->seen[i])
			*find_seen(grown, slots, walk->seen[i]) = walk->seen[i];
	free(walk->seen);
	walk->seen = grown;
	walk->seen_slots = slots;
	return 0;
}

/* 0: new; 1: seen before; -1: no memory */
static int note_seen(struct walk_state *walk, struct spot spot)
{
	u64 key = ((u64)spot.volume << 40 | spot.node) + 1, *slot;

	if (walk->seen_count * 2 >= walk->seen_slots && grow_seen(walk) < 0)
		return -1;
	slot = find_seen(walk->seen, walk->seen_slots, key);
	if (*slot)
		return 1;
	*slot = key;
	walk->seen_count++;
	return 0;
}

/* ---- directories ---- */

struct collect {
	struct walk_state *walk;
	struct walk_frame *frame;
	u32 volume;
};

static int collect_child(void *opaque, const char *name, u64 node, struct err *err)
{
	struct collect *collect = opaque;
	struct walk_frame *frame = collect->frame;
	struct spot spot = {collect->volume, node};

	if (frame->count == frame->room) {
		u64 room = frame->room ? frame->room * 2 : 32;
		struct walk_child *grown = realloc(frame->child, room * sizeof(*grown));

		if (!grown)
			return err_set(err, "not enough memory for a directory");
		frame->child = grown;
		frame->room = room;
	}
	if (collect->walk->mounts)
		space_cross(collect->walk->space, &spot);
	frame->child[frame->count] = (struct walk_child){strdup(name), spot};
	if (!frame->child[frame->count].name)
		return err_set(err, "not enough memory for a directory");
	frame->count++;
	return 0;
}

static void drop_frame(struct walk_state *walk)
{
	struct walk_frame *frame = &walk->frame[--walk->depth];

	for (u64 i = 0; i < frame->count; i++)
		free(frame->child[i].name);
	free(frame->child);
}

/* Its entries come next. What could be listed before an error stays. */
static int enter(struct walk_state *walk, struct spot spot, struct err *err)
{
	struct walk_frame *frame = &walk->frame[walk->depth];
	struct collect collect = {walk, frame, spot.volume};
	struct tree *tree = spot_tree(walk->space, spot);

	if (walk->depth == WALK_DEPTH)
		return err_set(err, "too deep");
	switch (note_seen(walk, spot)) {
	case 0:
		break;
	case 1:
		return err_set(err, "the directory is in more than one place");
	default:
		return err_set(err, "not enough memory");
	}
	*frame = (struct walk_frame){.path_length = strlen(walk->path)};
	walk->depth++;
	return tree->ops->list(tree, spot.node, collect_child, &collect, err);
}

/* ---- entries ---- */

static bool unreadable(struct walk_state *walk, struct image_entry *entry, const struct err *err)
{
	snprintf(walk->target, sizeof(walk->target), "%s", err->text);
	*entry = (struct image_entry){.path = walk->path, .kind = IMAGE_UNREADABLE, .target = walk->target};
	return true;
}

/* The entry at the spot, whose path is walk->path; goes into it if it is a directory. */
static bool visit(struct walk_state *walk, struct spot spot, struct image_entry *entry)
{
	struct tree *tree = spot_tree(walk->space, spot);
	struct err err = ERR_INIT;

	if (tree->ops->stat(tree, spot.node, entry, &err) < 0)
		return unreadable(walk, entry, &err);
	entry->path = walk->path;
	entry->target = "";
	entry->identity ^= (u64)spot.volume << 56;
	if (entry->kind == IMAGE_SYMLINK) {
		if (tree->ops->read_link(tree, spot.node, walk->target, &err) < 0)
			return unreadable(walk, entry, &err);
		entry->target = walk->target;
	}
	if (entry->kind == IMAGE_DIRECTORY && walk->depth < walk->depth_most && enter(walk, spot, &err) < 0)
		return unreadable(walk, entry, &err);
	return true;
}

/* walk->path becomes that of the child. */
static bool append_name(struct walk_state *walk, size_t length, const char *name)
{
	size_t room = sizeof(walk->path) - length;

	return (size_t)snprintf(walk->path + length, room, "%s%s", length ? "/" : "", name) < room;
}

bool walk_next(struct walk_state *walk, struct image_entry *entry)
{
	if (walk->first) {
		walk->first = false;
		return visit(walk, walk->start, entry);
	}
	while (walk->depth) {
		struct walk_frame *frame = &walk->frame[walk->depth - 1];

		if (frame->at == frame->count) {
			drop_frame(walk);
			continue;
		}
		const struct walk_child *child = &frame->child[frame->at++];

		if (!append_name(walk, frame->path_length, child->name)) {
			struct err err = {"the path is too long"};

			walk->path[frame->path_length] = '\0';
			return unreadable(walk, entry, &err);
		}
		return visit(walk, child->spot, entry);
	}
	walk->done = true;
	return false;
}

int walk_begin(struct walk_state *walk, const struct space *space, u32 volume, const char *path, u32 depth,
	       struct err *err)
{
	struct image_entry entry;

	walk_end(walk);
	walk->space = space;
	walk->mounts = volume == IMAGE_TREE;
	walk->depth_most = depth;
	if (space_stat(space, volume, path, true, &walk->start, &entry, err))
		return -1;
	walk->first = true;
	walk->done = false;
	return 0;
}

void walk_end(struct walk_state *walk)
{
	while (walk->depth)
		drop_frame(walk);
	free(walk->seen);
	*walk = (struct walk_state){.done = true};
}
