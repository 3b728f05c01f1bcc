/* GRUB's commands, as far as they decide what is booted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/bls.h"
#include "image/reader/grub.h"

#define ENVIRONMENT_MOST (64u << 10) /* bytes of a grubenv; it has 1024 */

/* ---- places ---- */

/* "hd0,gpt2", "hd0,msdos1", "hd0,2", "hd0": the one disk that there is. */
static u32 device_volume(const struct grub *grub, const char *device, size_t length)
{
	const struct volumes *volumes = &grub->space->volumes;
	unsigned long number = 0;

	if (length < 3 || strncmp(device, "hd0", 3) != 0)
		return VOLUME_NONE;
	if (length > 3) {
		size_t at = 3;

		if (device[at++] != ',')
			return VOLUME_NONE;
		while (at < length && (device[at] < '0' || device[at] > '9'))
			at++;
		number = at < length ? strtoul(device + at, NULL, 10) : 0;
		if (!number)
			return VOLUME_NONE;
	}
	for (u32 i = 0; i < volumes->count; i++)
		if (volumes->volume[i].number == number)
			return i;
	return VOLUME_NONE;
}

const char *grub_device(struct grub *grub, u32 volume)
{
	const struct volumes *volumes = &grub->space->volumes;
	char text[32] = "hd0";

	if (volumes->volume[volume].number)
		snprintf(text, sizeof(text), "hd0,%s%u", strcmp(volumes->format, "gpt") == 0 ? "gpt" : "msdos",
			 volumes->volume[volume].number);
	return grub_copy(grub, text);
}

bool grub_place(const struct grub *grub, const char *text, u32 *volume, const char **path)
{
	const char *device = grub_get(grub, "root");
	size_t length = strlen(device);

	*path = text;
	if (*text == '(') {
		device = text + 1;
		length = strcspn(device, ")");
		if (!device[length])
			return false;
		*path = device + length + 1;
	}
	*volume = device_volume(grub, device, length);
	return *volume != VOLUME_NONE;
}

/* ---- search, probe ---- */

static bool has_file(const struct grub *grub, u32 volume, const char *path)
{
	struct image_entry entry;
	struct spot spot;

	return grub->space->volumes.volume[volume].tree &&
	       space_stat(grub->space, volume, path, true, &spot, &entry, NULL) == 0;
}

static u32 search(const struct grub *grub, char kind, const char *what)
{
	const struct volumes *volumes = &grub->space->volumes;
	char name[256];

	if (kind == 'f') {
		for (u32 i = 0; i < volumes->count; i++)
			if (has_file(grub, i, what))
				return i;
		return VOLUME_NONE;
	}
	snprintf(name, sizeof(name), "%s=%s", kind == 'u' ? "UUID" : "LABEL", what);
	return volumes_find(volumes, name);
}

/* search [--fs-uuid|--label|--file] [--set[=NAME]] … WHAT; also "search.fs_uuid WHAT NAME", and so on. */
static int command_search(struct grub *grub, const struct grub_words *words)
{
	const char *name = NULL, *what = NULL;
	char kind = 'f';
	u32 found;

	if (words->item[0][6] == '.') {
		kind = strstr(words->item[0], "uuid") ? 'u' : strstr(words->item[0], "label") ? 'l' : 'f';
		what = words->count > 1 ? words->item[1] : NULL;
		name = words->count > 2 ? words->item[2] : "root";
	}
	for (u32 i = 1; !what && i < words->count; i++) {
		const char *word = words->item[i];

		if (!strcmp(word, "--fs-uuid") || !strcmp(word, "-u"))
			kind = 'u';
		else if (!strcmp(word, "--label") || !strcmp(word, "--fs-label") || !strcmp(word, "-l"))
			kind = 'l';
		else if (!strcmp(word, "--file") || !strcmp(word, "-f"))
			kind = 'f';
		else if (!strncmp(word, "--set=", 6))
			name = word + 6;
		else if (!strcmp(word, "--set") || !strcmp(word, "-s"))
			name = "root";
		else if (!strcmp(word, "--hint"))
			i++;
		else if (word[0] != '-')
			what = word;
	}
	found = what ? search(grub, kind, what) : VOLUME_NONE;
	if (found == VOLUME_NONE)
		return GRUB_FALSE;
	if (name)
		grub_set(grub, name, grub_device(grub, found));
	return GRUB_TRUE;
}

