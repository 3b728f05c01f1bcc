/*
 * Configurations of extlinux, syslinux and isolinux (wiki.syslinux.org, "Config"), which U-Boot reads as well: labels,
 * each with a kernel, initramfs files and a command line.
 */
#include "image/reader/boot.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MOST   500
#define INCLUDES_MOST 32

struct label {
	char *name, *title, *kernel, *initrd, *append;
	bool is_default;
};

struct config {
	const struct space *space;
	u32 volume;
	char directory[PATH_MAX]; /* of the configuration: relative names begin there */
	struct label *label;
	u32 count;
	char *default_name, *append; /* NULL: not given */
	u32 includes;
	struct err *err;
};

static int set(struct config *config, char **field, const char *value)
{
	return boot_set(field, config->err, "%s", value);
}

static int new_label(struct config *config, const char *name)
{
	struct label *grown =
		config->count == LABELS_MOST ? NULL : realloc(config->label, (config->count + 1) * sizeof(*grown));

	if (!grown)
		return err_set(config->err, "it has too many labels");
	config->label = grown;
	grown[config->count] = (struct label){0};
	return set(config, &grown[config->count++].name, name);
}

/* The path as seen from the volume's root. */
static void absolute(const struct config *config, const char *name, char path[PATH_MAX])
{
	if (*name == '/')
		snprintf(path, PATH_MAX, "%s", name);
	else if ((size_t)snprintf(path, PATH_MAX, "%s/%s", config->directory, name) >= PATH_MAX)
		path[0] = '\0';
}

static int read_config(struct config *config, const char *path);

static int include(struct config *config, const char *name)
{
	char path[PATH_MAX];

	if (++config->includes > INCLUDES_MOST)
		return err_set(config->err, "it includes too many files");
	absolute(config, name, path);
	return boot_file_exists(config->space, config->volume, path) ? read_config(config, path) : 0;
}

/* The word at *at, which ends with NUL then; *at moves behind it. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t");

	*at = word + strcspn(word, " \t");
	if (**at)
		*(*at)++ = '\0';
	*at += strspn(*at, " \t");
	return word;
}

/* "menu label …" and so on; the visible name may have a '^' before a key. */
static int menu_line(struct config *config, struct label *label, char *rest)
{
	const char *word = next_word(&rest);
	char *to = rest;

	if (!strcasecmp(word, "include")) {
		return include(config, next_word(&rest));
	} else if (label && !strcasecmp(word, "default")) {
		label->is_default = true;
	} else if (label && !strcasecmp(word, "label")) {
		for (const char *from = rest; *from; from++)
			if (*from != '^')
				*to++ = *from;
		*to = '\0';
		return set(config, &label->title, rest);
	}
	return 0;
}

static int config_line(struct config *config, char *line)
{
	char *rest = line;
	const char *key = next_word(&rest);
	struct label *label = config->count ? &config->label[config->count - 1] : NULL;

	if (!*key || *key == '#')
		return 0;
	if (!strcasecmp(key, "label"))
		return new_label(config, rest);
	if (!strcasecmp(key, "default"))
		return set(config, &config->default_name, rest);
	if (!strcasecmp(key, "include"))
		return include(config, next_word(&rest));
	if (!strcasecmp(key, "menu"))
		return menu_line(config, label, rest);
	if (!strcasecmp(key, "append"))
		return set(config, label ? &label->append : &config->append, rest);
	if (label && (!strcasecmp(key, "kernel") || !strcasecmp(key, "linux")))
		return set(config, &label->kernel, rest);
	if (label && !strcasecmp(key, "initrd"))
		return set(config, &label->initrd, rest);
	return 0;
}

static int read_config(struct config *config, const char *path)
{
	char *text = space_text(config->space, config->volume, path, BOOT_CONFIG_MOST, config->err);
	int result = text ? 0 : -1;

	for (char *next, *line = text; line && result == 0; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		for (size_t length = strlen(line); length && isspace((unsigned char)line[length - 1]); length--)
			line[length - 1] = '\0';
		result = config_line(config, line);
	}
	free(text);
	return result;
}

static void release(struct config *config)
{
	for (u32 i = 0; i < config->count; i++) {
		struct label *label = &config->label[i];

		free(label->name);
		free(label->title);
		free(label->kernel);
		free(label->initrd);
		free(label->append);
	}
	free(config->label);
	free(config->default_name);
	free(config->append);
}

