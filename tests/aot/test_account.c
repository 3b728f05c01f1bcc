/* Accounts of plans made by hand: each reason is given where it should be, and every sum adds up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "account.h"
#include "lift/lift.h"
#include "loop_heads.h"
#include "plan.h"
#include "x86/mode.h"

#define PC 0xffffffff81000100ULL

/* xor eax,eax; L: add rax,[rdi]; add rdi,8; dec rcx; jnz L; ret */
static const u8 loop[] = {0x31, 0xc0, 0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x08, 0x48, 0xff, 0xc9, 0x75, 0xf4, 0xc3};
/* cpuid instead of the access */
static const u8 ids[] = {0x31, 0xc0, 0x0f, 0xa2, 0x90, 0x48, 0x83, 0xc7, 0x08, 0x48, 0xff, 0xc9, 0x75, 0xf4, 0xc3};
static const u64 hot[] = {3, 30000, 3}, rare[] = {1, 100, 1}, often[] = {10000, 30000, 10000};

static const struct store store = {.returns_host = true};
static struct err err;
static struct scan scan;

static u64 of(const struct account *account, enum lift_verdict verdict)
{
	u64 loops;

	return account_verdict(account, verdict, &loops)->executed;
}

static void plan_unit(struct plan *plan, u64 pc, u32 mode, const u8 *bytes, const u64 page[2], const u64 counts[3])
{
	assert_true(plan_scan(&store, &scan, pc, mode, bytes, sizeof(loop)));
	if (!counts) {
		assert_int_equal(plan_add(plan, &scan, mode, bytes, page, 0, &err), 0);
		return;
	}
	assert_int_equal(plan_add_counted(plan, &scan, mode, bytes, page, counts, 3, &err), 0);
	/* as a recording tells it */
	((struct want *)plan_at(plan, plan_count(plan) - 1))->derived = false;
}

/* As the build does it, but with nothing to hold the code; cpuid is handed over. */
static void translate_all(struct account *account, const struct plan *plan, const struct lift_units *lift)
{
	u8 handed[SCAN_ROOM];

	for (size_t n = 0; n < plan_count(plan); n++) {
		const struct want *want = plan_at(plan, n);

		assert_true(plan_scan(&store, &scan, want->pc, want->mode, want->bytes, want->length));
		for (unsigned i = 0; i < scan.count; i++)
			handed[i] = scan.item[i].insn.class == INSN_HELPER ? STUB_HELPER : STUB_COUNT;
		assert_int_equal(account_translated(account, n, &scan, handed, lift_units_result(lift, n), &err), 0);
	}
}

static void check_sums(const struct account *account)
{
	u64 places = 0, executed = 0, by_reason = 0;

	for (unsigned i = 0; i < FATES; i++) {
		places += account_fate(account, (enum account_fate)i)->places;
		executed += account_fate(account, (enum account_fate)i)->executed;
	}
	for (unsigned i = 0; i < LIFT_VERDICT_COUNT; i++)
		by_reason += of(account, (enum lift_verdict)i);
	assert_int_equal(places, account_all(account)->instructions);
	assert_int_equal(executed, account_all(account)->executed);
	assert_int_equal(by_reason, executed - account_fate(account, FATE_LEFT)->executed);
	assert_int_equal(of(account, LIFT_LIFTED), account_fate(account, FATE_LIFTED)->executed);
}

static struct account *account_of(struct plan *plan, u64 most, bool compile, struct lift_units **lift)
{
	const struct lift_rule rule = {.least = 20000, .most = most};
	struct account *account;

	*lift = lift_units_choose(plan, &rule, &err);
	assert_non_null(*lift);
	if (compile)
		assert_int_equal(lift_units_compile(*lift, 1, NULL, NULL, &err), 0);
	account = account_create(plan, *lift, &err);
	assert_non_null(account);
	return account;
}

static void destroy(struct account *account, struct lift_units *lift, struct plan *plan)
{
	account_destroy(account);
	lift_units_destroy(lift);
	plan_destroy(plan);
}

