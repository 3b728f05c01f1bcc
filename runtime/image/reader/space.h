/*
 * Paths: from texts to nodes of trees. Symlinks, absolute ones and ".." included, never lead out of the image.
 * IMAGE_TREE is the root file system with the volumes that its fstab mounts into it.
 */
#ifndef AVANT_IMAGE_SPACE_H
#define AVANT_IMAGE_SPACE_H

#include "image/reader/volume.h"

#define MOUNTS_MOST 16

/* A node of a volume. */
struct spot {
	u32 volume; /* index */
	u64 node;
};

struct mount {
	struct spot at;
	u32 volume; /* whose root is there */
};

struct space {
	struct volumes volumes;
	struct mount mount[MOUNTS_MOST];
	u32 mount_count;
};

/* Opens the image and follows its fstab. 0, or -1 with a message in err. */
int space_open(struct space *space, int fd, bool directory, struct err *err);
void space_close(struct space *space);

static inline struct tree *spot_tree(const struct space *space, struct spot spot)
{
	return space->volumes.volume[spot.volume].tree;
}

/*
 * Finds a path of a volume (its index; IMAGE_TREE: of the whole tree). follow: the last component, too, if it is a
 * symlink. Returns 0, or 1 with a message in err: there is nothing of that name, or -1 with one: it cannot be found
 * out.
 */
int space_find(const struct space *space, u32 volume, const char *path, bool follow, struct spot *spot,
	       struct err *err);

/* If a volume is mounted on the spot, goes on to its root. */
void space_cross(const struct space *space, struct spot *spot);

/* space_find() and tree_ops.stat. `err` names the path. */
int space_stat(const struct space *space, u32 volume, const char *path, bool follow, struct spot *spot,
	       struct image_entry *entry, struct err *err);

/* A regular file's text, of at most `most` bytes; the caller frees it. NULL with a message in err. */
char *space_text(const struct space *space, u32 volume, const char *path, u64 most, struct err *err);

#endif
