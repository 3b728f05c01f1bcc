/* avant image: a group of commands that look at disk images and file trees. */
#include "image_tool.h"

static const struct command *const commands[] = {&command_image_info, &command_image_ls, &command_image_cat, NULL};

const struct command command_image = {
	.name = "image",
	.summary = "look into disk images and file trees",
	.usage = "COMMAND [OPTION]... IMAGE",
	.text = "Shows disk images, archives and directories as 'avant run --image' sees them. They are read by a\n"
		"process of its own, which can do nothing else; nothing in them is executed or changed.\n",
	.examples = "'avant image COMMAND --help' tells the options of a command, 'man avant-image' more.\n",
	.commands = commands,
};
