/*
 * The code in the inputs of avant translate: kernels, as they are linked and as they will have patched themselves, and
 * the programs of initramfs files and trees. Scanned for the plan; asked for names afterwards.
 */
#ifndef AVANT_TOOLS_TRANSLATE_CODE_H
#define AVANT_TOOLS_TRANSLATE_CODE_H

#include <stdio.h>

#include "build.h"
#include "discover/discover.h"
#include "plan.h"
#include "programs.h"
#include "translate_inputs.h"

struct code;

struct code_options {
	const char *cpu;    /* name of the guest's CPU model */
	bool only_names;    /* nothing is added to the plan */
	bool may_be_others; /* there are recordings, so a kernel that cannot be scanned is no error */
	u64 room;           /* bytes of host code for programs and modules, by estimate */
	/* As in struct module_user, with the plan; NULL: modules are left to live translation. */
	int (*use_module)(void *plan, const struct module *module, u16 rank, struct err *err);
};

/* Reads the kernels. The inputs must outlive it. NULL with a message in err. */
struct code *code_read(const struct inputs *inputs, struct err *err);
void code_destroy(struct code *code);

/* Adds what is found to the plan, which has all recordings, kernels with the last rank. 0, or -1 with a message in err.
 */
int code_scan(struct code *code, struct inputs *inputs, struct plan *plan, const struct code_options *options,
	      struct err *err);

/* The name of code and the distance to it, by whichever input has it; NULL: none has. */
const char *code_symbol(const struct code *code, const struct want *want, u64 *offset);

/* What was found, as sections of the build log. */
void code_log(struct code *code, FILE *log);

/* The kernels, for the cache to name and to keep. `images` has room for INPUTS_MAX + 1. Returns how many there are. */
unsigned code_images(const struct code *code, struct build_image *images);

/* After code_scan(). */
const struct programs *code_programs(const struct code *code);

/* How many programs there are and what became of them, in a sentence for people; empty if there are none. */
void code_summary(const struct code *code, FILE *to);

#endif
