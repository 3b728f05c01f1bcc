/*
 * A process that writes files for the run when that ends: by then the run itself may not. And the names of its sockets
 * are this process's from the beginning, so that there is none without somebody to remove it. It is told beforehand
 * which files and names, and touches no others; it ends with the run, however that ends.
 */
#ifndef AVANT_TOOLS_CLERK_H
#define AVANT_TOOLS_CLERK_H

#include "socket_name.h"
#include "util/err.h"
#include "util/types.h"

#define CLERK_SOCKETS 2

struct clerk {
	int socket; /* -1: not started */
	const char *const *paths;
	bool removes;
};

/*
 * `paths`: what may be written, `count` of them, NULL ones are left out; they must stay. `sockets`: CLERK_SOCKETS of
 * them, which are bound when it returns, and whose names are removed at the end. Call before there are threads. 0, or
 * -1 with a message in err.
 */
int clerk_start(struct clerk *clerk, const char *const *paths, unsigned count, const struct socket_name *sockets,
		struct err *err);
/* Waits until names are removed. Calls shutdown() if there are any. */
void clerk_release(struct clerk *clerk);

/* Has a file written as output_write() does. 0, or -1 with a message in err that names it. */
int clerk_write(const struct clerk *clerk, unsigned number, const void *data, u64 size, struct err *err);
/* The same with all that the file `fd` holds. */
int clerk_write_fd(const struct clerk *clerk, unsigned number, int fd, struct err *err);

#endif
