/*
 * A tree of files as each kind of container gives it: nodes, which are numbers, and what can be asked of them. Paths,
 * symlinks and mount points are the business of place.c.
 *
 * Everything that comes from the image is hostile: names are checked here (no '/', no NUL, not "." or "..", at most
 * NAME_MAX bytes), sizes are as the image says and promise nothing.
 */
#ifndef AVANT_IMAGE_TREE_H
#define AVANT_IMAGE_TREE_H

#include <limits.h>

#include "image/image.h"
#include "image/reader/content.h"
#include "util/err.h"
#include "util/types.h"

struct tree;

/* Returns 0, or -1 to end the listing with its own message. */
typedef int tree_child(void *opaque, const char *name, u64 node, struct err *err);

struct tree_ops {
	/* Everything of the entry but path and target. */
	int (*stat)(struct tree *tree, u64 node, struct image_entry *entry, struct err *err);
	/* 0: *node is it; 1: there is none of that name; -1: error */
	int (*lookup)(struct tree *tree, u64 directory, const char *name, u64 *node, struct err *err);
	/* The target, ending with NUL, in PATH_MAX bytes. */
	int (*read_link)(struct tree *tree, u64 node, char *target, struct err *err);
	/* Calls `child` for each, by name or in the order in which the container has them; without "." and "..". */
	int (*list)(struct tree *tree, u64 directory, tree_child *child, void *opaque, struct err *err);
	/* The bytes of a regular file of at most `most`; the caller releases the content. */
	int (*open)(struct tree *tree, u64 node, u64 most, struct content *content, struct err *err);
	void (*destroy)(struct tree *tree);
};

struct tree {
	const struct tree_ops *ops;
	u64 root; /* node */
};

/* Whether this can be the name of a file in a directory. */
bool tree_name_ok(const char *name, size_t length);

static inline void tree_destroy(struct tree *tree)
{
	if (tree)
		tree->ops->destroy(tree);
}

#endif
