#include "image/reader/version.h"

#include <string.h>

#include "util/types.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool counts(char c)
{
	return is_digit(c) || is_letter(c) || (c && strchr("~-^.", c));
}

static int sign(int value)
{
	return (value > 0) - (value < 0);
}

/* Numbers by value, without a limit on their length. */
static int compare_numbers(const char **a, const char **b)
{
	size_t length_a, length_b;
	int result;

	*a += strspn(*a, "0");
	*b += strspn(*b, "0");
	length_a = strspn(*a, "0123456789");
	length_b = strspn(*b, "0123456789");
	result = length_a != length_b ? (length_a > length_b ? 1 : -1) : sign(strncmp(*a, *b, length_a));
	*a += length_a;
	*b += length_b;
	return result;
}

/* Runs of letters; the one that goes on is newer. */
static int compare_letters(const char **a, const char **b)
{
	while (is_letter(**a) && is_letter(**b)) {
		if (**a != **b)
			return **a > **b ? 1 : -1; /* capitals are older, as in ASCII */
		(*a)++;
		(*b)++;
	}
	return is_letter(**a) - is_letter(**b);
}

/* A separator that only one of the two has: whose it is, if it is the `mark`; `order`: what that makes the result. */
static int compare_mark(const char **a, const char **b, char mark, int order, bool *decided)
{
	bool in_a = **a == mark, in_b = **b == mark;

	*decided = in_a != in_b;
	if (in_a && in_b) {
		(*a)++;
		(*b)++;
	}
	return in_a ? order : -order;
}

int version_compare(const char *a, const char *b)
{
	/* "~" makes a version older than its end would; the others are newer than the end, but older than what follows
	 */
	static const struct {
		char mark;
		int order;
	} marks[] = {{'-', -1}, {'^', -1}, {'.', -1}};

	for (;;) {
		bool decided;
		int result;

		while (*a && !counts(*a))
			a++;
		while (*b && !counts(*b))
			b++;
		result = compare_mark(&a, &b, '~', -1, &decided);
		if (decided)
			return result;
		if (!*a || !*b)
			return (*a != 0) - (*b != 0);
		for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
			result = compare_mark(&a, &b, marks[i].mark, marks[i].order, &decided);
			if (decided)
				return result;
		}
		result = is_digit(*a) || is_digit(*b) ? compare_numbers(&a, &b) : compare_letters(&a, &b);
		if (result)
			return result;
	}
}
