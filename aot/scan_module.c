#include "scan_module.h"

#include <string.h>

#include "scan_image.h"
#include "x86/mode.h"

struct adding {
	struct plan *plan;
	const struct module *module;
	u16 rank;
	/* the page that was asked for last: units come in the order of addresses */
	u64 address; /* or NO_PAGE */
	const struct module_page *page;
	u8 bytes[PAGE_SIZE];
	struct err *err;
};

#define NO_PAGE UINT64_MAX

/* Holes that lie within the page; parts of others are filled as well. */
static u32 take_holes(struct adding *a, u64 page, u16 holes[PAGE_SIZE / 4])
{
	const struct module_hole *hole;
	u32 count, taken = 0;

	hole = module_holes(a->module, page, PAGE_SIZE, &count);
	for (u32 i = 0; hole && i < count; i++) {
		for (u64 n = 0; n < hole[i].size; n++) {
			if (hole[i].address + n - page < PAGE_SIZE)
				a->bytes[hole[i].address + n - page] = SCAN_HOLE_FILLING;
		}
		if (hole[i].address - page <= PAGE_SIZE - hole[i].size)
			holes[taken++] = (u16)((hole[i].address - page) | (hole[i].size == 8 ? SCAN_HOLE_WIDE : 0));
	}
	return taken;
}

/* The page of this address, with a->bytes; false: not all of it is known, or memory is short (a->err). */
static bool take_page(struct adding *a, u64 pc, bool *failed)
{
	const u64 address = PAGE_BASE(pc);
	u16 holes[PAGE_SIZE / 4];
	const u8 *bytes;
	u32 count;

	*failed = false;
	if (a->address == address)
		return a->page;
	a->address = address;
	a->page = NULL;
	bytes = image_at(&a->module->image, address, PAGE_SIZE);
	if (!bytes)
		return false;
	memcpy(a->bytes, bytes, PAGE_SIZE);
	count = take_holes(a, address, holes);
	a->page = plan_module_page(a->plan, a->bytes, holes, count);
	*failed = !a->page;
	return a->page;
}

static int add_unit(void *opaque, const struct scan *scan)
{
	struct adding *a = opaque;
	bool failed;

	if (scan->straddles)
		return 0;
	if (!take_page(a, scan->pc, &failed))
		return failed ? err_set(a->err, "out of memory") : 0;
	return plan_add_module(a->plan, scan, MODE_LINUX_KERNEL, a->bytes + PAGE_OFFSET(scan->pc), a->page, a->rank,
			       a->err);
}

int plan_add_module_image(struct plan *plan, const struct module *module, u16 rank, struct err *err)
{
	struct adding adding = {.plan = plan, .module = module, .rank = rank, .address = NO_PAGE, .err = err};

	return scan_disjoint(plan, &module->image, add_unit, &adding, err);
}
