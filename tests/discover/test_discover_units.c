#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "synth_image.h"
#include "translate/scan.h"

#define PUT(image, at, ...)                                                                                            \
	do {                                                                                                           \
		const u8 given[] = {__VA_ARGS__};                                                                      \
		synth_code(image, at, given, sizeof(given));                                                           \
	} while (0)

static const struct scan_options options = {.max = SCAN_MAX};

/* Walks from `from`; the units must start exactly at the offsets given, in any order (-1 ends them). */
static struct units_figures walk(struct image *image, u64 from, const s64 *wanted)
{
	struct err err = ERR_INIT;
	struct units *units = units_create(image, &options, &err);
	struct units_figures figures;
	const struct scan *scan;
	unsigned count = 0, expected = 0;

	assert_non_null(units);
	assert_true(units_add(units, from));
	assert_false(units_add(units, from));
	while ((scan = units_next(units))) {
		bool found = false;

		for (unsigned i = 0; wanted[i] >= 0; i++)
			found |= CODE + (u64)wanted[i] == scan->pc;
		if (!found)
			fail_msg("unexpected unit at %#llx", (unsigned long long)(scan->pc - CODE));
		count++;
	}
	while (wanted[expected] >= 0)
		expected++;
	assert_int_equal(count, expected);
	figures = units_figures(units);
	assert_int_equal(figures.units, count);
	assert_int_equal(units_note_entries(units, image, &err), 0);
	units_free(units);
	return figures;
}

/* A call is followed and its return point is inside; a jump out of the unit; a conditional jump inside adds nothing. */
static void test_calls_and_jumps(void **state)
{
	struct units_figures figures;
	struct image image;

	(void)state;
	synth_image(&image);
	PUT(&image, 0x00, 0xe8, 0xfb, 0x00, 0x00, 0x00); /* call 0x100 */
	PUT(&image, 0x05, 0x74, 0x01);                   /* je 8 */
	PUT(&image, 0x07, 0x90);
	PUT(&image, 0x08, 0xe9, 0xf3, 0x0f, 0x00, 0x00); /* jmp 0x1000 */
	PUT(&image, 0x100, 0xc3);
	PUT(&image, 0x1000, 0xc3);
	figures = walk(&image, CODE, (const s64[]){0, 0x100, 0x1000, -1});
	assert_int_equal(figures.calls, 1);
	assert_int_equal(image.entry_count, 1);
	assert_int_equal(image.entry[0].pc, CODE + 0x100);
	assert_int_equal(image.entry[0].sources, ENTRY_CALL);
	image_release(&image);
}

/* More than 64 instructions: the fall beyond the end. At the end of a page: a straddling instruction by itself. */
static void test_long_and_straddling(void **state)
{
	struct units_figures figures;
	struct image image;

	(void)state;
	synth_image(&image);
	memset(image.segment[0].bytes, 0x90, 70);
	PUT(&image, 70, 0xe9, 0x00, 0x00, 0x00, 0x00); /* to 75 */
	PUT(&image, 75, 0xe9, 0xad, 0x0f, 0x00, 0x00); /* jmp 0xffd */
	PUT(&image, 0xffd, 0x90, 0x48, 0xc7, 0xc0, 0x01, 0x00, 0x00, 0x00, 0xc3);
	figures = walk(&image, CODE, (const s64[]){0, 64, 0xffd, 0xffe, 0x1005, -1});
	assert_int_equal(figures.straddling, 1);
	image_release(&image);
}

/* After hlt and mov to cr3 the next instruction is entered anew; after ud2 nothing is. */
static void test_leaving_on_purpose(void **state)
{
	struct image image;

	(void)state;
	synth_image(&image);
	PUT(&image, 0x00, 0xf4, 0x0f, 0x22, 0xd8, 0x0f, 0x0b, 0xc3);
	walk(&image, CODE, (const s64[]){0, 1, 4, -1});
	image_release(&image);
}