static const struct label *choose(const struct config *config, char *why, size_t why_size)
{
	for (u32 i = 0; i < config->count; i++) {
		if (config->label[i].is_default) {
			snprintf(why, why_size, "it is marked as the default");
			return &config->label[i];
		}
	}
	for (u32 i = 0; config->default_name && i < config->count; i++) {
		if (strcmp(config->label[i].name, config->default_name) == 0) {
			snprintf(why, why_size, "it is the default, '%.150s'", config->default_name);
			return &config->label[i];
		}
	}
	for (u32 i = 0; i < config->count; i++) {
		if (config->label[i].kernel) {
			if (config->default_name)
				snprintf(why, why_size, "it is the first; the default '%.150s' is not there",
					 config->default_name);
			else
				snprintf(why, why_size, "it is the first; no default is set");
			return &config->label[i];
		}
	}
	return NULL;
}

/* A list with commas between. */
static int add_initrds(const struct config *config, const char *list, size_t length, struct boot *boot)
{
	for (size_t at = 0; at < length;) {
		size_t part = strcspn(list + at, ",");
		char name[PATH_MAX], path[PATH_MAX];

		if (part > length - at)
			part = length - at;
		snprintf(name, sizeof(name), "%.*s", (int)(part < PATH_MAX ? part : 0), list + at);
		absolute(config, name, path);
		if (*name && boot_add_initrd(boot, config->volume, path, config->err) < 0)
			return -1;
		at += part + 1;
	}
	return 0;
}

/* The command line; "initrd=" in it is for the boot loader, and stays: kernels ignore it. */
static int apply_append(const struct config *config, const char *append, const struct label *label, struct boot *boot)
{
	if (boot_set(&boot->cmdline, config->err, "%s", append) < 0)
		return -1;
	for (const char *at = append; !label->initrd && *at; at += strcspn(at, " ")) {
		at += strspn(at, " ");
		if (!strncmp(at, "initrd=", 7))
			return add_initrds(config, at + 7, strcspn(at + 7, " "), boot);
	}
	return 0;
}

static int apply(const struct config *config, const struct label *label, struct boot *boot)
{
	const char *append = label->append ? label->append : config->append ? config->append : "";
	char path[PATH_MAX];

	if (label->append && !strcmp(label->append, "-"))
		append = "";
	if (boot_set(&boot->title, config->err, "%s", label->title ? label->title : label->name) < 0)
		return -1;
	if (!label->kernel)
		return err_set(config->err, "the entry '%.200s' names no kernel", boot->title);
	absolute(config, label->kernel, path);
	if (boot_set_kernel(boot, config->volume, path, config->err) < 0 ||
	    apply_append(config, append, label, boot) < 0)
		return -1;
	return label->initrd ? add_initrds(config, label->initrd, strlen(label->initrd), boot) : 0;
}

static int find(struct config *config, const char *path, struct boot *boot, struct err *err)
{
	char why[256], name[48];
	const struct label *label;

	snprintf(config->directory, sizeof(config->directory), "%.*s", (int)(strrchr(path, '/') - path), path);
	if (boot_set(&boot->source, err, "%s, %s%s", strstr(path, "extlinux") ? "extlinux" : "syslinux", path,
		     boot_of_volume(config->space, config->volume, name)) < 0 ||
	    read_config(config, path) < 0)
		return -1;
	label = choose(config, why, sizeof(why));
	if (!label)
		return err_set(err, "it has no entry with a kernel");
	return boot_set(&boot->why, err, "%s", why) < 0 ? -1 : apply(config, label, boot);
}

int boot_find_extlinux(const struct space *space, struct boot *boot, struct err *err)
{
	static const char *const paths[] = {
		"/boot/extlinux/extlinux.conf",
		"/extlinux/extlinux.conf",
		"/boot/extlinux.conf",
		"/extlinux.conf",
		"/boot/syslinux/syslinux.cfg",
		"/syslinux/syslinux.cfg",
		"/syslinux.cfg",
		"/isolinux/isolinux.cfg",
		"/boot/isolinux/isolinux.cfg",
	};
	u32 order[IMAGE_VOLUMES_MAX], count = boot_volumes(space, order);

	for (u32 i = 0; i < count; i++) {
		for (size_t p = 0; p < ARRAY_SIZE(paths); p++) {
			struct config config = {.space = space, .volume = order[i], .err = err};
			int result;

			if (!boot_file_exists(space, order[i], paths[p]))
				continue;
			result = find(&config, paths[p], boot, err);
			release(&config);
			return result;
		}
	}
	return 1;
}
