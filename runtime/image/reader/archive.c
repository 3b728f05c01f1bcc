#include "image/reader/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/reader/archive_source.h"
#include "image/reader/bytes.h"
#include "image/reader/index.h"

#define SEGMENTS_MOST 16
#define PATH_DEPTH    256

/* One for each node of the index. */
struct item {
	enum image_kind kind;
	u32 mode, uid, gid, links, major, minor;
	u64 size, mtime;
	u64 order; /* number of the entry in its segment */
	u32 segment;
	u32 same;   /* node that this one is a hard link to; or INDEX_NONE */
	u64 target; /* offset of a symlink's target in targets */
};

/* An initramfs is several archives one after the other. */
struct segment {
	u64 offset, size;
};

struct archive_tree {
	struct tree tree;
	struct index index;
	struct item *item;
	u32 item_room;
	char *targets;
	u64 targets_size, targets_room;
	struct archive_source source;
	u64 size; /* bytes of all segments, from `offset` on */
	u64 offset;
	struct segment segment[SEGMENTS_MOST];
	u32 segment_count;
	struct archive *open; /* being read, or NULL */
	u32 open_segment;
	u64 next;     /* number of the entry that comes next in it */
	u64 unpacked; /* bytes, of all entries so far */
	u64 entries;  /* so far */
	u64 refused, conflicts, unnamed;
};

static struct archive_tree *archive_of(struct tree *tree)
{
	return (struct archive_tree *)tree;
}

static void close_archive(struct archive_tree *a)
{
	if (a->open)
		archive_read_free(a->open);
	a->open = NULL;
}

static int open_segment(struct archive_tree *a, u32 number, struct err *err)
{
	close_archive(a);
	a->source.offset = a->segment[number].offset;
	a->source.size = a->segment[number].size;
	a->open_segment = number;
	a->next = 0;
	a->open = archive_source_open(&a->source, err);
	return a->open ? 0 : -1;
}

/* ---- names ---- */

static int make_room(struct archive_tree *a, struct err *err)
{
	if (a->index.count > a->item_room) {
		u32 room = a->index.room;
		struct item *grown = realloc(a->item, room * sizeof(*grown));

		if (!grown)
			return err_set(err, "not enough memory for the names in it");
		a->item = grown;
		a->item_room = room;
	}
	return 0;
}

/* Adds a node whose item, if it is new, is a directory that nothing is known about. */
static u32 add_node(struct archive_tree *a, u32 parent, const char *name, size_t length, struct err *err)
{
	u32 count = a->index.count, node = index_add(&a->index, parent, name, length, err);

	if (node == INDEX_NONE || make_room(a, err) < 0)
		return INDEX_NONE;
	if (a->index.count > count)
		a->item[node] = (struct item){.kind = IMAGE_DIRECTORY, .mode = 0755, .links = 1, .same = INDEX_NONE};
	return node;
}

enum placed { PLACED, PLACED_NOT, PLACED_ERROR };

/*
 * The node for a path of the archive: without leading '/' and "." components. With ".." in it the entry is refused, and
 * if something that is no directory is in the way, left out: both are tricks to get at files outside.
 */
static enum placed place(struct archive_tree *a, const char *path, u32 *node, struct err *err)
{
	unsigned depth = 0;

	*node = 0;
	for (const char *at = path; *at;) {
		size_t length = strcspn(at, "/");

		if (length && !(length == 1 && *at == '.')) {
			if (!tree_name_ok(at, length) || ++depth > PATH_DEPTH) {
				a->refused++;
				return PLACED_NOT;
			}
			if (a->item[*node].kind != IMAGE_DIRECTORY) {
				a->conflicts++;
				return PLACED_NOT;
			}
			*node = add_node(a, *node, at, length, err);
			if (*node == INDEX_NONE)
				return PLACED_ERROR;
		}
		at += length;
		at += strspn(at, "/");
	}
	return PLACED;
}

/* The node of a path that is there already; INDEX_NONE: it is not. */
static u32 find_path(const struct archive_tree *a, const char *path)
{
	u32 node = 0;

	for (const char *at = path; *at && node != INDEX_NONE;) {
		size_t length = strcspn(at, "/");

		if (length && !(length == 1 && *at == '.'))
			node = index_find(&a->index, node, at, length);
		at += length;
		at += strspn(at, "/");
	}
	return node;
}

