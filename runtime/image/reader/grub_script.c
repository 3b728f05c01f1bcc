#include "image/reader/grub_script.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MOST 64 /* of statements within statements */
#define BLOCK      65536u

struct arena_block {
	struct arena_block *next;
	u64 used, size;
	_Alignas(16) u8 data[];
};

void *arena_take(struct arena *arena, u64 size)
{
	struct arena_block *block = arena->block;
	void *at;

	size = align_up(size, 16);
	if (size > arena->most || arena->used > arena->most - size)
		return NULL;
	if (!block || size > block->size - block->used) {
		u64 room = size > BLOCK ? size : BLOCK;

		block = calloc(1, sizeof(*block) + room);
		if (!block)
			return NULL;
		block->size = room;
		block->next = arena->block;
		arena->block = block;
	}
	at = block->data + block->used;
	block->used += size;
	arena->used += size;
	return at;
}

void arena_release(struct arena *arena)
{
	while (arena->block) {
		struct arena_block *next = arena->block->next;

		free(arena->block);
		arena->block = next;
	}
}

enum token { TOKEN_END, TOKEN_NEWLINE, TOKEN_WORD, TOKEN_OPEN, TOKEN_CLOSE }; /* a semicolon is a newline, too */

struct parser {
	const char *at;
	unsigned line;
	struct arena *arena;
	enum token token; /* the current one */
	struct grub_word *word;
	unsigned depth;
	bool failed;
	struct err *err;
};

static void fail(struct parser *p, const char *what)
{
	if (!p->failed)
		err_set(p->err, "line %u: %s", p->line, what);
	p->failed = true;
	p->token = TOKEN_END;
}

static void *take(struct parser *p, u64 size)
{
	void *at = arena_take(p->arena, size);

	if (!at)
		fail(p, "the script is too large");
	return at;
}

/* ---- words ---- */

static struct grub_part *add_part(struct parser *p, struct grub_part ***end, const char *text, size_t length)
{
	struct grub_part *part = take(p, sizeof(*part));
	char *copy = part ? take(p, length + 1) : NULL;

	if (!copy)
		return NULL;
	memcpy(copy, text, length);
	part->text = copy;
	**end = part;
	*end = &part->next;
	return part;
}

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* At a '$'. What is no variable is a dollar sign. */
static void variable(struct parser *p, struct grub_part ***end, bool quoted)
{
	const char *name = p->at + 1;
	size_t length = 0;
	struct grub_part *part;

	if (*name == '{') {
		name++;
		length = strcspn(name, "}\n");
		if (name[length] != '}') {
			fail(p, "'${' without '}'");
			return;
		}
		p->at = name + length + 1;
	} else if (*name && strchr("?#*@", *name)) {
		length = 1;
		p->at = name + 1;
	} else {
		/* $12 is the twelfth parameter, not the first and a 2 */
		while (is_name(name[length]))
			length++;
		p->at = name + length;
	}
	part = length ? add_part(p, end, name, length) : add_part(p, end, "$", 1);
	if (part) {
		part->variable = length > 0;
		part->quoted = quoted;
	}
}

static void single_quotes(struct parser *p, struct grub_part ***end)
{
	const char *start = ++p->at;
	struct grub_part *part;

	for (; *p->at && *p->at != '\''; p->at++)
		p->line += *p->at == '\n';
	if (!*p->at) {
		fail(p, "quotes that do not end");
		return;
	}
	part = add_part(p, end, start, (size_t)(p->at++ - start));
	if (part)
		part->quoted = true;
}

/* A run of literal characters up to one of `stop`, with backslashes taken off where they stand before one of `escaped`.
 */
static void literal(struct parser *p, struct grub_part ***end, const char *stop, const char *escaped, bool quoted)
{
	size_t length = 0, used = 0;
	struct grub_part *part;
	char *copy;

	while (p->at[length] && !strchr(stop, p->at[length]))
		length += p->at[length] == '\\' && p->at[length + 1] ? 2 : 1;
	copy = take(p, length + 1);
	part = copy ? take(p, sizeof(*part)) : NULL;
	if (!part)
		return;
	for (size_t i = 0; i < length; i++) {
		if (p->at[i] == '\\' && i + 1 < length && (!escaped || strchr(escaped, p->at[i + 1]))) {
			i++;
			p->line += p->at[i] == '\n';
			if (p->at[i] == '\n')
				continue; /* the line goes on */
		} else {
			p->line += p->at[i] == '\n';
		}
		copy[used++] = p->at[i];
	}
	p->at += length;
	part->text = copy;
	part->quoted = quoted;
	**end = part;
	*end = &part->next;
}

