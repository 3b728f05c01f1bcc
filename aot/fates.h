/* Files of programs that were not translated: which, and why. Bounded: of what is too much only the number is kept. */
#ifndef AVANT_AOT_FATES_H
#define AVANT_AOT_FATES_H

#include "util/types.h"

enum program_fate { PROGRAM_LEFT_OUT, PROGRAM_UNUSABLE, PROGRAM_MODULE, PROGRAM_FATES };

struct fate {
	char *name;   /* printable */
	char *reason; /* printable; of what is unusable, else NULL */
	u64 code;     /* bytes */
};

struct fates {
	struct fate *fate;
	u32 count, room;
	u64 more; /* … that are not in the list */
};

/* Copies the texts; reason may be NULL. -1: out of memory. */
int fates_add(struct fates *fates, const char *name, const char *reason, u64 code);
void fates_release(struct fates *fates);

/* A copy of the text that can be shown on any terminal; NULL: out of memory. */
char *printable_copy(const char *text);

#endif
