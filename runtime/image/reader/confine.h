/*
 * What the reading process gives up before it looks at the first byte of an image: capabilities, the chance to get new
 * privileges, and all system calls but those for reading the one descriptor, answering, and memory. A parser that is
 * taken over can then waste the processor time and memory that it is allowed, and answer wrongly: nothing else.
 */
#ifndef AVANT_IMAGE_CONFINE_H
#define AVANT_IMAGE_CONFINE_H

#include "util/types.h"

/*
 * directory: the image is a directory, files below it must be opened by name. Where the kernel has Landlock, it sees to
 * it that this is for reading and below that directory only. Returns 0, or -1: the process must not go on.
 */
int confine(int image_fd, bool directory);

#endif
