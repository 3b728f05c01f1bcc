#include "lift_units.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/vcpu.h"
#include "lift/lift.h"
#include "x86/mode.h"

struct choice {
	size_t want;
	u64 weight; /* instructions executed in its loops */
	u32 instructions;
	bool items[SCAN_ROOM]; /* to be lifted */
	enum { TO_BE_COMPILED, THERE_ALREADY, OVER_BUDGET } group;
	struct lifted *lifted;
	const char *reason; /* constant: why it was given up, if it was */
};

struct lift_units {
	const struct plan *plan;
	struct lift_rule rule;
	struct choice *choices;    /* in the order of the plan: those to be compiled, then the others */
	size_t count, total, room; /* to be compiled; all */
	u32 *by_want;              /* 1 + number of the choice, or 0 */
	/* the threads */
	atomic_size_t next, done;
	atomic_bool stop;
};

/* May loops of this be lifted at all? LIFT_LIFTED, or why not. */
static enum lift_verdict judge_unit(const struct want *want)
{
	if (!want->count_count)
		return LIFT_NOT_EXECUTED;
	if (want_is_template(want))
		return LIFT_INDEPENDENT;
	return want->mode & MODE_CAREFUL ? LIFT_CAREFUL : LIFT_LIFTED;
}

static u64 executed_in(const struct lift_loop *loop, const u64 executed[SCAN_ROOM])
{
	u64 sum = 0;

	for (unsigned i = loop->first; i <= loop->last; i++)
		sum += executed[i];
	return sum;
}

static enum lift_verdict judge_loop(const struct scan *scan, const struct lift_loop *loop,
				    const u64 executed[SCAN_ROOM], u64 least)
{
	return executed_in(loop, executed) < least ? LIFT_RARE : lift_judge(scan, loop, executed);
}

/* Marks the items of hot loops; returns how many instructions were executed in them. */
static u64 find_hot_loops(const struct scan *scan, const struct want *want, u64 least, bool items[SCAN_ROOM])
{
	struct lift_loop loops[SCAN_ROOM];
	u64 executed[SCAN_ROOM], total = 0;
	unsigned count = lift_find_loops(scan, want->mode, loops);

	memset(items, 0, SCAN_ROOM * sizeof(*items));
	plan_count_items(scan, want, executed);
	for (unsigned n = 0; n < count; n++) {
		if (judge_loop(scan, &loops[n], executed, least) != LIFT_LIFTED)
			continue;
		for (unsigned i = loops[n].first; i <= loops[n].last; i++)
			items[i] = true;
		total += executed_in(&loops[n], executed);
	}
	return total;
}

static int consider(struct lift_units *units, size_t number, u64 least, struct err *err)
{
	const struct want *want = plan_at(units->plan, number);
	struct choice choice = {.want = number};
	struct scan scan;

	if (judge_unit(want) != LIFT_LIFTED)
		return 0;
	if (!plan_scan(plan_store(units->plan), &scan, want->pc, want->mode, want->bytes, want->length) ||
	    scan.straddles)
		return 0;
	choice.weight = find_hot_loops(&scan, want, least, choice.items);
	if (!choice.weight)
		return 0;
	choice.instructions = scan.count;
	if (units->total == units->room) {
		size_t room = units->room * 2 + 256;
		struct choice *choices = realloc(units->choices, room * sizeof(*choices));

		if (!choices)
			return err_set(err, "out of memory");
		units->choices = choices;
		units->room = room;
	}
	units->choices[units->total++] = choice;
	return 0;
}

static int by_weight(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return x->want < y->want ? -1 : x->want > y->want;
}

static int by_want(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return x->want < y->want ? -1 : x->want > y->want;
}

/* The hottest ones, as many as may be compiled. */
static void limit(struct lift_units *units, u64 most)
{
	u64 sum = 0;
	size_t kept = 0;

	if (!units->total)
		return;
	qsort(units->choices, units->total, sizeof(*units->choices), by_weight);
	while (kept < units->total && sum + units->choices[kept].instructions <= most)
		sum += units->choices[kept++].instructions;
	for (size_t i = kept; i < units->total; i++)
		units->choices[i].group = OVER_BUDGET;
	units->count = kept;
	qsort(units->choices, units->total, sizeof(*units->choices), by_want);
}

/* Those that are there already: after limit(), so that the choice is the same with and without them. */
static void leave_out(struct lift_units *units, const struct lift_rule *rule)
{
	size_t kept = units->count;

	for (size_t i = 0; rule->have && i < units->count; i++) {
		if (rule->have(rule->opaque, units->choices[i].want)) {
			units->choices[i].group = THERE_ALREADY;
			kept--;
		}
	}
	if (kept == units->count)
		return;
	units->count = kept;
	qsort(units->choices, units->total, sizeof(*units->choices), by_want);
}

struct lift_units *lift_units_choose(const struct plan *plan, const struct lift_rule *rule, struct err *err)
{
	struct lift_units *units = calloc(1, sizeof(*units));

	if (units)
		units->by_want = calloc(plan_count(plan) + 1, sizeof(*units->by_want));
	if (!units || !units->by_want) {
		free(units);
		err_set(err, "out of memory");
		return NULL;
	}
	units->plan = plan;
	units->rule = *rule;
	for (size_t i = 0; i < plan_count(plan); i++) {
		if (consider(units, i, rule->least, err) < 0) {
			lift_units_destroy(units);
			return NULL;
		}
	}
	limit(units, rule->most);
	leave_out(units, rule);
	for (size_t i = 0; i < units->total; i++)
		units->by_want[units->choices[i].want] = (u32)i + 1;
	return units;
}