static int add_target(struct archive_tree *a, const char *target, u64 *offset, struct err *err)
{
	size_t length = strnlen(target, PATH_MAX - 1);

	if (a->targets_room - a->targets_size <= length) {
		u64 room = a->targets_room * 2 + length + 4096;
		char *grown = realloc(a->targets, room);

		if (!grown)
			return err_set(err, "not enough memory for the names in it");
		a->targets = grown;
		a->targets_room = room;
	}
	*offset = a->targets_size;
	memcpy(a->targets + a->targets_size, target, length);
	a->targets[a->targets_size + length] = '\0';
	a->targets_size += length + 1;
	return 0;
}

/* ---- the first pass ---- */

static enum image_kind kind_of(unsigned type)
{
	switch (type) {
	case AE_IFREG:
		return IMAGE_FILE;
	case AE_IFDIR:
		return IMAGE_DIRECTORY;
	case AE_IFLNK:
		return IMAGE_SYMLINK;
	case AE_IFCHR:
		return IMAGE_CHARACTER;
	case AE_IFBLK:
		return IMAGE_BLOCK;
	case AE_IFIFO:
		return IMAGE_FIFO;
	case AE_IFSOCK:
		return IMAGE_SOCKET;
	default:
		return IMAGE_UNREADABLE;
	}
}

/* An entry that is a second name of a file that came before. */
static int add_hard_link(struct archive_tree *a, u32 node, const char *to)
{
	u32 first = find_path(a, to);

	if (first == INDEX_NONE || first == node || a->item[first].kind == IMAGE_DIRECTORY) {
		a->item[node].kind = IMAGE_UNREADABLE;
		return 0;
	}
	if (a->item[first].same != INDEX_NONE)
		first = a->item[first].same;
	if (first == node)
		return 0;
	a->item[first].links++;
	a->item[node] = a->item[first];
	a->item[node].same = first;
	return 0;
}

static int add_entry(struct archive_tree *a, struct archive_entry *entry, u32 segment, u64 order, struct err *err)
{
	const char *path = archive_entry_pathname(entry), *hard = archive_entry_hardlink(entry),
		   *target = archive_entry_symlink(entry);
	struct item *item;
	u32 node;

	if (!path) {
		a->unnamed++;
		return 0;
	}
	switch (place(a, path, &node, err)) {
	case PLACED_ERROR:
		return -1;
	case PLACED_NOT:
		return 0;
	case PLACED:
		break;
	}
	if (hard)
		return add_hard_link(a, node, hard);
	item = &a->item[node];
	if (node == 0 && archive_entry_filetype(entry) != AE_IFDIR)
		return 0; /* the root remains a directory */
	*item = (struct item){
		.kind = kind_of(archive_entry_filetype(entry)),
		.mode = archive_entry_perm(entry) & 07777,
		.uid = (u32)archive_entry_uid(entry),
		.gid = (u32)archive_entry_gid(entry),
		.links = 1,
		.major = (u32)archive_entry_rdevmajor(entry),
		.minor = (u32)archive_entry_rdevminor(entry),
		.size = archive_entry_size(entry) > 0 ? (u64)archive_entry_size(entry) : 0,
		.mtime = (u64)archive_entry_mtime(entry),
		.order = order,
		.segment = segment,
		.same = INDEX_NONE,
	};
	if (item->kind == IMAGE_SYMLINK && add_target(a, target ? target : "", &item->target, err) < 0)
		return -1;
	if (item->kind == IMAGE_SYMLINK)
		item->size = strlen(a->targets + item->target);
	return 0;
}

/* Unpacks and drops an entry's data, which moving on would do as well, but without an end. */
static int drain(struct archive_tree *a, struct err *err)
{
	const void *data;
	la_int64_t offset;
	size_t size;
	int code;

	while ((code = archive_read_data_block(a->open, &data, &size, &offset)) == ARCHIVE_OK || code == ARCHIVE_WARN ||
	       code == ARCHIVE_RETRY) {
		if (code != ARCHIVE_OK)
			size = 1; /* makes progress in any case */
		a->unpacked += size;
		if (a->unpacked > ARCHIVE_UNPACKED_MOST)
			return err_set(err, "it unpacks to more than %llu GiB: refused", ARCHIVE_UNPACKED_MOST >> 30);
	}
	return 0;
}

