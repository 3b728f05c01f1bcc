#include "translate_report.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache_tool.h"
#include "x86/mode.h"

#define SCHEMA    1
/* Entries of lists; what is left out is counted. */
#define LOOPS_MAX 300u
#define FILES_MAX 1000u

static const char *const fate_keys[FATES] = {[FATE_LIFTED] = "lifted",
					     [FATE_COPIED] = "copied",
					     [FATE_HANDED] = "handed_over",
					     [FATE_KEPT] = "kept",
					     [FATE_LEFT] = "left_to_live"};

static json_t *units_json(const struct account_units *units)
{
	return json_pack("{s:o, s:o, s:o}", "units", json_count(units->units), "instructions",
			 json_count(units->instructions), "executed", json_count(units->executed));
}

/* --- totals ------------------------------------------------------------------------------------------------------ */

static json_t *shares_json(const struct report_input *input, u64 total)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < FATES; i++) {
		u64 executed = account_fate(input->account, (enum account_fate)i)->executed;

		json_object_set_new(object, fate_keys[i],
				    total ? json_real((double)executed / (double)total) : json_null());
	}
	return object;
}

/* {"total": N, "lifted": …}: places, or executions. */
static json_t *fates_json(const struct report_input *input, bool executed)
{
	const struct account_units *all = account_all(input->account);
	json_t *object = json_pack("{s:o}", "total", json_count(executed ? all->executed : all->instructions));

	for (unsigned i = 0; i < FATES; i++) {
		const struct amount *amount = account_fate(input->account, (enum account_fate)i);

		json_object_set_new(object, fate_keys[i], json_count(executed ? amount->executed : amount->places));
	}
	return object;
}

static json_t *totals_json(const struct report_input *input)
{
	const struct account_units *all = account_all(input->account), *done = account_done(input->account);
	json_t *units = json_pack("{s:o, s:o, s:o, s:o}", "total", json_count(all->units), "translated",
				  json_count(done->units), "with_lifted_loops",
				  json_count(account_lifted_units(input->account)), "left_to_live",
				  json_count(all->units - done->units));

	return json_pack("{s:o, s:o, s:o, s:o}", "units", units, "instructions", fates_json(input, false), "executed",
			 fates_json(input, true), "shares", shares_json(input, all->executed));
}

static json_t *left_json(const struct report_input *input)
{
	static const char *const words[LEFT_REASONS] = {
#define X(name, word) [LEFT_##name] = word,
		ACCOUNT_REASONS(X)
#undef X
	};
	json_t *list = json_array();

	for (unsigned i = 0; i < LEFT_REASONS; i++) {
		json_t *entry = units_json(account_reason(input->account, (enum account_reason)i));

		json_object_set_new(entry, "reason", json_string(words[i]));
		json_array_append_new(list, entry);
	}
	return list;
}

/* --- instructions ------------------------------------------------------------------------------------------------ */

static const char *mnemonic_text(u16 mnemonic)
{
	const char *text = mnemonic ? ZydisMnemonicGetString((ZydisMnemonic)mnemonic) : NULL;

	return text ? text : "invalid";
}

static json_t *instructions_json(const struct report_input *input)
{
	static const char *const hands[HANDS] = {
		[HAND_QUICK] = "quick", [HAND_HELPER] = "helper", [HAND_INTERPRETER] = "interpreter"};
	static const char *const helpers[HELP_COUNT] = {
#define X(name) [HELP_##name] = #name,
		INSN_HELPERS(X)
#undef X
	};
	json_t *list = json_array();
	size_t count;
	const struct account_handed *handed = account_handed(input->account, &count);

	for (size_t i = 0; i < count; i++) {
		const char *prefix = handed[i].rep == 0xf3 ? "rep " : handed[i].rep ? "repne " : "";

		json_t *entry = json_pack("{s:o, s:s}", "mnemonic",
					  json_sprintf("%s%s", prefix, mnemonic_text(handed[i].mnemonic)), "by",
					  hands[handed[i].hand]);

		if (handed[i].helper < HELP_COUNT)
			json_object_set_new(entry, "helper", json_string(helpers[handed[i].helper]));
		json_object_set_new(entry, "places", json_count(handed[i].amount.places));
		json_object_set_new(entry, "executed", json_count(handed[i].amount.executed));
		json_array_append_new(list, entry);
	}
	return list;
}

/* --- loops ------------------------------------------------------------------------------------------------------- */

static const char *const verdict_words[LIFT_VERDICT_COUNT] = {
#define X(name, word) [LIFT_##name] = word,
	LIFT_VERDICTS(X)
#undef X
};

static json_t *verdicts_json(const struct report_input *input)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < LIFT_VERDICT_COUNT; i++) {
		u64 loops;
		const struct amount *amount = account_verdict(input->account, (enum lift_verdict)i, &loops);

		json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o}", "reason", verdict_words[i], "loops",
						      json_count(loops), "instructions", json_count(amount->places),
						      "executed", json_count(amount->executed)));
	}
	return list;
}

