/* Without a boot loader's configuration: the newest kernel of /boot, with its initramfs, and the root of the fstab. */
#include "image/reader/boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/fstab.h"
#include "image/reader/version.h"

#define FSTAB_MOST (1u << 20)

struct kernel {
	u32 volume;
	char directory[16];
	char name[NAME_MAX + 1]; /* "" as long as none was found */
	const char *version;     /* within the name */
};

/* The version in the name of a kernel ("" if it has none), or NULL: it is none. */
static const char *kernel_version(const char *name)
{
	static const char *const prefixes[] = {"vmlinuz", "vmlinux", "bzImage", "kernel", "linux"};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		size_t length = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], length) != 0)
			continue;
		if (!name[length])
			return name + length;
		if (name[length] == '-')
			return name + length + 1;
	}
	return NULL;
}

/* Names that are kept next to a kernel, or are for emergencies. */
static bool is_other(const char *name)
{
	static const char *const parts[] = {"rescue", ".old", ".bak", ".hmac", ".sig", ".efi.signed"};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strstr(name, parts[i]))
			return true;
	return false;
}

struct collect {
	const struct space *space;
	struct kernel *newest;
	u32 volume;
	const char *directory;
};

static int look_at(void *opaque, const char *name, u64 node, struct err *err)
{
	struct collect *collect = opaque;
	const char *version = kernel_version(name);
	char path[PATH_MAX];

	(void)node, (void)err;
	if (!version || is_other(name))
		return 0;
	snprintf(path, sizeof(path), "%s/%s", collect->directory, name);
	if (!boot_file_exists(collect->space, collect->volume, path))
		return 0;
	if (*collect->newest->name && version_compare(version, collect->newest->version) <= 0)
		return 0;
	collect->newest->volume = collect->volume;
	snprintf(collect->newest->directory, sizeof(collect->newest->directory), "%s", collect->directory);
	snprintf(collect->newest->name, sizeof(collect->newest->name), "%s", name);
	collect->newest->version = kernel_version(collect->newest->name);
	return 0;
}

static void look_into(const struct space *space, u32 volume, const char *directory, struct kernel *newest)
{
	struct collect collect = {space, newest, volume, directory};
	struct image_entry entry;
	struct spot spot;
	struct tree *tree;

	if (space_stat(space, volume, *directory ? directory : "/", true, &spot, &entry, NULL) != 0 ||
	    entry.kind != IMAGE_DIRECTORY)
		return;
	tree = spot_tree(space, spot);
	/* what could be listed of a damaged directory may do */
	tree->ops->list(tree, spot.node, look_at, &collect, NULL);
}

static int add_initrd(const struct space *space, const struct kernel *kernel, struct boot *boot, struct err *err)
{
	static const char *const formats[] = {"initrd.img-%s", "initramfs-%s.img", "initrd-%s", "initrd-%s.img",
					      "initramfs-%s"};
	static const char *const plain[] = {"initrd.img", "initramfs.img", "initrd", "initramfs-linux.img",
					    "initramfs"};

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		char name[NAME_MAX + 32], path[PATH_MAX];

		if (*kernel->version)
			snprintf(name, sizeof(name), "%.*s%s%s", (int)(strchr(formats[i], '%') - formats[i]),
				 formats[i], kernel->version, strchr(formats[i], '%') + 2);
		else
			snprintf(name, sizeof(name), "%s", plain[i]);
		snprintf(path, sizeof(path), "%s/%s", kernel->directory, name);
		if (boot_file_exists(space, kernel->volume, path))
			return boot_add_initrd(boot, kernel->volume, path, err);
	}
	return 0;
}

struct root {
	char device[256]; /* "" as long as none was found */
};

static void find_root(void *opaque, const struct fstab_line *line)
{
	struct root *root = opaque;

	if (strcmp(line->directory, "/") == 0)
		snprintf(root->device, sizeof(root->device), "%s", line->device);
}

/* What the kernel is told about its root. Names that only an initramfs understands are of no use without one. */
static int set_cmdline(const struct space *space, struct boot *boot, struct err *err)
{
	const struct volumes *volumes = &space->volumes;
	const struct volume *volume;
	struct root root = {""};
	char *fstab;

	if (volumes->root == VOLUME_NONE)
		return boot_set(&boot->cmdline, err, "ro");
	volume = &volumes->volume[volumes->root];
	fstab = space_text(space, volumes->root, "/etc/fstab", FSTAB_MOST, NULL);
	if (fstab)
		fstab_read(fstab, find_root, &root);
	free(fstab);
	/* a device that is called otherwise here, or a variable of an installer, serves nobody */
	if (volumes_find(volumes, root.device) != volumes->root || strncmp(root.device, "/dev/", 5) == 0)
		root.device[0] = '\0';
	if (!boot->initrd_count) {
		if (volume->number)
			return boot_set(&boot->cmdline, err, "root=/dev/vda%u ro", volume->number);
		return boot_set(&boot->cmdline, err, "root=/dev/vda ro");
	}
	if (*root.device)
		return boot_set(&boot->cmdline, err, "root=%s ro", root.device);
	return *volume->uuid ? boot_set(&boot->cmdline, err, "root=UUID=%s ro", volume->uuid)
			     : boot_set(&boot->cmdline, err, "ro");
}

int boot_find_newest(const struct space *space, struct boot *boot, struct err *err)
{
	u32 order[IMAGE_VOLUMES_MAX], count = boot_volumes(space, order);
	struct kernel newest = {.name = ""};
	char name[48], path[PATH_MAX];

	for (u32 i = 0; i < count; i++) {
		look_into(space, order[i], "/boot", &newest);
		look_into(space, order[i], "", &newest);
	}
	if (!*newest.name)
		return 1;
	if (boot_set(&boot->title, err, "%s", newest.name) < 0 ||
	    boot_set(&boot->source, err, "%s/%s%s", newest.directory, newest.name,
		     boot_of_volume(space, newest.volume, name)) < 0 ||
	    boot_set(&boot->why, err, "it is the newest kernel") < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", newest.directory, newest.name);
	if (boot_set_kernel(boot, newest.volume, path, err) < 0 || add_initrd(space, &newest, boot, err) < 0)
		return -1;
	return set_cmdline(space, boot, err);
}
