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

/*
 * A unit was made from these guest bytes, with its blocks' counters here. `page`: the whole page that they are of, if
 * this code may be anywhere; then the counters survive when the code cache is emptied. Else NULL.
 */
void recorder_add(struct recorder *recorder, const struct unit *unit, u64 *counters, const u8 *bytes, const u8 *page);

/*
 * Takes the counters of the units that may be anywhere, or of the others, since the last call; they are about to be
 * forgotten.
 */
void recorder_harvest(struct recorder *recorder, bool lasting);

/*
 * Writes all into the file `fd`: a container as cache-format/FORMAT.md describes, with the chunks RECD, GBYT, CNTS and
 * RPAG. `path` is its name in messages. -1 with a message in err; what is in the file then is nothing.
 */
int recorder_write(struct recorder *recorder, const struct live *live, int fd, const char *path, struct err *err);

#endif
