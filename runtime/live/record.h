/*
 * Recording a run (`avant run --record`): which guest code was executed, as which units, and how often each of their
 * blocks. The build step translates what it finds in such a file.
 */
#ifndef AVANT_LIVE_RECORD_H
#define AVANT_LIVE_RECORD_H

#include "util/err.h"
#include "util/types.h"

struct live;
struct unit;
struct recorder;

/* NULL with a message in err. */
struct recorder *recorder_create(struct err *err);
void recorder_destroy(struct recorder *recorder);

/* A unit was made from these guest bytes. */
void recorder_add(struct recorder *recorder, const struct unit *unit, const u8 *bytes);

/* Takes the counters of all units since the last call; they are about to be forgotten. */
void recorder_harvest(struct recorder *recorder, const struct live *live);

/*
 * Writes all into the file `fd`: a container as cache-format/FORMAT.md describes, with the chunks RECD, GBYT and CNTS.
 * `path` is its name in messages. -1 with a message in err; what is in the file then is nothing.
 */
int recorder_write(struct recorder *recorder, const struct live *live, int fd, const char *path, struct err *err);

#endif