static void test_reasons(void **state)
{
	const u64 page[2] = {1, 2};
	struct plan *plan = plan_create(&store, &err);
	struct lift_units *lift;
	size_t count;

	(void)state;
	plan_unit(plan, PC, 0, loop, NULL, hot);
	plan_unit(plan, PC + 0x100, 0, loop, NULL, rare);
	plan_unit(plan, PC + 0x200, 0, loop, NULL, often);
	plan_unit(plan, PC + 0x300, 0, loop, NULL, NULL);
	plan_unit(plan, PC + 0x400, MODE_CAREFUL, loop, NULL, hot);
	plan_unit(plan, PC + 0x500, MODE_USER, loop, page, hot);
	plan_unit(plan, PC + 0x600, 0, ids, NULL, hot);
	struct account *account = account_of(plan, 1000, true, &lift);

	translate_all(account, plan, lift);
	check_sums(account);
	assert_int_equal(of(account, LIFT_LIFTED), 4 * 30000);
	assert_int_equal(of(account, LIFT_RARE), 4 * 100);
	assert_int_equal(of(account, LIFT_FEW_ACCESSES), 4 * 30000);
	assert_int_equal(of(account, LIFT_NOT_EXECUTED), 0);
	assert_int_equal(of(account, LIFT_CAREFUL), 4 * 30000);
	assert_int_equal(of(account, LIFT_INDEPENDENT), 4 * 30000);
	assert_int_equal(of(account, LIFT_INSTRUCTION), 5 * 30000);
	assert_int_equal(of(account, LIFT_NO_LOOP), 5 * 6 + 2 + 20000 - 6);
	assert_int_equal(account_lifted_units(account), 1);
	const struct account_handed *handed = account_handed(account, &count);

	assert_int_equal(count, 1);
	assert_int_equal(handed->hand, HAND_HELPER);
	assert_int_equal(handed->amount.executed, 30000);
	/* all but the one that is lifted and the one that nobody has seen; cpuid's has most instructions */
	const struct account_loop *loops = account_loops(account, &count);

	assert_int_equal(count, 5);
	assert_int_equal(loops->verdict, LIFT_INSTRUCTION);
	assert_int_equal(loops->offset, 2);
	assert_int_equal(loops->unknown, handed->mnemonic);
	destroy(account, lift, plan);
}

static u64 refused(u64 most, bool compile, enum lift_verdict verdict)
{
	struct plan *plan = plan_create(&store, &err);
	struct lift_units *lift;

	plan_unit(plan, PC, 0, loop, NULL, hot);
	struct account *account = account_of(plan, most, compile, &lift);

	translate_all(account, plan, lift);
	check_sums(account);
	u64 executed = of(account, verdict);

	destroy(account, lift, plan);
	return executed;
}

static void test_limits(void **state)
{
	(void)state;
	assert_int_equal(refused(3, true, LIFT_OVER_BUDGET), 4 * 30000);
	assert_int_equal(refused(0, true, LIFT_OFF), 4 * 30000);
	assert_int_equal(refused(1000, false, LIFT_COMPILER), 4 * 30000); /* chosen, but nothing came of it */
	assert_int_equal(refused(1000, true, LIFT_COMPILER), 0);
}

/* What a loop's own unit was told of the counts is not counted twice. */
static void test_derived(void **state)
{
	struct plan *plan = plan_create(&store, &err);
	struct lift_units *lift;

	(void)state;
	plan_unit(plan, PC, 0, loop, NULL, hot);
	assert_int_equal(plan_add_loop_heads(plan, 1000, &err), 0);
	assert_int_equal(plan_count(plan), 2);
	struct account *account = account_of(plan, 1000, true, &lift);

	translate_all(account, plan, lift);
	check_sums(account);
	assert_int_equal(account_all(account)->executed, 4 * 30000 + 6);
	assert_int_equal(account_all(account)->instructions, 6 + 5);
	assert_int_equal(account_lifted_units(account), 2);
	destroy(account, lift, plan);
}

static void test_left(void **state)
{
	struct plan *plan = plan_create(&store, &err);
	struct lift_units *lift;

	(void)state;
	plan_unit(plan, PC, 0, loop, NULL, hot);
	plan_unit(plan, PC + 0x100, 0, loop, NULL, NULL);
	struct account *account = account_of(plan, 1000, true, &lift);

	account_left(account, 0, LEFT_NO_ROOM);
	account_left(account, 1, LEFT_UNSEEN_LIMIT);
	check_sums(account);
	assert_int_equal(account_reason(account, LEFT_NO_ROOM)->executed, 4 * 30000 + 6);
	assert_int_equal(account_reason(account, LEFT_UNSEEN_LIMIT)->instructions, 6);
	assert_int_equal(account_reason(account, LEFT_UNSEEN_LIMIT)->executed, 0);
	destroy(account, lift, plan);
}

/* Counts that no run could have made end at a limit instead of beginning anew. */
static void test_huge(void **state)
{
	const u64 huge[] = {~0ULL, ~0ULL, ~0ULL};
	struct plan *plan = plan_create(&store, &err);
	struct lift_units *lift;

	(void)state;
	plan_unit(plan, PC, 0, loop, NULL, huge);
	struct account *account = account_of(plan, 1000, true, &lift);

	translate_all(account, plan, lift);
	assert_true(account_all(account)->executed == UINT64_MAX);
	destroy(account, lift, plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reasons), cmocka_unit_test(test_limits), cmocka_unit_test(test_derived),
		cmocka_unit_test(test_left),    cmocka_unit_test(test_huge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