/* probe --set=NAME [--fs-uuid|--label|--fs] DEVICE */
static int command_probe(struct grub *grub, const struct grub_words *words)
{
	const char *name = NULL, *device = NULL;
	char kind = 0;
	u32 volume;

	for (u32 i = 1; i < words->count; i++) {
		const char *word = words->item[i];

		if (!strncmp(word, "--set=", 6))
			name = word + 6;
		else if ((!strcmp(word, "--set") || !strcmp(word, "-s")) && i + 1 < words->count)
			name = words->item[++i];
		else if (!strcmp(word, "--fs-uuid") || !strcmp(word, "-u"))
			kind = 'u';
		else if (!strcmp(word, "--label") || !strcmp(word, "-l"))
			kind = 'l';
		else if (!strcmp(word, "--fs") || !strcmp(word, "-f"))
			kind = 'f';
		else if (word[0] != '-')
			device = word;
	}
	if (!name || !device || !kind)
		return GRUB_FALSE;
	if (*device == '(')
		device++;
	volume = device_volume(grub, device, strcspn(device, ")"));
	if (volume == VOLUME_NONE)
		return GRUB_FALSE;
	const struct volume *v = &grub->space->volumes.volume[volume];

	grub_set(grub, name, kind == 'u' ? v->uuid : kind == 'l' ? v->label : v->type);
	return GRUB_TRUE;
}

/* ---- the environment block ---- */

static bool is_wanted(const struct grub_words *words, u32 first, const char *name)
{
	for (u32 i = first; i < words->count; i++)
		if (strcmp(words->item[i], name) == 0)
			return true;
	return first >= words->count;
}

static void load_line(struct grub *grub, char *line, const struct grub_words *words, u32 first)
{
	char *equals = strchr(line, '='), *to;

	if (*line == '#' || !equals)
		return;
	*equals = '\0';
	to = equals + 1;
	for (const char *from = equals + 1; *from; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from;
	}
	*to = '\0';
	if (is_wanted(words, first, line))
		grub_set(grub, line, equals + 1);
}

/* load_env [--file FILE] [--skip-sig] [NAME…] */
static int command_load_env(struct grub *grub, const struct grub_words *words)
{
	const char *file = NULL, *path;
	char *text;
	u32 volume, at = 1;

	for (; at < words->count && words->item[at][0] == '-'; at++) {
		if (!strncmp(words->item[at], "--file=", 7))
			file = words->item[at] + 7;
		else if ((!strcmp(words->item[at], "--file") || !strcmp(words->item[at], "-f")) &&
			 at + 1 < words->count)
			file = words->item[++at];
	}
	if (!file) {
		char whole[PATH_MAX];

		snprintf(whole, sizeof(whole), "%s/grubenv", grub_get(grub, "prefix"));
		file = grub_copy(grub, whole);
	}
	if (!grub_place(grub, file, &volume, &path) ||
	    !(text = space_text(grub->space, volume, path, ENVIRONMENT_MOST, NULL)))
		return GRUB_FALSE;
	for (char *next, *line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		load_line(grub, line, words, at);
	}
	free(text);
	return GRUB_TRUE;
}

/* ---- other files ---- */

static int command_source(struct grub *grub, const struct grub_words *words)
{
	const char *path;
	u32 volume;

	if (words->count < 2 || !grub_place(grub, words->item[1], &volume, &path))
		return GRUB_FALSE;
	if (grub->depth > GRUB_DEPTH_MOST)
		return grub_fail(grub, "files within files without end");
	return grub_run_file(grub, volume, path);
}

static int command_configfile(struct grub *grub, const struct grub_words *words)
{
	if (words->count < 2)
		return GRUB_FALSE;
	grub->configfile = grub_copy(grub, words->item[1]);
	grub->returning = true; /* nothing behind it is run */
	return GRUB_TRUE;
}

/* blscfg: entries of the boot loader specification become entries of the menu. */
static int command_blscfg(struct grub *grub, const struct grub_words *words)
{
	struct bls_list list;
	u32 order[IMAGE_VOLUMES_MAX], count = boot_volumes(grub->space, order);

	(void)words;
	for (u32 i = 0; i < count; i++) {
		if (bls_read(grub->space, order[i], &list, NULL) != 0)
			continue;
		for (u32 k = 0; k < list.count; k++) {
			const struct bls_entry *bls = &list.entry[k];
			struct grub_entry *entry = grub_add_entry(grub, bls->title ? bls->title : bls->id, bls->id);

			if (entry) {
				entry->bls_file = grub_copy(grub, bls->path);
				entry->bls_volume = order[i];
			}
		}
		bls_release(&list);
		return GRUB_TRUE;
	}
	return GRUB_FALSE;
}

/* ---- what is booted ---- */

/* The words as GRUB hands them to a kernel: quotes around what has blanks, backslashes before quotes and backslashes.
 */
static char *join(struct grub *grub, const struct grub_words *words, u32 first)
{
	u64 size = 1;
	char *text, *at;

	for (u32 i = first; i < words->count; i++)
		size += 2 * strlen(words->item[i]) + 3;
	at = text = grub_take(grub, size);
	for (u32 i = first; text && i < words->count; i++) {
		bool quote = strpbrk(words->item[i], " \t");

		if (i > first)
			*at++ = ' ';
		if (quote)
			*at++ = '"';
		for (const char *from = words->item[i]; *from; from++) {
			if (strchr("\\'\"", *from))
				*at++ = '\\';
			*at++ = *from;
		}
		if (quote)
			*at++ = '"';
	}
	return text;
}

