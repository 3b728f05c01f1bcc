/*
 * The ELF programs and shared libraries of whatever holds them, and kernel modules. Files are shown twice. First, to
 * learn which there are, each once whatever its names, and which of them matter most; then to be scanned, as many as
 * there is room for. In between nothing of them is kept but hashes and names, so that they may be many.
 */
#ifndef AVANT_AOT_PROGRAMS_H
#define AVANT_AOT_PROGRAMS_H

#include "discover/discover.h"
#include "discover/module.h"
#include "fates.h"
#include "plan.h"
#include "recorded.h"

struct programs;

/* `recorded` must outlive it. */
struct programs *programs_create(const struct recorded *recorded, struct err *err);
void programs_destroy(struct programs *programs);

/* Kernels, and what is done with a module of one of them that was chosen. Modules of no kernel are left alone. */
struct module_user {
	const struct image *const *kernel; /* patched */
	u32 kernel_count;
	const struct cpu_model *cpu;    /* NULL: the default one */
	const char *const *file_system; /* types that guests have, up to a NULL */
	/* The module is gone when this returns. -1 with a message ends it all. */
	int (*use)(void *opaque, const struct module *module, u16 rank, struct err *err);
	void *opaque;
};

/* Before anything is noted; without it, modules are left to live translation. The user must outlive the programs. */
void programs_set_modules(struct programs *programs, const struct module_user *user);

/*
 * First round: a file with the magic of ELF, or a compressed module. What is no program for x86-64 is reported. The
 * name is for people; it may hold anything. `early`: it is in an initramfs. Returns 0, or -1 with a message in err: out
 * of memory.
 */
int programs_note(struct programs *programs, const char *name, const u8 *data, u64 size, bool early, struct err *err);

/* First round: a file that another program, named by its path, interprets. -1: out of memory. */
int programs_note_script(struct programs *programs, const char *interpreter, struct err *err);

/* First round: another name, perhaps of a program. -1: out of memory. */
int programs_note_link(struct programs *programs, const char *name, const char *target, struct err *err);

/*
 * Between the rounds: decides the order, and which programs are worth scanning if there is room for so many bytes of
 * host code, by estimate. What many others need (libraries, interpreters) comes first, by how many; then programs that
 * recordings saw running, and what is in the directories of commands, the smallest first, so that they are many; then
 * other modules of an initramfs; then the rest, by how many need it, modules last. Pages that recordings saw running go
 * before all that, and so do modules for what guests here have, with those that they need. Modules get at most a part
 * of the room. -1: out of memory.
 */
int programs_choose(struct programs *programs, u64 room, struct err *err);

/*
 * Second round: adds the file's units to the plan if it was chosen and has not been scanned yet; without a plan, it is
 * only read for the names of code at fixed addresses. -1: out of memory.
 */
int programs_scan(struct programs *programs, struct plan *plan, const char *name, const u8 *data, u64 size,
		  struct err *err);

/* The symbol of code in a program of fixed addresses, and the distance to it; NULL if it has none. */
const char *programs_symbol(const struct programs *programs, u64 pc, u64 *offset);

/* After the choice: a program that has this page, of those that a recording has seen, and where in the file; or NULL.
 */
const char *programs_page(const struct programs *programs, const u64 page[2], u64 *offset);

struct programs_figures {
	u64 fixed, independent;          /* different programs and libraries */
	u64 copies;                      /* files that are equal to one of these */
	u64 modules;                     /* kernel modules that are left to live translation */
	u64 unusable;                    /* other files: for another processor, damaged */
	u64 scanned, left_out;           /* programs, after the second round */
	u64 code_scanned, code_left_out; /* bytes of their code */
	u64 code_modules;                /* … and of the modules that are left */
	u64 modules_used, code_modules_used;
};

struct programs_figures programs_figures(const struct programs *programs);

/* The files of which nothing was translated, by why. */
const struct fates *programs_fates(const struct programs *programs, enum program_fate fate);

/* What is to be said about each, after the second round. */
struct report *programs_report(struct programs *programs);

#endif
