/* Scans found again by their bytes are those that scanning would give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "live/scan_cache.h"
#include "mem/mem.h"

/* loop: add rax, [rdi]; add rdi, 8; dec rcx; jnz loop; ret */
static const u8 code[] = {0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x08, 0x48,
			  0xff, 0xc9, 0x75, 0xf4, 0xc3, 0x90, 0x90, 0x90};
static const struct scan_options options = {.max = SCAN_MAX}, exact = {.max = SCAN_MAX, .exact_flags = true};

#define PC    0x555555554100ULL
#define OTHER 0x7f0000000100ULL /* the same place in another page */

static struct scan_cache *noted_cache(struct scan *scan)
{
	struct scan_cache *cache = scan_cache_create();

	assert_non_null(cache);
	assert_int_equal(scan_unit(scan, PC, code, sizeof(code), sizeof(code), &options), 0);
	scan_cache_note(cache, scan, code, &options);
	return cache;
}

static void test_found(void **state)
{
	static struct scan scan, found;
	struct scan_cache *cache = noted_cache(&scan);

	(void)state;
	assert_true(scan_cache_find(cache, &found, OTHER, code, sizeof(code), &options));
	assert_int_equal(found.pc, OTHER);
	assert_int_equal(found.count, 5);
	assert_int_equal(found.bytes, scan.bytes);
	assert_memory_equal(found.item, scan.item, scan.count * sizeof(scan.item[0]));
	scan_cache_destroy(cache);
}

static void test_not_found(void **state)
{
	static struct scan scan, found;
	struct scan_cache *cache = noted_cache(&scan);
	u8 changed[sizeof(code)];

	(void)state;
	memcpy(changed, code, sizeof(code));
	changed[sizeof(code) - 4] = 0xcc; /* the last instruction of the unit */
	assert_false(scan_cache_find(cache, &found, PC, changed, sizeof(changed), &options));
	assert_false(scan_cache_find(cache, &found, PC + 1, code, sizeof(code), &options));
	assert_false(scan_cache_find(cache, &found, PC, code, scan.bytes - 1, &options));
	assert_false(scan_cache_find(cache, &found, PC, code, sizeof(code), &exact));
	assert_false(scan_cache_find(NULL, &found, PC, code, sizeof(code), &options));
	scan_cache_destroy(cache);
}

/* What is noted later takes the slot of what was there. */
static void test_replaced(void **state)
{
	static struct scan scan, found;
	struct scan_cache *cache = noted_cache(&scan);

	(void)state;
	assert_int_equal(scan_unit(&scan, PC, code, sizeof(code), sizeof(code), &exact), 0);
	scan_cache_note(cache, &scan, code, &exact);
	assert_true(scan_cache_find(cache, &found, PC, code, sizeof(code), &exact));
	assert_int_equal(found.item[0].live_in, FLAGS_ARITH);
	assert_false(scan_cache_find(cache, &found, PC, code, sizeof(code), &options));
	scan_cache_destroy(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_not_found),
		cmocka_unit_test(test_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
