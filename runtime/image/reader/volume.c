#include "image/reader/volume.h"

#include <blkid/blkid.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "image/reader/archive.h"
#include "image/reader/directory.h"
#include "image/reader/ext4.h"

/* ---- names ---- */

const char *volume_name(const struct volume *volume, char buffer[32])
{
	if (!volume->number)
		return "the image";
	snprintf(buffer, 32, "partition %u", volume->number);
	return buffer;
}

/* "/dev/vda2", "/dev/nvme0n1p2": the number; 0 for a whole disk; -1: no disk. */
static int partition_number(const char *device)
{
	const char *digits;

	if (strncmp(device, "/dev/", 5) != 0)
		return -1;
	digits = device + strlen(device);
	while (digits > device && isdigit((unsigned char)digits[-1]))
		digits--;
	if (strncmp(device, "/dev/nvme", 9) == 0 || strncmp(device, "/dev/mmcblk", 11) == 0)
		return digits[-1] == 'p' && *digits ? atoi(digits) : 0;
	return strlen(digits) > 3 ? -1 : atoi(digits);
}

/* The value if `name` begins with the key, in quotes or not; else NULL. */
static const char *value_of(const char *name, const char *key, char *buffer, size_t size)
{
	size_t length = strlen(key);
	size_t end;

	if (strncasecmp(name, key, length) != 0)
		return NULL;
	name += length;
	if (*name == '"')
		name++;
	snprintf(buffer, size, "%s", name);
	end = strlen(buffer);
	if (end && buffer[end - 1] == '"')
		buffer[end - 1] = '\0';
	return buffer;
}

u32 volumes_find(const struct volumes *volumes, const char *name)
{
	static const struct {
		const char *key, *path;
		size_t offset;
	} keys[] = {
		{"UUID=", "/dev/disk/by-uuid/", offsetof(struct volume, uuid)},
		{"LABEL=", "/dev/disk/by-label/", offsetof(struct volume, label)},
		{"PARTUUID=", "/dev/disk/by-partuuid/", offsetof(struct volume, partuuid)},
		{"PARTLABEL=", "/dev/disk/by-partlabel/", offsetof(struct volume, partlabel)},
	};
	int number;

	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		char buffer[256];
		const char *value = value_of(name, keys[k].key, buffer, sizeof(buffer));

		if (!value)
			value = value_of(name, keys[k].path, buffer, sizeof(buffer));
		if (!value)
			continue;
		for (u32 i = 0; i < volumes->count && *value; i++)
			if (strcasecmp((const char *)&volumes->volume[i] + keys[k].offset, value) == 0)
				return i;
		return VOLUME_NONE;
	}
	number = partition_number(name);
	for (u32 i = 0; i < volumes->count && number >= 0; i++)
		if (volumes->volume[i].number == (u32)number)
			return i;
	return VOLUME_NONE;
}

int volumes_none(const struct volumes *volumes, struct err *err)
{
	char text[400] = "", name[32];
	size_t used = 0;

	for (u32 i = 0; i < volumes->count && used < sizeof(text) - 1; i++) {
		const struct volume *volume = &volumes->volume[i];

		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %s", used ? "; " : "",
					 volume_name(volume, name), volume->note);
	}
	return err_set(err, "%s", used ? text : "no partition is in it");
}

/* ---- what is in a range of the image ---- */

static void copy_value(blkid_probe probe, const char *name, char *to, size_t size)
{
	const char *value;
	size_t length;

	if (blkid_probe_lookup_value(probe, name, &value, &length) == 0 && length)
		snprintf(to, size, "%.*s", (int)(length < size ? length : size), value);
}

static void open_ext4(struct volume *volume, int fd)
{
	struct err err = ERR_INIT;

	volume->tree = ext4_open(fd, volume->offset, volume->size, volume->note, sizeof(volume->note), &err);
	if (!volume->tree)
		snprintf(volume->note, sizeof(volume->note), "holds %s, which is damaged: %.300s", volume->type,
			 err.text);
}

