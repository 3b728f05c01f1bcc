/* The entry that GRUB would boot. */
#include "image/reader/grub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/bls.h"

#define CONFIGS_MOST 8 /* "configfile" leads from one to the next */

/* ---- which entry is the default ---- */

/* The part of "submenu>entry" up to the first single '>'; two of them stand for one. *rest: what is behind it, or NULL.
 */
static void split_default(const char *text, char *first, size_t size, const char **rest)
{
	size_t used = 0;

	*rest = NULL;
	for (; *text; text++) {
		if (*text == '>') {
			if (text[1] != '>') {
				*rest = text + 1;
				break;
			}
			text++;
		}
		if (used + 1 < size)
			first[used++] = *text;
	}
	first[used] = '\0';
}

static struct grub_entry *entry_at(const struct grub_menu *menu, unsigned long number)
{
	struct grub_entry *entry = menu->first;

	while (entry && number--)
		entry = entry->next;
	return entry;
}

static struct grub_entry *find_entry(const struct grub_menu *menu, const char *name)
{
	char *end;
	unsigned long number = strtoul(name, &end, 10);

	if (*name >= '0' && *name <= '9' && !*end)
		return number < menu->count ? entry_at(menu, number) : NULL;
	for (struct grub_entry *entry = menu->first; entry; entry = entry->next)
		if (strcmp(entry->id, name) == 0 || strcmp(entry->title, name) == 0)
			return entry;
	return NULL;
}

/* Descends to an entry; where the default says nothing (more) it is the first. NULL: there is none. */
static const struct grub_entry *choose(const struct grub *grub, const char *text, char *why, size_t why_size)
{
	const struct grub_menu *menu = &grub->menu;
	const struct grub_entry *entry = NULL;
	bool found = true;

	snprintf(why, why_size, *text ? "it is the default, '%.150s'" : "it is the first; no default is set", text);
	for (unsigned depth = 0; menu && depth < GRUB_DEPTH_MOST; depth++) {
		char name[512] = "";
		const char *rest = NULL;

		if (text)
			split_default(text, name, sizeof(name), &rest);
		entry = *name ? find_entry(menu, name) : menu->first;
		if (!entry) {
			found = false;
			entry = menu->first;
		}
		text = rest;
		menu = entry ? entry->submenu : NULL;
	}
	if (!found)
		snprintf(why, why_size, "it is the first; the default '%.150s' is not there",
			 grub_get(grub, "default"));
	return entry && !entry->submenu ? entry : NULL;
}

/* ---- running it ---- */

/* "$kernelopts" and the like in an entry of the boot loader specification are GRUB's variables. */
static const char *expand_options(struct grub *grub, const char *text)
{
	char out[BOOT_CMDLINE_MOST];
	size_t used = 0;

	while (*text && used + 1 < sizeof(out)) {
		size_t length = 0;
		char name[64];

		if (*text != '$') {
			out[used++] = *text++;
			continue;
		}
		while (text[1 + length] == '_' || (text[1 + length] >= 'a' && text[1 + length] <= 'z') ||
		       (text[1 + length] >= 'A' && text[1 + length] <= 'Z') ||
		       (text[1 + length] >= '0' && text[1 + length] <= '9'))
			length++;
		snprintf(name, sizeof(name), "%.*s", (int)length, text + 1);
		used += (size_t)snprintf(out + used, sizeof(out) - used, "%s", length ? grub_get(grub, name) : "$");
		if (used >= sizeof(out))
			used = sizeof(out) - 1;
		text += 1 + length;
	}
	out[used] = '\0';
	return grub_copy(grub, out);
}

static int run_bls(struct grub *grub, const struct grub_entry *entry)
{
	struct bls_list list;
	int result = -1;

	if (bls_read(grub->space, entry->bls_volume, &list, grub->err) != 0)
		return -1;
	for (u32 i = 0; i < list.count && result < 0; i++) {
		if (strcmp(list.entry[i].path, entry->bls_file) != 0)
			continue;
		result = bls_apply(&list.entry[i], entry->bls_volume, grub->boot, grub->err);
		if (result == 0)
			result = boot_set(&grub->boot->cmdline, grub->err, "%s",
					  expand_options(grub, grub->boot->cmdline));
	}
	bls_release(&list);
	return result;
}

