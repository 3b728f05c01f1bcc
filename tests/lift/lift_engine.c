#include "lift_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lift.h"
#include "place.h"
#include "x86/mode.h"
#include "util/err.h"

#define REASONS 16

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

static bool has_loop(const struct scan *scan)
{
	for (unsigned i = 0; i < scan->count; i++) {
		if (scan->item[i].loop_head)
			return true;
	}
	return false;
}

/* For development: AVANT_LIFT_ONLY=loops, AVANT_LIFT_PC=hex (one unit, whose IR is printed). */
static bool wanted(const struct scan *scan)
{
	const char *only = getenv("AVANT_LIFT_ONLY"), *pc = getenv("AVANT_LIFT_PC");

	if (only && strcmp(only, "loops") == 0 && !has_loop(scan))
		return false;
	if (only && strcmp(only, "user") == 0 && (s64)scan->pc < 0)
		return false;
	return !pc || strtoull(pc, NULL, 16) == scan->pc;
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

bool lift_engine(struct translation *t, struct unit *unit)
{
	struct lift_options options = {.counted = t->store->counted, .returns_host = t->store->returns_host};
	bool user = t->mode & MODE_USER;

	const char *reason;
	struct err err = ERR_INIT;

	if (options.counted)
		options.tally = (u64)(uintptr_t)&t->v->tally[t->store->origin][user];
	if (!wanted(t->scan))
		return false;
	if (!worker)
		worker = lift_worker_create(&err);
	if (!worker) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	lift_worker_dump(worker, getenv("AVANT_LIFT_PC") ? print : NULL);
	struct lifted *lifted = lift_compile(worker, t->scan, &options, &reason);

	if (!lifted) {
		note(reason);
		return false;
	}
	lifted_units++;
	if (getenv("AVANT_LIFT_TEXT"))
		write_text(t->scan->pc, lifted);
	lift_place(t, unit, lifted);
	lift_free(lifted);
	return true;
}

void lift_engine_report(void)
{
	fprintf(stderr, "%llu units lifted, %llu not\n", lifted_units, refused);
	for (unsigned i = 0; i < REASONS && reasons[i].text; i++)
		fprintf(stderr, "%8llu %s\n", reasons[i].count, reasons[i].text);
}
