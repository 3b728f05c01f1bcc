/*
 * Nodes: the files that fids stand for, one for each path that the guest has walked to. A node knows where it hangs
 * (its parent's node and its name there, for Trename, Tremove and walks to "..") and has an O_PATH descriptor, by which
 * it is worked on: whatever is renamed on the host, it stays the same file.
 *
 * A client that caches keeps a fid for each file it has ever seen: too many for descriptors. When there are too many,
 * those not used for longest are closed; such a node is found again by its path and must be the same file then.
 */
#ifndef AVANT_P9_NODE_H
#define AVANT_P9_NODE_H

#include "p9/host.h"
#include "p9/table.h"

struct p9_node {
	struct p9_link link;
	struct p9_node *parent; /* referenced. NULL: the root, or a node that has lost its name */
	char *name;             /* owned; NULL as above */
	u64 dev, ino;
	u32 type; /* S_IFMT of its mode */
	u32 refs;
	int fd;                        /* O_PATH, or -1 */
	struct p9_node *newer, *older; /* in order of use, if it has a descriptor that may be closed */
	struct p9_node *below;         /* while it is being opened: the way down */
};

struct p9_nodes {
	struct p9_table named;
	struct p9_node *root;
	struct p9_node *newest, *oldest;
	u32 descriptors; /* open, of nodes and of what is counted with p9_nodes_take_descriptor() */
	u32 limit;
};

/* `root_fd`, an O_PATH descriptor, is the nodes' from then on. 0 or -errno (then it is not). */
int p9_nodes_init(struct p9_nodes *nodes, int root_fd, const struct statx *root, u32 limit);
/* All references must have been given back. */
void p9_nodes_release(struct p9_nodes *nodes);

struct p9_node *p9_node_get(struct p9_node *node);
void p9_node_put(struct p9_nodes *nodes, struct p9_node *node);

/* The node's descriptor: the node's own, valid until the end of the request. Or -errno. */
int p9_node_open(struct p9_nodes *nodes, struct p9_node *node);

/*
 * The entry `name` of a directory, or its parent for "..", which the root has not: it is its own. *node is referenced.
 * 0 or -errno.
 */
int p9_node_walk(struct p9_nodes *nodes, struct p9_node *dir, const char *name, struct statx *st,
		 struct p9_node **node);

/* What was found as dir/name: the node that stands for it, referenced, without a descriptor if it is new; or NULL. */
struct p9_node *p9_node_adopt(struct p9_nodes *nodes, struct p9_node *dir, const char *name, const struct statx *st);

/*
 * The guest removes or replaces dir/name, renames it. The first is called before: what fids stand for must be open to
 * be used afterwards.
 */
void p9_node_before_remove(struct p9_nodes *nodes, struct p9_node *dir, const char *name);
void p9_node_removed(struct p9_nodes *nodes, struct p9_node *dir, const char *name);
void p9_node_renamed(struct p9_nodes *nodes, struct p9_node *dir, const char *name, struct p9_node *to_dir,
		     const char *to_name);

/* Another descriptor for the server, to be opened: -EMFILE if there are too many. */
int p9_nodes_take_descriptor(struct p9_nodes *nodes);
void p9_nodes_give_descriptor(struct p9_nodes *nodes);

/* Between two requests: closes descriptors that were not used for long if there are too many. */
void p9_nodes_reclaim(struct p9_nodes *nodes);

#endif
