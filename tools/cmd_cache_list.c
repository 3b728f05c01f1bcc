/* avant cache list: the units of files, one a line. */
#include "cache_tool.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum sort { SORT_ADDRESS, SORT_SIZE, SORT_EXECUTIONS };

struct list_options {
	struct command_arguments files;
	enum sort sort;
	bool reverse;
	u64 limit; /* 0: none */
	const char *name;
	u32 kind; /* TCACHE_UNIT_LIFTED or _COPIED, 0: both */
	bool json;
};

/* A unit to be listed: sorted by rank, then by number. */
struct listed {
	u64 rank;
	u32 number;
};

static int compare(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* Units of a file are in the order of addresses. By size and executions the largest come first. */
static u64 rank(enum sort sort, const struct tcache_unit *unit)
{
	switch (sort) {
	case SORT_SIZE:
		return UINT64_MAX - unit->code_length;
	case SORT_EXECUTIONS:
		return UINT64_MAX - unit->executions;
	case SORT_ADDRESS:
		break;
	}
	return 0;
}

/* Does the user want to see it? Returns -1 if the file is damaged. */
static int wanted(struct tcache *cache, const struct list_options *options, const struct tcache_unit *unit)
{
	const char *name;

	if (options->kind && !(unit->flags & options->kind))
		return 0;
	if (!options->name)
		return 1;
	name = tcache_string(cache, unit->name);
	if (!name)
		return -1;
	return !fnmatch(options->name, name, 0);
}

/* The units to list, in order. Returns 0, or -1 if the file is damaged. */
static int collect(struct tcache *cache, const struct list_options *options, struct listed *list, u64 *count)
{
	u64 units = tcache_units_count(cache);

	*count = 0;
	for (u64 i = 0; i < units; i++) {
		const struct tcache_unit *unit = tcache_units(cache, i, 1);
		int want = unit ? wanted(cache, options, unit) : -1;

		if (want < 0)
			return -1;
		if (want)
			list[(*count)++] = (struct listed){rank(options->sort, unit), (u32)i};
	}
	qsort(list, *count, sizeof(*list), compare);
	if (options->reverse)
		for (u64 i = 0; i < *count / 2; i++) {
			struct listed swap = list[i];

			list[i] = list[*count - 1 - i];
			list[*count - 1 - i] = swap;
		}
	if (options->limit && *count > options->limit)
		*count = options->limit;
	return 0;
}

static json_t *unit_json(struct tcache *cache, const struct tcache_unit *unit, u32 number)
{
	struct safe_text name;

	return json_pack("{s:I, s:o, s:o, s:s, s:b, s:I, s:I, s:o, s:I, s:o, s:s, s:I}", "unit", (json_int_t)number,
			 "address", json_address(unit->pc), "mode", json_address(unit->mode), "kind",
			 unit->flags & TCACHE_UNIT_LIFTED ? "lifted" : "copied", "cold",
			 !!(unit->flags & TCACHE_UNIT_COLD), "guest_bytes", (json_int_t)unit->guest_length,
			 "instructions", (json_int_t)unit->instruction_count, "code_offset",
			 json_count(unit->code_offset), "code_bytes", (json_int_t)unit->code_length, "executions",
			 json_count(unit->executions), "name", cache_tool_string(cache, unit->name, &name),
			 "name_offset", (json_int_t)unit->name_offset);
}

static void print_unit(struct tcache *cache, const struct tcache_unit *unit, u32 number)
{
	struct safe_text safe;
	char name[UNIT_NAME_SIZE];

	printf("%7u  0x%016" PRIx64 "  %08x  %-11s %5u %6u %8u %14" PRIu64 "  %s\n", number, unit->pc, unit->mode,
	       unit_kind_text(unit->flags), unit->guest_length, unit->instruction_count, unit->code_length,
	       unit->executions, unit_name_text(cache, unit, &safe, name, sizeof(name)));
}

static int print_list(const struct command *command, struct tcache *cache, const struct list_options *options,
		      const struct listed *list, u64 count)
{
	struct json_lines lines = {0};
	int status = STATUS_OK;

	if (!options->json)
		printf("%7s  %-18s  %-8s  %-11s %5s %6s %8s %14s  %s\n", "unit", "address", "mode", "kind", "guest",
		       "instrs", "code", "executions", "name");
	for (u64 i = 0; i < count && !ferror(stdout); i++) {
		const struct tcache_unit *unit = tcache_units(cache, list[i].number, 1);

		if (!unit) {
			status = cache_tool_failed(command, cache);
			break;
		}
		if (options->json)
			json_lines_add(&lines, unit_json(cache, unit, list[i].number));
		else
			print_unit(cache, unit, list[i].number);
	}
	if (options->json)
		json_lines_end(&lines);
	return status;
}

static int list_file(const struct command *command, const struct list_options *options, struct tcache *cache)
{
	struct listed *list = calloc(tcache_units_count(cache) + 1, sizeof(*list));
	int status;
	u64 count;

	if (!list)
		return command_error(command, "out of memory");
	if (collect(cache, options, list, &count) < 0) {
		status = cache_tool_failed(command, cache);
		count = 0;
		if (options->json)
			fputs("[]", stdout);
	} else {
		status = print_list(command, cache, options, list, count);
	}
	free(list);
	return status;
}

static int list_main(const struct command *command, void *parsed)
{
	const struct list_options *options = parsed;
	struct json_lines files = {0};
	int status = STATUS_OK;

	for (size_t i = 0; i < options->files.count; i++) {
		const char *path = options->files.items[i];
		struct tcache *cache = cache_tool_open(command, path);
		struct safe_text name;

		if (!cache) {
			status = STATUS_ERROR;
			continue;
		}
		safe_text(&name, path, strlen(path));
		if (options->json) {
			json_t *file = json_string(name.text);

			json_lines_next(&files);
			fputs("{\"file\": ", stdout);
			json_dumpf(file, stdout, JSON_ENCODE_ANY);
			fputs(", \"units\": ", stdout);
			json_decref(file);
		} else if (options->files.count > 1) {
			printf("%s%s:\n", i ? "\n" : "", name.text);
		}
		if (list_file(command, options, cache))
			status = STATUS_ERROR;
		if (options->json)
			putchar('}');
		tcache_close(cache);
	}
	if (options->json) {
		json_lines_end(&files);
		putchar('\n');
	}
	return command_finish_output(status);
}

static int parse_sort(void *field, const char *text, struct err *err)
{
	static const char *const names[] = {"address", "size", "executions", NULL};
	int choice = option_choice(names, text, err);

	*(enum sort *)field = choice < 0 ? SORT_ADDRESS : (enum sort)choice;
	return choice < 0 ? -1 : 0;
}

static int parse_kind(void *field, const char *text, struct err *err)
{
	static const char *const names[] = {"lifted", "copied", NULL};
	int choice = option_choice(names, text, err);

	*(u32 *)field = choice ? TCACHE_UNIT_COPIED : TCACHE_UNIT_LIFTED;
	return choice < 0 ? -1 : 0;
}

static int parse_limit(void *field, const char *text, struct err *err)
{
	if (option_count(field, text, err) < 0)
		return -1;
	return *(u64 *)field ? 0 : err_set(err, "'%s' is not a count greater than 0", text);
}

static const struct option_spec options[] = {
	{.help = "Order"},
	{"sort", "KEY", "address; or size (of the code) or executions, the largest first", "address", parse_sort,
	 offsetof(struct list_options, sort)},
	{"reverse", NULL, "the other way round", NULL, NULL, offsetof(struct list_options, reverse)},
	{.help = "What is listed"},
	{"limit", "N", "the first N of each file only", NULL, parse_limit, offsetof(struct list_options, limit)},
	{"name", "GLOB", "units whose function's name matches, with *, ? and [...]", NULL, option_text,
	 offsetof(struct list_options, name)},
	{"kind", "KIND", "lifted or copied units only", NULL, parse_kind, offsetof(struct list_options, kind)},
	{.help = "Output"},
	{"json", NULL, "print a JSON array instead of tables", NULL, NULL, offsetof(struct list_options, json)},
	{0},
};

const struct command command_cache_list = {
	.name = "cache list",
	.summary = "list the translations in files",
	.usage = "[OPTION]... FILE...",
	.text = "Lists the units of each file: number, guest address, mode word, kind, bytes and number of guest\n"
		"instructions, bytes of code, executions in the training run, and the function's name.\n",
	.examples = "  avant cache list kernel.tcache | less\n"
		    "  avant cache list --sort executions --limit 20 kernel.tcache\n"
		    "  avant cache list --name 'ext4_*' --kind copied --json kernel.tcache\n"
		    "\nExit status: 0 success; 1 a file cannot be read; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct list_options),
	.arguments_needed = 1,
	.arguments = "FILE...",
	.arguments_offset = offsetof(struct list_options, files),
	.main = list_main,
};
