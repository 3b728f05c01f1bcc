/* The shell of GRUB: variables, words, control flow. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/grub.h"

int grub_fail(struct grub *grub, const char *format, ...)
{
	va_list args;

	if (!grub->failed) {
		va_start(args, format);
		vsnprintf(grub->err->text, sizeof(grub->err->text), format, args);
		va_end(args);
	}
	grub->failed = true;
	return GRUB_FALSE;
}

void *grub_take(struct grub *grub, u64 size)
{
	void *at = arena_take(&grub->arena, size);

	if (!at)
		grub_fail(grub, "the configuration needs too much memory");
	return at;
}

const char *grub_copy(struct grub *grub, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = grub_take(grub, size);

	if (!copy)
		return "";
	return memcpy(copy, text, size);
}

/* ---- variables ---- */

static struct grub_variable *find_variable(const struct grub *grub, const char *name)
{
	for (struct grub_variable *v = grub->variables; v; v = v->next)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

const char *grub_get(const struct grub *grub, const char *name)
{
	const struct grub_variable *variable;

	/* features of GRUB 2.06 and later: configurations ask for them by name */
	if (strncmp(name, "feature_", 8) == 0)
		return "y";
	variable = find_variable(grub, name);
	return variable ? variable->value : "";
}

void grub_set(struct grub *grub, const char *name, const char *value)
{
	struct grub_variable *variable = find_variable(grub, name);

	if (!variable) {
		variable = grub_take(grub, sizeof(*variable));
		if (!variable)
			return;
		*variable = (struct grub_variable){grub->variables, grub_copy(grub, name), ""};
		grub->variables = variable;
	}
	variable->value = grub_copy(grub, value);
}

/* $1, $#, $*, $@ of the function or entry that runs; other variables by name. */
static const char *value_of(struct grub *grub, const char *name)
{
	const struct grub_words *words = grub->words;
	u32 count = words ? words->count : 0;

	if (!strcmp(name, "?"))
		return grub->status == GRUB_TRUE ? "0" : "1";
	if (name[0] >= '0' && name[0] <= '9') {
		unsigned long number = strtoul(name, NULL, 10);

		return number && number <= count ? words->item[number - 1] : "";
	}
	if (!strcmp(name, "#")) {
		char text[16];

		snprintf(text, sizeof(text), "%u", count);
		return grub_copy(grub, text);
	}
	if (!strcmp(name, "*") || !strcmp(name, "@")) {
		u64 size = 1;
		char *joined, *at;

		for (u32 i = 0; i < count; i++)
			size += strlen(words->item[i]) + 1;
		at = joined = grub_take(grub, size);
		for (u32 i = 0; joined && i < count; i++)
			at += sprintf(at, "%s%s", i ? " " : "", words->item[i]);
		return joined ? joined : "";
	}
	return grub_get(grub, name);
}

/* ---- words ---- */

/* A word being put together. */
struct expansion {
	struct grub *grub;
	struct grub_words *words;
	char *text; /* of the current word */
	u64 used, room;
	bool present; /* there is one, be it empty */
};

static void append(struct expansion *e, const char *text, size_t length)
{
	if (length >= e->room - e->used) {
		u64 room = (e->room + length + 64) * 2;
		char *grown = grub_take(e->grub, room);

		if (!grown)
			return;
		if (e->used)
			memcpy(grown, e->text, e->used);
		e->text = grown;
		e->room = room;
	}
	memcpy(e->text + e->used, text, length);
	e->used += length;
	e->present = true;
}

static void finish_word(struct expansion *e)
{
	if (!e->present)
		return;
	append(e, "", 1); /* the NUL */
	if (e->words->count == GRUB_WORDS_MOST)
		grub_fail(e->grub, "a command has more than %d words", GRUB_WORDS_MOST);
	else if (!e->grub->failed)
		e->words->item[e->words->count++] = e->text;
	e->text = NULL;
	e->used = e->room = 0;
	e->present = false;
}

/* A value outside of quotes is split at blanks. */
static void append_split(struct expansion *e, const char *value)
{
	while (*value && !e->grub->failed) {
		size_t blanks = strspn(value, " \t\n"), length = strcspn(value + blanks, " \t\n");

		if (blanks)
			finish_word(e);
		if (length)
			append(e, value + blanks, length);
		value += blanks + length;
	}
}

static void expand(struct grub *grub, const struct grub_word *word, struct grub_words *words)
{
	words->count = 0;
	for (; word && !grub->failed; word = word->next) {
		struct expansion e = {.grub = grub, .words = words};

		for (const struct grub_part *part = word->part; part && !grub->failed; part = part->next) {
			const char *text = part->variable ? value_of(grub, part->text) : part->text;

			if (part->variable && !part->quoted)
				append_split(&e, text);
			else
				append(&e, text, strlen(text));
		}
		finish_word(&e);
	}
}

/* Copies words for longer than the command lasts. */
static const struct grub_words *keep_words(struct grub *grub, const char *const *item, u32 count)
{
	struct grub_words *kept = grub_take(grub, offsetof(struct grub_words, item) + count * sizeof(*item));

	if (!kept)
		return NULL;
	for (u32 i = 0; i < count; i++)
		kept->item[i] = item[i]; /* the texts lie in the arena */
	kept->count = count;
	return kept;
}

/* ---- commands of the menu ---- */

/* The value of an option "--id=x" or "--id x", moving on if it is the next word; NULL: it is another option. */
static const char *option_value(const struct grub_words *words, u32 *at, const char *name)
{
	size_t length = strlen(name);
	const char *word = words->item[*at];

	if (strncmp(word, name, length) != 0)
		return NULL;
	if (word[length] == '=')
		return word + length + 1;
	if (word[length] || *at + 1 >= words->count)
		return NULL;
	return words->item[++*at];
}

struct grub_entry *grub_add_entry(struct grub *grub, const char *title, const char *id)
{
	struct grub_entry *entry;

