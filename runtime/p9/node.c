#include "p9/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* --- which descriptors may be closed ------------------------------------------------------------------------------ */

static bool listed(const struct p9_node *node)
{
	return node->fd >= 0 && node->parent;
}

static void unlist(struct p9_nodes *nodes, struct p9_node *node)
{
	if (!listed(node))
		return;
	*(node->newer ? &node->newer->older : &nodes->newest) = node->older;
	*(node->older ? &node->older->newer : &nodes->oldest) = node->newer;
}

static void list(struct p9_nodes *nodes, struct p9_node *node)
{
	if (!listed(node))
		return;
	node->newer = NULL;
	node->older = nodes->newest;
	*(nodes->newest ? &nodes->newest->newer : &nodes->oldest) = node;
	nodes->newest = node;
}

static void close_node(struct p9_nodes *nodes, struct p9_node *node)
{
	if (node->fd < 0)
		return;
	unlist(nodes, node);
	close(node->fd);
	node->fd = -1;
	p9_nodes_give_descriptor(nodes);
}

int p9_nodes_take_descriptor(struct p9_nodes *nodes)
{
	if (nodes->descriptors >= nodes->limit)
		return -EMFILE;
	nodes->descriptors++;
	return 0;
}

void p9_nodes_give_descriptor(struct p9_nodes *nodes)
{
	nodes->descriptors--;
}

void p9_nodes_reclaim(struct p9_nodes *nodes)
{
	if (nodes->descriptors <= nodes->limit - nodes->limit / 4)
		return;
	while (nodes->oldest && nodes->descriptors > nodes->limit / 2)
		close_node(nodes, nodes->oldest);
}

/* --- names ---------------------------------------------------------------------------------------------------------
 */

static u64 hash_of(const struct p9_node *dir, const char *name)
{
	return XXH3_64bits_withSeed(name, strlen(name), (u64)(uintptr_t)dir);
}

static struct p9_node *find(const struct p9_nodes *nodes, const struct p9_node *dir, const char *name)
{
	struct p9_link *link = p9_table_first(&nodes->named, hash_of(dir, name));

	for (; link; link = p9_table_next(link)) {
		struct p9_node *node = P9_TABLE_OF(link, struct p9_node, link);

		if (node->parent == dir && !strcmp(node->name, name))
			return node;
	}
	return NULL;
}

static bool is_file(const struct p9_node *node, const struct statx *st)
{
	return node->ino == st->stx_ino && node->dev == p9_stat_dev(st) && node->type == (st->stx_mode & S_IFMT);
}

/* From now on the node is only what its descriptor says. */
static void lose_name(struct p9_nodes *nodes, struct p9_node *node)
{
	struct p9_node *parent = node->parent;

	if (!parent)
		return;
	p9_table_remove(&nodes->named, &node->link);
	unlist(nodes, node);
	free(node->name);
	node->name = NULL;
	node->parent = NULL;
	p9_node_put(nodes, parent);
}

/* Takes `name`. */
static void set_name(struct p9_nodes *nodes, struct p9_node *node, struct p9_node *dir, char *name)
{
	node->parent = p9_node_get(dir);
	node->name = name;
	p9_table_insert(&nodes->named, &node->link, hash_of(dir, name));
	list(nodes, node);
}

/* --- life ----------------------------------------------------------------------------------------------------------
 */

static struct p9_node *create(const struct statx *st)
{
	struct p9_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->refs = 1;
	node->fd = -1;
	node->dev = p9_stat_dev(st);
	node->ino = st->stx_ino;
	node->type = st->stx_mode & S_IFMT;
	return node;
}

int p9_nodes_init(struct p9_nodes *nodes, int root_fd, const struct statx *root, u32 limit)
{
	*nodes = (struct p9_nodes){.limit = limit};
	nodes->root = create(root);
	if (!nodes->root)
		return -ENOMEM;
	if (p9_table_init(&nodes->named) < 0) {
		free(nodes->root);
		return -ENOMEM;
	}
	nodes->root->fd = root_fd;
	nodes->descriptors = 1;
	return 0;
}

void p9_nodes_release(struct p9_nodes *nodes)
{
	if (!nodes->root)
		return;
	p9_node_put(nodes, nodes->root);
	nodes->root = NULL;
	p9_table_release(&nodes->named);
}

struct p9_node *p9_node_get(struct p9_node *node)
{
	node->refs++;
	return node;
}

void p9_node_put(struct p9_nodes *nodes, struct p9_node *node)
{
	while (node && --node->refs == 0) {
		struct p9_node *parent = node->parent;

		close_node(nodes, node);
		if (parent)
			p9_table_remove(&nodes->named, &node->link);
		free(node->name);
		free(node);
		node = parent;
	}
}

struct p9_node *p9_node_adopt(struct p9_nodes *nodes, struct p9_node *dir, const char *name, const struct statx *st)
{
	struct p9_node *known = find(nodes, dir, name);
	char *copy;

	if (known && is_file(known, st))
		return p9_node_get(known);
	if (known)
		lose_name(nodes, known);
	known = create(st);
	copy = strdup(name);
	if (!known || !copy) {
		free(known);
		free(copy);
		return NULL;
	}
	set_name(nodes, known, dir, copy);
	return known;
}

/* --- descriptors ---------------------------------------------------------------------------------------------------
 */

/* Takes `fd`, for which a descriptor was taken. */
static void set_descriptor(struct p9_nodes *nodes, struct p9_node *node, int fd)
{
	node->fd = fd;
	list(nodes, node);
}