/* Where a loop is: an address, a place in a program's file, or in a page of which nothing but its hash is known. */
static void set_place(json_t *entry, const struct report_input *input, const struct want *want, u16 offset)
{
	struct safe_text safe;
	u64 distance = 0;
	const char *name = input->namer(input->opaque, want, &distance);

	json_object_set_new(entry, "kernel", json_boolean(!(want->mode & MODE_USER)));
	if (want_is_template(want)) {
		name = programs_page(input->programs, want->page, &distance);
		if (name) {
			json_object_set_new(entry, "file", json_string(safe_text(&safe, name, strlen(name))));
			json_object_set_new(entry, "file_offset",
					    json_count(distance + PAGE_OFFSET(want->pc) + offset));
			return;
		}
		json_object_set_new(entry, "page",
				    json_sprintf("%016llx%016llx", (unsigned long long)want->page[0],
						 (unsigned long long)want->page[1]));
		json_object_set_new(entry, "offset", json_integer((json_int_t)PAGE_OFFSET(want->pc) + offset));
		return;
	}
	json_object_set_new(entry, "address", json_address(want->pc + offset));
	if (name)
		json_object_set_new(entry, "name",
				    json_sprintf("%s+0x%llx", safe_text(&safe, name, strlen(name)),
						 (unsigned long long)(distance + offset)));
}

static json_t *loop_json(const struct report_input *input, const struct account_loop *loop)
{
	json_t *entry = json_object();

	set_place(entry, input, plan_at(input->plan, loop->want), loop->offset);
	json_object_set_new(entry, "reason", json_string(verdict_words[loop->verdict]));
	if (loop->verdict == LIFT_INSTRUCTION)
		json_object_set_new(entry, "instruction", json_string(mnemonic_text(loop->unknown)));
	if (loop->detail)
		json_object_set_new(entry, "detail", json_string(loop->detail));
	json_object_set_new(entry, "instructions", json_count(loop->amount.places));
	json_object_set_new(entry, "executed", json_count(loop->amount.executed));
	return entry;
}

static json_t *loops_json(const struct report_input *input)
{
	json_t *list = json_array();
	size_t count, shown;
	const struct account_loop *loops = account_loops(input->account, &count);

	shown = count < LOOPS_MAX ? count : LOOPS_MAX;
	for (size_t i = 0; i < shown; i++)
		json_array_append_new(list, loop_json(input, &loops[i]));
	return json_pack("{s:o, s:o, s:o}", "by_reason", verdicts_json(input), "hottest", list, "not_shown",
			 json_count(count - shown));
}

/* --- programs ---------------------------------------------------------------------------------------------------- */

static int by_code(const void *left, const void *right)
{
	const struct fate *a = *(const struct fate *const *)left, *b = *(const struct fate *const *)right;

	if (a->code != b->code)
		return a->code > b->code ? -1 : 1;
	return strcmp(a->name, b->name);
}

/* {"files": N, "code_bytes": N, "largest": […], "not_shown": N} */
static json_t *files_json(const struct fates *fates)
{
	const struct fate **order = malloc((fates->count + 1ULL) * sizeof(struct fate *));
	u32 shown = fates->count < FILES_MAX ? fates->count : FILES_MAX;
	json_t *list = json_array();
	u64 code = 0;

	if (!order)
		shown = 0;
	for (u32 i = 0; i < fates->count; i++) {
		code += fates->fate[i].code;
		if (order)
			order[i] = &fates->fate[i];
	}
	if (order)
		qsort(order, fates->count, sizeof(struct fate *), by_code);
	for (u32 i = 0; i < shown; i++) {
		struct safe_text name, reason;
		json_t *entry =
			json_pack("{s:s, s:o}", "name", safe_text(&name, order[i]->name, strlen(order[i]->name)),
				  "code_bytes", json_count(order[i]->code));

		if (order[i]->reason)
			json_object_set_new(
				entry, "reason",
				json_string(safe_text(&reason, order[i]->reason, strlen(order[i]->reason))));
		json_array_append_new(list, entry);
	}
	free(order);
	return json_pack("{s:o, s:o, s:o, s:o}", "files", json_count(fates->count + fates->more), "code_bytes",
			 json_count(code), "largest", list, "not_shown",
			 json_count(fates->count - shown + fates->more));
}

static json_t *programs_json(const struct report_input *input)
{
	const struct programs *programs = input->programs;
	struct programs_figures figures = programs_figures(programs);

	return json_pack("{s:{s:o, s:o}, s:o, s:o, s:o, s:o}", "scanned", "files", json_count(figures.scanned),
			 "code_bytes", json_count(figures.code_scanned), "copies", json_count(figures.copies),
			 "left_out", files_json(programs_fates(programs, PROGRAM_LEFT_OUT)), "unusable",
			 files_json(programs_fates(programs, PROGRAM_UNUSABLE)), "modules",
			 files_json(programs_fates(programs, PROGRAM_MODULE)));
}

/* --- the file ---------------------------------------------------------------------------------------------------- */

static json_t *report_json(const struct report_input *input)
{
	return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:o}", "schema", SCHEMA, "profiles", (int)input->profiles,
			 "totals", totals_json(input), "left_to_live", left_json(input), "instructions",
			 instructions_json(input), "loops", loops_json(input), "programs", programs_json(input));
}

static int write_text(const char *text, const char *path, struct err *err)
{
	FILE *file = fopen(path, "w");
	int error;

	if (!file)
		return err_set(err, "cannot write '%s': %s", path, strerror(errno));
	errno = 0;
	fprintf(file, "%s\n", text);
	error = ferror(file) ? errno : 0;
	if (fclose(file) != 0 && !error)
		error = errno;
	if (!error)
		return 0;
	unlink(path);
	return err_set(err, "cannot write '%s': %s", path, strerror(error));
}

int translate_report_check(const char *path, struct err *err)
{
	FILE *file = fopen(path, "a");

	if (!file || fclose(file) != 0)
		return err_set(err, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}

int translate_report_write(const struct report_input *input, const char *path, struct err *err)
{
	json_t *object = report_json(input);
	char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
	int result = text ? write_text(text, path, err) : err_set(err, "out of memory");

	json_decref(object);
	free(text);
	return result;
}
