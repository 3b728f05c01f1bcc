/* Reading whole files that the user named: kernel and initrd. */
#ifndef AVANT_BOOT_FILE_H
#define AVANT_BOOT_FILE_H

#include "util/err.h"
#include "util/types.h"

/*
 * Opens a regular file for reading and tells its size in bytes. `what` names its role in messages ("kernel"). Returns
 * the descriptor, which the caller closes, or -1 with a message in err.
 */
int file_open(const char *path, const char *what, u64 *size, struct err *err);

/* Reads exactly `size` bytes from the start of fd. Returns 0, or -1 with a message in err. */
int file_read(int fd, void *to, u64 size, const char *path, const char *what, struct err *err);

#endif
