/* avant cache build: translates what runs with --cache auto have recorded. */
#include "auto_cache.h"
#include "cache_tool.h"

#include <stdio.h>
#include <string.h>

struct build_options {
	struct command_arguments guests;
	u64 limit; /* bytes */
};

static const struct option_spec options[] = {
	{"limit", "SIZE", "forget the least recently used guests if all take\nmore than this", "8G", option_size,
	 offsetof(struct build_options, limit)},
	{0},
};

struct building {
	const struct command *command;
	unsigned built;
	int status;
};

/* One guest that fails does not keep the others from being built. */
static int build_one(const struct auto_guest *guest, void *opaque)
{
	struct building *building = opaque;
	struct err err = ERR_INIT;
	int result = auto_guest_build(guest, &err);

	if (result < 0)
		building->status = command_error(building->command, "'%s': %s", guest->path, err.text);
	building->built += result > 0;
	return 0;
}

static int build_main(const struct command *command, void *parsed)
{
	const struct build_options *o = parsed;
	struct building building = {.command = command, .status = STATUS_OK};
	struct auto_guest guest;
	struct err err = ERR_INIT;
	int forgotten;

	for (size_t i = 0; i < o->guests.count; i++) {
		if (strlen(o->guests.items[i]) >= sizeof(guest.path))
			return command_error(command, "'%s' is too long", o->guests.items[i]);
		snprintf(guest.path, sizeof(guest.path), "%s", o->guests.items[i]);
		build_one(&guest, &building);
	}
	if (!o->guests.count && auto_guests_each(build_one, &building, &err) < 0)
		return command_error(command, "%s", err.text);
	forgotten = auto_guests_prune(o->limit, &err);
	if (forgotten < 0)
		return command_error(command, "%s", err.text);
	printf("%u caches built, %d guests forgotten\n", building.built, forgotten);
	return command_finish_output(building.status);
}

const struct command command_cache_build = {
	.name = "cache build",
	.summary = "translate what runs with --cache auto recorded",
	.usage = "[OPTION]... [DIRECTORY]...",
	.text = "Translates what 'avant run --cache auto' has recorded and not yet translated, for all\n"
		"guests, or for those whose directories are given. Runs do so themselves when they end;\n"
		"this is for doing it now, and for what was left when that was interrupted.\n",
	.examples = "  avant cache build\n"
		    "  avant cache build --limit 2G\n",
	.options = options,
	.options_size = sizeof(struct build_options),
	.arguments = "DIRECTORY...",
	.arguments_offset = offsetof(struct build_options, guests),
	.main = build_main,
};
