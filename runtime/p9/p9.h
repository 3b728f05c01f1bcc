/*
 * A 9P2000.L server for one directory of the host: what is behind virtio/p9.c. It knows nothing of virtio, guests or
 * threads: a call of p9_handle() answers one request, and there may be one call at a time, from any thread (worker.h).
 */
#ifndef AVANT_P9_P9_H
#define AVANT_P9_P9_H

#include <sys/uio.h>

#include "util/types.h"

struct err;
struct p9_server;

struct p9_config {
	const char *path; /* of the directory to share */
	bool readonly;    /* nothing below it is changed */
	u32 descriptors;  /* how many the server may have open; 0: p9_descriptors() */
};

/* How many descriptors servers may have open together: most of those of the process, whose limit is raised. */
u32 p9_descriptors(void);

/*
 * Opens the directory, and everything else that has a name on the host. NULL with a message in err that names the
 * directory.
 */
struct p9_server *p9_create(const struct p9_config *config, struct err *err);
void p9_destroy(struct p9_server *server);

/* Ends the session: closes all files, drops all locks. */
void p9_reset(struct p9_server *server);

/*
 * One request. `out` is the message, which may change while it is read; `in` is where the reply goes. Twrite's data are
 * written to the file from where they are, Tread's read to where they go.
 */
struct p9_request {
	const struct iovec *out, *in;
	unsigned out_count, in_count; /* of the pieces behind the first IOV_MAX no use is made */
};

#define P9_NO_REPLY   (-1)
#define P9_WOULD_WAIT (-2)

/*
 * Size of the reply that is now in `in`. P9_NO_REPLY if there can be none: no message in out, no room in `in` for an
 * error. P9_WOULD_WAIT, only without `wait`: answering takes long, and has to be asked for again with it, as the next
 * request. In a directory that is another machine's everything takes long; else what must come from or go to a disk.
 */
s64 p9_handle(struct p9_server *server, const struct p9_request *request, bool wait);

#endif