void lift_units_destroy(struct lift_units *units)
{
	if (!units)
		return;
	for (size_t i = 0; i < units->total; i++)
		lift_free(units->choices[i].lifted);
	free(units->choices);
	free(units->by_want);
	free(units);
}

size_t lift_units_count(const struct lift_units *units)
{
	return units->count;
}

/* --- compiling --------------------------------------------------------------------------------------------------- */

static void compile(struct lift_units *units, struct lift_worker *worker, struct choice *choice)
{
	const struct want *want = plan_at(units->plan, choice->want);
	struct vcpu *v = (struct vcpu *)VCPU_ADDRESS;
	struct lift_options options = {.counted = plan_store(units->plan)->counted};
	struct scan scan;

	if (plan_store(units->plan)->counted)
		options.tally = (u64)(uintptr_t)&v->tally[ORIGIN_AOT_LIFTED][!!(want->mode & MODE_USER)];
	if (plan_scan(plan_store(units->plan), &scan, want->pc, want->mode, want->bytes, want->length))
		choice->lifted = lift_compile(worker, &scan, choice->items, &options, &choice->reason);
}

struct thread {
	struct lift_units *units;
	struct lift_worker *worker;
	pthread_t id;
	bool runs;
};

static void *run_thread(void *opaque)
{
	struct thread *thread = opaque;
	struct lift_units *units = thread->units;
	size_t number;

	while (!atomic_load(&units->stop) && (number = atomic_fetch_add(&units->next, 1)) < units->count) {
		compile(units, thread->worker, &units->choices[number]);
		atomic_fetch_add(&units->done, 1);
	}
	return NULL;
}

static int start(struct thread *thread, struct err *err)
{
	int error = pthread_create(&thread->id, NULL, run_thread, thread);

	if (error)
		return err_set(err, "cannot start a thread: %s", strerror(error));
	thread->runs = true;
	return 0;
}

static void wait_for_threads(struct lift_units *units, lift_progress *progress, void *opaque)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	size_t done;

	while ((done = atomic_load(&units->done)) < units->count) {
		if (progress && !progress(opaque, done)) {
			atomic_store(&units->stop, true);
			return;
		}
		nanosleep(&pause, NULL);
	}
}

int lift_units_compile(struct lift_units *units, unsigned threads, lift_progress *progress, void *opaque,
		       struct err *err)
{
	struct thread *thread = calloc(threads, sizeof(*thread));
	int result = thread ? 0 : err_set(err, "out of memory");

	atomic_store(&units->next, 0);
	atomic_store(&units->done, 0);
	atomic_store(&units->stop, false);
	for (unsigned i = 0; i < threads && result == 0; i++) {
		thread[i].units = units;
		thread[i].worker = lift_worker_create(err);
		if (!thread[i].worker)
			result = -1;
		else
			result = start(&thread[i], err);
	}
	if (result == 0)
		wait_for_threads(units, progress, opaque);
	if (result < 0)
		atomic_store(&units->stop, true);
	for (unsigned i = 0; thread && i < threads; i++) {
		if (thread[i].runs)
			pthread_join(thread[i].id, NULL);
		lift_worker_destroy(thread[i].worker);
	}
	free(thread);
	return result;
}

const struct lifted *lift_units_result(const struct lift_units *units, size_t number)
{
	u32 choice = units->by_want[number];

	return choice ? units->choices[choice - 1].lifted : NULL;
}

/* --- reasons ----------------------------------------------------------------------------------------------------- */

/* What became of a loop that was worth lifting. */
static enum lift_verdict judge_choice(const struct lift_units *units, size_t number, const char **detail)
{
	u32 place = units->by_want[number];
	const struct choice *choice = place ? &units->choices[place - 1] : NULL;

	if (!choice || choice->group == OVER_BUDGET)
		return units->rule.most ? LIFT_OVER_BUDGET : LIFT_OFF;
	if (choice->lifted)
		return LIFT_LIFTED;
	*detail = choice->reason;
	return LIFT_COMPILER;
}

static void tell(struct lift_story *story, const struct lift_loop *loop, enum lift_verdict verdict)
{
	story->loop[story->loop_count++] =
		(struct lift_told){.first = loop->first, .last = loop->last, .verdict = verdict, .unknown = LIFT_KNOWN};
	for (unsigned i = loop->first; i <= loop->last; i++)
		if (!story->loop_of[i])
			story->loop_of[i] = (u16)story->loop_count;
}

void lift_units_explain(const struct lift_units *units, size_t number, const struct scan *scan,
			struct lift_story *story)
{
	const struct want *want = plan_at(units->plan, number);
	enum lift_verdict all = judge_unit(want), verdict;
	struct lift_loop loops[SCAN_ROOM];
	u16 unknown[SCAN_ROOM];
	u64 executed[SCAN_ROOM];
	unsigned count = lift_find_loops(scan, want->mode, loops);

	story->loop_count = 0;
	memset(story->loop_of, 0, sizeof(story->loop_of));
	plan_count_items(scan, want, executed);
	for (unsigned n = 0; n < count; n++) {
		const char *detail = NULL;

		verdict = all == LIFT_LIFTED ? judge_loop(scan, &loops[n], executed, units->rule.least) : all;
		if (verdict == LIFT_LIFTED)
			verdict = judge_choice(units, number, &detail);
		tell(story, &loops[n], verdict);
		story->loop[story->loop_count - 1].detail = detail;
	}
	count = lift_find_refused(scan, want->mode, loops, unknown);
	for (unsigned n = 0; n < count; n++) {
		tell(story, &loops[n], all == LIFT_LIFTED ? LIFT_INSTRUCTION : all);
		story->loop[story->loop_count - 1].unknown = all == LIFT_LIFTED ? unknown[n] : LIFT_KNOWN;
	}
}
