#include <inttypes.h>

#include "golden_text.h"

#define LINE_BYTES 16u

/* Is the line what the reader of the text assumes anyway? */
static bool line_implied(const struct bytes *bytes, size_t at, size_t count, const struct bytes *base)
{
	for (size_t i = at; i < at + count; i++)
		if (bytes->data[i] != (base && i < base->size ? base->data[i] : 0))
			return false;
	return true;
}

void golden_print(FILE *out, const char *comment, const struct golden *golden, const struct bytes *base)
{
	const struct bytes *bytes = &golden->bytes;

	fprintf(out, "# %s\nexpect %s\n", comment, golden->expect);
	if (base)
		fprintf(out, "like %s\n", golden->like);
	fprintf(out, "length %zu\n", bytes->size);
	for (size_t at = 0; at < bytes->size; at += LINE_BYTES) {
		size_t count = bytes->size - at < LINE_BYTES ? bytes->size - at : LINE_BYTES;

		if (line_implied(bytes, at, count, base))
			continue;
		fprintf(out, "%06zx", at);
		for (size_t i = 0; i < count; i++)
			fprintf(out, " %02x", bytes->data[at + i]);
		fputc('\n', out);
	}
}

static int parse_bytes(struct golden *golden, const char *line)
{
	char *end;
	uint64_t at = strtoull(line, &end, 16);

	if (end == line)
		return -1;
	while (*end == ' ') {
		const char *start = end;
		unsigned long value = strtoul(start, &end, 16);

		if (end == start || value > 255 || at >= golden->bytes.size)
			return -1;
		golden->bytes.data[at++] = (uint8_t)value;
	}
	return *end ? -1 : 0;
}

static int parse_length(struct golden *golden, const char *text)
{
	struct bytes bytes = bytes_new(strtoull(text, NULL, 10));
	size_t kept = golden->bytes.size < bytes.size ? golden->bytes.size : bytes.size;

	if (golden->bytes.data)
		memcpy(bytes.data, golden->bytes.data, kept);
	free(golden->bytes.data);
	golden->bytes = bytes;
	return 0;
}

static int copy(char *to, size_t size, const char *from)
{
	size_t length = strlen(from);

	if (length >= size)
		return -1;
	memcpy(to, from, length + 1);
	return 0;
}

static int parse_line(const char *directory, struct golden *golden, const char *line)
{
	if (!*line || *line == '#')
		return 0;
	if (!strncmp(line, "expect ", 7)) {
		return copy(golden->expect, sizeof(golden->expect), line + 7);
	}
	if (!strncmp(line, "length ", 7))
		return parse_length(golden, line + 7);
	if (!strncmp(line, "like ", 5)) {
		struct golden base;

		if (golden_parse(directory, line + 5, &base))
			return -1;
		golden->bytes = base.bytes;
		return copy(golden->like, sizeof(golden->like), line + 5);
	}
	return parse_bytes(golden, line);
}

int golden_parse(const char *directory, const char *name, struct golden *golden)
{
	char path[4096], line[600];
	unsigned number = 0;
	int status = 0;
	FILE *file;

	*golden = (struct golden){0};
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "r");
	if (!file) {
		perror(path);
		return -1;
	}
	while (!status && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		number++;
		status = parse_line(directory, golden, line);
		if (status)
			fprintf(stderr, "%s:%u: cannot be understood: %s\n", path, number, line);
	}
	fclose(file);
	return status;
}