static void open_iso(struct volume *volume, int fd)
{
	struct err err = ERR_INIT;
	char format[64];
	bool unknown;

	volume->tree = archive_open(fd, volume->offset, volume->size, format, sizeof(format), volume->note,
				    sizeof(volume->note), &unknown, &err);
	if (!volume->tree)
		snprintf(volume->note, sizeof(volume->note), "holds %s, which is damaged: %.300s", volume->type,
			 err.text);
}

/* What to say about kinds that cannot be read. */
static void name_type(struct volume *volume)
{
	static const struct {
		const char *type, *text;
	} texts[] = {
		{"crypto_LUKS", "is encrypted (LUKS), which is not supported"},
		{"LVM2_member", "belongs to a logical volume group (LVM), which is not supported"},
		{"linux_raid_member", "belongs to a RAID, which is not supported"},
		{"swap", "holds swap space"},
		{"", "holds nothing that is known"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(texts[i].type, volume->type) == 0) {
			snprintf(volume->note, sizeof(volume->note), "%s", texts[i].text);
			return;
		}
	}
	snprintf(volume->note, sizeof(volume->note), "holds %s, which is not supported", volume->type);
}

/* Finds out what the volume's range holds, and opens it if that can be read. */
static void look_into(struct volume *volume, int fd)
{
	blkid_probe probe = blkid_new_probe();
	int result = -1;

	if (probe && blkid_probe_set_device(probe, fd, (blkid_loff_t)volume->offset, (blkid_loff_t)volume->size) == 0) {
		blkid_probe_enable_superblocks(probe, 1);
		blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID);
		result = blkid_do_safeprobe(probe);
	}
	if (result == 0) {
		copy_value(probe, "TYPE", volume->type, sizeof(volume->type));
		copy_value(probe, "LABEL", volume->label, sizeof(volume->label));
		copy_value(probe, "UUID", volume->uuid, sizeof(volume->uuid));
	}
	blkid_free_probe(probe);
	if (result == -2)
		snprintf(volume->note, sizeof(volume->note), "has marks of several file systems");
	else if (strncmp(volume->type, "ext", 3) == 0)
		open_ext4(volume, fd);
	else if (strcmp(volume->type, "iso9660") == 0)
		open_iso(volume, fd);
	else
		name_type(volume);
}

/* ---- partitions ---- */

static void add_partition(struct volumes *volumes, blkid_partition partition, u64 disk_size)
{
	struct volume *volume = &volumes->volume[volumes->count];
	const char *uuid = blkid_partition_get_uuid(partition), *label = blkid_partition_get_name(partition);
	u64 start = (u64)blkid_partition_get_start(partition), size = (u64)blkid_partition_get_size(partition);

	*volume = (struct volume){.number = (u32)blkid_partition_get_partno(partition)};
	snprintf(volume->partuuid, sizeof(volume->partuuid), "%s", uuid ? uuid : "");
	snprintf(volume->partlabel, sizeof(volume->partlabel), "%s", label ? label : "");
	volumes->count++;
	if (blkid_partition_is_extended(partition)) {
		snprintf(volume->note, sizeof(volume->note), "holds other partitions");
		volume->offset = start * 512;
		volume->size = size * 512;
		return;
	}
	if (start > disk_size / 512 || !size) {
		snprintf(volume->note, sizeof(volume->note), "lies beyond the end of the image");
		return;
	}
	volume->offset = start * 512;
	volume->size = size * 512;
	if (size > (disk_size - volume->offset) / 512) {
		/* a truncated image: what is there may do */
		volume->size = disk_size - volume->offset;
	}
	look_into(volume, volumes->fd);
}

static void add_partitions(struct volumes *volumes, blkid_partlist list, u64 disk_size)
{
	int count = blkid_partlist_numof_partitions(list);

	for (int i = 0; i < count && volumes->count < IMAGE_VOLUMES_MAX; i++) {
		blkid_partition partition = blkid_partlist_get_partition(list, i);

		if (partition)
			add_partition(volumes, partition, disk_size);
	}
}