static int command_linux(struct grub *grub, const struct grub_words *words)
{
	const char *path;
	u32 volume;

	if (words->count < 2)
		return GRUB_FALSE;
	if (!grub_place(grub, words->item[1], &volume, &path))
		return grub_fail(grub, "the kernel '%.200s' lies on a disk that is not there", words->item[1]);
	char *cmdline = join(grub, words, 2);

	if (!cmdline || boot_set(&grub->boot->cmdline, grub->err, "%s", cmdline) < 0 ||
	    boot_set_kernel(grub->boot, volume, path, grub->err) < 0)
		grub->failed = true;
	return grub->failed ? GRUB_FALSE : GRUB_TRUE;
}

static int command_initrd(struct grub *grub, const struct grub_words *words)
{
	for (u32 i = 1; i < words->count; i++) {
		const char *path;
		u32 volume;

		if (!strncmp(words->item[i], "newc:", 5))
			return grub_fail(grub,
					 "'initrd %.100s' puts single files into an initramfs, which is not "
					 "supported",
					 words->item[i]);
		if (!grub_place(grub, words->item[i], &volume, &path))
			return grub_fail(grub, "the initramfs '%.200s' lies on a disk that is not there",
					 words->item[i]);
		if (boot_add_initrd(grub->boot, volume, path, grub->err) < 0) {
			grub->failed = true;
			return GRUB_FALSE;
		}
	}
	return GRUB_TRUE;
}

static int command_other(struct grub *grub, const struct grub_words *words)
{
	grub->other = grub_copy(grub, words->item[0]);
	return GRUB_TRUE;
}

/* ---- the rest ---- */

static int command_set(struct grub *grub, const struct grub_words *words)
{
	for (u32 i = 1; i < words->count; i++) {
		const char *equals = strchr(words->item[i], '=');
		char *name;

		if (!equals)
			continue;
		name = (char *)grub_copy(grub, words->item[i]);
		if (grub->failed)
			return GRUB_FALSE;
		name[equals - words->item[i]] = '\0';
		grub_set(grub, name, equals + 1);
	}
	return GRUB_TRUE;
}

static int command_unset(struct grub *grub, const struct grub_words *words)
{
	for (u32 i = 1; i < words->count; i++)
		grub_set(grub, words->item[i], "");
	return GRUB_TRUE;
}

static int command_test(struct grub *grub, const struct grub_words *words)
{
	u32 count = words->count - 1;

	if (words->item[0][0] == '[') {
		if (!count || strcmp(words->item[count], "]") != 0)
			return GRUB_FALSE;
		count--;
	}
	return grub_test(grub, words->item + 1, count);
}

static int command_return(struct grub *grub, const struct grub_words *words)
{
	grub->returning = true;
	return words->count > 1 && strcmp(words->item[1], "0") != 0 ? GRUB_FALSE : GRUB_TRUE;
}

static int command_break(struct grub *grub, const struct grub_words *words)
{
	(void)words;
	grub->breaking = true;
	return GRUB_TRUE;
}

static int command_true(struct grub *grub, const struct grub_words *words)
{
	(void)grub, (void)words;
	return GRUB_TRUE;
}

int grub_command(struct grub *grub, const struct grub_words *words)
{
	static const struct {
		const char *name;
		int (*run)(struct grub *grub, const struct grub_words *words);
	} commands[] = {
		{"set", command_set},
		{"[", command_test},
		{"test", command_test},
		{"linux", command_linux},
		{"linux16", command_linux},
		{"linuxefi", command_linux},
		{"initrd", command_initrd},
		{"initrd16", command_initrd},
		{"initrdefi", command_initrd},
		{"search", command_search},
		{"search.fs_uuid", command_search},
		{"search.fs_label", command_search},
		{"search.file", command_search},
		{"probe", command_probe},
		{"load_env", command_load_env},
		{"source", command_source},
		{".", command_source},
		{"configfile", command_configfile},
		{"blscfg", command_blscfg},
		{"unset", command_unset},
		{"return", command_return},
		{"break", command_break},
		{"true", command_true},
		/* what has no effect here but succeeds */
		{"export", command_true},
		{"insmod", command_true},
		{"save_env", command_true},
		{"echo", command_true},
		{"terminal_input", command_true},
		{"terminal_output", command_true},
		{"terminal", command_true},
		{"serial", command_true},
		{"cpuid", command_true}, /* "cpuid -l" asks for a 64-bit processor */
		{"setparams", command_true},
		{"sleep", command_true},
		/* other systems */
		{"chainloader", command_other},
		{"multiboot", command_other},
		{"multiboot2", command_other},
		{"xen_hypervisor", command_other},
		{"knetbsd", command_other},
		{"kfreebsd", command_other},
		{"kopenbsd", command_other},
		{"ntldr", command_other},
	};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, words->item[0]) == 0)
			return commands[i].run(grub, words);
	return GRUB_FALSE; /* unknown, or a question that is answered with no: loadfont, background_image, keystatus …
			    */
}
