#include "image/reader/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "image/reader/index.h"

struct directory {
	struct tree tree;
	struct index index;
	int fd;
};

static struct directory *directory_of(struct tree *tree)
{
	return (struct directory *)tree;
}

/* The node's path from the root, in PATH_MAX bytes. */
static int path_of(const struct directory *d, u64 node, char *path, struct err *err)
{
	char buffer[PATH_MAX], *at = buffer + sizeof(buffer) - 1;

	*at = '\0';
	for (u32 n = (u32)node; n; n = d->index.node[n].parent) {
		const char *name = index_name(&d->index, n);
		size_t length = strlen(name);

		if (length + 1 > (size_t)(at - buffer))
			return err_set(err, "a path is too long");
		if (*at)
			*--at = '/';
		at -= length;
		memcpy(at, name, length);
	}
	strcpy(path, *at ? at : ".");
	return 0;
}

/*
 * No symlink is followed, no mount point left by "..": a path leads where the tree says, or nowhere. Returns the
 * descriptor, or -1 with a message in err and the reason in errno.
 */
static int open_node(const struct directory *d, u64 node, u64 flags, struct err *err)
{
	/* with O_PATH, which opens nothing, the kernel wants no other flags */
	u64 careful = flags & O_PATH ? O_CLOEXEC | O_NOFOLLOW : O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	struct open_how how = {.flags = flags | careful, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	char path[PATH_MAX];
	int fd, reason = ENAMETOOLONG;

	if (path_of(d, node, path, err) == 0) {
		fd = (int)syscall(SYS_openat2, d->fd, path, &how, sizeof(how));
		if (fd >= 0)
			return fd;
		reason = errno;
		err_set(err, "%s", strerror(reason));
	}
	errno = reason;
	return -1;
}

static enum image_kind kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return IMAGE_FILE;
	case S_IFDIR:
		return IMAGE_DIRECTORY;
	case S_IFLNK:
		return IMAGE_SYMLINK;
	case S_IFCHR:
		return IMAGE_CHARACTER;
	case S_IFBLK:
		return IMAGE_BLOCK;
	case S_IFIFO:
		return IMAGE_FIFO;
	case S_IFSOCK:
		return IMAGE_SOCKET;
	default:
		return IMAGE_UNREADABLE;
	}
}

static int directory_stat(struct tree *tree, u64 node, struct image_entry *entry, struct err *err)
{
	int fd = open_node(directory_of(tree), node, O_PATH, err), result;
	struct stat st;

	if (fd < 0)
		return -1;
	result = fstat(fd, &st);
	close(fd);
	if (result < 0)
		return err_set(err, "%s", strerror(errno));
	*entry = (struct image_entry){
		.kind = kind_of(st.st_mode),
		.mode = st.st_mode & 07777,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.links = (u32)st.st_nlink,
		.major = major(st.st_rdev),
		.minor = minor(st.st_rdev),
		/* two file systems may be mounted there: mixed, so that equal numbers of both differ */
		.identity = st.st_ino ^ st.st_dev * 0x9e3779b97f4a7c15ULL,
		.size = S_ISDIR(st.st_mode) ? 0 : (u64)st.st_size,
		.mtime = (u64)st.st_mtime,
	};
	return 0;
}

static int directory_lookup(struct tree *tree, u64 directory, const char *name, u64 *node, struct err *err)
{
	struct directory *d = directory_of(tree);
	u32 found = index_add(&d->index, (u32)directory, name, strlen(name), err);
	int fd;

	if (found == INDEX_NONE)
		return -1;
	fd = open_node(d, found, O_PATH, err);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 1 : -1;
	close(fd);
	*node = found;
	return 0;
}

static int directory_read_link(struct tree *tree, u64 node, char *target, struct err *err)
{
	int fd = open_node(directory_of(tree), node, O_PATH, err);
	ssize_t length;

	if (fd < 0)
		return -1;
	length = readlinkat(fd, "", target, PATH_MAX - 1);
	close(fd);
	if (length < 0)
		return err_set(err, "%s", strerror(errno));
	target[length] = '\0';
	return 0;
}

struct names {
	char **name;
	u64 count, room;
};

static int add_name(struct names *names, const char *name, struct err *err)
{
	if (names->count == names->room) {
		u64 room = names->room ? names->room * 2 : 64;
		char **grown = realloc(names->name, room * sizeof(*grown));

		if (!grown)
			return err_set(err, "not enough memory for a directory");
		names->name = grown;
		names->room = room;
	}
	names->name[names->count] = strdup(name);
	return names->name[names->count++] ? 0 : err_set(err, "not enough memory for a directory");
}

struct kernel_entry { /* getdents64(2) */
	u64 inode;
	s64 offset;
	u16 length;
	u8 type;
	char name[];
};

/* readdir() would allocate and lock; the confined process needs neither. */
static int read_names(int fd, struct names *names, struct err *err)
{
	_Alignas(8) char buffer[32768];
	long size;

	while ((size = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < size;) {
			const struct kernel_entry *entry = (const struct kernel_entry *)(buffer + at);

			if (tree_name_ok(entry->name, strlen(entry->name)) && add_name(names, entry->name, err) < 0)
				return -1;
			at += entry->length;
		}
	}
	return size < 0 ? err_set(err, "%s", strerror(errno)) : 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int directory_list(struct tree *tree, u64 directory, tree_child *child, void *opaque, struct err *err)
{
	struct directory *d = directory_of(tree);
	int fd = open_node(d, directory, O_RDONLY | O_DIRECTORY, err), result;
	struct names names = {0};

	if (fd < 0)
		return -1;
	result = read_names(fd, &names, err);
	close(fd);
	if (names.count)
		qsort(names.name, names.count, sizeof(*names.name), compare_names);
	for (u64 i = 0; i < names.count; i++) {
		if (result == 0) {
			u32 node = index_add(&d->index, (u32)directory, names.name[i], strlen(names.name[i]), err);

			result = node == INDEX_NONE ? -1 : child(opaque, names.name[i], node, err);
		}
		free(names.name[i]);
	}
	free(names.name);
	return result;
}

/* The client reads from the file itself, whose descriptor it gets. */
static int directory_file_open(struct tree *tree, u64 node, u64 most, struct content *content, struct err *err)
{
	int fd = open_node(directory_of(tree), node, O_RDONLY, err);
	struct stat st;

	if (fd < 0)
		return -1;
	*content = (struct content){.fd = fd};
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if ((u64)st.st_size > most)
			err_set(err, "the file is too large: %llu MiB", (unsigned long long)st.st_size >> 20);
		else if (content_add(content, 0, (u64)st.st_size, err) == 0)
			return 0;
	} else {
		err_set(err, "the file has changed");
	}
	content_release(content);
	return -1;
}

static void directory_destroy(struct tree *tree)
{
	index_release(&directory_of(tree)->index);
	free(tree);
}

static const struct tree_ops directory_ops = {
	.stat = directory_stat,
	.lookup = directory_lookup,
	.read_link = directory_read_link,
	.list = directory_list,
	.open = directory_file_open,
	.destroy = directory_destroy,
};

struct tree *directory_open(int fd, struct err *err)
{
	struct directory *d = calloc(1, sizeof(*d));

	if (!d) {
		err_set(err, "not enough memory");
		return NULL;
	}
	d->tree = (struct tree){.ops = &directory_ops, .root = 0};
	d->fd = fd;
	if (index_init(&d->index, err) == 0)
		return &d->tree;
	free(d);
	return NULL;
}
