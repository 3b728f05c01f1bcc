#include "image/reader/space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/fstab.h"

#define DEPTH_MOST  256
#define LINKS_MOST  40 /* as in Linux */
#define PATH_LENGTH 16384
#define FSTAB_MOST  (1u << 20)

/* A path being followed. */
struct walk {
	const struct space *space;
	bool mounts;
	struct spot stack[DEPTH_MOST]; /* the directories from the root to where we are */
	unsigned depth;                /* of them; the first is the root */
	unsigned links;
	char text[PATH_LENGTH]; /* what is still to be followed */
};

void space_cross(const struct space *space, struct spot *spot)
{
	for (u32 i = 0; i < space->mount_count; i++) {
		const struct mount *mount = &space->mount[i];

		if (mount->at.volume == spot->volume && mount->at.node == spot->node) {
			*spot = (struct spot){mount->volume, space->volumes.volume[mount->volume].tree->root};
			i = UINT32_MAX; /* another one may be on top */
		}
	}
}

static int follow_link(struct walk *walk, struct spot spot, const char *rest, struct err *err)
{
	struct tree *tree = spot_tree(walk->space, spot);
	char target[PATH_MAX], joined[PATH_LENGTH];

	if (++walk->links > LINKS_MOST)
		return err_set(err, "too many symlinks");
	if (tree->ops->read_link(tree, spot.node, target, err) < 0)
		return -1;
	if (!*target)
		return err_set(err, "a symlink leads nowhere");
	if ((size_t)snprintf(joined, sizeof(joined), "%s/%s", target, rest) >= sizeof(joined))
		return err_set(err, "the path is too long");
	if (*target == '/')
		walk->depth = 1;
	memcpy(walk->text, joined, strlen(joined) + 1);
	return 0;
}

/* Goes one component on. Returns like space_find(). */
static int step(struct walk *walk, const char *name, const char *rest, bool follow, struct err *err)
{
	struct spot at = walk->stack[walk->depth - 1], found = {.volume = at.volume};
	struct tree *tree = spot_tree(walk->space, at);
	struct image_entry entry;
	int result;

	if (tree->ops->stat(tree, at.node, &entry, err) < 0)
		return -1;
	if (entry.kind != IMAGE_DIRECTORY) {
		err_set(err, "not a directory");
		return 1;
	}
	if (!strcmp(name, "..")) {
		walk->depth -= walk->depth > 1;
		memmove(walk->text, rest, strlen(rest) + 1);
		return 0;
	}
	result = tree->ops->lookup(tree, at.node, name, &found.node, err);
	if (result) {
		if (result > 0)
			err_set(err, "no such file");
		return result;
	}
	if (walk->mounts)
		space_cross(walk->space, &found);
	tree = spot_tree(walk->space, found);
	if (tree->ops->stat(tree, found.node, &entry, err) < 0)
		return -1;
	if (entry.kind == IMAGE_SYMLINK && (follow || *rest))
		return follow_link(walk, found, rest, err);
	if (walk->depth == DEPTH_MOST)
		return err_set(err, "the path is too deep");
	walk->stack[walk->depth++] = found;
	memmove(walk->text, rest, strlen(rest) + 1);
	return 0;
}

static int follow_path(struct walk *walk, bool follow, struct err *err)
{
	for (;;) {
		const char *at = walk->text + strspn(walk->text, "/"), *rest;
		size_t length = strcspn(at, "/");
		char name[NAME_MAX + 1];
		int result = 0;

		if (!length)
			return 0;
		if (length > NAME_MAX) {
			err_set(err, "no such file");
			return 1;
		}
		memcpy(name, at, length);
		name[length] = '\0';
		rest = at + length + strspn(at + length, "/");
		/* a slash at the end asks for a directory, so that a symlink there is followed */
		if (!strcmp(name, "."))
			memmove(walk->text, rest, strlen(rest) + 1);
		else
			result = step(walk, name, rest, follow || at[length] == '/', err);
		if (result)
			return result;
	}
}

