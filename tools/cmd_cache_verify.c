/* avant cache verify: are the files what they say, as far as that can be told without running them? */
#include "cache_tool.h"

#include <stdio.h>
#include <string.h>

struct verify_options {
	struct command_arguments files;
	bool trust;
	bool json;
};

/* Checks everything that a file promises. */
static enum tcache_status verify(const char *path, bool trust, char *error, size_t size)
{
	struct tcache *cache;
	enum tcache_status status = tcache_open(path, trust ? TCACHE_TRUST : 0, &cache, error, size);

	if (status)
		return status;
	status = tcache_verify_all(cache);
	snprintf(error, size, "%s", tcache_error(cache));
	tcache_close(cache);
	return status;
}

static int verify_main(const struct command *command, void *parsed)
{
	const struct verify_options *options = parsed;
	struct json_lines lines = {0};
	bool good = true;

	(void)command;
	for (size_t i = 0; i < options->files.count; i++) {
		const char *path = options->files.items[i];
		struct safe_text reason, name;
		char error[512] = "";
		enum tcache_status status = verify(path, options->trust, error, sizeof(error));

		good &= !status;
		safe_text(&reason, error, strlen(error));
		safe_text(&name, path, strlen(path));
		if (options->json)
			json_lines_add(&lines,
				       json_pack("{s:s, s:b, s:s, s:s}", "file", name.text, "good", !status, "verdict",
						 tcache_status_name(status), "reason", status ? reason.text : ""));
		else if (status)
			printf("bad   %s\n", reason.text);
		else
			printf("good  '%s'\n", name.text);
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
	{"json", NULL, "print a JSON array instead of lines", NULL, NULL, offsetof(struct verify_options, json)},
	{0},
};

const struct command command_cache_verify = {
	.name = "cache verify",
	.summary = "check files completely",
	.usage = "[OPTION]... FILE...",
	.text = "Checks owner and permissions, all digests, the signature if there is one, and all records of\n"
		"each file; prints one line for each: 'good', or 'bad' and the first fault found.\n",
	.examples = "  avant cache verify kernel.tcache\n"
		    "  avant cache verify --json *.tcache\n"
		    "\nExit status: 0 all files are good; 1 a file is bad or cannot be read; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct verify_options),
	.arguments_needed = 1,
	.arguments = "FILE...",
	.arguments_offset = offsetof(struct verify_options, files),
	.main = verify_main,
};