static void double_quotes(struct parser *p, struct grub_part ***end)
{
	bool any = false;

	p->at++;
	while (!p->failed && *p->at && *p->at != '"') {
		if (*p->at == '$')
			variable(p, end, true);
		else
			literal(p, end, "$\"", "$\"\\\n", true);
		any = true;
	}
	if (!p->failed && *p->at != '"')
		fail(p, "quotes that do not end");
	if (p->failed)
		return;
	p->at++;
	if (!any) {
		struct grub_part *part = add_part(p, end, "", 0);

		if (part)
			part->quoted = true;
	}
}

static void read_word(struct parser *p)
{
	struct grub_word *word = take(p, sizeof(*word));
	struct grub_part **end;

	if (!word)
		return;
	end = &word->part;
	while (!p->failed && *p->at && !strchr(" \t\r\n;{}|&<>", *p->at)) {
		if (*p->at == '\'')
			single_quotes(p, &end);
		else if (*p->at == '"')
			double_quotes(p, &end);
		else if (p->at[0] == '$' && p->at[1] == '"') /* a text to be translated */
			p->at++;
		else if (*p->at == '$')
			variable(p, &end, false);
		else
			literal(p, &end, " \t\r\n;{}|&<>'\"$", NULL, false);
	}
	if (!p->failed) {
		p->word = word;
		p->token = TOKEN_WORD;
	}
}

static void skip_blanks(struct parser *p)
{
	for (;; p->at++) {
		if (p->at[0] == '\\' && p->at[1] == '\n') {
			p->at++;
			p->line++;
		} else if (*p->at == '#') {
			p->at += strcspn(p->at, "\n");
			return;
		} else if (!*p->at || !strchr(" \t\r", *p->at)) {
			return;
		}
	}
}

static void advance(struct parser *p)
{
	if (p->failed)
		return;
	skip_blanks(p);
	switch (*p->at) {
	case '\0':
		p->token = TOKEN_END;
		break;
	case '\n':
		p->line++;
		/* fall through */
	case ';':
		p->at++;
		p->token = TOKEN_NEWLINE;
		break;
	case '{':
		p->at++;
		p->token = TOKEN_OPEN;
		break;
	case '}':
		p->at++;
		p->token = TOKEN_CLOSE;
		break;
	case '|':
	case '&':
	case '<':
	case '>':
		fail(p, "pipes and redirections are not known");
		break;
	default:
		read_word(p);
	}
}

/* ---- statements ---- */

static struct grub_node *list(struct parser *p, const char *const *until);

/* The current token is this word, not in quotes. */
static bool at_word(const struct parser *p, const char *text)
{
	const struct grub_part *part = p->token == TOKEN_WORD ? p->word->part : NULL;

	return part && !part->next && !part->variable && !part->quoted && strcmp(part->text, text) == 0;
}

static void expect_word(struct parser *p, const char *text, const char *message)
{
	if (at_word(p, text))
		advance(p);
	else
		fail(p, message);
}

static void skip_newlines(struct parser *p)
{
	while (p->token == TOKEN_NEWLINE)
		advance(p);
}

static struct grub_node *new_node(struct parser *p, enum grub_kind kind)
{
	struct grub_node *node = take(p, sizeof(*node));

	if (node)
		node->kind = kind;
	return node;
}

/* Words up to the end of the statement or a brace. */
static void words(struct parser *p, struct grub_word **end)
{
	for (; p->token == TOKEN_WORD; advance(p)) {
		*end = p->word;
		end = &p->word->next;
	}
}

/* "{ … }" */
static struct grub_node *block(struct parser *p)
{
	struct grub_node *body;

	if (p->token != TOKEN_OPEN) {
		fail(p, "'{' expected");
		return NULL;
	}
	advance(p);
	body = list(p, NULL);
	if (p->token == TOKEN_CLOSE)
		advance(p);
	else
		fail(p, "'}' expected");
	return body;
}

