#include "image/reader/ext4.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "image/protocol.h"
#include "image/reader/ext4_disk.h"
#include "image/reader/ext4_journal.h"

#define EXTENTS_MOST 1000000u /* of one file: a sane file system has far fewer */
#define COPY_STEP    65536u
#define SUPERBLOCK   1024u /* where it is, in bytes */

struct ext4 {
	struct tree tree;
	struct ext4_disk disk;
	ext2_filsys fs;
};

static struct ext4 *ext4_of(struct tree *tree)
{
	return (struct ext4 *)tree;
}

static int failed(const char *what, errcode_t code, struct err *err)
{
	return err_set(err, "%s: %s", what, error_message(code));
}

/* ---- the channel that libext2fs reads through ---- */

static struct struct_io_manager channel_manager;

static errcode_t channel_open(const char *name, int flags, io_channel *channel)
{
	struct struct_io_channel *io = calloc(1, sizeof(*io));
	void *disk;

	(void)flags;
	if (!io)
		return ENOMEM;
	/* the library hands on no pointer: it is in the name (open_library()) */
	if (sscanf(name, "%p", &disk) != 1)
		BUG("the channel has no disk");
	io->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	io->manager = &channel_manager;
	io->name = strdup(name);
	io->block_size = (int)SUPERBLOCK;
	io->refcount = 1;
	io->private_data = disk;
	if (!io->name) {
		free(io);
		return ENOMEM;
	}
	*channel = io;
	return 0;
}

static errcode_t channel_close(io_channel channel)
{
	if (--channel->refcount > 0)
		return 0;
	free(channel->name);
	free(channel);
	return 0;
}

static errcode_t channel_set_block_size(io_channel channel, int size)
{
	channel->block_size = size;
	return 0;
}

/* A negative count is a number of bytes. */
static errcode_t channel_read64(io_channel channel, unsigned long long block, int count, void *data)
{
	u64 size = count < 0 ? (u64) - (s64)count : (u64)count * (u64)channel->block_size, offset;

	if (__builtin_mul_overflow((u64)block, (u64)channel->block_size, &offset) ||
	    ext4_disk_read(channel->private_data, offset, data, size, NULL) < 0)
		return EXT2_ET_SHORT_READ;
	return 0;
}

static errcode_t channel_read(io_channel channel, unsigned long block, int count, void *data)
{
	return channel_read64(channel, block, count, data);
}

static errcode_t channel_write64(io_channel channel, unsigned long long block, int count, const void *data)
{
	(void)channel, (void)block, (void)count, (void)data;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t channel_write(io_channel channel, unsigned long block, int count, const void *data)
{
	return channel_write64(channel, block, count, data);
}

static errcode_t channel_flush(io_channel channel)
{
	(void)channel;
	return 0;
}

static struct struct_io_manager channel_manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "image",
	.open = channel_open,
	.close = channel_close,
	.set_blksize = channel_set_block_size,
	.read_blk = channel_read,
	.write_blk = channel_write,
	.flush = channel_flush,
	.read_blk64 = channel_read64,
	.write_blk64 = channel_write64,
};

/* ---- inodes ---- */

static int read_inode(const struct ext4 *ext4, u64 node, struct ext2_inode *inode, struct err *err)
{
	errcode_t code;

	if (!node || node > ext4->fs->super->s_inodes_count)
		return err_set(err, "there is no inode %llu", (unsigned long long)node);
	code = ext2fs_read_inode(ext4->fs, (ext2_ino_t)node, inode);
	return code ? failed("an inode cannot be read", code, err) : 0;
}

static enum image_kind kind_of(const struct ext2_inode *inode)
{
	if (LINUX_S_ISREG(inode->i_mode))
		return IMAGE_FILE;
	if (LINUX_S_ISDIR(inode->i_mode))
		return IMAGE_DIRECTORY;
	if (LINUX_S_ISLNK(inode->i_mode))
		return IMAGE_SYMLINK;
	if (LINUX_S_ISCHR(inode->i_mode))
		return IMAGE_CHARACTER;
	if (LINUX_S_ISBLK(inode->i_mode))
		return IMAGE_BLOCK;
	if (LINUX_S_ISFIFO(inode->i_mode))
		return IMAGE_FIFO;
	return LINUX_S_ISSOCK(inode->i_mode) ? IMAGE_SOCKET : IMAGE_UNREADABLE;
}

static void get_device(const struct ext2_inode *inode, struct image_entry *entry)
{
	/* the first word has the old form of 16 bits, the second, if the first is 0, the new one */
	if (inode->i_block[0]) {
		entry->major = inode->i_block[0] >> 8 & 0xff;
		entry->minor = inode->i_block[0] & 0xff;
	} else {
		entry->major = inode->i_block[1] >> 8 & 0xfff;
		entry->minor = (inode->i_block[1] & 0xff) | (inode->i_block[1] >> 12 & 0xfff00);
	}
}

