/* A program for guests that checks a mounted file system. Static, so that it runs in any initramfs. */
#ifndef AVANT_TESTS_SHARE_CHECK_H
#define AVANT_TESTS_SHARE_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says where, what and errno, and ends the program. */
#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s (errno: %s)\n", __FILE__, __LINE__, #condition,             \
				strerror(errno));                                                                      \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

/* The call fails with this errno. */
#define CHECK_ERROR(call, error)                                                                                       \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		if ((call) != -1 || errno != (error)) {                                                                \
			fprintf(stderr, "%s:%d: not %s but %s: %s\n", __FILE__, __LINE__, strerror(error),             \
				strerror(errno), #call);                                                               \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

/* Random reads, writes, truncations and, if `maps`, mappings of a file in the working directory against a model. */
void check_random_io(unsigned seed, unsigned operations, int maps);

/* What POSIX says about files, directories, links, permissions. In an empty working directory. */
void check_semantics(void);

#endif
