#include "scan_image.h"

#include <string.h>
#include <tcache.h>

#include "translate/fixup.h"
#include "translate/translate.h"
#include "x86/mode.h"

/* The page that was asked for last: units come more or less in the order of pages. */
struct hashed_page {
	u64 address; /* or NO_PAGE */
	u64 hash[2];
};

#define NO_PAGE UINT64_MAX

/* The hash of the page as it will be in memory; NULL if not all of it is known. */
static const u64 *hash_page(const struct image *image, u64 pc, struct hashed_page *page)
{
	const u8 *bytes;

	if (page->address == PAGE_BASE(pc))
		return page->hash;
	bytes = image_at(image, PAGE_BASE(pc), PAGE_SIZE);
	if (!bytes)
		return NULL;
	page->address = PAGE_BASE(pc);
	tcache_hash(bytes, PAGE_SIZE, page->hash);
	return page->hash;
}

/* Adds one unit; what cannot be a template, because it is not in one page, is left to the live translator. */
static int add_unit(struct plan *plan, const struct image *image, const struct scan *scan, u16 rank,
		    struct hashed_page *page, struct err *err)
{
	const u8 *bytes = image_at(image, scan->pc, scan->bytes);
	u32 mode = image->kernel ? MODE_LINUX_KERNEL : MODE_LINUX_USER;
	const u64 *hash = NULL;

	if (!bytes)
		return 0;
	if (image->moves || fixup_moves(scan->pc, mode)) {
		hash = scan->straddles ? NULL : hash_page(image, scan->pc, page);
		if (!hash)
			return 0;
	}
	return plan_add(plan, scan, mode, bytes, hash, rank, err);
}

int plan_add_image(struct plan *plan, const struct image *image, u16 rank, struct err *err)
{
	struct scan_options options = translate_scan_options(plan_store(plan), 0);
	struct units *units = units_create(image, &options, err);
	struct hashed_page page = {.address = NO_PAGE};
	const struct scan *scan;
	int result = 0;

	if (!units)
		return -1;
	units_add_entries(units);
	while (result == 0 && (scan = units_next(units)))
		result = add_unit(plan, image, scan, rank, &page, err);
	units_free(units);
	return result;
}
