/* Code of kernel modules on its way into a cache: what is not taken, and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "module_set.c" /* for its structure */
#include "scan_image.h"

/* jz +8; ret */
static const u8 simple[] = {0x74, 8, 0xc3};

static const struct store options = {.returns_host = true};
static struct err err;

static struct plan *plan;
static struct translation *translation;
static struct module_set *set;

static int start(void **state)
{
	(void)state;
	plan = plan_create(&options, &err);
	translation = translation_create();
	set = module_set_create(&options, &err);
	return plan && translation && set ? 0 : -1;
}

static int stop(void **state)
{
	(void)state;
	module_set_destroy(set);
	translation_destroy(translation);
	plan_destroy(plan);
	return 0;
}

/* What was scanned, and what is planned for it: the same with its holes filled. */
static const struct want *want(const u8 *scanned, const u8 *filled, unsigned length)
{
	static const u8 page[PAGE_SIZE];
	static const u16 no_holes[1];
	static struct scan scan;

	assert_true(plan_scan(&options, &scan, TCACHE_MODULE_BASE, MODE_LINUX_KERNEL, scanned, length));
	assert_int_equal(plan_add_module(plan, &scan, MODE_LINUX_KERNEL, filled,
					 plan_module_page(plan, page, no_holes, 0), 0, &err),
			 0);
	return plan_at(plan, plan_count(plan) - 1);
}

/* Not one table may be full; what was begun is forgotten. */
static void test_full(void **state)
{
	struct store *store = &set->store;
	const struct {
		u32 *count, max;
	} tables[] = {
		{&store->unit_count, store->unit_max},
		{&store->pc_count, store->pc_max},
		{&store->link_count, store->link_max},
		{&store->entry_count, store->entry_max},
	};
	const struct want *wanted = want(simple, simple, sizeof(simple));

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		const u32 count = *tables[i].count;

		*tables[i].count = tables[i].max;
		assert_int_equal(module_set_add(set, translation, wanted), -1);
		assert_int_equal(*tables[i].count, tables[i].max);
		*tables[i].count = count;
	}
	store->used = CODE_SIZE - 64;
	assert_int_equal(module_set_add(set, translation, wanted), -1);
	store->used = 0;
	assert_int_equal(module_set_add(set, translation, wanted), 0);
	assert_int_equal(store->unit_count, 2);
}

/* stac; ret, of which the first is the end of a hole of the page before: filled, it depends on another mode. */
static void test_masks(void **state)
{
	static const u8 scanned[] = {0x0f, 0x01, 0xcb, 0xc3}, filled[] = {0x5a, 0x5a, 0x5a, 0xc3};

	(void)state;
	assert_int_equal(module_set_add(set, translation, want(scanned, filled, sizeof(filled))), 1);
	assert_int_equal(set->store.unit_count, 1);
	assert_int_equal(module_set_add(set, translation, want(scanned, scanned, sizeof(scanned))), 0);
	assert_int_equal(set->mode_masks[1], MODE_USER | MODE_CAREFUL | MODE_SMAP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_full, start, stop),
		cmocka_unit_test_setup_teardown(test_masks, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
