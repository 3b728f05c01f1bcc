#include "live/code_pages.h"

#include "ahead.h"
#include "vm.h"

#define TOGETHER 4u

_Static_assert(CODE_PAGE == AHEAD_PAGE, "what is asked for is whole pages");

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
	for (first = page; page < first + TOGETHER && page < end && !is_done(live, page); page++)
		live->code_pages[page / 64] |= BIT(page % 64);
	ahead_collapse(live->vm->ahead, live->store.code_rw + first * CODE_PAGE, (page - first) * CODE_PAGE);
}