/* The next entry's header: 1, or 0 at the end, or -1 with a message in err. */
static int next_entry(struct archive_tree *a, struct archive_entry **entry, struct err *err)
{
	/* a format may ask to be called again; how often is not for it to say */
	for (unsigned tries = 0; tries < 1000; tries++) {
		int code = archive_read_next_header(a->open, entry);

		if (code == ARCHIVE_EOF)
			return 0;
		if (code == ARCHIVE_RETRY)
			continue;
		if (code == ARCHIVE_OK || code == ARCHIVE_WARN) {
			a->next++;
			return 1;
		}
		return err_set(err, "%s", archive_error_string(a->open) ? archive_error_string(a->open) : "damaged");
	}
	return err_set(err, "damaged");
}

/* Reads a segment's names. 1: all; 0: until it was damaged, err says how; -1 with a message in err. */
static int read_names(struct archive_tree *a, u32 segment, struct err *err)
{
	struct archive_entry *entry;
	int result;

	if (open_segment(a, segment, err) < 0)
		return 0;
	while ((result = next_entry(a, &entry, err)) > 0) {
		a->entries++;
		if (add_entry(a, entry, segment, a->next - 1, err) < 0 ||
		    (archive_source_packed(a->open) && drain(a, err) < 0))
			return -1;
	}
	return result == 0;
}

