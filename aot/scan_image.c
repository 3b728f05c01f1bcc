#include "scan_image.h"

#include <string.h>
#include <tcache.h>

#include "translate/fixup.h"
#include "translate/translate.h"
#include "x86/mode.h"

/* The page that was asked for last: units come in the order of addresses. */
struct hashed_page {
	u64 address; /* or NO_PAGE */
	u64 hash[2];
	bool run; /* something was executed in it */
};

#define NO_PAGE UINT64_MAX

struct adding {
	struct plan *plan;
	const struct image *image;
	const struct recorded *recorded;
	struct scan_ranks ranks;
	struct hashed_page page;
	struct err *err;
};

/* The page as it will be in memory; NULL if not all of it is known. */
static const struct hashed_page *hash_page(struct adding *a, u64 pc)
{
	const u8 *bytes;

	if (a->page.address == PAGE_BASE(pc))
		return &a->page;
	bytes = image_at(a->image, PAGE_BASE(pc), PAGE_SIZE);
	if (!bytes)
		return NULL;
	a->page.address = PAGE_BASE(pc);
	tcache_hash(bytes, PAGE_SIZE, a->page.hash);
	a->page.run = recorded_page(a->recorded, a->page.hash);
	return &a->page;
}

/* What cannot be a template, because it is not in one page, is left to the live translator. */
static int add_template(struct adding *a, const struct scan *scan, const u8 *bytes)
{
	const struct hashed_page *page = scan->straddles ? NULL : hash_page(a, scan->pc);
	u64 offset = PAGE_OFFSET(scan->pc);

	if (!page || recorded_unit(a->recorded, page->hash, TCACHE_TEMPLATE_BASE + offset, MODE_LINUX_USER, bytes,
				   PAGE_SIZE - offset))
		return 0;
	return plan_add(a->plan, scan, MODE_LINUX_USER, bytes, page->hash,
			page->run ? a->ranks.run_page : a->ranks.image, a->err);
}

static int add_unit(void *opaque, const struct scan *scan)
{
	struct adding *a = opaque;
	u32 mode = a->image->kernel ? MODE_LINUX_KERNEL : MODE_LINUX_USER;
	const u8 *bytes = image_at(a->image, scan->pc, scan->bytes);

	if (!bytes)
		return 0;
	if (a->image->moves || fixup_moves(scan->pc, mode))
		return add_template(a, scan, bytes);
	if (recorded_unit(a->recorded, NULL, scan->pc, mode, bytes, image_left(a->image, scan->pc)))
		return 0;
	return plan_add(a->plan, scan, mode, bytes, NULL, a->ranks.image, a->err);
}

int scan_disjoint(const struct plan *plan, const struct image *image, int (*add)(void *opaque, const struct scan *scan),
		  void *opaque, struct err *err)
{
	struct scan_options options = translate_scan_options(plan_store(plan), 0);
	struct units *units = units_create(image, &options, err);
	const struct scan *scan;
	int result = 0;

	if (!units)
		return -1;
	units_set_disjoint(units);
	units_add_entries(units);
	while (result == 0 && (scan = units_next(units)))
		result = add(opaque, scan);
	units_free(units);
	return result;
}

int plan_add_image(struct plan *plan, const struct image *image, const struct recorded *recorded,
		   struct scan_ranks ranks, struct err *err)
{
	struct adding adding = {plan, image, recorded, ranks, {.address = NO_PAGE}, err};

	return scan_disjoint(plan, image, add_unit, &adding, err);
}
