/*
 * Scripts of GRUB 2 (info grub, "Shell-like scripting"), as far as parsing goes. Everything lies in one arena, which is
 * released at once.
 */
#ifndef AVANT_IMAGE_GRUB_SCRIPT_H
#define AVANT_IMAGE_GRUB_SCRIPT_H

#include "util/err.h"
#include "util/types.h"

struct arena_block;

struct arena {
	struct arena_block *block;
	u64 used, most; /* bytes in all, and the limit */
};

/* Zeroed memory; NULL: no memory, or over the limit. */
void *arena_take(struct arena *arena, u64 size);
void arena_release(struct arena *arena);

/* A part of a word: literal text, or a variable's value. */
struct grub_part {
	struct grub_part *next;
	const char *text; /* or the variable's name */
	bool variable;
	bool quoted; /* the value stays one word; an empty text makes a word */
};

struct grub_word {
	struct grub_word *next;
	struct grub_part *part;
};

enum grub_kind { GRUB_COMMAND, GRUB_IF, GRUB_WHILE, GRUB_UNTIL, GRUB_FOR, GRUB_FUNCTION };

struct grub_node {
	struct grub_node *next;
	enum grub_kind kind;
	struct grub_word *word; /* command: its words; for: the list; function and for: the first is the name */
	struct grub_node *condition;
	struct grub_node *body;      /* of a command: the block after its words, as of menuentry */
	struct grub_node *otherwise; /* else part */
	bool block;                  /* the command has a body, be it an empty one */
};

/* Parses a text that ends with NUL. 0, or -1 with a message in err that has the line. */
int grub_parse(const char *text, struct arena *arena, struct grub_node **script, struct err *err);

#endif
