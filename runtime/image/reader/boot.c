#include "image/reader/boot.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int boot_set(char **text, struct err *err, const char *format, ...)
{
	va_list args;
	char *made;
	int length;

	va_start(args, format);
	length = vasprintf(&made, format, args);
	va_end(args);
	if (length < 0)
		return err_set(err, "not enough memory");
	free(*text);
	*text = made;
	return 0;
}

int boot_set_kernel(struct boot *boot, u32 volume, const char *path, struct err *err)
{
	boot->kernel.volume = volume;
	return boot_set(&boot->kernel.path, err, "%s", path);
}

int boot_add_initrd(struct boot *boot, u32 volume, const char *path, struct err *err)
{
	if (boot->initrd_count == IMAGE_INITRDS_MAX)
		return err_set(err, "more than %d initramfs files", IMAGE_INITRDS_MAX);
	boot->initrd[boot->initrd_count] = (struct boot_place){.volume = volume};
	return boot_set(&boot->initrd[boot->initrd_count++].path, err, "%s", path);
}

void boot_clear(struct boot *boot)
{
	char **const texts[] = {&boot->title, &boot->source, &boot->why, &boot->cmdline, &boot->kernel.path};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		free(*texts[i]);
		*texts[i] = NULL;
	}
	while (boot->initrd_count) {
		free(boot->initrd[--boot->initrd_count].path);
		boot->initrd[boot->initrd_count].path = NULL;
	}
}

void boot_release(struct boot *boot)
{
	boot_clear(boot);
	while (boot->note_count)
		free(boot->note[--boot->note_count]);
}

bool boot_file_exists(const struct space *space, u32 volume, const char *path)
{
	struct image_entry entry;
	struct spot spot;

	return space_stat(space, volume, path, true, &spot, &entry, NULL) == 0 && entry.kind == IMAGE_FILE;
}

u32 boot_volumes(const struct space *space, u32 order[IMAGE_VOLUMES_MAX])
{
	const struct volumes *volumes = &space->volumes;
	u32 count = 0;

	for (unsigned round = 0; round < 3; round++) {
		for (u32 i = 0; i < volumes->count; i++) {
			bool boot = strcmp(volumes->volume[i].mount, "/boot") == 0, root = i == volumes->root;
			unsigned rank = boot ? 0 : root ? 1 : 2;

			if (volumes->volume[i].tree && rank == round)
				order[count++] = i;
		}
	}
	return count;
}

const char *boot_of_volume(const struct space *space, u32 volume, char buffer[48])
{
	char name[32];

	if (volume >= space->volumes.count || !space->volumes.volume[volume].number)
		return "";
	snprintf(buffer, 48, " of %s", volume_name(&space->volumes.volume[volume], name));
	return buffer;
}

/* Whether all files of the entry are there. */
static int check_files(const struct space *space, const struct boot *boot, struct err *err)
{
	if (!boot->kernel.path)
		return err_set(err, "the entry '%s' names no kernel", boot->title ? boot->title : "");
	if (!boot_file_exists(space, boot->kernel.volume, boot->kernel.path))
		return err_set(err, "the entry '%s' names a kernel that is not there: '%s'",
			       boot->title ? boot->title : "", boot->kernel.path);
	for (u32 i = 0; i < boot->initrd_count; i++)
		if (!boot_file_exists(space, boot->initrd[i].volume, boot->initrd[i].path))
			return err_set(err, "the entry '%s' names an initramfs that is not there: '%s'",
				       boot->title ? boot->title : "", boot->initrd[i].path);
	if (boot->cmdline && strlen(boot->cmdline) > BOOT_CMDLINE_MOST)
		return err_set(err, "the entry '%s' has a command line that is too long",
			       boot->title ? boot->title : "");
	return 0;
}

static void add_note(struct boot *boot, const char *text)
{
	if (boot->note_count < IMAGE_NOTES_MAX && boot_set(&boot->note[boot->note_count], NULL, "%s", text) == 0)
		boot->note_count++;
}

int boot_find(const struct space *space, struct boot *boot, struct err *err)
{
	static boot_finder *const finders[] = {boot_find_grub, boot_find_extlinux, boot_find_bls, boot_find_newest};

	*boot = (struct boot){0};
	for (size_t i = 0; i < ARRAY_SIZE(finders); i++) {
		struct err why = ERR_INIT;
		int result = finders[i](space, boot, &why);

		if (result == 0 && check_files(space, boot, &why) == 0)
			return 0;
		if (result <= 0) {
			struct err note;

			snprintf(note.text, sizeof(note.text), "%.150s%s%.300s", boot->source ? boot->source : "",
				 boot->source ? ": " : "", why.text);
			add_note(boot, note.text);
		}
		boot_clear(boot);
	}
	if (boot->note_count)
		return err_set(err, "nothing in it can be booted: %s", boot->note[0]);
	if (space->volumes.root == VOLUME_NONE) {
		struct err why = ERR_INIT;

		volumes_none(&space->volumes, &why);
		return err_set(err, "nothing in it can be booted: %.400s", why.text);
	}
	return err_set(err, "nothing in it can be booted: no boot loader's configuration, and no kernel in /boot");
}