static int ext4_stat(struct tree *tree, u64 node, struct image_entry *entry, struct err *err)
{
	struct ext2_inode inode;

	if (read_inode(ext4_of(tree), node, &inode, err) < 0)
		return -1;
	*entry = (struct image_entry){
		.kind = kind_of(&inode),
		.mode = inode.i_mode & 07777,
		.uid = inode_uid(inode),
		.gid = inode_gid(inode),
		.links = inode.i_links_count,
		.identity = node,
		.size = EXT2_I_SIZE(&inode),
		.mtime = inode.i_mtime,
	};
	if (entry->kind == IMAGE_UNREADABLE)
		return err_set(err, "an inode has no known type");
	if (entry->kind == IMAGE_CHARACTER || entry->kind == IMAGE_BLOCK)
		get_device(&inode, entry);
	return 0;
}

static int ext4_lookup(struct tree *tree, u64 directory, const char *name, u64 *node, struct err *err)
{
	const struct ext4 *ext4 = ext4_of(tree);
	ext2_ino_t found;
	errcode_t code = ext2fs_lookup(ext4->fs, (ext2_ino_t)directory, name, (int)strlen(name), NULL, &found);

	if (code == EXT2_ET_FILE_NOT_FOUND)
		return 1;
	if (code)
		return failed("a directory cannot be read", code, err);
	*node = found;
	return 0;
}

/* ---- directories ---- */

struct child {
	char *name;
	u64 node;
};

struct listing {
	struct child *child;
	u64 count, room;
	bool no_memory;
};

static int add_child(ext2_ino_t directory, int place, struct ext2_dir_entry *entry, int offset, int block_size,
		     char *block, void *opaque)
{
	struct listing *listing = opaque;
	size_t length = (size_t)ext2fs_dirent_name_len(entry);
	char *name;

	(void)directory, (void)place, (void)offset, (void)block_size, (void)block;
	if (!entry->inode || !tree_name_ok(entry->name, length))
		return 0;
	if (listing->count == listing->room) {
		u64 room = listing->room ? listing->room * 2 : 64;
		struct child *grown = realloc(listing->child, room * sizeof(*grown));

		if (!grown)
			goto no_memory;
		listing->child = grown;
		listing->room = room;
	}
	name = strndup(entry->name, length);
	if (!name)
		goto no_memory;
	listing->child[listing->count++] = (struct child){name, entry->inode};
	return 0;
no_memory:
	listing->no_memory = true;
	return DIRENT_ABORT;
}

static int compare_children(const void *a, const void *b)
{
	return strcmp(((const struct child *)a)->name, ((const struct child *)b)->name);
}

static int ext4_list(struct tree *tree, u64 directory, tree_child *child, void *opaque, struct err *err)
{
	struct listing listing = {0};
	errcode_t code = ext2fs_dir_iterate2(ext4_of(tree)->fs, (ext2_ino_t)directory, 0, NULL, add_child, &listing);
	int result = 0;

	if (listing.no_memory)
		result = err_set(err, "not enough memory for a directory");
	else if (code)
		result = failed("a directory cannot be read", code, err);
	if (listing.count)
		qsort(listing.child, listing.count, sizeof(*listing.child), compare_children);
	for (u64 i = 0; i < listing.count; i++) {
		if (result == 0)
			result = child(opaque, listing.child[i].name, listing.child[i].node, err);
		free(listing.child[i].name);
	}
	free(listing.child);
	return result;
}

/* ---- contents ---- */

/* Puts the mapping of a file together: pieces in the order of the file, with holes between. */
struct mapping {
	const struct ext4 *ext4;
	struct content *content;
	u64 size; /* of the file */
	u64 extents;
	bool broken;
	struct err *err;
};

/* `blocks` blocks of the file from block `logical` on lie at `physical`. */
static int add_extent(struct mapping *mapping, u64 logical, u64 physical, u64 blocks)
{
	u64 block_size = mapping->ext4->fs->blocksize, start = logical * block_size, length = blocks * block_size;

	if (start >= mapping->size)
		return 0; /* allocated beyond the end, as fallocate() may */
	if (start < mapping->content->size || ++mapping->extents > EXTENTS_MOST ||
	    physical + blocks > ext2fs_blocks_count(mapping->ext4->fs->super))
		return err_set(mapping->err, "the file's blocks are in disorder");
	if (length > mapping->size - start)
		length = mapping->size - start;
	if (content_add(mapping->content, CONTENT_HOLE, start - mapping->content->size, mapping->err) < 0)
		return -1;
	return content_add(mapping->content, mapping->ext4->disk.offset + physical * block_size, length, mapping->err);
}

