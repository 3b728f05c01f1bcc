#include "debug/symbols.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

/* Behind the last symbol of the kernel come modules, user programs, nothing: no name is better than a wrong one. */
#define FARTHEST (16ULL << 20)

#define LINE_MAX_BYTES 1024

struct symbol {
	u64 address;
	char *name;
};

struct symbols {
	struct symbol *list; /* by address */
	size_t count, room;
};

/* "ffffffff81000000 T _stext" with more words behind in kallsyms (the module). False: not a line for us. */
static bool parse_line(char *line, u64 *address, const char **name)
{
	char *end, *type, *rest;

	errno = 0;
	*address = strtoull(line, &end, 16);
	if (errno || end == line || *end != ' ')
		return false;
	type = end + 1;
	if (!*type || !strchr("tTwW", *type) || type[1] != ' ')
		return false;
	rest = type + 2;
	rest[strcspn(rest, " \t\r\n")] = '\0';
	*name = rest;
	return *rest != '\0';
}

static int add(struct symbols *symbols, u64 address, const char *name)
{
	if (symbols->count == symbols->room) {
		size_t room = symbols->room ? 2 * symbols->room : 4096;
		struct symbol *list = realloc(symbols->list, room * sizeof(*list));

		if (!list)
			return -1;
		symbols->list = list;
		symbols->room = room;
	}
	char *copy = strdup(name);

	if (!copy)
		return -1;
	symbols->list[symbols->count++] = (struct symbol){address, copy};
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int read_lines(struct symbols *symbols, FILE *file)
{
	char line[LINE_MAX_BYTES];
	const char *name;
	u64 address;

	while (fgets(line, sizeof(line), file)) {
		if (parse_line(line, &address, &name) && add(symbols, address, name) < 0)
			return -1;
	}
	return 0;
}

struct symbols *symbols_load(const char *path, struct err *err)
{
	FILE *file = fopen(path, "re");
	struct symbols *symbols;
	int failed;

	if (!file) {
		err_set(err, "cannot open '%s': %s", path, strerror(errno));
		return NULL;
	}
	symbols = calloc(1, sizeof(*symbols));
	if (!symbols || read_lines(symbols, file) < 0) {
		err_set(err, "out of memory");
		failed = true;
	} else if (ferror(file)) {
		failed = err_set(err, "cannot read '%s': %s", path, strerror(errno));
	} else if (!symbols->count) {
		failed = err_set(err, "'%s' holds no symbols of code", path);
	} else {
		qsort(symbols->list, symbols->count, sizeof(*symbols->list), by_address);
		failed = symbols->list[symbols->count - 1].address
				 ? 0
				 : err_set(err, "'%s' was read without permission: all addresses are 0", path);
	}
	fclose(file);
	if (failed) {
		symbols_free(symbols);
		return NULL;
	}
	return symbols;
}

void symbols_free(struct symbols *symbols)
{
	if (!symbols)
		return;
	for (size_t i = 0; i < symbols->count; i++)
		free(symbols->list[i].name);
	free(symbols->list);
	free(symbols);
}

const char *symbols_find(const struct symbols *symbols, u64 address, u64 *offset)
{
	size_t low = 0, high = symbols->count;

	/* how many symbols lie at or before the address */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->list[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || address - symbols->list[low - 1].address > FARTHEST)
		return NULL;
	*offset = address - symbols->list[low - 1].address;
	return symbols->list[low - 1].name;
}
