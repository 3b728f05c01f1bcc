#include "translate_inputs.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/blob.h"
#include "discover/packed.h"
#include "image/image.h"
#include "image_tool.h"

#define FILE_MOST (256ULL << 20) /* bytes of one program */

/* Files that have been visited: one with several names is read once. */
struct seen {
	u64 *slot; /* 1 + identity, or 0 */
	u64 slots, count;
};

struct inputs {
	struct image *image[INPUTS_MAX];
	const char *path[INPUTS_MAX];
	unsigned image_count;
	struct input_file kernel[INPUTS_MAX + 1], initrd[INPUTS_MAX + 1];
	unsigned kernel_count, initrd_count;
	FILE *notes;
	char *notes_text;
	size_t notes_size;
	bool walked; /* once: what cannot be read has been noted */
};

static int read_blob(const struct blob *blob, u8 **data, struct err *err)
{
	*data = malloc(blob->size + 1);
	if (!*data)
		return err_set(err, "not enough memory to read '%s'", blob->name);
	if (blob_read(blob, 0, *data, blob->size, err) == 0)
		return 0;
	free(*data);
	return -1;
}

static bool is_known(const struct input_file *list, unsigned count, const struct input_file *file)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].size == file->size && memcmp(list[i].data, file->data, file->size) == 0)
			return true;
	return false;
}

/* Takes the bytes of `blob`, which is released; `image`: where it was found, or NULL. */
static int add_file(struct input_file *list, unsigned *count, struct blob *blob, const char *image, const char *name,
		    struct err *err)
{
	struct input_file file = {.size = blob->size, .found = image};
	int result = read_blob(blob, &file.data, err);

	blob_release(blob);
	if (result < 0)
		return -1;
	if (is_known(list, *count, &file)) {
		free(file.data);
		return 0;
	}
	if (asprintf(&file.name, "%s%s%s", image ? image : "", image ? ":" : "", name) < 0) {
		free(file.data);
		return err_set(err, "out of memory");
	}
	list[(*count)++] = file;
	return 0;
}

static int add_path(struct input_file *list, unsigned *count, const char *path, const char *what, struct err *err)
{
	struct blob blob;

	return blob_open(&blob, path, what, err) < 0 ? -1 : add_file(list, count, &blob, NULL, path, err);
}

/* --- what images boot -------------------------------------------------------------------------------------------- */

/* Messages about images begin with the image's name; it is said once. */
static const char *without_name(const char *text, const char *name)
{
	size_t length = strlen(name);

	return *text == '\'' && !strncmp(text + 1, name, length) && !strncmp(text + 1 + length, "': ", 3)
		       ? text + length + 4
		       : text;
}

static void note(struct inputs *inputs, unsigned number, const char *path, const char *text)
{
	fputc('\'', inputs->notes);
	image_tool_print(inputs->notes, inputs->path[number]);
	if (*path) {
		fputs("': '", inputs->notes);
		image_tool_print(inputs->notes, path);
	}
	fputs("': ", inputs->notes);
	image_tool_print(inputs->notes, without_name(text, inputs->path[number]));
	fputc('\n', inputs->notes);
}

static void note_boot(struct inputs *inputs, unsigned number, const struct image_boot *boot)
{
	for (u32 i = 0; i < boot->note_count; i++)
		note(inputs, number, "", boot->note[i]);
	note(inputs, number, boot->kernel.path, boot->source);
}

/* An image without a kernel may be one of programs only; of a tree, that is no surprise. */
static int find_boot(struct inputs *inputs, unsigned number, bool tree, struct err *err)
{
	struct image *image = inputs->image[number];
	struct err reason = ERR_INIT;
	struct image_boot boot;
	struct blob kernel, initrd;
	int result;

	if (image_find_boot(image, &boot, &reason) < 0) {
		if (!tree)
			note(inputs, number, "", reason.text);
		return 0;
	}
	note_boot(inputs, number, &boot);
	if (image_open_boot(image, &boot, &kernel, &initrd, err) < 0)
		return -1;
	result = add_file(inputs->kernel, &inputs->kernel_count, &kernel, inputs->path[number], boot.kernel.path, err);
	if (result == 0 && initrd.size)
		return add_file(inputs->initrd, &inputs->initrd_count, &initrd, inputs->path[number],
				boot.initrd[0].path, err);
	blob_release(&initrd);
	return result;
}

