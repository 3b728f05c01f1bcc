#include "image/reader/bls.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/version.h"

#define ENTRY_MOST (64u << 10) /* bytes of a file */

/* ---- one file ---- */

static void release_entry(struct bls_entry *entry)
{
	char *const texts[] = {entry->path,    entry->id,       entry->title,      entry->version,
			       entry->machine, entry->sort_key, entry->linux_path, entry->options};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		free(texts[i]);
	for (u32 i = 0; i < entry->initrd_count; i++)
		free(entry->initrd[i]);
	*entry = (struct bls_entry){0};
}

/* "NAME+3-1.conf": NAME has 3 tries left. "NAME+0-4.conf": it has none and comes last. */
static int set_id(struct bls_entry *entry, const char *name, struct err *err)
{
	size_t length = strlen(name) - strlen(".conf");
	const char *plus = memrchr(name, '+', length);

	if (plus && strspn(plus + 1, "0123456789-") >= length - (size_t)(plus + 1 - name)) {
		entry->bad = strtoul(plus + 1, NULL, 10) == 0;
		length = (size_t)(plus - name);
	}
	return boot_set(&entry->id, err, "%.*s", (int)length, name);
}

static int add_line(struct bls_entry *entry, const char *key, const char *value, struct err *err)
{
	const struct {
		const char *key;
		char **field;
	} fields[] = {
		{"title", &entry->title},       {"version", &entry->version},  {"machine-id", &entry->machine},
		{"sort-key", &entry->sort_key}, {"linux", &entry->linux_path},
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (!strcmp(fields[i].key, key))
			return boot_set(fields[i].field, err, "%s", value);
	if (!strcmp(key, "options")) {
		char *before = entry->options;
		int result;

		entry->options = NULL;
		result = boot_set(&entry->options, err, "%s%s%s", before ? before : "", before ? " " : "", value);
		free(before);
		return result;
	}
	if (!strcmp(key, "initrd")) {
		if (entry->initrd_count == IMAGE_INITRDS_MAX)
			return err_set(err, "more than %d initramfs files", IMAGE_INITRDS_MAX);
		if (boot_set(&entry->initrd[entry->initrd_count], err, "%s", value) < 0)
			return -1;
		entry->initrd_count++;
	}
	if (!strcmp(key, "architecture"))
		entry->other |= strcasecmp(value, "x64") != 0;
	if (!strcmp(key, "efi"))
		entry->other = true;
	return 0;
}

static int parse_entry(char *text, struct bls_entry *entry, struct err *err)
{
	for (char *next, *line = text; line; line = next) {
		char *key, *value;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		key = line + strspn(line, " \t");
		value = key + strcspn(key, " \t\r");
		if (*value)
			*value++ = '\0';
		value += strspn(value, " \t");
		for (size_t length = strlen(value); length && strchr(" \t\r", value[length - 1]); length--)
			value[length - 1] = '\0';
		if (*key && *key != '#' && add_line(entry, key, value, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the order of entries ---- */

static int compare_texts(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "");
}

/* The specification's: bad ones last; with a sort key first, by it, machine and version; the others by name. */
static int compare_entries(const void *a, const void *b)
{
	const struct bls_entry *x = a, *y = b;
	int result;

	if (x->bad != y->bad)
		return x->bad ? 1 : -1;
	if (!x->sort_key != !y->sort_key)
		return x->sort_key ? -1 : 1;
	if (x->sort_key) {
		result = compare_texts(x->sort_key, y->sort_key);
		if (!result)
			result = compare_texts(x->machine, y->machine);
		if (!result)
			result = version_compare(y->version ? y->version : "", x->version ? x->version : "");
		if (result)
			return result;
	}
	result = version_compare(y->id, x->id);
	return result ? result : strcmp(x->path, y->path);
}

/* ---- the directory ---- */

struct collect {
	const struct space *space;
	u32 volume;
	const char *directory;
	struct bls_list *list;
};

static int read_entry(const struct collect *collect, const char *name, struct bls_entry *entry, struct err *err)
{
	char *text;
	int result;

	if (boot_set(&entry->path, err, "%s/%s", collect->directory, name) < 0 || set_id(entry, name, err) < 0)
		return -1;
	text = space_text(collect->space, collect->volume, entry->path, ENTRY_MOST, err);
	if (!text)
		return -1;
	result = parse_entry(text, entry, err);
	free(text);
	return result;
}

static int add_file(void *opaque, const char *name, u64 node, struct err *err)
{
	struct collect *collect = opaque;
	struct bls_list *list = collect->list;
	size_t length = strlen(name);
	struct bls_entry *grown;

	(void)node;
	if (length < 6 || strcmp(name + length - 5, ".conf") != 0)
		return 0;
	if (list->count == BLS_ENTRIES_MOST)
		return err_set(err, "more than %d entries", BLS_ENTRIES_MOST);
	grown = realloc(list->entry, (list->count + 1) * sizeof(*grown));
	if (!grown)
		return err_set(err, "not enough memory");
	list->entry = grown;
	grown[list->count] = (struct bls_entry){0};
	/* one that cannot be read, or is for something else, is passed over, as a boot loader does */
	if (read_entry(collect, name, &grown[list->count], err) < 0 || grown[list->count].other ||
	    !grown[list->count].linux_path)
		release_entry(&grown[list->count]);
	else
		list->count++;
	return 0;
}

int bls_read(const struct space *space, u32 volume, struct bls_list *list, struct err *err)
{
	static const char *const directories[] = {"/loader/entries", "/boot/loader/entries"};

	*list = (struct bls_list){0};
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		struct collect collect = {space, volume, directories[i], list};
		struct image_entry entry;
		struct spot spot;
		struct tree *tree;

		if (space_stat(space, volume, directories[i], true, &spot, &entry, NULL) != 0 ||
		    entry.kind != IMAGE_DIRECTORY)
			continue;
		tree = spot_tree(space, spot);
		if (tree->ops->list(tree, spot.node, add_file, &collect, err) < 0) {
			bls_release(list);
			return -1;
		}
		if (list->count) {
			qsort(list->entry, list->count, sizeof(*list->entry), compare_entries);
			return 0;
		}
	}
	bls_release(list);
	return 1;
}

void bls_release(struct bls_list *list)
{
	for (u32 i = 0; i < list->count; i++)
		release_entry(&list->entry[i]);
	free(list->entry);
	*list = (struct bls_list){0};
}

/* ---- booting one ---- */

int bls_apply(const struct bls_entry *entry, u32 volume, struct boot *boot, struct err *err)
{
	if (boot_set(&boot->title, err, "%s", entry->title ? entry->title : entry->id) < 0 ||
	    boot_set(&boot->cmdline, err, "%s", entry->options ? entry->options : "") < 0 ||
	    boot_set_kernel(boot, volume, entry->linux_path, err) < 0)
		return -1;
	for (u32 i = 0; i < entry->initrd_count; i++)
		if (boot_add_initrd(boot, volume, entry->initrd[i], err) < 0)
			return -1;
	return 0;
}

/* The value of "default" in loader.conf, a pattern for the names of entries; the caller frees it; NULL: none. */
static char *default_pattern(const struct space *space, u32 volume)
{
	char *text = space_text(space, volume, "/loader/loader.conf", ENTRY_MOST, NULL), *found = NULL;

	if (!text)
		text = space_text(space, volume, "/boot/loader/loader.conf", ENTRY_MOST, NULL);
	for (char *next, *line = text; line && !found; line = next) {
		char word[PATH_MAX];

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (sscanf(line, " default %4095s", word) == 1)
			found = strdup(word);
	}
	free(text);
	return found;
}

/* Patterns name the file, with or without ".conf". */
static bool matches(const char *pattern, const char *id)
{
	char file[NAME_MAX + 8];

	snprintf(file, sizeof(file), "%s.conf", id);
	return fnmatch(pattern, id, FNM_CASEFOLD) == 0 || fnmatch(pattern, file, FNM_CASEFOLD) == 0;
}

static int choose(const struct space *space, u32 volume, const struct bls_list *list, struct boot *boot,
		  struct err *err)
{
	char *pattern = default_pattern(space, volume), name[48];
	const struct bls_entry *chosen = NULL;
	int result;

	for (u32 i = 0; pattern && i < list->count && !chosen; i++)
		if (matches(pattern, list->entry[i].id))
			chosen = &list->entry[i];
	if (chosen)
		result = boot_set(&boot->why, err, "it is the default, '%.150s'", pattern);
	else
		result = boot_set(&boot->why, err, "it is the newest");
	free(pattern);
	if (!chosen)
		chosen = &list->entry[0];
	if (result < 0 || boot_set(&boot->source, err, "boot loader entry, %s%s", chosen->path,
				   boot_of_volume(space, volume, name)) < 0)
		return -1;
	return bls_apply(chosen, volume, boot, err);
}

int boot_find_bls(const struct space *space, struct boot *boot, struct err *err)
{
	u32 order[IMAGE_VOLUMES_MAX], count = boot_volumes(space, order);

	for (u32 i = 0; i < count; i++) {
		struct bls_list list;
		int result = bls_read(space, order[i], &list, err);

		if (result > 0)
			continue;
		if (result == 0)
			result = choose(space, order[i], &list, boot, err);
		bls_release(&list);
		return result;
	}
	return 1;
}
