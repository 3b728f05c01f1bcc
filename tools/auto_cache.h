/*
 * `--cache auto`: caches that look after themselves. Each guest, known by the bytes of its kernel and its processor
 * model, has a directory of its own in $XDG_CACHE_HOME/avant/auto:
 *
 *   cache.tcache   what guests run from, replaced as a whole
 *   profile.rec    all recordings that went into it, merged
 *   run-*.rec      recordings of runs that nobody has translated yet
 *   build.log      what the last build in the background said
 *   lock           held by whoever builds
 *
 * Runs only read the cache and add recordings; a build is the only one that replaces or deletes, under the lock.
 */
#ifndef AVANT_TOOLS_AUTO_CACHE_H
#define AVANT_TOOLS_AUTO_CACHE_H

#include "util/err.h"
#include "util/types.h"

#include <limits.h>

/* What all caches may take together; the least recently used guests are forgotten first. */
#define AUTO_CACHE_LIMIT_DEFAULT (8ULL << 30)

/* The directory of a guest. */
struct auto_guest {
	char path[PATH_MAX];
};

/* A path in the directory. */
struct auto_path {
	char text[PATH_MAX + NAME_MAX + 2];
};

/*
 * The directory for this kernel under this processor model, made if it is not there, and noted as used now. 0, or -1
 * with a message in err.
 */
int auto_guest_find(struct auto_guest *guest, const void *kernel, u64 size, const char *cpu, struct err *err);

struct auto_path auto_guest_cache(const struct auto_guest *guest);
bool auto_guest_has_cache(const struct auto_guest *guest);

/* Where a run of this process may put its recording. */
struct auto_path auto_guest_recording(const struct auto_guest *guest);

/*
 * Translates what runs have recorded since the last time, if there is anything, by `avant translate`; its messages go
 * to stdout and stderr. 1: translated; 0: nothing to do, or somebody else is at it; -1 with a message in err.
 */
int auto_guest_build(const struct auto_guest *guest, struct err *err);

/* Calls `visit` for each guest; a negative result ends it. 0, or -1 with a message in err. */
int auto_guests_each(int (*visit)(const struct auto_guest *guest, void *opaque), void *opaque, struct err *err);

/* Deletes least recently used guests until the others take at most `limit` bytes. The number of guests deleted, or -1.
 */
int auto_guests_prune(u64 limit, struct err *err);

/* --- a build after the run --------------------------------------------------------------------------------------- */

/*
 * A process that waits for the end of the run: the run itself is not allowed to start programs any more by then. It
 * ends with this one, however that ends, unless auto_builder_go() was called.
 */
struct auto_builder {
	int pipe; /* its only input; -1: none */
};

/* Call before there are threads. 0, or -1 with a message in err. */
int auto_builder_start(struct auto_builder *builder, const struct auto_guest *guest, struct err *err);
/* The build begins, at low priority and on its own. */
void auto_builder_go(struct auto_builder *builder);
void auto_builder_release(struct auto_builder *builder);

#endif