static int open_image(struct inputs *inputs, const char *path, struct err *err)
{
	unsigned number = inputs->image_count;
	const struct image_info *info;

	inputs->path[number] = path;
	inputs->image[number] = image_open(path, NULL, err);
	if (!inputs->image[number])
		return -1;
	inputs->image_count++;
	info = image_info(inputs->image[number], err);
	if (!info)
		return -1;
	for (u32 i = 0; i < info->volume_count; i++)
		if (*info->volume[i].note)
			note(inputs, number, "", info->volume[i].note);
	return 0;
}

static int open_all(struct inputs *inputs, const struct input_paths *paths, struct err *err)
{
	if (paths->kernel && add_path(inputs->kernel, &inputs->kernel_count, paths->kernel, "kernel", err) < 0)
		return -1;
	if (paths->initrd && add_path(inputs->initrd, &inputs->initrd_count, paths->initrd, "initrd", err) < 0)
		return -1;
	for (unsigned i = 0; i < paths->image_count; i++)
		if (open_image(inputs, paths->image[i].path, err) < 0 ||
		    (!paths->kernel && find_boot(inputs, i, paths->image[i].tree, err) < 0))
			return -1;
	return 0;
}

struct inputs *inputs_open(const struct input_paths *paths, struct err *err)
{
	struct inputs *inputs = calloc(1, sizeof(*inputs));

	if (inputs)
		inputs->notes = open_memstream(&inputs->notes_text, &inputs->notes_size);
	if (!inputs || !inputs->notes)
		err_set(err, "out of memory");
	else if (open_all(inputs, paths, err) == 0)
		return inputs;
	inputs_close(inputs);
	return NULL;
}

void inputs_close(struct inputs *inputs)
{
	if (!inputs)
		return;
	for (unsigned i = 0; i < inputs->image_count; i++)
		image_close(inputs->image[i]);
	for (unsigned i = 0; i <= INPUTS_MAX; i++) {
		free(inputs->kernel[i].name);
		free(inputs->kernel[i].data);
		free(inputs->initrd[i].name);
		free(inputs->initrd[i].data);
	}
	if (inputs->notes)
		fclose(inputs->notes);
	free(inputs->notes_text);
	free(inputs);
}

unsigned inputs_kernel_count(const struct inputs *inputs)
{
	return inputs->kernel_count;
}

const struct input_file *inputs_kernel(const struct inputs *inputs, unsigned number)
{
	return &inputs->kernel[number];
}

unsigned inputs_initrd_count(const struct inputs *inputs)
{
	return inputs->initrd_count;
}

const struct input_file *inputs_initrd(const struct inputs *inputs, unsigned number)
{
	return &inputs->initrd[number];
}

static bool has_type(const char *const *type, unsigned count, const char *wanted)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(type[i], wanted) == 0)
			return true;
	return false;
}

void inputs_file_systems(const struct inputs *inputs, const char **type, unsigned room)
{
	unsigned count = 0;

	for (unsigned i = 0; i < inputs->image_count; i++) {
		const struct image_info *info = image_info(inputs->image[i], NULL);

		for (u32 v = 0; info && v < info->volume_count && count + 1 < room; v++)
			if (*info->volume[v].type && !has_type(type, count, info->volume[v].type))
				type[count++] = info->volume[v].type;
	}
	type[count] = NULL;
}

const char *inputs_notes(const struct inputs *inputs)
{
	return fflush(inputs->notes) == 0 && inputs->notes_text ? inputs->notes_text : "";
}

/* --- programs ---------------------------------------------------------------------------------------------------- */

struct walk {
	struct inputs *inputs;
	unsigned number;
	u64 most; /* bytes of a file that is opened */
	struct seen seen;
	const struct input_visitor *visitor;
	void *opaque;
	struct err *err;
};

static void note_unread(const struct walk *walk, const char *path, const char *reason)
{
	if (!walk->inputs->walked)
		note(walk->inputs, walk->number, path, reason);
}

static u64 *find_seen(const struct seen *seen, u64 key)
{
	u64 at = key * 0x9e3779b97f4a7c15ULL >> 20;

	while (seen->slot[at & (seen->slots - 1)] && seen->slot[at & (seen->slots - 1)] != key)
		at++;
	return &seen->slot[at & (seen->slots - 1)];
}

static bool grow_seen(struct seen *seen)
{
	struct seen grown = {.slots = seen->slots ? seen->slots * 2 : 4096, .count = seen->count};

	grown.slot = calloc(grown.slots, sizeof(*grown.slot));
	if (!grown.slot)
		return false;
	for (u64 i = 0; i < seen->slots; i++)
		if (seen->slot[i])
			*find_seen(&grown, seen->slot[i]) = seen->slot[i];
	free(seen->slot);
	*seen = grown;
	return true;
}