static int map_extents(struct mapping *mapping, u64 node, struct ext2_inode *inode)
{
	struct ext2fs_extent extent;
	ext2_extent_handle_t handle;
	errcode_t code = ext2fs_extent_open2(mapping->ext4->fs, (ext2_ino_t)node, inode, &handle);
	int operation = EXT2_EXTENT_ROOT, result = 0;
	u64 steps = 0;

	if (code)
		return failed("the file's blocks cannot be found", code, mapping->err);
	for (; result == 0 && (code = ext2fs_extent_get(handle, operation, &extent)) == 0;
	     operation = EXT2_EXTENT_NEXT) {
		if (++steps > 4ULL * EXTENTS_MOST)
			result = err_set(mapping->err, "the file's blocks are in disorder");
		else if ((extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) && !(extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT))
			result = add_extent(mapping, extent.e_lblk, extent.e_pblk, extent.e_len);
	}
	if (result == 0 && code != EXT2_ET_EXTENT_NO_NEXT && code != EXT2_ET_NO_CURRENT_NODE)
		result = failed("the file's blocks cannot be found", code, mapping->err);
	ext2fs_extent_free(handle);
	return result;
}

static int map_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t logical, blk64_t reference, int offset, void *opaque)
{
	struct mapping *mapping = opaque;

	(void)reference, (void)offset;
	if (logical < 0 || (u64)logical * fs->blocksize >= mapping->size)
		return logical < 0 ? 0 : BLOCK_ABORT;
	if (add_extent(mapping, (u64)logical, *block, 1) == 0)
		return 0;
	mapping->broken = true;
	return BLOCK_ABORT;
}

static int map_blocks(struct mapping *mapping, u64 node)
{
	errcode_t code = ext2fs_block_iterate3(mapping->ext4->fs, (ext2_ino_t)node,
					       BLOCK_FLAG_DATA_ONLY | BLOCK_FLAG_READ_ONLY, NULL, map_block, mapping);

	if (mapping->broken)
		return -1;
	return code ? failed("the file's blocks cannot be found", code, mapping->err) : 0;
}

static int map_file(const struct ext4 *ext4, u64 node, struct ext2_inode *inode, struct content *content,
		    struct err *err)
{
	struct mapping mapping = {.ext4 = ext4, .content = content, .size = EXT2_I_SIZE(inode), .err = err};

	*content = (struct content)CONTENT_INIT;
	if ((inode->i_flags & EXT4_EXTENTS_FL ? map_extents(&mapping, node, inode) : map_blocks(&mapping, node)) < 0 ||
	    content_add(content, CONTENT_HOLE, mapping.size - content->size, err) < 0) {
		content_release(content);
		return -1;
	}
	return 0;
}

/* Nothing of it comes from the journal, and a message can tell where it is. */
static bool can_refer(const struct ext4 *ext4, const struct content *content)
{
	if (content->piece_count > PROTOCOL_PIECES_MAX)
		return false;
	for (u32 i = 0; i < content->piece_count; i++) {
		const struct content_piece *piece = &content->piece[i];

		if (piece->offset != CONTENT_HOLE &&
		    ext4_disk_replaced(&ext4->disk, piece->offset - ext4->disk.offset, piece->length))
			return false;
	}
	return true;
}

static int read_all(ext2_file_t file, u64 size, struct content *content, struct err *err)
{
	static u8 buffer[COPY_STEP];

	while (content->size < size) {
		u64 left = size - content->size;
		unsigned got;
		errcode_t code = ext2fs_file_read(file, buffer, (unsigned)(left < COPY_STEP ? left : COPY_STEP), &got);

		if (code)
			return failed("the file cannot be read", code, err);
		if (!got)
			return err_set(err, "the file ends early");
		if (content_write(content, buffer, got, err) < 0)
			return -1;
	}
	return 0;
}

/* What can only be had through the library: data inside the inode, in the journal, in very many pieces. */
static int copy_file(const struct ext4 *ext4, u64 node, struct ext2_inode *inode, struct content *content,
		     struct err *err)
{
	ext2_file_t file;
	errcode_t code = ext2fs_file_open2(ext4->fs, (ext2_ino_t)node, inode, 0, &file);
	int result;

	if (code)
		return failed("the file cannot be read", code, err);
	if (content_begin_copy(content, err) < 0) {
		ext2fs_file_close(file);
		return -1;
	}
	result = read_all(file, EXT2_I_SIZE(inode), content, err);
	ext2fs_file_close(file);
	if (result < 0)
		content_release(content);
	return result;
}

