/* Which loops are found, which are worth lifting, and that lifting them gives code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lift.h"
#include "object.h"
#include "util/err.h"
#include "x86/mode.h"

/* xor eax, eax; L: add eax, [rdi]; add rdi, 4; dec ecx; jnz L; ret */
static const u8 sum[] = {0x31, 0xc0, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x04, 0xff, 0xc9, 0x75, 0xf6, 0xc3};
/* L: call +0; dec ecx; jnz L; ret */
static const u8 calls[] = {0xe8, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xc3};
/* L: M: mov [rdi], eax; dec edx; jnz M; dec ecx; jnz L; ret */
static const u8 nested[] = {0x89, 0x07, 0xff, 0xca, 0x75, 0xfa, 0xff, 0xc9, 0x75, 0xf6, 0xc3};
/* L: M: mov [rdi], eax; dec edx; jnz M; cpuid; dec ecx; jnz L; ret */
static const u8 around[] = {0x89, 0x07, 0xff, 0xca, 0x75, 0xfa, 0x0f, 0xa2, 0xff, 0xc9, 0x75, 0xf4, 0xc3};

/* As Linux has it in user mode. */
#define MODE (MODE_USER | MODE_OSFXSR | MODE_OSXSAVE | MODE_MP | 7u << MODE_XCR0_SHIFT)

static struct scan scan;
static struct lift_loop loops[SCAN_ROOM];

static unsigned find(const u8 *code, unsigned length)
{
	const struct scan_options options = {.max = SCAN_MAX};
	u8 page[64] = {0};

	memcpy(page, code, length);
	assert_int_equal(scan_unit(&scan, 0x1000, page, length, length, &options), 0);
	return lift_find_loops(&scan, MODE, loops);
}

static void test_find(void **state)
{
	(void)state;
	assert_int_equal(find(sum, sizeof(sum)), 1);
	assert_int_equal(loops[0].first, 1);
	assert_int_equal(loops[0].last, 4);
	assert_int_equal(find(calls, sizeof(calls)), 0);
	assert_int_equal(find(nested, sizeof(nested)), 1);
	assert_int_equal(loops[0].first, 0);
	assert_int_equal(loops[0].last, 4);
}

static void test_refused(void **state)
{
	u16 unknown[SCAN_ROOM];

	(void)state;
	find(sum, sizeof(sum));
	assert_int_equal(lift_find_refused(&scan, MODE, loops, unknown), 0);
	find(calls, sizeof(calls));
	assert_int_equal(lift_find_refused(&scan, MODE, loops, unknown), 1);
	assert_int_equal(loops[0].first, 0);
	assert_int_equal(loops[0].last, 2);
	assert_int_equal(unknown[0], 0);
	/* the inner loop can be lifted, the outer one cannot */
	assert_int_equal(find(around, sizeof(around)), 1);
	assert_int_equal(loops[0].first, 0);
	assert_int_equal(loops[0].last, 2);
	assert_int_equal(lift_find_refused(&scan, MODE, loops, unknown), 1);
	assert_int_equal(loops[0].first, 0);
	assert_int_equal(loops[0].last, 5);
	assert_int_equal(unknown[0], 3);
}

static void test_worth(void **state)
{
	u64 executed[SCAN_ROOM] = {10, 1000, 1000, 1000, 1000, 10};

	(void)state;
	find(sum, sizeof(sum));
	assert_int_equal(lift_judge(&scan, &loops[0], executed), LIFT_LIFTED);
	for (unsigned i = 1; i <= 4; i++)
		executed[i] = 20; /* twice for each entry */
	assert_int_equal(lift_judge(&scan, &loops[0], executed), LIFT_FEW_ACCESSES);
	memset(executed, 0, sizeof(executed));
	assert_int_equal(lift_judge(&scan, &loops[0], executed), LIFT_FEW_ACCESSES);
	find(nested, sizeof(nested)); /* entered at the unit's beginning: by whom is not known */
	for (unsigned i = 0; i <= 4; i++)
		executed[i] = ~0ULL;
	assert_int_equal(lift_judge(&scan, &loops[0], executed), LIFT_ENTRIES_UNKNOWN);
}

static void test_compile(void **state)
{
	struct lift_options options = {.counted = false};
	struct err err = ERR_INIT;
	struct lift_worker *worker = lift_worker_create(&err);
	bool items[SCAN_ROOM] = {false};
	const char *reason;

	(void)state;
	assert_non_null(worker);
	find(sum, sizeof(sum));
	for (unsigned i = loops[0].first; i <= loops[0].last; i++)
		items[i] = true;
	struct lifted *first = lift_compile(worker, &scan, items, &options, &reason);
	struct lifted *again = lift_compile(worker, &scan, items, &options, &reason);

	assert_non_null(first);
	assert_non_null(again);
	assert_true(first->function[1] != LIFT_NONE && first->function[0] == LIFT_NONE);
	assert_int_equal(first->text_size, again->text_size);
	assert_memory_equal(first->text, again->text, first->text_size);
	/* the way out to `ret`, the poll, and the access */
	assert_true(first->exit_count >= 3);
	for (unsigned i = 0; i < first->fix_count; i++)
		assert_true(first->fix[i].at + 4 <= first->text_size && first->fix[i].exit < first->exit_count);
	lift_free(first);
	lift_free(again);
	memset(items, 0, sizeof(items));
	assert_null(lift_compile(worker, &scan, items, &options, &reason));
	assert_non_null(reason);
	lift_worker_destroy(worker);
}

/* No object file at all, or one cut short, is refused and not read beyond its end. */
static void test_object(void **state)
{
	const struct lift_exit exits[1] = {{.kind = LIFT_EXIT_ITEM}};
	const char *reason = NULL;
	u8 *bytes = calloc(1, 128);

	(void)state;
	assert_non_null(bytes);
	assert_null(object_read(bytes, 0, exits, 1, &reason));
	assert_non_null(reason);
	memcpy(bytes, "\177ELF\2\1\1", 7);
	bytes[18] = 62;   /* machine */
	bytes[40] = 0xff; /* section headers beyond the end */
	bytes[58] = 64;
	bytes[60] = 3;
	assert_null(object_read(bytes, 128, exits, 1, &reason));
	assert_non_null(reason);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),    cmocka_unit_test(test_refused), cmocka_unit_test(test_worth),
		cmocka_unit_test(test_compile), cmocka_unit_test(test_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
