#include "lift_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lift.h"
#include "place.h"
#include "util/err.h"
#include "x86/mode.h"

#define REASONS 16

bool lift_engine_all;

static struct lift_worker *worker;
static unsigned long long lifted_units, refused, ir_dumped;
static struct {
	const char *text;
	unsigned long long count;
} reasons[REASONS];

static void note(const char *reason)
{
	refused++;
	for (unsigned i = 0; i < REASONS; i++) {
		if (!reasons[i].text)
			reasons[i].text = reason;
		if (strcmp(reasons[i].text, reason) == 0) {
			reasons[i].count++;
			return;
		}
	}
}

static void print(const char *ir)
{
	ir_dumped++;
	fputs(ir, stderr);
}

/* For development: AVANT_LIFT_PC=hex, one unit, whose IR is printed; AVANT_LIFT_USER: user code only. */
static bool excluded(const struct scan *scan)
{
	const char *pc = getenv("AVANT_LIFT_PC");

	if (getenv("AVANT_LIFT_USER") && (s64)scan->pc < 0)
		return true;
	return pc && strtoull(pc, NULL, 16) != scan->pc;
}

/* The items to lift: loops; with AVANT_LIFT_ALL whatever can be. */
static bool choose(const struct scan *scan, u32 mode, bool items[SCAN_ROOM], bool all)
{
	struct lift_loop loops[SCAN_ROOM];
	unsigned count = all ? 0 : lift_find_loops(scan, mode, loops);
	bool any = false;

	memset(items, 0, SCAN_ROOM * sizeof(*items));
	for (unsigned i = 0; i < count; i++) {
		memset(items + loops[i].first, 1, loops[i].last - loops[i].first + 1u);
		any = true;
	}
	for (unsigned i = 0; all && i < scan->count; i++)
		any |= items[i] = lift_possible(&scan->item[i].insn, mode);
	return any && !scan->straddles;
}

/* For development: AVANT_LIFT_TEXT=folder, a file for each unit. */
static void write_text(u64 pc, const struct lifted *lifted)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%llx.bin", getenv("AVANT_LIFT_TEXT"), (unsigned long long)pc);
	FILE *file = fopen(path, "wb");

	if (!file)
		return;
	fwrite(lifted->text, 1, lifted->text_size, file);
	fclose(file);
}

const struct translate_parts *lift_engine(const struct scan *scan, const struct store *store, u32 mode)
{
	static struct lift_parts parts;
	static struct lifted *lifted;
	struct vcpu *v = (struct vcpu *)VCPU_ADDRESS;
	struct lift_options options = {.counted = store->counted};
	bool items[SCAN_ROOM], user = mode & MODE_USER, all = lift_engine_all || getenv("AVANT_LIFT_ALL");
	const char *reason;
	struct err err = ERR_INIT;

	if (excluded(scan) || !choose(scan, mode, items, all))
		return NULL;
	if (options.counted)
		options.tally = (u64)(uintptr_t)&v->tally[store->origin][user];
	if (!worker)
		worker = lift_worker_create(&err);
	if (!worker) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	lift_worker_dump(worker, getenv("AVANT_LIFT_PC") ? print : NULL);
	lift_free(lifted);
	lifted = lift_compile(worker, scan, items, &options, &reason);
	if (!lifted) {
		note(reason);
		return NULL;
	}
	lifted_units++;
	if (getenv("AVANT_LIFT_TEXT"))
		write_text(scan->pc, lifted);
	lift_parts_init(&parts, lifted, all);
	return &parts.parts;
}

void lift_engine_report(void)
{
	fprintf(stderr, "%llu units lifted, %llu not\n", lifted_units, refused);
	for (unsigned i = 0; i < REASONS && reasons[i].text; i++)
		fprintf(stderr, "%8llu %s\n", reasons[i].count, reasons[i].text);
}
