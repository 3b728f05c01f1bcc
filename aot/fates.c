#include "fates.h"

#include <stdlib.h>
#include <string.h>

#define FATES_MAX 65536u

char *printable_copy(const char *text)
{
	char *copy = strdup(text);

	for (char *c = copy; c && *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return copy;
}

static int grow(struct fates *fates)
{
	u32 room = fates->room ? fates->room * 2 : 64;
	struct fate *grown = realloc(fates->fate, room * sizeof(*grown));

	if (!grown)
		return -1;
	fates->fate = grown;
	fates->room = room;
	return 0;
}

int fates_add(struct fates *fates, const char *name, const char *reason, u64 code)
{
	struct fate *fate;

	if (fates->count == FATES_MAX) {
		fates->more++;
		return 0;
	}
	if (fates->count == fates->room && grow(fates) < 0)
		return -1;
	fate = &fates->fate[fates->count++];
	*fate = (struct fate){printable_copy(name), reason ? printable_copy(reason) : NULL, code};
	return fate->name && (!reason || fate->reason) ? 0 : -1;
}

void fates_release(struct fates *fates)
{
	for (u32 i = 0; i < fates->count; i++) {
		free(fates->fate[i].name);
		free(fates->fate[i].reason);
	}
	free(fates->fate);
	*fates = (struct fates){0};
}
