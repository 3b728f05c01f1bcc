#include "account.h"

#include <stdlib.h>
#include <string.h>

#include "lift/lift.h"

/* By mnemonic, who executes it, and whether it is repeated. */
#define MNEMONICS 4096u
#define REPEATS   3u
#define HANDED    (MNEMONICS * HANDS * REPEATS)

struct account {
	const struct plan *plan;
	const struct lift_units *lift;
	struct account_units all, done, left[LEFT_REASONS];
	u64 lifted_units;
	struct amount fate[FATES];
	struct amount verdict[LIFT_VERDICT_COUNT];
	u64 verdict_loops[LIFT_VERDICT_COUNT];
	struct account_loop *loop;
	size_t loop_count, loop_room;
	struct scan scan;
	struct lift_story story;
	struct account_handed list[HANDED]; /* in the order of the table, then as account_handed() shows them */
	struct account_handed handed[HANDED];
};

static void add(u64 *sum, u64 amount)
{
	*sum = *sum + amount < amount ? UINT64_MAX : *sum + amount;
}

static void add_to(struct amount *amount, u64 executed)
{
	add(&amount->places, 1);
	add(&amount->executed, executed);
}

/* Executions of each item; those of a unit that was added for a loop in another one are counted there. */
static void count_items(const struct scan *scan, const struct want *want, u64 executed[SCAN_ROOM])
{
	if (want->derived)
		memset(executed, 0, SCAN_ROOM * sizeof(*executed));
	else
		plan_count_items(scan, want, executed);
}

static void add_unit(struct account_units *units, const struct scan *scan, const struct want *want)
{
	u64 executed[SCAN_ROOM];

	count_items(scan, want, executed);
	add(&units->units, 1);
	add(&units->instructions, scan->count);
	for (unsigned i = 0; i < scan->count; i++)
		add(&units->executed, executed[i]);
}

static bool rescan(struct account *account, const struct want *want)
{
	return plan_scan(plan_store(account->plan), &account->scan, want->pc, want->mode, want->bytes, want->length);
}

static void add_dropped(struct account *account)
{
	static const enum account_reason reasons[PLAN_DROPS] = {
		[PLAN_DROP_INVALID] = LEFT_INVALID,
		[PLAN_DROP_MOVES] = LEFT_MOVES,
		[PLAN_DROP_VERSIONS] = LEFT_VERSIONS,
	};

	for (unsigned i = 0; i < PLAN_DROPS; i++) {
		const struct plan_dropped *dropped = plan_dropped(account->plan, (enum plan_drop)i);

		account->left[reasons[i]] =
			(struct account_units){dropped->units, dropped->instructions, dropped->executed};
		add(&account->all.units, dropped->units);
		add(&account->all.instructions, dropped->instructions);
		add(&account->all.executed, dropped->executed);
		add(&account->fate[FATE_LEFT].places, dropped->instructions);
		add(&account->fate[FATE_LEFT].executed, dropped->executed);
	}
}

struct account *account_create(const struct plan *plan, const struct lift_units *lift, struct err *err)
{
	struct account *account = calloc(1, sizeof(*account));

	if (!account) {
		err_set(err, "out of memory");
		return NULL;
	}
	account->plan = plan;
	account->lift = lift;
	for (size_t i = 0; i < plan_count(plan); i++)
		if (rescan(account, plan_at(plan, i)))
			add_unit(&account->all, &account->scan, plan_at(plan, i));
	add_dropped(account);
	return account;
}

void account_destroy(struct account *account)
{
	if (!account)
		return;
	free(account->loop);
	free(account);
}

static enum account_hand hand_of(enum stub stub)
{
	return stub == STUB_INTERP ? HAND_INTERPRETER : stub == STUB_HELPER ? HAND_HELPER : HAND_QUICK;
}

static unsigned repeat_of(const struct insn *insn)
{
	return insn->rep == 0xf3 ? 1 : insn->rep ? 2 : 0;
}

static bool within(u8 helper, u8 first, u8 last)
{
	return helper >= first && helper <= last;
}

/* The mnemonic; moves of special registers, which are different things by one name, have rows of their own. */
static u32 row_of(const struct insn *insn)
{
	const u8 helper = insn->helper;

	if (insn->class == INSN_HELPER &&
	    (within(helper, HELP_mov_from_cr, HELP_mov_to_dr) || within(helper, HELP_mov_to_seg, HELP_mov_from_seg)))
		return MNEMONICS - 1 - helper;
	return insn->mnemonic < MNEMONICS - HELP_COUNT ? insn->mnemonic : 0;
}

static void add_handed(struct account *account, const struct insn *insn, enum stub stub, u64 executed)
{
	u32 hand = hand_of(stub);
	struct account_handed *handed = &account->handed[(row_of(insn) * HANDS + hand) * REPEATS + repeat_of(insn)];

	handed->mnemonic = insn->mnemonic;
	handed->helper = insn->class == INSN_HELPER ? insn->helper : HELP_COUNT;
	handed->hand = (u8)hand;
	handed->rep = insn->rep;
	add_to(&handed->amount, executed);
}

static int keep_loop(struct account *account, const struct account_loop *loop, struct err *err)
{
	if (account->loop_count == account->loop_room) {
		size_t room = account->loop_room * 2 + 256;
		struct account_loop *grown = realloc(account->loop, room * sizeof(*grown));

		if (!grown)
			return err_set(err, "out of memory");
		account->loop = grown;
		account->loop_room = room;
	}
	account->loop[account->loop_count++] = *loop;
	return 0;
}

