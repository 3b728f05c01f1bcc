#include "descriptors.h"

#include <limits.h>
#include <unistd.h>

#define KEPT 3

int descriptors_keep(int fd)
{
	if (fd != KEPT && dup2(fd, KEPT) < 0)
		return fd;
	close_range(KEPT + 1, UINT_MAX, 0);
	return KEPT;
}
