/*
 * Fuzzes what reads the configurations of boot loaders in disk images. The first byte says which one the rest is. Build
 *by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_image_boot.c \
 *		$(ls runtime/image/reader/[a-z]*.c | grep -v main.c) runtime/image/wire.c runtime/util/err.c \
 *		-lext2fs -lcom_err -lblkid -larchive -lseccomp -o fuzz_image_boot
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/reader/boot.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* A tree of two files in memory, whatever they are called: a kernel, and the configuration. */
struct fake {
	struct tree tree;
	const char *path; /* of the configuration */
	int fd;           /* its bytes */
	u64 size;
};

/*
 * Nodes: the length of the path so far, as long as it leads to the configuration, whose node is then its whole length;
 * or KERNEL. Everything that looks like a kernel is one.
 */
#define KERNEL 10000

static int fake_stat(struct tree *tree, u64 node, struct image_entry *entry, struct err *err)
{
	const struct fake *fake = (const struct fake *)tree;
	bool file = node == KERNEL || node == strlen(fake->path);

	(void)err;
	*entry = (struct image_entry){.kind = file ? IMAGE_FILE : IMAGE_DIRECTORY,
				      .size = node == KERNEL ? 1 : fake->size};
	return 0;
}

static int fake_lookup(struct tree *tree, u64 directory, const char *name, u64 *node, struct err *err)
{
	const struct fake *fake = (const struct fake *)tree;
	size_t length = strlen(name);

	(void)err;
	if (directory != KERNEL && !strncmp(fake->path + directory + 1, name, length) &&
	    (!fake->path[directory + 1 + length] || fake->path[directory + 1 + length] == '/')) {
		*node = directory + 1 + length;
		return 0;
	}
	*node = KERNEL;
	return strstr(name, "linu") ? 0 : 1;
}

static int fake_read_link(struct tree *tree, u64 node, char *target, struct err *err)
{
	(void)tree, (void)node, (void)target;
	return err_set(err, "none");
}

static int fake_list(struct tree *tree, u64 directory, tree_child *child, void *opaque, struct err *err)
{
	const struct fake *fake = (const struct fake *)tree;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(fake->path + directory + 1, "/"), fake->path + directory + 1);
	return child(opaque, name, directory + 1 + strlen(name), err);
}

static int fake_open(struct tree *tree, u64 node, u64 most, struct content *content, struct err *err)
{
	const struct fake *fake = (const struct fake *)tree;

	*content = (struct content)CONTENT_INIT;
	if (node == KERNEL || fake->size > most)
		return err_set(err, "too large");
	content->fd = dup(fake->fd);
	return content_add(content, 0, fake->size, err);
}

static void fake_destroy(struct tree *tree)
{
	(void)tree;
}

static const struct tree_ops fake_ops = {
	.stat = fake_stat,
	.lookup = fake_lookup,
	.read_link = fake_read_link,
	.list = fake_list,
	.open = fake_open,
	.destroy = fake_destroy,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const char *const paths[] = {"/boot/grub/grub.cfg", "/boot/extlinux/extlinux.conf",
					    "/loader/entries/x-6.1.conf", "/etc/fstab"};
	static int fd = -1;
	static struct space space;
	struct fake fake = {.tree = {.ops = &fake_ops}};
	struct boot boot;
	struct err err = ERR_INIT;

	if (!size)
		return 0;
	if (fd < 0)
		fd = memfd_create("configuration", 0);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data + 1, size - 1, 0) != (ssize_t)(size - 1))
		abort();
	fake.path = paths[data[0] % ARRAY_SIZE(paths)];
	fake.fd = fd;
	fake.size = size - 1;
	space.volumes.count = 1;
	space.volumes.format = "disk";
	space.volumes.volume[0] = (struct volume){.tree = &fake.tree, .uuid = "1234"};
	if (boot_find(&space, &boot, &err) == 0 && (!boot.kernel.path || !boot.cmdline || !boot.title || !boot.why))
		abort();
	boot_release(&boot);
	return 0;
}