static void test_jump_tables(void **state)
{
	struct units_figures figures;
	struct image image;

	(void)state;
	synth_image(&image);
	/* lea DATA(%rip),%rdx; movslq (%rdx,%rax,4),%rax; add %rdx,%rax; jmp *%rax */
	PUT(&image, 0x00, 0x48, 0x8d, 0x15, 0xf9, 0xff, 0xff, 0x00, 0x48, 0x63, 0x04, 0x82, 0x48, 0x01, 0xd0, 0xff,
	    0xe0);
	for (unsigned i = 0; i < 3; i++)
		synth_data32(&image, 4 * i, CODE + 0x100 + 0x10 * i - DATA);
	synth_data32(&image, 12, 0x10); /* not code: the end */
	for (unsigned i = 0; i < 3; i++)
		PUT(&image, 0x100 + 0x10 * i, 0xc3);
	figures = walk(&image, CODE, (const s64[]){0, 0x100, 0x110, 0x120, -1});
	assert_int_equal(figures.indirect_jumps, 1);
	assert_int_equal(figures.resolved, 1);
	assert_int_equal(image.entry_count, 3);
	assert_int_equal(image.entry[2].sources, ENTRY_JUMP_TABLE);
	image_release(&image);

	synth_image(&image);
	PUT(&image, 0x00, 0xff, 0x24, 0xc5, 0x00, 0x00, 0x00, 0x82); /* jmp *DATA(,%rax,8) */
	synth_data64(&image, 0, CODE + 0x100);
	synth_data64(&image, 8, CODE + 0x110);
	PUT(&image, 0x100, 0xc3);
	PUT(&image, 0x110, 0xc3);
	walk(&image, CODE, (const s64[]){0, 0x100, 0x110, -1});
	image_release(&image);
}

/* An address that is taken. */
static void test_taken(void **state)
{
	struct image image;

	(void)state;
	synth_image(&image);
	PUT(&image, 0x00, 0x48, 0x8d, 0x3d, 0xf9, 0x00, 0x00, 0x00, 0xc3); /* lea 0x100(CODE),%rdi; ret */
	PUT(&image, 0x100, 0xc3);
	walk(&image, CODE, (const s64[]){0, 0x100, -1});
	image_release(&image);
}

/*
 * Units that do not overlap, in the order of addresses: a jump into the middle of one cuts it, whichever of them was
 * seen first; one into the middle of an instruction does not.
 */
static void test_disjoint(void **state)
{
	static const struct {
		u64 pc;
		unsigned instructions;
	} wanted[] = {{0x00, 2}, {0x03, 1}, {0x04, 2}, {0x100, 1}, {0x102, 2}, {0x103, 1}};
	struct image image;
	struct err err = ERR_INIT;
	const struct scan *scan;

	(void)state;
	synth_image(&image);
	PUT(&image, 0x00, 0x90, 0x66, 0x90, 0x90, 0x90, 0xc3); /* nop; xchg %ax,%ax; nop; nop; ret */
	PUT(&image, 0x100, 0x66, 0x90, 0xb0, 0xc3, 0xc3);      /* xchg %ax,%ax; mov $0xc3,%al; ret */

	struct units *units = units_create(&image, &options, &err);

	units_set_disjoint(units);
	for (unsigned i = ARRAY_SIZE(wanted); i-- > 0;)
		assert_true(units_add(units, CODE + wanted[i].pc));
	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
		scan = units_next(units);
		assert_non_null(scan);
		assert_int_equal(scan->pc - CODE, wanted[i].pc);
		assert_int_equal(scan->count, wanted[i].instructions);
	}
	assert_null(units_next(units));
	units_free(units);
	image_release(&image);
}

/* Any bytes: it ends, and every unit lies in the image. Twice the same. */
static void test_noise(void **state)
{
	struct image image;
	struct err err = ERR_INIT;

	(void)state;
	srand(5);
	for (unsigned round = 0; round < 20; round++) {
		u64 sum[2] = {0, 0};

		synth_image(&image);
		for (unsigned i = 0; i < CODE_SIZE; i++)
			image.segment[0].bytes[i] = (u8)rand();
		for (unsigned i = 0; i < 2; i++) {
			struct units *units = units_create(&image, &options, &err);
			const struct scan *scan;

			units_add(units, CODE);
			units_add(units, CODE + CODE_SIZE - 1);
			while ((scan = units_next(units))) {
				assert_non_null(image_at(&image, scan->pc, scan->bytes));
				sum[i] = sum[i] * 31 + scan->pc + scan->count;
			}
			units_free(units);
		}
		assert_int_equal(sum[0], sum[1]);
		image_release(&image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_and_jumps),
		cmocka_unit_test(test_long_and_straddling),
		cmocka_unit_test(test_leaving_on_purpose),
		cmocka_unit_test(test_jump_tables),
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_disjoint),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