/* Is this the first name of the file? If memory is short, it is: contents are compared later. */
static bool is_first(struct seen *seen, u64 identity)
{
	u64 *slot;

	if (seen->count * 2 >= seen->slots && !grow_seen(seen))
		return true;
	slot = find_seen(seen, identity + 1);
	if (*slot)
		return false;
	*slot = identity + 1;
	seen->count++;
	return true;
}

/* "#!/usr/bin/env perl" is a script of perl's. NULL: not one. */
static const char *interpreter_of(char *first_bytes)
{
	char *rest = first_bytes + 2, *word;

	if (strncmp(first_bytes, "#!", 2) != 0)
		return NULL;
	rest[strcspn(rest, "\n")] = '\0';
	word = strtok_r(rest, " \t", &rest);
	if (word && strlen(word) >= 4 && strcmp(word + strlen(word) - 4, "/env") == 0)
		word = strtok_r(NULL, " \t", &rest);
	return word;
}

static int visit_program(struct walk *walk, const struct blob *blob, const char *path)
{
	struct err reason = ERR_INIT;
	u8 *data;
	int result;

	if (blob->size > FILE_MOST) {
		note_unread(walk, path, "an ELF file of more than 256 MiB, which is not looked at");
		return 0;
	}
	if (read_blob(blob, &data, &reason) < 0) {
		note_unread(walk, path, reason.text);
		return 0;
	}
	result = walk->visitor->program(walk->opaque, path, data, blob->size, walk->err);
	free(data);
	return result;
}

static int visit_file(struct walk *walk, const struct blob *blob, const char *path)
{
	char first[128] = "";
	const char *interpreter;
	struct err reason = ERR_INIT;

	if (blob_read(blob, 0, first, blob->size < sizeof(first) ? blob->size : sizeof(first) - 1, &reason) < 0) {
		note_unread(walk, path, reason.text);
		return 0;
	}
	if (memcmp(first, ELFMAG, SELFMAG) == 0 ||
	    module_is_packed(path, (const u8 *)first, blob->size < sizeof(first) ? blob->size : sizeof(first)))
		return visit_program(walk, blob, path);
	interpreter = walk->visitor->script ? interpreter_of(first) : NULL;
	return interpreter ? walk->visitor->script(walk->opaque, interpreter, walk->err) : 0;
}

static int visit_entry(void *opaque, const struct image_entry *entry)
{
	struct walk *walk = opaque;
	struct image *image = walk->inputs->image[walk->number];
	struct err reason = ERR_INIT;
	struct blob blob;
	int result = 0;

	if (entry->kind == IMAGE_UNREADABLE)
		note_unread(walk, entry->path, entry->target);
	if (entry->kind == IMAGE_SYMLINK && walk->visitor->link)
		return walk->visitor->link(walk->opaque, entry->path, entry->target, walk->err);
	if (entry->kind != IMAGE_FILE || entry->size < SELFMAG || !is_first(&walk->seen, entry->identity))
		return 0;
	if (image_open_file(image, IMAGE_TREE, entry->path, walk->most, &blob, &reason) == 0) {
		result = visit_file(walk, &blob, entry->path);
		blob_release(&blob);
	} else {
		note_unread(walk, entry->path, reason.text);
	}
	return result;
}

static int walk_image(struct walk *walk)
{
	struct image *image = walk->inputs->image[walk->number];
	const struct image_info *info = image_info(image, walk->err);
	int result;

	if (!info)
		return -1;
	/* what is in an archive is unpacked into memory to be opened */
	walk->most = strcmp(info->format, "archive") == 0 ? FILE_MOST : UINT64_MAX;
	walk->seen = (struct seen){0};
	result = image_walk(image, IMAGE_TREE, "/", UINT32_MAX, visit_entry, walk, walk->err);
	free(walk->seen.slot);
	return result;
}

int inputs_walk(struct inputs *inputs, const struct input_visitor *visitor, void *opaque, struct err *err)
{
	struct walk walk = {.inputs = inputs, .visitor = visitor, .opaque = opaque, .err = err};
	int result = 0;

	for (; result == 0 && walk.number < inputs->image_count; walk.number++)
		result = walk_image(&walk);
	inputs->walked = true;
	return result;
}
