/* A directory of the host's as the root of a tree. */
#ifndef AVANT_IMAGE_DIRECTORY_H
#define AVANT_IMAGE_DIRECTORY_H

#include "image/reader/tree.h"

/* The tree below the directory fd, which stays the caller's. NULL with a message in err. */
struct tree *directory_open(int fd, struct err *err);

#endif
