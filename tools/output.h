/* Files that a run writes when it ends. */
#ifndef AVANT_TOOLS_OUTPUT_H
#define AVANT_TOOLS_OUTPUT_H

#include "util/err.h"
#include "util/types.h"

/* Can `path` be written at the end of the run? Returns 0, or -1 with a message in err. */
int output_check(const char *path, struct err *err);

/*
 * Writes the bytes to a file of another name and moves it to `path`, so that readers see all or nothing. What is not
 * a regular file (/dev/stderr, a pipe) is written directly. Returns 0, or -1 with a message in err.
 */
int output_write(const char *path, const void *data, u64 size, struct err *err);

#endif