	if (++grub->entries > GRUB_ENTRIES_MOST) {
		grub_fail(grub, "the menu has more than %d entries", GRUB_ENTRIES_MOST);
		return NULL;
	}
	entry = grub_take(grub, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->title = grub_copy(grub, title);
	entry->id = grub_copy(grub, id);
	if (grub->current->last)
		grub->current->last->next = entry;
	else
		grub->current->first = entry;
	grub->current->last = entry;
	grub->current->count++;
	return entry;
}

/* menuentry and submenu. A submenu's own entries are made at once: its name may be needed to find the default. */
static int add_menu_entry(struct grub *grub, const struct grub_words *words, const struct grub_node *node, bool submenu)
{
	static const char *const ignored[] = {"--class", "--users", "--hotkey", "--source"};
	const char *id = "";
	struct grub_entry *entry;
	u32 at = 1;

	for (; at < words->count && strncmp(words->item[at], "--", 2) == 0; at++) {
		const char *value = option_value(words, &at, "--id");

		if (value)
			id = value;
		for (size_t i = 0; !value && i < ARRAY_SIZE(ignored); i++)
			value = option_value(words, &at, ignored[i]);
	}
	if (at == words->count)
		return GRUB_FALSE; /* GRUB says "missing argument" and goes on */
	/* options may come after the title, too */
	for (u32 i = at + 1; i < words->count; i++) {
		const char *value = option_value(words, &i, "--id");

		if (value)
			id = value;
	}
	entry = grub_add_entry(grub, words->item[at], *id ? id : words->item[at]);
	if (!entry)
		return GRUB_FALSE;
	entry->body = node->body;
	entry->parameters = keep_words(grub, words->item + at, words->count - at);
	if (submenu) {
		struct grub_menu *above = grub->current;

		entry->submenu = grub_take(grub, sizeof(*entry->submenu));
		if (!entry->submenu)
			return GRUB_FALSE;
		grub->current = entry->submenu;
		grub_run(grub, node->body);
		grub->current = above;
	}
	return GRUB_TRUE;
}

/* ---- control flow ---- */

static int call_function(struct grub *grub, const struct grub_function *function, const struct grub_words *words)
{
	const struct grub_words *above = grub->words;
	int status;

	grub->words = keep_words(grub, words->item + 1, words->count - 1);
	status = grub_run(grub, function->body);
	grub->words = above;
	grub->returning = false;
	return status;
}

static int run_command(struct grub *grub, const struct grub_node *node)
{
	struct grub_words words;
	const char *name, *equals;

	expand(grub, node->word, &words);
	if (grub->failed)
		return GRUB_FALSE;
	if (!words.count)
		return node->block ? grub_run(grub, node->body) : GRUB_TRUE;
	name = words.item[0];
	for (const struct grub_function *f = grub->functions; f; f = f->next)
		if (strcmp(f->name, name) == 0)
			return call_function(grub, f, &words);
	if (!strcmp(name, "menuentry") || !strcmp(name, "submenu"))
		return add_menu_entry(grub, &words, node, name[0] == 's');
	equals = strchr(name, '=');
	if (equals && equals != name && words.count == 1) { /* name=value */
		char *copy = (char *)grub_copy(grub, name);

		if (grub->failed)
			return GRUB_FALSE;
		copy[equals - name] = '\0';
		grub_set(grub, copy, equals + 1);
		return GRUB_TRUE;
	}
	return grub_command(grub, &words);
}

static bool stopped(const struct grub *grub)
{
	return grub->failed || grub->returning || grub->breaking;
}

static int run_loop(struct grub *grub, const struct grub_node *node)
{
	int status = GRUB_TRUE;

	while (!stopped(grub)) {
		bool holds = grub_run(grub, node->condition) == GRUB_TRUE;

		if (stopped(grub) || holds != (node->kind == GRUB_WHILE))
			break;
		/* an empty loop takes steps, too */
		if (++grub->steps > GRUB_STEPS_MOST)
			return grub_fail(grub, "the configuration does not end");
		status = grub_run(grub, node->body);
	}
	grub->breaking = false;
	return status;
}

static int run_for(struct grub *grub, const struct grub_node *node)
{
	struct grub_word variable = *node->word;
	struct grub_words words, name;
	int status = GRUB_TRUE;

	variable.next = NULL;
	expand(grub, &variable, &name);
	expand(grub, node->word->next, &words);
	for (u32 i = 0; i < words.count && name.count && !stopped(grub); i++) {
		grub_set(grub, name.item[0], words.item[i]);
		status = grub_run(grub, node->body);
	}
	grub->breaking = false;
	return status;
}

static int define_function(struct grub *grub, const struct grub_node *node)
{
	struct grub_function *function = grub_take(grub, sizeof(*function));
	struct grub_word word = *node->word;
	struct grub_words name;

	if (!function)
		return GRUB_FALSE;
	word.next = NULL;
	expand(grub, &word, &name);
	if (!name.count)
		return GRUB_FALSE;
	/* in front: the newest of that name is found */
	*function = (struct grub_function){grub->functions, name.item[0], node->body};
	grub->functions = function;
	return GRUB_TRUE;
}

static int run_one(struct grub *grub, const struct grub_node *node)
{
	switch (node->kind) {
	case GRUB_COMMAND:
		return run_command(grub, node);
	case GRUB_IF:
		if (grub_run(grub, node->condition) == GRUB_TRUE)
			return stopped(grub) ? GRUB_FALSE : grub_run(grub, node->body);
		return stopped(grub) ? GRUB_FALSE : grub_run(grub, node->otherwise);
	case GRUB_WHILE:
	case GRUB_UNTIL:
		return run_loop(grub, node);
	case GRUB_FOR:
		return run_for(grub, node);
	case GRUB_FUNCTION:
		return define_function(grub, node);
	}
	BUG("a statement of kind %d", node->kind);
}

int grub_run(struct grub *grub, const struct grub_node *node)
{
	int status = GRUB_TRUE;

	if (++grub->depth > GRUB_DEPTH_MOST * 4)
		grub_fail(grub, "functions within functions without end");
	for (; node && !stopped(grub); node = node->next) {
		if (++grub->steps > GRUB_STEPS_MOST)
			grub_fail(grub, "the configuration does not end");
		else
			status = run_one(grub, node);
		grub->status = status;
	}
	grub->depth--;
	return grub->failed ? GRUB_FALSE : status;
}

int grub_run_file(struct grub *grub, u32 volume, const char *path)
{
	char *text = space_text(grub->space, volume, path, BOOT_CONFIG_MOST, NULL);
	struct grub_node *script;
	struct err why = ERR_INIT;
	const char *kept;
	int status;

	if (!text)
		return GRUB_FALSE;
	kept = grub_copy(grub, text);
	free(text);
	if (grub->failed)
		return GRUB_FALSE;
	if (grub_parse(kept, &grub->arena, &script, &why) < 0)
		return grub_fail(grub, "'%.200s': %.200s", path, why.text);
	status = grub_run(grub, script);
	grub->returning = false;
	return status;
}