static int run_entry(struct grub *grub, const struct grub_entry *entry)
{
	grub->words = entry->parameters;
	grub->returning = false;
	if (boot_set(&grub->boot->title, grub->err, "%s", entry->title) < 0)
		return -1;
	if (entry->bls_file)
		return run_bls(grub, entry);
	grub_set(grub, "chosen", entry->id);
	grub_run(grub, entry->body);
	if (grub->failed)
		return -1;
	if (grub->other && !grub->boot->kernel.path)
		return err_set(grub->err, "the entry '%.200s' does not boot Linux but uses '%.50s'", entry->title,
			       grub->other);
	return 0;
}

/* ---- configurations ---- */

static void forget_menu(struct grub *grub)
{
	grub->menu = (struct grub_menu){0};
	grub->current = &grub->menu;
	grub->returning = false;
}

/* Runs the configuration, and those that it goes on to. Tells in volume and path which one the menu is from. */
static int load(struct grub *grub, u32 *volume, char *path, size_t path_size)
{
	for (unsigned i = 0; i < CONFIGS_MOST; i++) {
		const char *next;

		forget_menu(grub);
		grub->configfile = NULL;
		grub_run_file(grub, *volume, path);
		if (grub->failed)
			return -1;
		if (!grub->configfile)
			return 0;
		if (!grub_place(grub, grub->configfile, volume, &next))
			return err_set(grub->err, "'%.200s' goes on to a disk that is not there: '%.100s'", path,
				       grub->configfile);
		if (!boot_file_exists(grub->space, *volume, next))
			return err_set(grub->err, "'%.200s' goes on to what is not there: '%.200s'", path, next);
		snprintf(path, path_size, "%s", next);
	}
	return err_set(grub->err, "configurations go on to others without end");
}

static void set_variables(struct grub *grub, const char *path)
{
	char prefix[PATH_MAX];
	const char *device = grub_device(grub, grub->volume), *slash = strrchr(path, '/');

	snprintf(prefix, sizeof(prefix), "(%s)%.*s", device, (int)(slash - path), path);
	grub_set(grub, "root", device);
	grub_set(grub, "prefix", prefix);
	grub_set(grub, "config_directory", prefix);
	grub_set(grub, "cmdpath", prefix);
	grub_set(grub, "grub_cpu", "i386");
	grub_set(grub, "grub_platform", "pc");
}

static int find(struct grub *grub, u32 volume, const char *config, struct err *err)
{
	char path[PATH_MAX], why[256], name[48];
	const struct grub_entry *entry;

	snprintf(path, sizeof(path), "%s", config);
	if (boot_set(&grub->boot->source, err, "GRUB, %s%s", path, boot_of_volume(grub->space, volume, name)) < 0)
		return -1;
	grub->volume = volume;
	set_variables(grub, path);
	if (grub->failed || load(grub, &volume, path, sizeof(path)) < 0 ||
	    boot_set(&grub->boot->source, err, "GRUB, %s%s", path, boot_of_volume(grub->space, volume, name)) < 0)
		return -1;
	entry = choose(grub, grub_get(grub, "default"), why, sizeof(why));
	if (!entry)
		return err_set(err, "its menu has no entry");
	if (boot_set(&grub->boot->why, err, "%s", why) < 0)
		return -1;
	return run_entry(grub, entry);
}

int boot_find_grub(const struct space *space, struct boot *boot, struct err *err)
{
	static const char *const configs[] = {"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg",
					      "/grub2/grub.cfg"};
	u32 order[IMAGE_VOLUMES_MAX], count = boot_volumes(space, order);

	for (u32 i = 0; i < count; i++) {
		for (size_t c = 0; c < ARRAY_SIZE(configs); c++) {
			struct grub grub = {.space = space, .boot = boot, .err = err};
			int result;

			if (!boot_file_exists(space, order[i], configs[c]))
				continue;
			grub.arena.most = GRUB_MEMORY_MOST;
			result = find(&grub, order[i], configs[c], err);
			arena_release(&grub.arena);
			return result;
		}
	}
	return 1;
}