/*
 * From the nearest directory above that is open down to the node, step by step, without recursion: a guest can make
 * trees of any depth. Directories between stay closed: one request opens few descriptors.
 */
static int walk_down(struct p9_node *node)
{
	struct p9_node *at = node;
	bool ours = false;
	int fd;

	at->below = NULL;
	while (at->fd < 0) {
		if (!at->parent)
			return -ESTALE;
		at->parent->below = at;
		at = at->parent;
	}
	fd = at->fd;
	while ((at = at->below)) {
		int next = p9_host_open_path(fd, at->name);

		if (ours)
			close(fd);
		if (next < 0)
			return next;
		fd = next;
		ours = true;
	}
	return fd;
}

static int open_again(struct p9_nodes *nodes, struct p9_node *node)
{
	struct statx st;
	int fd = p9_nodes_take_descriptor(nodes), error;

	if (fd < 0)
		return fd;
	fd = walk_down(node);
	error = fd < 0 ? fd : p9_host_stat(fd, &st);
	if (!error && !is_file(node, &st))
		error = -ESTALE;
	if (error) {
		if (fd >= 0)
			close(fd);
		p9_nodes_give_descriptor(nodes);
		return error;
	}
	set_descriptor(nodes, node, fd);
	return fd;
}

int p9_node_open(struct p9_nodes *nodes, struct p9_node *node)
{
	if (node->fd < 0)
		return open_again(nodes, node);
	unlist(nodes, node);
	list(nodes, node);
	return node->fd;
}

/* --- walking -------------------------------------------------------------------------------------------------------
 */

static int walk_up(struct p9_nodes *nodes, struct p9_node *dir, struct statx *st, struct p9_node **node)
{
	struct p9_node *parent = dir == nodes->root ? dir : dir->parent;
	int fd = parent ? p9_node_open(nodes, parent) : -ESTALE, error;

	if (fd < 0)
		return fd;
	error = p9_host_stat(fd, st);
	if (!error)
		*node = p9_node_get(parent);
	return error;
}

/* An entry that no fid stands for yet, or that is not what it was. */
static int walk_new(struct p9_nodes *nodes, int dir_fd, struct p9_node *dir, const char *name, struct statx *st,
		    struct p9_node **node)
{
	int fd = p9_nodes_take_descriptor(nodes), error;

	if (fd < 0)
		return fd;
	fd = p9_host_open_path(dir_fd, name);
	error = fd < 0 ? fd : p9_host_stat(fd, st);
	if (!error) {
		*node = p9_node_adopt(nodes, dir, name, st);
		error = *node ? 0 : -ENOMEM;
	}
	if (!error && (*node)->fd < 0) {
		set_descriptor(nodes, *node, fd);
		return 0;
	}
	if (fd >= 0)
		close(fd);
	p9_nodes_give_descriptor(nodes);
	return error;
}

int p9_node_walk(struct p9_nodes *nodes, struct p9_node *dir, const char *name, struct statx *st, struct p9_node **node)
{
	struct p9_node *known;
	int fd, error;

	if (!strcmp(name, ".."))
		return walk_up(nodes, dir, st, node);
	error = p9_name_check(name);
	if (error)
		return error;
	fd = p9_node_open(nodes, dir);
	if (fd < 0)
		return fd;
	known = find(nodes, dir, name);
	if (!known)
		return walk_new(nodes, fd, dir, name, st, node);
	error = p9_host_stat_at(fd, name, st);
	if (error)
		return error;
	if (!is_file(known, st))
		return walk_new(nodes, fd, dir, name, st, node);
	*node = p9_node_get(known);
	return 0;
}

/* --- changes that the guest makes ----------------------------------------------------------------------------------
 */

void p9_node_before_remove(struct p9_nodes *nodes, struct p9_node *dir, const char *name)
{
	struct p9_node *node = find(nodes, dir, name);

	if (node)
		p9_node_open(nodes, node); /* if it fails, the fids are stale */
}

void p9_node_removed(struct p9_nodes *nodes, struct p9_node *dir, const char *name)
{
	struct p9_node *node = find(nodes, dir, name);

	if (node)
		lose_name(nodes, node);
}

/*
 * Somebody on the host may have moved directories so that what the guest calls `to_dir` is no longer below `moved` as
 * their nodes say, but could become its parent: nodes must not go round in circles.
 */
static void cut_circle(struct p9_nodes *nodes, const struct p9_node *moved, struct p9_node *to_dir)
{
	for (const struct p9_node *at = to_dir; at; at = at->parent)
		if (at == moved) {
			lose_name(nodes, to_dir);
			return;
		}
}

void p9_node_renamed(struct p9_nodes *nodes, struct p9_node *dir, const char *name, struct p9_node *to_dir,
		     const char *to_name)
{
	struct p9_node *moved = find(nodes, dir, name), *replaced = find(nodes, to_dir, to_name);
	char *copy;

	/* two links to one file: rename(2) does nothing then */
	if (moved && replaced && moved->dev == replaced->dev && moved->ino == replaced->ino)
		return;
	if (replaced)
		lose_name(nodes, replaced);
	if (!moved)
		return;
	copy = strdup(to_name);
	p9_node_get(moved);
	cut_circle(nodes, moved, to_dir);
	lose_name(nodes, moved);
	if (copy)
		set_name(nodes, moved, to_dir, copy);
	p9_node_put(nodes, moved);
}
