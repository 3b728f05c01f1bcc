/* avant image cat: the contents of files. */
#include "image_tool.h"

#include "boot/blob.h"

#include <stdio.h>

#define STEP 65536u

struct cat_options {
	struct command_arguments arguments; /* image, paths */
	u64 partition;
};

/* 0; 1: standard output does not take it, which command_finish_output() says; -1 with a message in err */
static int print_blob(const struct blob *blob, struct err *err)
{
	static u8 buffer[STEP];

	for (u64 at = 0; at < blob->size;) {
		u64 part = blob->size - at < STEP ? blob->size - at : STEP;

		if (blob_read(blob, at, buffer, part, err) < 0)
			return -1;
		if (fwrite(buffer, 1, part, stdout) != part)
			return 1;
		at += part;
	}
	return 0;
}

static int cat(struct image *image, const struct cat_options *options, struct err *err)
{
	u32 volume;
	int result = image_tool_volume(image, options->partition, &volume, err);

	for (size_t i = 1; i < options->arguments.count && result == 0; i++) {
		struct blob blob;

		if (image_open_file(image, volume, options->arguments.items[i], INT64_MAX, &blob, err) < 0)
			return -1;
		result = print_blob(&blob, err);
		blob_release(&blob);
	}
	return result;
}

static int cat_main(const struct command *command, void *parsed)
{
	const struct cat_options *options = parsed;
	struct err err = ERR_INIT;
	struct image *image = image_open(options->arguments.items[0], NULL, &err);
	int status = STATUS_OK;

	if (!image || cat(image, options, &err) < 0)
		status = command_error(command, "%s", err.text);
	image_close(image);
	return command_finish_output(status);
}

static const struct option_spec option_specs[] = {
	{"partition", "N", "of the file system on partition N", NULL, image_tool_partition,
	 offsetof(struct cat_options, partition)},
	{0},
};

const struct command command_image_cat = {
	.name = "image cat",
	.summary = "print files",
	.usage = "[OPTION]... IMAGE PATH...",
	.text = "Prints files of an image. Symlinks lead to files of the image only.\n",
	.examples = "  avant image cat debian.img /etc/fstab\n",
	.options = option_specs,
	.options_size = sizeof(struct cat_options),
	.arguments_needed = 2,
	.arguments = "IMAGE PATH...",
	.arguments_offset = offsetof(struct cat_options, arguments),
	.main = cat_main,
};
