/* The conditions of GRUB's "[" and "test": or, and, not, parentheses; texts, numbers, files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/reader/grub.h"

struct condition {
	struct grub *grub;
	const char *const *word;
	u32 count, at;
	u32 depth;
};

static bool either(struct condition *c);

static const char *peek(const struct condition *c, u32 ahead)
{
	return ahead < c->count - c->at ? c->word[c->at + ahead] : NULL;
}

static long number(const char *text)
{
	return strtol(text, NULL, 0);
}

/* -e, -f, -d, -s of a path. */
static bool file_test(const struct grub *grub, char kind, const char *text)
{
	struct image_entry entry;
	struct spot spot;
	const char *path;
	u32 volume;

	if (!grub_place(grub, text, &volume, &path) ||
	    space_stat(grub->space, volume, path, true, &spot, &entry, NULL) != 0)
		return false;
	switch (kind) {
	case 'f':
		return entry.kind != IMAGE_DIRECTORY;
	case 'd':
		return entry.kind == IMAGE_DIRECTORY;
	case 's':
		return entry.kind == IMAGE_DIRECTORY || entry.size > 0;
	default:
		return true;
	}
}

/* Three words with an operator between. *known: it is one. */
static bool compare(const char *a, const char *operator, const char * b, bool *known)
{
	static const struct {
		const char *name;
		bool numbers;
		bool less, equal, greater; /* what makes it true */
	} operators[] = {
		{"=", false, false, true, false},  {"==", false, false, true, false}, {"!=", false, true, false, true},
		{"<", false, true, false, false},  {">", false, false, false, true},  {"<=", false, true, true, false},
		{">=", false, false, true, true},  {"-eq", true, false, true, false}, {"-ne", true, true, false, true},
		{"-lt", true, true, false, false}, {"-gt", true, false, false, true}, {"-le", true, true, true, false},
		{"-ge", true, false, true, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		int order;

		if (strcmp(operators[i].name, operator) != 0)
			continue;
		*known = true;
		if (operators[i].numbers)
			order = (number(a) > number(b)) - (number(a) < number(b));
		else
			order = strcmp(a, b);
		return order < 0 ? operators[i].less : order ? operators[i].greater : operators[i].equal;
	}
	*known = false;
	return false;
}

static bool primary(struct condition *c)
{
	const char *first = peek(c, 0), *second = peek(c, 1), *third = peek(c, 2);
	bool known = false, result;

	if (!first)
		return false;
	if (second && third) {
		result = compare(first, second, third, &known);
		if (known) {
			c->at += 3;
			return result;
		}
	}
	if (!strcmp(first, "(") && ++c->depth < GRUB_DEPTH_MOST) {
		c->at++;
		result = either(c);
		if (peek(c, 0) && !strcmp(peek(c, 0), ")"))
			c->at++;
		return result;
	}
	if (first[0] == '-' && first[1] && !first[2] && second && strchr("nzefds", first[1])) {
		c->at += 2;
		if (first[1] == 'n' || first[1] == 'z')
			return (*second != '\0') == (first[1] == 'n');
		return file_test(c->grub, first[1], second);
	}
	c->at++;
	return *first != '\0';
}

static bool negated(struct condition *c)
{
	bool inverse = false;

	/* "!" with an operator behind it is a text */
	while (peek(c, 0) && !strcmp(peek(c, 0), "!") && peek(c, 1)) {
		bool known = false;

		if (peek(c, 2))
			compare("", peek(c, 1), "", &known);
		if (known)
			break;
		inverse = !inverse;
		c->at++;
	}
	return primary(c) != inverse;
}

static bool both(struct condition *c)
{
	bool result = negated(c);

	while (peek(c, 0) && !strcmp(peek(c, 0), "-a")) {
		c->at++;
		result &= negated(c);
	}
	return result;
}

static bool either(struct condition *c)
{
	bool result = both(c);

	while (peek(c, 0) && !strcmp(peek(c, 0), "-o")) {
		c->at++;
		result |= both(c);
	}
	return result;
}

int grub_test(struct grub *grub, const char *const *words, u32 count)
{
	struct condition c = {.grub = grub, .word = words, .count = count};

	return either(&c) ? GRUB_TRUE : GRUB_FALSE;
}
