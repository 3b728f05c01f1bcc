#include "plan.h"

#include "translate/translate.h"

bool plan_scan(const struct store *store, struct scan *scan, u64 pc, u32 mode, const u8 *bytes, unsigned length)
{
	struct scan_options options = translate_scan_options(store, mode);
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(pc));

	if (in_page > length)
		in_page = length;
	return scan_unit(scan, pc, bytes, length, in_page, &options) == 0 && scan->bytes == length;
}

bool plan_scan_module(const struct store *store, struct scan *scan, u64 pc, u32 mode, const u8 *bytes, unsigned length,
		      const u16 *holes, u32 hole_count)
{
	return plan_scan(store, scan, pc, mode, bytes, length) && !scan->straddles &&
	       scan_note_holes(scan, holes, hole_count);
}