/* Where the next segment may begin: behind a plain cpio archive and the zeros that follow it. */
static bool find_next_segment(struct archive_tree *a, u64 *offset)
{
	u64 end = a->offset + a->size, at;
	u8 block[4096];

	if ((archive_format(a->open) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_CPIO ||
	    archive_source_packed(a->open) || a->segment_count == SEGMENTS_MOST)
		return false;
	at = a->source.offset + (u64)archive_filter_bytes(a->open, 0);
	while (at < end) {
		u64 part = end - at < sizeof(block) ? end - at : sizeof(block);

		if (bytes_read(a->source.fd, at, block, part, NULL) < 0)
			return false;
		for (u64 i = 0; i < part; i++) {
			if (block[i]) {
				*offset = at + i;
				return true;
			}
		}
		at += part;
	}
	return false;
}

/* Reads all names. 0, or -1: err says what it is that is wrong; what was found before is there all the same. */
static int read_segments(struct archive_tree *a, char *note, size_t note_size, struct err *err)
{
	u64 offset = a->offset;

	do {
		int result;

		a->segment[a->segment_count] = (struct segment){offset, a->offset + a->size - offset};
		result = read_names(a, a->segment_count++, err);
		if (result < 0)
			return -1;
		if (result == 0) {
			if (a->index.count == 1)
				return -1;
			snprintf(note, note_size, "it is damaged, and the rest is left out: %s", err->text);
			return 0;
		}
	} while (find_next_segment(a, &offset));
	return 0;
}

/* ---- the tree ---- */

static int archive_stat(struct tree *tree, u64 node, struct image_entry *entry, struct err *err)
{
	const struct item *item = &archive_of(tree)->item[node];

	*entry = (struct image_entry){
		.kind = item->kind,
		.mode = item->mode,
		.uid = item->uid,
		.gid = item->gid,
		.links = item->same == INDEX_NONE ? item->links : archive_of(tree)->item[item->same].links,
		.major = item->major,
		.minor = item->minor,
		.identity = item->same == INDEX_NONE ? node : item->same,
		.size = item->size,
		.mtime = item->mtime,
	};
	return item->kind == IMAGE_UNREADABLE ? err_set(err, "an entry of no known type") : 0;
}

static int archive_lookup(struct tree *tree, u64 directory, const char *name, u64 *node, struct err *err)
{
	u32 found = index_find(&archive_of(tree)->index, (u32)directory, name, strlen(name));

	(void)err;
	*node = found;
	return found == INDEX_NONE;
}

static int archive_read_link(struct tree *tree, u64 node, char *target, struct err *err)
{
	const struct archive_tree *a = archive_of(tree);

	(void)err;
	snprintf(target, PATH_MAX, "%s", a->targets + a->item[node].target);
	return 0;
}

static int archive_list(struct tree *tree, u64 directory, tree_child *child, void *opaque, struct err *err)
{
	const struct index *index = &archive_of(tree)->index;

	for (u32 node = index->node[directory].first_child; node != INDEX_NONE; node = index->node[node].next)
		if (child(opaque, index_name(index, node), node, err) < 0)
			return -1;
	return 0;
}

/* Moves on to the entry, from where the last one was read if that is before it. */
static int go_to(struct archive_tree *a, const struct item *item, struct err *err)
{
	struct archive_entry *entry;

	if ((!a->open || a->open_segment != item->segment || a->next > item->order) &&
	    open_segment(a, item->segment, err) < 0)
		return -1;
	while (a->next <= item->order) {
		int result = next_entry(a, &entry, err);

		if (result <= 0)
			return result < 0 ? -1 : err_set(err, "the archive has changed");
	}
	return 0;
}

static int copy_data(struct archive_tree *a, u64 most, struct content *content, struct err *err)
{
	static u8 buffer[65536];
	la_ssize_t n;

	while ((n = archive_read_data(a->open, buffer, sizeof(buffer))) > 0) {
		if (content->size + (u64)n > most)
			return err_set(err, "the file is too large: more than %llu MiB",
				       (unsigned long long)most >> 20);
		if (content_write(content, buffer, (u64)n, err) < 0)
			return -1;
	}
	return n == 0 ? 0 : err_set(err, "%s", archive_error_string(a->open));
}

static int archive_file_open(struct tree *tree, u64 node, u64 most, struct content *content, struct err *err)
{
	struct archive_tree *a = archive_of(tree);
	const struct item *item = &a->item[node];

	if (item->size > most)
		return err_set(err, "the file is too large: %llu MiB", (unsigned long long)item->size >> 20);
	if (go_to(a, item, err) < 0 || content_begin_copy(content, err) < 0)
		return -1;
	if (copy_data(a, most, content, err) == 0)
		return 0;
	content_release(content);
	close_archive(a);
	return -1;
}

static void archive_destroy(struct tree *tree)
{
	struct archive_tree *a = archive_of(tree);

	close_archive(a);
	index_release(&a->index);
	free(a->item);
	free(a->targets);
	free(a);
}

static const struct tree_ops archive_ops = {
	.stat = archive_stat,
	.lookup = archive_lookup,
	.read_link = archive_read_link,
	.list = archive_list,
	.open = archive_file_open,
	.destroy = archive_destroy,
};

static void describe(struct archive_tree *a, char *format, size_t format_size, char *note, size_t note_size)
{
	const char *name = a->open ? archive_format_name(a->open) : NULL;
	const char *filter = a->open && archive_filter_count(a->open) > 1 ? archive_filter_name(a->open, 0) : NULL;
	size_t used = strlen(note);

	snprintf(format, format_size, "%s%s%s", name ? name : "archive", filter ? ", " : "", filter ? filter : "");
	if (a->refused + a->conflicts + a->unnamed)
		snprintf(note + used, note_size - used,
			 "%sentries left out: %llu with '..' or other names that lead outside, %llu below what is no "
			 "directory, %llu whose names cannot be read",
			 used ? "; " : "", (unsigned long long)a->refused, (unsigned long long)a->conflicts,
			 (unsigned long long)a->unnamed);
}

struct tree *archive_open(int fd, u64 offset, u64 size, char *format, size_t format_size, char *note, size_t note_size,
			  bool *unknown, struct err *err)
{
	struct archive_tree *a = calloc(1, sizeof(*a));

	*unknown = false;
	*note = '\0';
	if (!a) {
		err_set(err, "not enough memory");
		return NULL;
	}
	a->tree = (struct tree){.ops = &archive_ops, .root = 0};
	a->source.fd = fd;
	a->offset = offset;
	a->size = size;
	if (index_init(&a->index, err) == 0 && make_room(a, err) == 0) {
		a->item[0] = (struct item){.kind = IMAGE_DIRECTORY, .mode = 0755, .links = 1, .same = INDEX_NONE};
		if (read_segments(a, note, note_size, err) == 0 && a->entries) {
			describe(a, format, format_size, note, note_size);
			return &a->tree;
		}
		/* zeros are a tar archive without an entry */
		*unknown = !a->open || !archive_format(a->open) || !a->entries;
	}
	archive_destroy(&a->tree);
	return NULL;
}
