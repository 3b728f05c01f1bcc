/*
 * Which existing cache avant translate takes over: the one that is given, or what an interrupted run with the same
 * output left.
 */
#ifndef AVANT_TOOLS_TRANSLATE_REUSE_H
#define AVANT_TOOLS_TRANSLATE_REUSE_H

#include "reuse.h"

struct sources {
	char *partial_path;            /* "OUTPUT.partial" */
	struct reuse *given, *partial; /* or NULL */
	struct reuse *used;            /* one of the two, or NULL; after sources_match() */
};

/*
 * Opens what there is. `given` may be NULL; it is an error if that cannot be used, while OUTPUT.partial is ignored with
 * a warning. 0, or -1 with a message in err. sources_close() is wanted in both cases.
 */
int sources_open(struct sources *sources, const char *given, const char *output, const struct build *build,
		 struct err *err);
void sources_close(struct sources *sources);

/* Finds what they have of the complete plan, and decides for the one that has more. 0, or -1 with a message in err. */
int sources_match(struct sources *sources, const struct plan *plan, struct err *err);

/* The output has been written: OUTPUT.partial has done its work, if it could be used. */
void sources_done(const struct sources *sources);

#endif
