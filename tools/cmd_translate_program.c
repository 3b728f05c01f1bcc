/* avant translate: LLVM is large, so the command is a program of its own. */
#include "command.h"

const struct command command_translate_program = {
	.name = "translate",
	.summary = "translate a guest ahead of time",
	.program = "avant-translate",
};