/* Behind "if" or "elif", up to "fi". */
static struct grub_node *if_statement(struct parser *p)
{
	static const char *const then[] = {"then", NULL}, *const end[] = {"elif", "else", "fi", NULL},
				 *const fi[] = {"fi", NULL};
	struct grub_node *node = new_node(p, GRUB_IF);

	if (!node || ++p->depth > DEPTH_MOST) {
		fail(p, "too many statements within statements");
		return NULL;
	}
	advance(p);
	node->condition = list(p, then);
	expect_word(p, "then", "'then' expected");
	node->body = list(p, end);
	if (at_word(p, "elif")) {
		node->otherwise = if_statement(p);
	} else {
		if (at_word(p, "else")) {
			advance(p);
			node->otherwise = list(p, fi);
		}
		expect_word(p, "fi", "'fi' expected");
	}
	p->depth--;
	return node;
}

/* "do … done" */
static struct grub_node *loop_body(struct parser *p)
{
	static const char *const done[] = {"done", NULL};
	struct grub_node *body;

	skip_newlines(p);
	expect_word(p, "do", "'do' expected");
	body = list(p, done);
	expect_word(p, "done", "'done' expected");
	return body;
}

static struct grub_node *loop(struct parser *p, enum grub_kind kind)
{
	static const char *const until[] = {"do", NULL};
	struct grub_node *node = new_node(p, kind);

	if (!node)
		return NULL;
	advance(p);
	node->condition = list(p, until);
	node->body = loop_body(p);
	return node;
}

static struct grub_node *for_statement(struct parser *p)
{
	struct grub_node *node = new_node(p, GRUB_FOR);

	if (!node)
		return NULL;
	advance(p);
	if (p->token != TOKEN_WORD) {
		fail(p, "'for' without a name");
		return NULL;
	}
	node->word = p->word;
	advance(p);
	expect_word(p, "in", "'in' expected");
	words(p, &node->word->next);
	node->body = loop_body(p);
	return node;
}

static struct grub_node *function(struct parser *p)
{
	struct grub_node *node = new_node(p, GRUB_FUNCTION);

	if (!node)
		return NULL;
	advance(p);
	if (p->token != TOKEN_WORD) {
		fail(p, "'function' without a name");
		return NULL;
	}
	node->word = p->word;
	advance(p);
	skip_newlines(p);
	node->body = block(p);
	return node;
}

static struct grub_node *command(struct parser *p)
{
	struct grub_node *node = new_node(p, GRUB_COMMAND);

	if (!node)
		return NULL;
	words(p, &node->word);
	if (p->token == TOKEN_OPEN) {
		node->block = true;
		node->body = block(p);
	}
	return node;
}

static struct grub_node *statement(struct parser *p)
{
	struct grub_node *node;

	if (++p->depth > DEPTH_MOST) {
		fail(p, "too many statements within statements");
		return NULL;
	}
	if (at_word(p, "if"))
		node = if_statement(p);
	else if (at_word(p, "while"))
		node = loop(p, GRUB_WHILE);
	else if (at_word(p, "until"))
		node = loop(p, GRUB_UNTIL);
	else if (at_word(p, "for"))
		node = for_statement(p);
	else if (at_word(p, "function"))
		node = function(p);
	else
		node = command(p);
	p->depth--;
	return node;
}

static bool at_any(const struct parser *p, const char *const *texts)
{
	for (; texts && *texts; texts++)
		if (at_word(p, *texts))
			return true;
	return false;
}

/* Statements up to one of the words, which stays the current token, a '}', or the end. */
static struct grub_node *list(struct parser *p, const char *const *until)
{
	struct grub_node *first = NULL, **end = &first;

	for (;;) {
		skip_newlines(p);
		if (p->token == TOKEN_END || p->token == TOKEN_CLOSE || at_any(p, until))
			return first;
		if (!(*end = statement(p)))
			return first;
		end = &(*end)->next;
	}
}

int grub_parse(const char *text, struct arena *arena, struct grub_node **script, struct err *err)
{
	struct parser p = {.at = text, .line = 1, .arena = arena, .err = err};

	advance(&p);
	*script = list(&p, NULL);
	if (!p.failed && p.token != TOKEN_END)
		fail(&p, "'}' without '{'");
	return p.failed ? -1 : 0;
}
