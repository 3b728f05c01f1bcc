/* Progress of long work on stderr: a bar that is redrawn on a terminal, otherwise a line now and then. */
#ifndef AVANT_TOOLS_PROGRESS_H
#define AVANT_TOOLS_PROGRESS_H

#include "util/types.h"

struct progress {
	const char *what; /* "lifting" */
	u64 total;
	u64 start_ns, shown_ns;
	unsigned shown_percent;
	bool terminal;
};

void progress_begin(struct progress *progress, const char *what, u64 total);
/* So many of the total are done. */
void progress_show(struct progress *progress, u64 done);
/* Leaves the cursor on a new line. */
void progress_end(struct progress *progress, u64 done);

#endif
