/* Programs that belong to this one. */
#ifndef AVANT_UTIL_PROGRAM_H
#define AVANT_UTIL_PROGRAM_H

#include <stddef.h>

struct err;

/*
 * Where a program of ours is: beside this one (build tree), else in ../libexec/avant (installation). 0, or -1 with a
 * message in err.
 */
int program_find(const char *name, char *path, size_t size, struct err *err);

#endif
