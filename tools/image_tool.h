/* What the commands of `avant image` share. */
#ifndef AVANT_TOOLS_IMAGE_TOOL_H
#define AVANT_TOOLS_IMAGE_TOOL_H

#include "command.h"

#include "image/image.h"

#include <stdio.h>

extern const struct command command_image_cat, command_image_info, command_image_ls;

/* --partition N: 0 is none of them. */
option_parser image_tool_partition;

/* The volume of a partition's number; IMAGE_TREE if the number is 0. 0, or -1 with a message in err. */
int image_tool_volume(struct image *image, u64 partition, u32 *volume, struct err *err);

/* Prints a text from the image: with what a terminal might obey, and backslashes, as \ooo. */
void image_tool_print(FILE *to, const char *text);

#endif