static int ext4_file_open(struct tree *tree, u64 node, u64 most, struct content *content, struct err *err)
{
	const struct ext4 *ext4 = ext4_of(tree);
	struct ext2_inode inode;

	if (read_inode(ext4, node, &inode, err) < 0)
		return -1;
	if (EXT2_I_SIZE(&inode) > most)
		return err_set(err, "the file is too large: %llu MiB", (unsigned long long)EXT2_I_SIZE(&inode) >> 20);
	if (inode.i_flags & EXT4_ENCRYPT_FL)
		return err_set(err, "the file is encrypted");
	if (inode.i_flags & EXT4_INLINE_DATA_FL)
		return copy_file(ext4, node, &inode, content, err);
	if (map_file(ext4, node, &inode, content, err) < 0)
		return -1;
	if (can_refer(ext4, content))
		return 0;
	content_release(content);
	return copy_file(ext4, node, &inode, content, err);
}

static int ext4_read_link(struct tree *tree, u64 node, char *target, struct err *err)
{
	const struct ext4 *ext4 = ext4_of(tree);
	struct ext2_inode inode;
	struct content content;
	char *text;

	if (read_inode(ext4, node, &inode, err) < 0)
		return -1;
	if (EXT2_I_SIZE(&inode) >= PATH_MAX)
		return err_set(err, "a symlink is too long");
	if (ext2fs_is_fast_symlink(&inode)) {
		u64 size = EXT2_I_SIZE(&inode) < sizeof(inode.i_block) ? EXT2_I_SIZE(&inode) : sizeof(inode.i_block);

		memcpy(target, inode.i_block, size);
		target[size] = '\0';
		return 0;
	}
	if (ext4_file_open(tree, node, PATH_MAX - 1, &content, err) < 0)
		return -1;
	text = content_text(&content, ext4->disk.fd, err);
	if (text)
		snprintf(target, PATH_MAX, "%s", text);
	content_release(&content);
	free(text);
	return text ? 0 : -1;
}

static void ext4_destroy(struct tree *tree)
{
	struct ext4 *ext4 = ext4_of(tree);

	if (ext4->fs)
		ext2fs_free(ext4->fs);
	free(ext4->disk.block);
	free(ext4);
}

/* ---- opening ---- */

static const struct tree_ops ext4_ops = {
	.stat = ext4_stat,
	.lookup = ext4_lookup,
	.read_link = ext4_read_link,
	.list = ext4_list,
	.open = ext4_file_open,
	.destroy = ext4_destroy,
};

static int open_library(struct ext4 *ext4, struct err *err)
{
	char name[32];
	errcode_t code;

	snprintf(name, sizeof(name), "%p", (void *)&ext4->disk);
	code = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES, 0, 0, &channel_manager,
			    &ext4->fs);
	if (code) {
		ext4->fs = NULL;
		return failed("the file system cannot be read", code, err);
	}
	return 0;
}

static int replay(struct ext4 *ext4, char *note, size_t note_size, struct err *err)
{
	u32 journal_inode = ext4->fs->super->s_journal_inum, transactions;
	struct ext2_inode inode;
	struct content journal;
	struct err why = ERR_INIT;
	int result = -1;

	if (!journal_inode) {
		err_set(&why, "it is on another disk");
	} else if (read_inode(ext4, journal_inode, &inode, &why) == 0 &&
		   map_file(ext4, journal_inode, &inode, &journal, &why) == 0) {
		for (u32 i = 0; i < journal.piece_count; i++)
			if (journal.piece[i].offset != CONTENT_HOLE)
				journal.piece[i].offset -= ext4->disk.offset;
		result = ext4_journal_replay(&ext4->disk, ext4->fs->blocksize, &journal, &transactions, &why);
		content_release(&journal);
	}
	if (result < 0) {
		snprintf(note, note_size, "it was not unmounted, and its journal is left out: %s", why.text);
		return 0;
	}
	snprintf(note, note_size, "it was not unmounted; its journal (%u transactions) was replayed in memory",
		 transactions);
	ext2fs_free(ext4->fs);
	return open_library(ext4, err);
}

struct tree *ext4_open(int fd, u64 offset, u64 size, char *note, size_t note_size, struct err *err)
{
	struct ext4 *ext4 = calloc(1, sizeof(*ext4));

	if (!ext4) {
		err_set(err, "not enough memory");
		return NULL;
	}
	*note = '\0';
	ext4->tree = (struct tree){.ops = &ext4_ops, .root = EXT2_ROOT_INO};
	ext4->disk = (struct ext4_disk){.fd = fd, .offset = offset, .size = size};
	initialize_ext2_error_table();
	if (open_library(ext4, err) == 0 &&
	    (!ext2fs_has_feature_journal_needs_recovery(ext4->fs->super) || replay(ext4, note, note_size, err) == 0))
		return &ext4->tree;
	ext4_destroy(&ext4->tree);
	return NULL;
}