/* A partition table with partitions in it: adds them. Returns whether there is one. */
static bool read_table(struct volumes *volumes, u64 size)
{
	blkid_probe probe = blkid_new_probe();
	blkid_partlist list = NULL;
	blkid_parttable table;

	if (probe && blkid_probe_set_device(probe, volumes->fd, 0, (blkid_loff_t)size) == 0) {
		blkid_probe_enable_superblocks(probe, 0);
		blkid_probe_enable_partitions(probe, 1);
		list = blkid_probe_get_partitions(probe);
	}
	table = list ? blkid_partlist_get_table(list) : NULL;
	if (table && blkid_partlist_numof_partitions(list)) {
		/* the text is the library's: of the names that it has, these two are everywhere */
		volumes->format = strcmp(blkid_parttable_get_type(table), "gpt") == 0   ? "gpt"
				  : strcmp(blkid_parttable_get_type(table), "dos") == 0 ? "dos"
											: "partitions";
		add_partitions(volumes, list, size);
	}
	blkid_free_probe(probe);
	return volumes->count > 0;
}

/* ---- which one is the root ---- */

static bool has_path(struct tree *tree, const char *const *names)
{
	u64 node = tree->root;

	for (; *names; names++)
		if (tree->ops->lookup(tree, node, *names, &node, NULL) != 0)
			return false;
	return true;
}

static void choose_root(struct volumes *volumes)
{
	static const char *const fstab[] = {"etc", "fstab", NULL}, *const release[] = {"etc", "os-release", NULL},
				 *const etc[] = {"etc", NULL};
	static const char *const *const signs[] = {fstab, release, etc, &etc[1]};

	volumes->root = VOLUME_NONE;
	for (size_t s = 0; s < ARRAY_SIZE(signs); s++) {
		for (u32 i = 0; i < volumes->count; i++) {
			struct tree *tree = volumes->volume[i].tree;

			if (tree && has_path(tree, signs[s])) {
				volumes->root = i;
				snprintf(volumes->volume[i].mount, sizeof(volumes->volume[i].mount), "/");
				return;
			}
		}
	}
}

/* ---- opening ---- */

static int open_directory(struct volumes *volumes, struct err *err)
{
	struct volume *volume = &volumes->volume[0];

	volumes->format = "directory";
	volumes->count = 1;
	*volume = (struct volume){.tree = directory_open(volumes->fd, err), .type = "directory"};
	return volume->tree ? 0 : -1;
}

/* 0: it is one; 1: it is none; -1: it is one that cannot be read. */
static int open_archive(struct volumes *volumes, u64 size, struct err *err)
{
	struct volume *volume = &volumes->volume[0];
	bool unknown;

	*volume = (struct volume){.size = size};
	volume->tree = archive_open(volumes->fd, 0, size, volume->type, sizeof(volume->type), volume->note,
				    sizeof(volume->note), &unknown, err);
	if (!volume->tree)
		return unknown ? 1 : -1;
	volumes->format = "archive";
	volumes->count = 1;
	return 0;
}

/* A file system that fills the image goes before partitions: boot sectors look like partition tables. */
static int open_disk(struct volumes *volumes, u64 size, struct err *err)
{
	struct volume whole = {.size = size};
	int result;

	look_into(&whole, volumes->fd);
	if (!whole.tree && read_table(volumes, size))
		return 0;
	if (!whole.tree && !*whole.type) {
		result = open_archive(volumes, size, err);
		if (result <= 0)
			return result;
	}
	volumes->format = "disk";
	volumes->volume[0] = whole;
	volumes->count = 1;
	return 0;
}

int volumes_open(struct volumes *volumes, int fd, bool directory, struct err *err)
{
	off_t size = directory ? 0 : lseek(fd, 0, SEEK_END);
	int result;

	*volumes = (struct volumes){.fd = fd};
	if (size < 0)
		return err_set(err, "its size cannot be found out");
	result = directory ? open_directory(volumes, err) : open_disk(volumes, (u64)size, err);
	if (result == 0)
		choose_root(volumes);
	return result;
}

void volumes_close(struct volumes *volumes)
{
	for (u32 i = 0; i < volumes->count; i++)
		tree_destroy(volumes->volume[i].tree);
	volumes->count = 0;
}