/* The loops of a unit, and what is in none of them. */
static int add_loops(struct account *account, size_t number, const struct scan *scan, const u64 executed[SCAN_ROOM],
		     struct err *err)
{
	const struct lift_story *story = &account->story;
	struct amount amounts[2 * SCAN_ROOM + 1] = {0}; /* by story.loop_of */

	lift_units_explain(account->lift, number, scan, &account->story);
	for (unsigned i = 0; i < scan->count; i++)
		add_to(&amounts[story->loop_of[i]], executed[i]);
	add(&account->verdict[LIFT_NO_LOOP].places, amounts[0].places);
	add(&account->verdict[LIFT_NO_LOOP].executed, amounts[0].executed);
	for (unsigned n = 0; n < story->loop_count; n++) {
		const struct lift_told *told = &story->loop[n];
		const struct amount *amount = &amounts[n + 1];
		const struct account_loop loop = {
			.want = number,
			.offset = scan->item[told->first].offset,
			.verdict = told->verdict,
			.unknown = told->unknown == LIFT_KNOWN ? 0 : scan->item[told->unknown].insn.mnemonic,
			.detail = told->detail,
			.amount = *amount,
		};

		add(&account->verdict[told->verdict].places, amount->places);
		add(&account->verdict[told->verdict].executed, amount->executed);
		add(&account->verdict_loops[told->verdict], 1);
		if (told->verdict != LIFT_LIFTED && amount->executed && keep_loop(account, &loop, err) < 0)
			return -1;
	}
	return 0;
}

int account_translated(struct account *account, size_t number, const struct scan *scan, const u8 *handed,
		       const struct lifted *lifted, struct err *err)
{
	const struct want *want = plan_at(account->plan, number);
	u64 executed[SCAN_ROOM];

	count_items(scan, want, executed);
	add_unit(&account->done, scan, want);
	account->lifted_units += lifted != NULL;
	for (unsigned i = 0; i < scan->count; i++) {
		if (lifted && lifted->lifted[i]) {
			add_to(&account->fate[FATE_LIFTED], executed[i]);
		} else if (handed[i] == STUB_COUNT) {
			add_to(&account->fate[FATE_COPIED], executed[i]);
		} else {
			add_to(&account->fate[FATE_HANDED], executed[i]);
			add_handed(account, &scan->item[i].insn, (enum stub)handed[i], executed[i]);
		}
	}
	return add_loops(account, number, scan, executed, err);
}

void account_kept(struct account *account, size_t number)
{
	const struct want *want = plan_at(account->plan, number);
	u64 executed[SCAN_ROOM];

	if (!rescan(account, want))
		return;
	add_unit(&account->done, &account->scan, want);
	count_items(&account->scan, want, executed);
	for (unsigned i = 0; i < account->scan.count; i++) {
		add_to(&account->fate[FATE_KEPT], executed[i]);
		add_to(&account->verdict[LIFT_KEPT], executed[i]);
	}
}

void account_left(struct account *account, size_t number, enum account_reason reason)
{
	const struct want *want = plan_at(account->plan, number);
	u64 executed[SCAN_ROOM];

	if (!rescan(account, want))
		return;
	add_unit(&account->left[reason], &account->scan, want);
	count_items(&account->scan, want, executed);
	for (unsigned i = 0; i < account->scan.count; i++)
		add_to(&account->fate[FATE_LEFT], executed[i]);
}

/* --- results ----------------------------------------------------------------------------------------------------- */

const struct account_units *account_all(const struct account *account)
{
	return &account->all;
}

const struct account_units *account_done(const struct account *account)
{
	return &account->done;
}

const struct account_units *account_reason(const struct account *account, enum account_reason reason)
{
	return &account->left[reason];
}

u64 account_lifted_units(const struct account *account)
{
	return account->lifted_units;
}

const struct amount *account_fate(const struct account *account, enum account_fate fate)
{
	return &account->fate[fate];
}

const struct amount *account_verdict(const struct account *account, enum lift_verdict verdict, u64 *loops)
{
	*loops = account->verdict_loops[verdict];
	return &account->verdict[verdict];
}

/* Most executed first, then most places; the rest is for one order only. */
static int compare_amounts(const struct amount *a, const struct amount *b)
{
	if (a->executed != b->executed)
		return a->executed > b->executed ? -1 : 1;
	return a->places == b->places ? 0 : a->places > b->places ? -1 : 1;
}

static int compare_handed(const void *left, const void *right)
{
	const struct account_handed *a = left, *b = right;
	int order = compare_amounts(&a->amount, &b->amount);

	if (order)
		return order;
	if (a->mnemonic != b->mnemonic)
		return a->mnemonic < b->mnemonic ? -1 : 1;
	if (a->helper != b->helper)
		return a->helper - b->helper;
	return a->hand != b->hand ? a->hand - b->hand : a->rep - b->rep;
}

const struct account_handed *account_handed(struct account *account, size_t *count)
{
	*count = 0;
	for (size_t i = 0; i < HANDED; i++)
		if (account->handed[i].amount.places)
			account->list[(*count)++] = account->handed[i];
	qsort(account->list, *count, sizeof(*account->list), compare_handed);
	return account->list;
}

static int compare_loops(const void *left, const void *right)
{
	const struct account_loop *a = left, *b = right;
	int order = compare_amounts(&a->amount, &b->amount);

	if (order)
		return order;
	if (a->want != b->want)
		return a->want < b->want ? -1 : 1;
	return a->offset != b->offset ? a->offset - b->offset : (int)a->verdict - (int)b->verdict;
}

const struct account_loop *account_loops(struct account *account, size_t *count)
{
	*count = account->loop_count;
	if (*count)
		qsort(account->loop, *count, sizeof(*account->loop), compare_loops);
	return account->loop;
}
