/*
 * The text form of the examples: README.md in this folder describes it.
 */
#ifndef TESTS_CACHE_GOLDEN_TEXT_H
#define TESTS_CACHE_GOLDEN_TEXT_H

#include <stdio.h>

#include "sample.h"

/* What an example is said to be. */
struct golden {
	struct bytes bytes;
	char expect[512]; /* "ok", or "STATUS: MESSAGE" */
	char like[64];    /* name of the example that it is given relative to, or "" */
};

/* base: what `like` names, or NULL. */
void golden_print(FILE *out, const char *comment, const struct golden *golden, const struct bytes *base);
/* Reads directory/name, with all that it is relative to. Prints what is wrong and returns -1 on failure. */
int golden_parse(const char *directory, const char *name, struct golden *golden);

#endif
