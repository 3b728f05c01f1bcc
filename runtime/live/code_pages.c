#include "live/code_pages.h"

#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* At a time: each call waits for all processors once. */
#define TOGETHER 4u

static bool is_done(const struct live *live, u64 page)
{
	return live->code_pages[page / 64] >> (page % 64) & 1;
}

void code_pages_want(struct live *live, u64 from, u64 to, u64 limit)
{
	u64 page = from / CODE_PAGE, last = (to - 1) / CODE_PAGE, end = limit / CODE_PAGE, first;

	while (page <= last && page < end && is_done(live, page))
		page++;
	if (page > last || page >= end)
		return;
	for (first = page; page < first + TOGETHER && page < end && !is_done(live, page); page++) {
		volatile u8 *at = live->store.code_rw + page * CODE_PAGE;

		*at = *at; /* where there is nothing at all, nothing is made of it */
		live->code_pages[page / 64] |= BIT(page % 64);
	}
	madvise(live->store.code_rw + first * CODE_PAGE, (page - first) * CODE_PAGE, MADV_COLLAPSE);
}
