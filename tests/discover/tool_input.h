/* What the tools of these tests read, and the time. */
#ifndef AVANT_TESTS_DISCOVER_TOOL_INPUT_H
#define AVANT_TESTS_DISCOVER_TOOL_INPUT_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "boot/file.h"
#include "util/err.h"
#include "util/types.h"

static inline double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The whole file, with a zero behind it; to be freed. Ends the program with a message if it cannot be read. */
static inline u8 *read_file(const char *path, u64 *size)
{
	struct err err = ERR_INIT;
	int fd = file_open(path, "input", size, &err);
	u8 *data = fd < 0 ? NULL : malloc(*size + 1);

	if (!data || file_read(fd, data, *size, path, "input", &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	data[*size] = 0;
	return data;
}

#endif
