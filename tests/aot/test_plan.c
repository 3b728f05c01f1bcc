/* Plans: what is entered once, how often, and what is added for loops and chosen for LLVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lift_units.h"
#include "loop_heads.h"
#include "plan.h"
#include "translate/translate.h"
#include "x86/mode.h"

#define PC 0xffffffff81000100ULL

/* xor eax,eax; L: add rax,[rdi]; add rdi,8; dec rcx; jnz L; ret */
static const u8 loop[] = {0x31, 0xc0, 0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x08, 0x48, 0xff, 0xc9, 0x75, 0xf4, 0xc3};
#define HEAD 2u /* offset of L */
/* the same, but down a list: mov rdi,[rdi] */
static const u8 list[] = {0x31, 0xc0, 0x48, 0x8b, 0x3f, 0x48, 0xff, 0xc0, 0x90, 0x48, 0xff, 0xc9, 0x75, 0xf4, 0xc3};
/* movd xmm0, ecx; ret: depends on the FPU's state */
static const u8 vector[] = {0x66, 0x0f, 0x6e, 0xc1, 0xc3};

static const struct store store = {.returns_host = true};
static struct err err;

static struct plan *new_plan(void **state)
{
	struct plan *plan = plan_create(&store, &err);

	(void)state;
	assert_non_null(plan);
	return plan;
}

static void add(struct plan *plan, u64 pc, u32 mode, const u8 *bytes, unsigned length)
{
	static struct scan scan;

	assert_true(plan_scan(&store, &scan, pc, mode, bytes, length));
	assert_int_equal(plan_add(plan, &scan, mode, bytes, NULL, 0, &err), 0);
}

static void add_counted(struct plan *plan, const u8 *bytes, unsigned length, const u64 *counts, u32 count)
{
	static struct scan scan;

	assert_true(plan_scan(&store, &scan, PC, 0, bytes, length));
	assert_int_equal(plan_add_counted(plan, &scan, 0, bytes, NULL, counts, count, &err), 0);
}

static void test_once(void **state)
{
	struct plan *plan = new_plan(state);
	u8 other[sizeof(loop)];

	memcpy(other, loop, sizeof(loop));
	other[1] = 0xc9; /* xor ecx,ecx */
	add(plan, PC, 0, loop, sizeof(loop));
	add(plan, PC, 0, loop, sizeof(loop));
	assert_int_equal(plan_count(plan), 1);
	add(plan, PC + 16, 0, loop, sizeof(loop));
	add(plan, PC, 0, other, sizeof(other));
	add(plan, PC, MODE_USER, loop, sizeof(loop));
	assert_int_equal(plan_count(plan), 4);
	plan_destroy(plan);
}

/* Modes that mean the same to the code are one; others are not. */
static void test_modes(void **state)
{
	struct plan *plan = new_plan(state);

	add(plan, PC, 0, loop, sizeof(loop));
	add(plan, PC, MODE_OSFXSR, loop, sizeof(loop));
	assert_int_equal(plan_count(plan), 1);
	add(plan, PC + 64, 0, vector, sizeof(vector));
	add(plan, PC + 64, MODE_OSFXSR, vector, sizeof(vector));
	assert_int_equal(plan_count(plan), 3);
	plan_destroy(plan);
}

/* Code that is written anew all the time is not planned for ever. */
static void test_versions(void **state)
{
	struct plan *plan = new_plan(state);
	u8 version[5] = {0xb8, 0, 0, 0, 0}; /* mov eax, imm */

	for (unsigned i = 0; i < 1000; i++) {
		memcpy(version + 1, &i, sizeof(i));
		add(plan, PC, 0, version, sizeof(version));
	}
	assert_in_range(plan_count(plan), 2, 100);
	add(plan, PC + 64, 0, version, sizeof(version));
	plan_destroy(plan);
}

static void test_loop_heads(void **state)
{
	const u64 counts[] = {3, 3000, 3};
	struct plan *plan = new_plan(state);

	add_counted(plan, loop, sizeof(loop), counts, 3);
	assert_int_equal(plan_add_loop_heads(plan, 5000, &err), 0);
	assert_int_equal(plan_count(plan), 1);
	assert_int_equal(plan_add_loop_heads(plan, 1000, &err), 0);
	assert_int_equal(plan_count(plan), 2);
	const struct want *head = plan_at(plan, 1);

	assert_int_equal(head->pc, PC + HEAD);
	assert_int_equal(head->length, sizeof(loop) - HEAD);
	assert_int_equal(head->count_count, 2);
	assert_int_equal(head->counts[0], 3000);
	assert_int_equal(head->counts[1], 3);
	plan_destroy(plan);
}

static bool have_all(void *opaque, size_t number)
{
	return number == 0 && opaque == &err;
}

static size_t chosen_besides(bool (*have)(void *opaque, size_t number), const u8 *bytes, unsigned length,
			     const u64 counts[3], u64 least, u64 most)
{
	const struct lift_rule rule = {.least = least, .most = most, .have = have, .opaque = &err};
	struct plan *plan = plan_create(&store, &err);
	struct lift_units *units;
	size_t count;

	add_counted(plan, bytes, length, counts, 3);
	units = lift_units_choose(plan, &rule, &err);
	assert_non_null(units);
	count = lift_units_count(units);
	lift_units_destroy(units);
	plan_destroy(plan);
	return count;
}

static size_t chosen(const u8 *bytes, unsigned length, const u64 counts[3], u64 least, u64 most)
{
	return chosen_besides(NULL, bytes, length, counts, least, most);
}

static void test_cost_rule(void **state)
{
	const u64 long_loop[] = {3, 30000, 3}, short_loop[] = {10000, 30000, 10000};

	(void)state;
	assert_int_equal(chosen(loop, sizeof(loop), long_loop, 20000, 1000), 1);
	assert_int_equal(chosen(loop, sizeof(loop), long_loop, 1000000, 1000), 0); /* executed too rarely */
	assert_int_equal(chosen(loop, sizeof(loop), long_loop, 20000, 3), 0);      /* no budget */
	assert_int_equal(chosen(loop, sizeof(loop), short_loop, 20000, 1000), 0);  /* three rounds an entry */
	assert_int_equal(chosen(list, sizeof(list), long_loop, 20000, 1000), 0);   /* another page each time */
	/* lifted already */
	assert_int_equal(chosen_besides(have_all, loop, sizeof(loop), long_loop, 20000, 1000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once),       cmocka_unit_test(test_modes),     cmocka_unit_test(test_versions),
		cmocka_unit_test(test_loop_heads), cmocka_unit_test(test_cost_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
