/* The list of programs: whose a page is that a recording has seen, and what becomes of files that are not translated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <tcache.h>

#include "programs.h"

/* mov eax, 1; ret */
static const u8 unit[] = {0xb8, 1, 0, 0, 0, 0xc3};
static const u64 counts[] = {7};

static const struct store store = {.returns_host = true};
static struct err err;
static u8 *self; /* this very program */
static u64 self_size;

static int read_self(void **state)
{
	FILE *file = fopen("/proc/self/exe", "rb");

	(void)state;
	if (!file)
		return -1;
	self = malloc(64u << 20);
	self_size = self ? fread(self, 1, 64u << 20, file) : 0;
	fclose(file);
	return self_size ? 0 : -1;
}

static int free_self(void **state)
{
	(void)state;
	free(self);
	return 0;
}

/* The first whole page of its code. */
static u64 a_page(u64 hash[2])
{
	struct program_summary summary;

	assert_int_equal(discover_summary(self, self_size, "self", &summary, &err), 0);
	assert_true(summary.text_count);
	u64 offset = PAGE_BASE(summary.text[0].offset);

	assert_true(offset + PAGE_SIZE <= self_size);
	tcache_hash(self + offset, PAGE_SIZE, hash);
	return offset;
}

static void test_pages(void **state)
{
	static struct scan scan;
	struct plan *plan = plan_create(&store, &err);
	u64 page[2], other[2] = {1, 2}, offset = a_page(page), found = 0;

	(void)state;
	assert_true(plan_scan(&store, &scan, TCACHE_TEMPLATE_BASE, 0, unit, sizeof(unit)));
	assert_int_equal(plan_add_counted(plan, &scan, 0, unit, page, counts, 1, &err), 0);
	assert_int_equal(plan_add_counted(plan, &scan, 0, unit, other, counts, 1, &err), 0);
	struct recorded *recorded = recorded_create(plan, &err);
	struct programs *programs = programs_create(recorded, &err);

	assert_int_equal(programs_note(programs, "bin/first", self, self_size, false, &err), 0);
	assert_int_equal(programs_note(programs, "bin/copy", self, self_size, false, &err), 0);
	self[self_size - 1] ^= 1; /* another file with the same page */
	assert_int_equal(programs_note(programs, "bin/second", self, self_size, false, &err), 0);
	self[self_size - 1] ^= 1;
	assert_int_equal(programs_choose(programs, 0, &err), 0);
	assert_string_equal(programs_page(programs, page, &found), "bin/first");
	assert_int_equal(found, offset);
	assert_null(programs_page(programs, other, &found));
	programs_destroy(programs);
	recorded_destroy(recorded);
	plan_destroy(plan);
}

static void test_fates(void **state)
{
	struct plan *plan = plan_create(&store, &err);
	struct recorded *recorded = recorded_create(plan, &err);
	struct programs *programs = programs_create(recorded, &err);
	u8 type = self[16];

	(void)state;
	self[16] = 1; /* ET_REL */
	assert_int_equal(programs_note(programs, "a\033module", self, self_size, false, &err), 0);
	self[16] = 4; /* ET_CORE */
	assert_int_equal(programs_note(programs, "core", self, self_size, false, &err), 0);
	self[16] = type;
	const struct fates *modules = programs_fates(programs, PROGRAM_MODULE);
	const struct fates *unusable = programs_fates(programs, PROGRAM_UNUSABLE);

	assert_int_equal(modules->count, 1);
	assert_string_equal(modules->fate[0].name, "a?module");
	assert_null(modules->fate[0].reason);
	assert_true(modules->fate[0].code > 0 && modules->fate[0].code < self_size);
	assert_int_equal(unusable->count, 1);
	assert_string_equal(unusable->fate[0].name, "core");
	assert_non_null(strstr(unusable->fate[0].reason, "no program"));
	assert_int_equal(programs_fates(programs, PROGRAM_LEFT_OUT)->count, 0);
	programs_destroy(programs);
	recorded_destroy(recorded);
	plan_destroy(plan);
}

/* What scripts need by another name goes first; there is room for one. */
static void test_links(void **state)
{
	struct plan *plan = plan_create(&store, &err);
	struct recorded *recorded = recorded_create(plan, &err);
	struct programs *programs = programs_create(recorded, &err);

	(void)state;
	assert_int_equal(programs_note(programs, "bin/small", self, self_size, false, &err), 0);
	self[self_size - 1] ^= 1;
	assert_int_equal(programs_note(programs, "opt/perl5.36", self, self_size, false, &err), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(programs_note_script(programs, "/usr/bin/perl", &err), 0);
	assert_int_equal(programs_note_link(programs, "usr/bin/perl", "/etc/alternatives/perl-now", &err), 0);
	assert_int_equal(programs_note_link(programs, "etc/alternatives/perl-now", "../../opt/perl5.36", &err), 0);
	assert_int_equal(programs_choose(programs, 0, &err), 0);
	assert_int_equal(programs_scan(programs, plan, "opt/perl5.36", self, self_size, &err), 0);
	self[self_size - 1] ^= 1;
	assert_int_equal(programs_scan(programs, plan, "bin/small", self, self_size, &err), 0);
	assert_int_equal(programs_figures(programs).scanned, 1);
	assert_int_equal(programs_fates(programs, PROGRAM_LEFT_OUT)->count, 1);
	assert_string_equal(programs_fates(programs, PROGRAM_LEFT_OUT)->fate[0].name, "bin/small");
	programs_destroy(programs);
	recorded_destroy(recorded);
	plan_destroy(plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages), cmocka_unit_test(test_fates),
					   cmocka_unit_test(test_links)};

	return cmocka_run_group_tests(tests, read_self, free_self);
}
