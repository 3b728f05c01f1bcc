/* avant cache: a group of commands about files of translated code. */
#include "cache_tool.h"

static const struct command *const commands[] = {
	&command_cache_info,
	&command_cache_list,
	&command_cache_dump,
	&command_cache_disasm,
	&command_cache_verify,
	&command_cache_build,
	NULL,
};

const struct command command_cache = {
	.name = "cache",
	.summary = "look at files of translated code, and build them",
	.usage = "COMMAND [OPTION]... FILE...",
	.text = "Looks at files of translated code as 'avant run' would use them. Nothing in them is executed.\n",
	.examples = "'avant cache COMMAND --help' tells the options of a command, 'man avant-cache' more.\n",
	.commands = commands,
};
