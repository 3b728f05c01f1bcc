/*
 * Fuzzes what reads disk images and archives: partitions, ext4 with its journal, tar and its like. Begin with small
 *images (mke2fs of 64 KiB to 1 MiB, tar, cpio, zip files). Build by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_image_disk.c \
 *		$(ls runtime/image/reader/[a-z]*.c | grep -v main.c) runtime/image/wire.c runtime/util/err.c \
 *		-lext2fs -lcom_err -lblkid -larchive -lseccomp -o fuzz_image_disk
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/reader/boot.h"
#include "image/reader/walk.h"

#define FILE_MOST (1u << 20)

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* The pieces are as many bytes as the file has, and no more than was asked for. Where they lie is for the client to
 * check. */
static void check_content(const struct content *content)
{
	u64 sum = 0;

	for (u32 i = 0; i < content->piece_count; i++)
		sum += content->piece[i].length;
	if (sum != content->size || content->size > FILE_MOST)
		abort();
}

static void look_at(struct space *space)
{
	static struct walk_state walk;
	struct image_entry entry;

	if (walk_begin(&walk, space, IMAGE_TREE, "/", UINT32_MAX, NULL) < 0)
		return;
	while (walk_next(&walk, &entry)) {
		struct content content = CONTENT_INIT;
		struct spot spot;

		if (strlen(entry.path) >= PATH_MAX || strlen(entry.target) >= PATH_MAX || strstr(entry.path, "//"))
			abort();
		if (entry.kind != IMAGE_FILE || space_stat(space, IMAGE_TREE, entry.path, true, &spot, &entry, NULL) ||
		    entry.kind != IMAGE_FILE)
			continue;
		struct tree *tree = spot_tree(space, spot);

		if (tree->ops->open(tree, spot.node, FILE_MOST, &content, NULL) == 0) {
			check_content(&content);
			content_release(&content);
		}
	}
	walk_end(&walk);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct space space;
	static int fd = -1;
	struct err err = ERR_INIT;
	struct boot boot;

	if (fd < 0)
		fd = memfd_create("image", 0);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	if (space_open(&space, fd, false, &err) < 0) {
		if (!err.text[0])
			abort();
		return 0;
	}
	look_at(&space);
	boot_find(&space, &boot, &err);
	boot_release(&boot);
	space_close(&space);
	return 0;
}
