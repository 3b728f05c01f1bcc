/*
 * Running GRUB's configuration: scripts set variables and make a menu; the entry that is the default is run in turn,
 * and tells kernel, initramfs files and command line. Commands for screens, modules and the like do nothing.
 */
#ifndef AVANT_IMAGE_GRUB_H
#define AVANT_IMAGE_GRUB_H

#include "image/reader/boot.h"
#include "image/reader/grub_script.h"

#define GRUB_STEPS_MOST   200000 /* statements that are run: what needs more does not end */
#define GRUB_DEPTH_MOST   32     /* of functions, files and entries within each other */
#define GRUB_WORDS_MOST   256    /* of a command */
#define GRUB_ENTRIES_MOST 1000
#define GRUB_MEMORY_MOST  (64u << 20)

struct grub_variable {
	struct grub_variable *next;
	const char *name, *value;
};

struct grub_function {
	struct grub_function *next;
	const char *name;
	const struct grub_node *body;
};

struct grub_words {
	u32 count;
	const char *item[GRUB_WORDS_MOST]; /* those that are kept have room for `count` only */
};

struct grub_menu;

struct grub_entry {
	struct grub_entry *next;
	const char *title, *id;
	const struct grub_node *body;        /* run when it is chosen; of a submenu: what makes its menu */
	const struct grub_words *parameters; /* $1 and so on: the title, and words behind it */
	struct grub_menu *submenu;           /* or NULL: an entry */
	const char *bls_file;                /* it comes from this file of the boot loader specification; or NULL */
	u32 bls_volume;
};

struct grub_menu {
	struct grub_entry *first, *last;
	u32 count;
};

struct grub {
	const struct space *space;
	u32 volume; /* that the configuration lies on */
	struct arena arena;
	struct grub_variable *variables;
	struct grub_function *functions;
	struct grub_menu menu;          /* the topmost one */
	struct grub_menu *current;      /* that entries are added to */
	const struct grub_words *words; /* of the function or entry that runs */
	u32 depth, steps, entries;
	int status;             /* of the last command: $? */
	bool returning;         /* from a function or file */
	bool breaking;          /* out of a loop */
	struct boot *boot;      /* what the entry that runs asks for */
	const char *other;      /* it starts something that is not Linux: the command that does; or NULL */
	const char *configfile; /* the menu is to be replaced by that of this file; or NULL */
	struct err *err;
	bool failed; /* err says why; nothing is run any more */
};

/* What commands return, as in a shell. */
enum { GRUB_TRUE = 0, GRUB_FALSE = 1 };

/* Stops everything with a message. Returns GRUB_FALSE. */
int grub_fail(struct grub *grub, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Memory that lasts until the end; NULL after grub_fail(). */
void *grub_take(struct grub *grub, u64 size);
const char *grub_copy(struct grub *grub, const char *text);

/* "" if it is not set. */
const char *grub_get(const struct grub *grub, const char *name);
void grub_set(struct grub *grub, const char *name, const char *value);

/* Runs statements, or a file. Returns the status of the last. */
int grub_run(struct grub *grub, const struct grub_node *node);
int grub_run_file(struct grub *grub, u32 volume, const char *path);

/* Runs one command, whose first word is its name. */
int grub_command(struct grub *grub, const struct grub_words *words);

/* The condition of "[" or "test". */
int grub_test(struct grub *grub, const char *const *words, u32 count);

/* "(hd0,gpt1)/boot/x", or "/boot/x" of $root: the volume and the path. False: there is no such volume. */
bool grub_place(const struct grub *grub, const char *text, u32 *volume, const char **path);

/* "hd0,gpt1" for a volume. */
const char *grub_device(struct grub *grub, u32 volume);

/* Adds an entry to the current menu. NULL after grub_fail(). */
struct grub_entry *grub_add_entry(struct grub *grub, const char *title, const char *id);

#endif
