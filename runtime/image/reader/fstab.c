#include "image/reader/fstab.h"

#include <string.h>

#include "util/types.h"

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* "\040" stands for a space, and so on. */
static char *unescape(char *field)
{
	char *to = field;

	for (const char *from = field; *from;) {
		if (from[0] == '\\' && is_octal(from[1]) && is_octal(from[2]) && is_octal(from[3])) {
			char c = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));

			*to++ = c ? c : '?';
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
	return field;
}

static char *next_field(char **at)
{
	char *field = *at + strspn(*at, " \t\r");
	size_t length = strcspn(field, " \t\r");

	*at = field + length;
	if (**at)
		*(*at)++ = '\0';
	return unescape(field);
}

void fstab_read(char *text, fstab_visitor *visit, void *opaque)
{
	for (char *next, *at = text; at; at = next) {
		struct fstab_line line;

		next = strchr(at, '\n');
		if (next)
			*next++ = '\0';
		line.device = next_field(&at);
		if (!*line.device || *line.device == '#')
			continue;
		line.directory = next_field(&at);
		line.type = next_field(&at);
		line.options = next_field(&at);
		if (*line.directory)
			visit(opaque, &line);
	}
}
