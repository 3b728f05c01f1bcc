/* avant image ls: names, and what can be told about them. */
#include "image_tool.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct ls_options {
	struct command_arguments arguments; /* image, paths */
	u64 partition;
	bool details, recursive, directory;
};

struct listing {
	const struct command *command;
	const struct ls_options *options;
	const char *path; /* as it was given */
	bool failed;      /* something could not be read */
};

static const char letters[IMAGE_KINDS] = {
	[IMAGE_FILE] = '-',  [IMAGE_DIRECTORY] = 'd', [IMAGE_SYMLINK] = 'l', [IMAGE_CHARACTER] = 'c',
	[IMAGE_BLOCK] = 'b', [IMAGE_FIFO] = 'p',      [IMAGE_SOCKET] = 's',  [IMAGE_UNREADABLE] = '?',
};

/* One group of three permissions; `special`: of set-user-ID, set-group-ID or the sticky bit, shown in place of x. */
static void put_permissions(char *to, u32 bits, bool set, char special)
{
	to[0] = bits & 4 ? 'r' : '-';
	to[1] = bits & 2 ? 'w' : '-';
	to[2] = bits & 1 ? 'x' : '-';
	if (set)
		to[2] = bits & 1 ? special : (char)(special - 'a' + 'A');
}

static void print_details(const struct image_entry *entry)
{
	char mode[11] = "", size[32], when[32] = "?";
	time_t seconds = (time_t)entry->mtime;
	struct tm tm;

	mode[0] = letters[entry->kind];
	put_permissions(mode + 1, entry->mode >> 6, entry->mode & 04000, 's');
	put_permissions(mode + 4, entry->mode >> 3, entry->mode & 02000, 's');
	put_permissions(mode + 7, entry->mode, entry->mode & 01000, 't');
	if (gmtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	if (entry->kind == IMAGE_CHARACTER || entry->kind == IMAGE_BLOCK)
		snprintf(size, sizeof(size), "%u,%u", entry->major, entry->minor);
	else
		snprintf(size, sizeof(size), "%llu", (unsigned long long)entry->size);
	printf("%s %3u %5u %5u %11s %s ", mode, entry->links, entry->uid, entry->gid, size, when);
}

static int print_entry(void *opaque, const struct image_entry *entry)
{
	struct listing *listing = opaque;
	const char *name = *entry->path ? entry->path : listing->path;

	if (entry->kind == IMAGE_UNREADABLE) {
		fflush(stdout);
		fprintf(stderr, "avant %s: '", listing->command->name);
		image_tool_print(stderr, *entry->path ? entry->path : listing->path);
		fputs("': ", stderr);
		image_tool_print(stderr, entry->target);
		putc('\n', stderr);
		listing->failed = true;
		if (!*entry->path)
			return 0;
	}
	/* what a directory holds, not the directory itself, unless that is asked for */
	if (!*entry->path && entry->kind == IMAGE_DIRECTORY && !listing->options->directory)
		return 0;
	if (listing->options->details)
		print_details(entry);
	image_tool_print(stdout, name);
	if (listing->options->details && entry->kind == IMAGE_SYMLINK) {
		fputs(" -> ", stdout);
		image_tool_print(stdout, entry->target);
	}
	putchar('\n');
	return ferror(stdout) ? 1 : 0;
}

static int list(struct image *image, struct listing *listing, struct err *err)
{
	const struct ls_options *options = listing->options;
	u32 volume, depth = options->directory ? 0 : options->recursive ? UINT32_MAX : 1;
	size_t count = options->arguments.count > 1 ? options->arguments.count - 1 : 1;

	if (image_tool_volume(image, options->partition, &volume, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		listing->path = options->arguments.count > 1 ? options->arguments.items[i + 1] : "/";
		if (count > 1 && !options->directory)
			printf("%s%s:\n", i ? "\n" : "", listing->path);
		if (image_walk(image, volume, listing->path, depth, print_entry, listing, err) < 0)
			return -1;
	}
	return 0;
}

static int ls_main(const struct command *command, void *parsed)
{
	const struct ls_options *options = parsed;
	struct listing listing = {.command = command, .options = options};
	struct err err = ERR_INIT;
	struct image *image = image_open(options->arguments.items[0], NULL, &err);
	int status = STATUS_OK;

	if (!image || list(image, &listing, &err) < 0)
		status = command_error(command, "%s", err.text);
	else if (listing.failed)
		status = STATUS_ERROR;
	image_close(image);
	return command_finish_output(status);
}

static const struct option_spec option_specs[] = {
	{"long", NULL, "permissions, links, owner, group, size, time (UTC),\ntarget of symlinks; also -l", NULL, NULL,
	 offsetof(struct ls_options, details)},
	{"recursive", NULL, "everything below, with paths from PATH on; also -R", NULL, NULL,
	 offsetof(struct ls_options, recursive)},
	{"directory", NULL, "a directory itself, not what it holds; also -d", NULL, NULL,
	 offsetof(struct ls_options, directory)},
	{"partition", "N", "of the file system on partition N; default: the\nroot, with what its fstab mounts", NULL,
	 image_tool_partition, offsetof(struct ls_options, partition)},
	{0},
};

const struct command command_image_ls = {
	.name = "image ls",
	.summary = "list files",
	.usage = "[OPTION]... IMAGE [PATH]...",
	.text = "Lists the files in directories of an image; '/' if none is named.\n",
	.examples = "  avant image ls debian.img /boot\n"
		    "  avant image ls -l -R rootfs.tar.zst /usr/lib\n",
	.options = option_specs,
	.letters = "lRd",
	.options_size = sizeof(struct ls_options),
	.arguments_needed = 1,
	.arguments = "IMAGE",
	.arguments_offset = offsetof(struct ls_options, arguments),
	.main = ls_main,
};
