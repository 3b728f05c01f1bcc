/* A walk through a tree that can be interrupted after each entry. */
#ifndef AVANT_IMAGE_WALK_H
#define AVANT_IMAGE_WALK_H

#include "image/reader/space.h"

struct walk_child {
	char *name;
	struct spot spot;
};

/* A directory whose entries are being visited. */
struct walk_frame {
	struct walk_child *child;
	u64 count, room, at;
	size_t path_length; /* of the directory's path */
};

#define WALK_DEPTH 256

struct walk_state {
	const struct space *space;
	bool mounts; /* cross mount points */
	bool done;
	u32 depth_most;
	struct walk_frame frame[WALK_DEPTH];
	u32 depth;  /* frames in use */
	bool first; /* the place itself is still to be visited */
	struct spot start;
	u64 *seen; /* directories that were entered: hash table, 0: free */
	u64 seen_count, seen_slots;
	char path[PATH_MAX];
	char target[PATH_MAX];
};

/* Begins at the place (see space_find()). 0, or -1 with a message in err. */
int walk_begin(struct walk_state *walk, const struct space *space, u32 volume, const char *path, u32 depth,
	       struct err *err);

/* The next entry, valid until the next call; false at the end. What cannot be read is an entry that says so. */
bool walk_next(struct walk_state *walk, struct image_entry *entry);

void walk_end(struct walk_state *walk);

#endif
