/* avant cache verify: are the files what they say, as far as that can be told without running them? */
#include "cache_tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "retranslate.h"

struct verify_options {
	struct command_arguments files;
	bool trust, retranslate, json;
};

/* What is found out about one file. */
struct verdict {
	enum tcache_status status; /* of the file as such */
	bool good;
	bool retranslated;
	char reason[512];
	struct retranslation units;
	json_t *differences; /* or NULL: they are printed */
};

static void report(void *opaque, const struct retranslated *found)
{
	struct verdict *verdict = opaque;
	static const char *const kinds[] = {[RETRANSLATED_UNIT] = "unit",
					    [RETRANSLATED_TEMPLATE] = "template",
					    [RETRANSLATED_MODULE] = "module_unit"};
	const char *kind = kinds[found->kind];

	if (verdict->differences)
		json_array_append_new(verdict->differences,
				      json_pack("{s:o, s:o, s:s}", kind, json_count(found->number), "address",
						json_address(found->pc), "difference", found->what));
	else
		printf("%s %" PRIu32 " at 0x%0*" PRIx64 ": %s\n", kind, found->number,
		       found->kind == RETRANSLATED_UNIT ? 16 : 3, found->pc, found->what);
}

static void compare(struct tcache *cache, struct verdict *verdict)
{
	struct err err = ERR_INIT;

	verdict->retranslated = retranslate(cache, report, verdict, &verdict->units, &err) == 0;
	verdict->good = verdict->retranslated && !verdict->units.different;
	if (!verdict->retranslated)
		snprintf(verdict->reason, sizeof(verdict->reason), "%s", err.text);
	else if (verdict->units.different)
		snprintf(verdict->reason, sizeof(verdict->reason),
			 "'%s': %" PRIu64 " units are not what this translator makes of their guest bytes",
			 tcache_name(cache), (uint64_t)verdict->units.different);
}

/* Checks everything that a file promises. */
static void verify(const struct verify_options *options, const char *path, struct verdict *verdict)
{
	struct tcache *cache;

	verdict->status =
		tcache_open(path, options->trust ? TCACHE_TRUST : 0, &cache, verdict->reason, sizeof(verdict->reason));
	if (verdict->status)
		return;
	verdict->status = tcache_verify_all(cache);
	snprintf(verdict->reason, sizeof(verdict->reason), "%s", tcache_error(cache));
	verdict->good = !verdict->status;
	if (verdict->good && options->retranslate)
		compare(cache, verdict);
	tcache_close(cache);
}

static void print_verdict(const struct verdict *verdict, const char *path)
{
	struct safe_text reason, name;

	safe_text(&reason, verdict->reason, strlen(verdict->reason));
	safe_text(&name, path, strlen(path));
	if (!verdict->good)
		printf("bad   %s\n", reason.text);
	else if (verdict->retranslated)
		printf("good  '%s': %" PRIu64 " units retranslated, all equal; %" PRIu64 " lifted ones skipped\n",
		       name.text, (uint64_t)verdict->units.equal, (uint64_t)verdict->units.lifted);
	else
		printf("good  '%s'\n", name.text);
}

static const char *verdict_name(const struct verdict *verdict)
{
	if (verdict->status || verdict->good)
		return tcache_status_name(verdict->status);
	return verdict->retranslated ? "differs" : "not-comparable";
}

static json_t *json_verdict(struct verdict *verdict, const char *path)
{
	struct safe_text reason, name;
	json_t *json;

	safe_text(&reason, verdict->reason, strlen(verdict->reason));
	safe_text(&name, path, strlen(path));
	json = json_pack("{s:s, s:b, s:s, s:s}", "file", name.text, "good", verdict->good, "verdict",
			 verdict_name(verdict), "reason", verdict->good ? "" : reason.text);
	if (verdict->retranslated) {
		json_object_set_new(json, "units_equal", json_count(verdict->units.equal));
		json_object_set_new(json, "units_lifted", json_count(verdict->units.lifted));
		json_object_set(json, "differences", verdict->differences);
	}
	json_decref(verdict->differences);
	return json;
}

static int verify_main(const struct command *command, void *parsed)
{
	const struct verify_options *options = parsed;
	struct json_lines lines = {0};
	bool good = true;

	(void)command;
	for (size_t i = 0; i < options->files.count; i++) {
		const char *path = options->files.items[i];
		struct verdict verdict = {.differences = options->json ? json_array() : NULL};

		verify(options, path, &verdict);
		good &= verdict.good;
		if (options->json)
			json_lines_add(&lines, json_verdict(&verdict, path));
		else
			print_verdict(&verdict, path);
	}
	if (options->json) {
		json_lines_end(&lines);
		putchar('\n');
	}
	return command_finish_output(good ? STATUS_OK : STATUS_ERROR);
}

static const struct option_spec options[] = {
	{.help = "Options"},
	{"trust", NULL, "do not mind who else could have written the files", NULL, NULL,
	 offsetof(struct verify_options, trust)},
	{"retranslate", NULL, "translate all again, and compare", NULL, NULL,
	 offsetof(struct verify_options, retranslate)},
	{"json", NULL, "print a JSON array instead of lines", NULL, NULL, offsetof(struct verify_options, json)},
	{0},
};

const struct command command_cache_verify = {
	.name = "cache verify",
	.summary = "check files completely",
	.usage = "[OPTION]... FILE...",
	.text = "Checks owner and permissions, all digests, the signature if there is one, and all records of\n"
		"each file; prints one line for each: 'good', or 'bad' and the first fault found.\n"
		"With --retranslate a line for each unit that this program's translator would not have made so.\n",
	.examples = "  avant cache verify kernel.tcache\n"
		    "  avant cache verify --retranslate kernel.tcache\n"
		    "  avant cache verify --json *.tcache\n"
		    "\nExit status: 0 all files are good; 1 a file is bad or cannot be read; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct verify_options),
	.arguments_needed = 1,
	.arguments = "FILE...",
	.arguments_offset = offsetof(struct verify_options, files),
	.main = verify_main,
};