int space_find(const struct space *space, u32 volume, const char *path, bool follow, struct spot *spot, struct err *err)
{
	struct walk walk = {.space = space, .mounts = volume == IMAGE_TREE, .depth = 1};
	int result;

	if (volume == IMAGE_TREE)
		volume = space->volumes.root;
	if (volume == VOLUME_NONE)
		return volumes_none(&space->volumes, err);
	if (volume >= space->volumes.count)
		return err_set(err, "there is no such partition");
	if (!space->volumes.volume[volume].tree) {
		char name[32];
		const struct volume *v = &space->volumes.volume[volume];

		return err_set(err, "%s %s", volume_name(v, name), v->note);
	}
	if (strlen(path) >= sizeof(walk.text))
		return err_set(err, "the path is too long");
	strcpy(walk.text, path);
	walk.stack[0] = (struct spot){volume, space->volumes.volume[volume].tree->root};
	if (walk.mounts)
		space_cross(space, &walk.stack[0]);
	result = follow_path(&walk, follow, err);
	*spot = walk.stack[walk.depth - 1];
	return result;
}

int space_stat(const struct space *space, u32 volume, const char *path, bool follow, struct spot *spot,
	       struct image_entry *entry, struct err *err)
{
	struct err why = ERR_INIT;
	int result = space_find(space, volume, path, follow, spot, &why);
	struct tree *tree = result ? NULL : spot_tree(space, *spot);

	if (tree && tree->ops->stat(tree, spot->node, entry, &why) == 0)
		return 0;
	/* without a file system the path does not matter */
	if (volume == IMAGE_TREE && space->volumes.root == VOLUME_NONE)
		err_set(err, "%s", why.text);
	else
		err_set(err, "'%s': %s", path, why.text);
	return result ? result : -1;
}

char *space_text(const struct space *space, u32 volume, const char *path, u64 most, struct err *err)
{
	struct content content = CONTENT_INIT;
	struct image_entry entry;
	struct spot spot;
	struct tree *tree;
	char *text;

	if (space_stat(space, volume, path, true, &spot, &entry, err))
		return NULL;
	if (entry.kind != IMAGE_FILE) {
		err_set(err, "'%s' is not a regular file", path);
		return NULL;
	}
	tree = spot_tree(space, spot);
	if (tree->ops->open(tree, spot.node, most, &content, err) < 0)
		return NULL;
	text = content_text(&content, space->volumes.fd, err);
	content_release(&content);
	return text;
}

/* ---- what the fstab mounts ---- */

static void add_mount(void *opaque, const struct fstab_line *line)
{
	struct space *space = opaque;
	struct spot spot;
	struct tree *tree;
	struct volume *volume;
	u32 number;

	if (line->directory[0] != '/' || !line->directory[strspn(line->directory, "/")] ||
	    space->mount_count == MOUNTS_MOST)
		return;
	number = volumes_find(&space->volumes, line->device);
	if (number == VOLUME_NONE || number == space->volumes.root || !space->volumes.volume[number].tree)
		return;
	volume = &space->volumes.volume[number];
	if (*volume->mount || space_find(space, IMAGE_TREE, line->directory, true, &spot, NULL))
		return;
	tree = spot_tree(space, spot);
	/* a mount on a root would cover all that we know */
	if (spot.node == tree->root)
		return;
	snprintf(volume->mount, sizeof(volume->mount), "%s", line->directory);
	space->mount[space->mount_count++] = (struct mount){spot, number};
}

int space_open(struct space *space, int fd, bool directory, struct err *err)
{
	char *fstab;

	*space = (struct space){0};
	if (volumes_open(&space->volumes, fd, directory, err) < 0)
		return -1;
	if (space->volumes.count > 1 && space->volumes.root != VOLUME_NONE &&
	    (fstab = space_text(space, space->volumes.root, "/etc/fstab", FSTAB_MOST, NULL))) {
		fstab_read(fstab, add_mount, space);
		free(fstab);
	}
	return 0;
}

void space_close(struct space *space)
{
	volumes_close(&space->volumes);
}
