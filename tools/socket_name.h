/*
 * The name of a listening Unix socket, as long as it is ours. Whoever binds it should outlive the run that listens: a
 * process that is killed removes nothing.
 */
#ifndef AVANT_TOOLS_SOCKET_NAME_H
#define AVANT_TOOLS_SOCKET_NAME_H

#include "util/err.h"
#include "util/types.h"

#include <sys/types.h>

struct socket_name {
	const char *path; /* must stay; NULL: none */
	int fd;           /* an unbound Unix socket, the caller's */
	/* what the name stands for, to tell it from what somebody puts there later; ino 0: not bound */
	dev_t dev;
	ino_t ino;
};

/* Is the path one that a socket can have? 0, or -1 with a message in err. */
int socket_name_check(const char *path, struct err *err);

/*
 * Binds the socket to its name and listens. What is left of a run that was killed is replaced; what somebody listens
 * at, or is no socket, is not. 0, or -1 with a message in err that names the path.
 */
int socket_name_bind(struct socket_name *name, struct err *err);

/* Removes the name if it was bound and is still the same. */
void socket_name_remove(const struct socket_name *name);

#endif
