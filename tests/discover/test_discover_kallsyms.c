#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "discover/internal.h"
#include "synth_kallsyms.h"

#define ADDRESS 0xffffffff82000000ULL

static struct synth_kallsyms synth;

/* A copy of exactly its size, so that AddressSanitizer sees every read beyond. */
static bool read_copy(struct kallsyms *kallsyms, u64 size)
{
	const char *reason = NULL;
	u8 *copy = malloc(size ? size : 1);
	bool found;

	memcpy(copy, synth.bytes, size);
	found = kallsyms_read(kallsyms, copy, size, ADDRESS, SYNTH_TEXT, SYNTH_TEXT_END, &reason);
	assert_non_null(reason);
	free(copy);
	return found;
}

static void check(enum synth_order order, enum synth_form form)
{
	struct kallsyms kallsyms;
	char name[256];

	synth_kallsyms(&synth, order, form);
	assert_true(read_copy(&kallsyms, synth.size));
	assert_int_equal(kallsyms.count, SYNTH_SYMBOLS);
	assert_int_equal(kallsyms.symbols.count, SYNTH_SYMBOLS);
	assert_int_equal(kallsyms.token_index, ADDRESS + synth.token_index);
	assert_int_equal(kallsyms.markers, ADDRESS + synth.markers);
	for (unsigned i = 0; i < SYNTH_SYMBOLS; i++) {
		synth_name(i, name);
		assert_string_equal(kallsyms.symbols.entry[i].name, name);
		assert_int_equal(kallsyms.symbols.entry[i].pc, synth_address(i, form));
		assert_int_equal(kallsyms.symbols.entry[i].sources, i % 2 ? 0 : ENTRY_SYMBOL);
	}
	kallsyms_release(&kallsyms);
}

static void test_older_order(void **state)
{
	(void)state;
	check(SYNTH_OFFSETS_FIRST, SYNTH_PERCPU);
}

static void test_newer_order(void **state)
{
	(void)state;
	check(SYNTH_OFFSETS_LAST, SYNTH_PERCPU);
}

static void test_relative(void **state)
{
	(void)state;
	check(SYNTH_OFFSETS_LAST, SYNTH_RELATIVE);
}

static void test_absolute(void **state)
{
	(void)state;
	check(SYNTH_OFFSETS_FIRST, SYNTH_ABSOLUTE);
}

/* A marker that does not agree, or addresses that are not code: no table at all. */
static void test_disagreeing(void **state)
{
	struct kallsyms kallsyms;

	(void)state;
	synth_kallsyms(&synth, SYNTH_OFFSETS_FIRST, SYNTH_PERCPU);
	synth.bytes[synth.markers + 4]++;
	assert_false(read_copy(&kallsyms, synth.size));
	assert_null(kallsyms.names);
	synth_kallsyms(&synth, SYNTH_OFFSETS_FIRST, SYNTH_PERCPU);
	synth.bytes[synth.token_index + 9] = 0xff;
	assert_false(read_copy(&kallsyms, synth.size));
}

static void test_truncated(void **state)
{
	struct kallsyms kallsyms;

	(void)state;
	synth_kallsyms(&synth, SYNTH_OFFSETS_LAST, SYNTH_PERCPU);
	for (u64 size = 0; size < synth.token_index + 512 + 4 * SYNTH_SYMBOLS; size += 61)
		assert_false(read_copy(&kallsyms, size));
}

/* Whatever bytes are changed: no crash, and what is found holds together. */
static void test_flipped(void **state)
{
	struct kallsyms kallsyms;

	(void)state;
	srand(1);
	for (unsigned round = 0; round < 300; round++) {
		synth_kallsyms(&synth, round % 2, round % 3);
		for (unsigned i = 0; i <= round % 8; i++)
			synth.bytes[(u64)rand() % synth.size] ^= (u8)(1 << rand() % 8);
		if (!read_copy(&kallsyms, synth.size))
			continue;
		for (u64 i = 0; i < kallsyms.symbols.count; i++)
			assert_true(kallsyms.symbols.entry[i].name + strlen(kallsyms.symbols.entry[i].name) <
				    kallsyms.names + kallsyms.names_size);
		kallsyms_release(&kallsyms);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_older_order), cmocka_unit_test(test_newer_order),
		cmocka_unit_test(test_relative),    cmocka_unit_test(test_absolute),
		cmocka_unit_test(test_disagreeing), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_flipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
