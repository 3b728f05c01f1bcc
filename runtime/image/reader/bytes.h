/* Reading a descriptor at a place. */
#ifndef AVANT_IMAGE_BYTES_H
#define AVANT_IMAGE_BYTES_H

#include "util/err.h"
#include "util/types.h"

/* Reads exactly `size` bytes; 0, or -1 with a message in err. */
int bytes_read(int fd, u64 offset, void *to, u64 size, struct err *err);

#endif
