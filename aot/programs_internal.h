/* Internal to programs.c and program_modules.c. */
#ifndef AVANT_AOT_PROGRAMS_INTERNAL_H
#define AVANT_AOT_PROGRAMS_INTERNAL_H

#include "page_names.h"
#include "programs.h"

#define PROGRAMS_MAX  65000u
#define UNPACKED_MOST (8ULL << 30) /* bytes of all compressed modules, in both rounds: several distributions' worth */

/* Which goes first. */
enum place { FOR_GUESTS, NEEDED_BY_MANY, SEEN_RUNNING, COMMAND, EARLY_MODULE, OTHER, OTHER_MODULE };

struct program {
	u64 hash[2]; /* of the file */
	char *name;
	char *soname; /* what others need it by */
	u64 code;
	u32 number; /* in the order of the first round */
	u32 needed_by;
	enum place place;
	u16 rank;
	bool independent, chosen, scanned;
	bool module;
	u32 kernel;    /* of a module, number of its kernel */
	char *depends; /* … and the names of the modules that it needs, with commas between them */
};

/* A name that programs need, and how many do. */
struct name {
	char *text;
	u32 count;
	u32 module; /* 1 + number of the module that has it, or 0 */
};

/* A symlink, by the last parts of both paths. */
struct alias {
	u32 name, target; /* numbers of names */
};

struct programs {
	struct program *program;
	u32 count, room;
	u32 *by_hash; /* open hash by the file: 1 + number, or 0 */
	u32 by_hash_size;
	struct name *name;
	u32 name_count;
	u32 *by_name; /* open hash */
	u32 by_name_size;
	struct alias *alias;
	u32 alias_count, alias_room;
	struct image *image; /* programs of fixed addresses */
	u32 image_count;
	u64 image_bytes;
	const struct recorded *recorded;
	const struct module_user *user; /* NULL: modules are not translated */
	u64 unpacked;                   /* bytes of compressed modules so far, whatever became of them */
	struct programs_figures figures;
	struct fates fates[PROGRAM_FATES];
	struct page_names pages;
	struct report report;
};

int programs_no_memory(struct err *err);

/* The place of a name, which holds 1 + its number, or 0; there are names. */
u32 *programs_find_name(const struct programs *programs, const char *text);
/* 1 + number of the name, which is made; 0: there are too many, or no memory for it (*failed). */
u32 programs_name_number(struct programs *programs, const char *text, bool *failed);
/* Somebody needs it. -1: out of memory. */
int programs_need(struct programs *programs, const char *text);

/* The place of a file, which holds 1 + its number, or 0; there are programs, or room for them. */
u32 *programs_find(const struct programs *programs, const u64 hash[2]);
/* A new one; NULL: out of memory. */
struct program *programs_add(struct programs *programs, const char *name, const u64 hash[2], u64 code);
/* It is a file of which nothing can be translated. 0, or -1: out of memory. */
int programs_unusable(struct programs *programs, const char *name, const char *reason, u64 code, struct err *err);

/* First round, a module as it is or compressed; `hash` is of the file. 0, or -1: out of memory. */
int programs_note_module(struct programs *programs, const char *name, const u64 hash[2], const u8 *data, u64 size,
			 bool early, struct err *err);
int programs_note_packed(struct programs *programs, const char *name, const u64 hash[2], const u8 *data, u64 size,
			 bool early, struct err *err);
/* What a module that guests load needs is loaded with it. -1: out of memory. */
int programs_follow_modules(struct programs *programs);
/* Second round. 0, or -1 with a message. */
int programs_scan_module(struct programs *programs, struct program *program, const u8 *data, u64 size, struct err *err);

#endif
