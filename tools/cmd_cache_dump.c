/* avant cache dump: everything in a file, chunk by chunk. */
#include "cache_fields.h"
#include "cache_tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct dump_options {
	struct command_arguments files;
	const char *chunk;
	bool json;
};

#define LINE_BYTES 16u

/* ---- fields ---- */

/* The value of a field as text. */
static void field_text(struct tcache *cache, const struct field *field, const void *record, char *text, size_t size)
{
	const u8 *at = (const u8 *)record + field->offset;
	u64 value = cache_field_value(field, record), high;
	struct safe_text safe;

	switch (field->form) {
	case FIELD_COUNT:
		snprintf(text, size, "%" PRIu64, value);
		break;
	case FIELD_SIGNED:
		snprintf(text, size, "%" PRId64, (s64)value);
		break;
	case FIELD_ADDRESS:
		snprintf(text, size, "0x%" PRIx64, value);
		break;
	case FIELD_BYTES:
		text[0] = '\0';
		for (size_t i = 0; i < field->size && 2 * i + 3 <= size; i++)
			snprintf(text + 2 * i, 3, "%02x", at[i]);
		break;
	case FIELD_HASH:
		memcpy(&high, at + 8, 8);
		snprintf(text, size, "%016" PRIx64 "%016" PRIx64, high, value);
		break;
	case FIELD_STRING:
		snprintf(text, size, "%s", cache_tool_string(cache, (u32)value, &safe));
		break;
	case FIELD_TEXT:
		snprintf(text, size, "%s", safe_text(&safe, (const char *)at, strnlen((const char *)at, field->size)));
		break;
	}
}

static json_t *record_json(struct tcache *cache, const struct field *fields, const void *record)
{
	json_t *object = json_object();
	char text[TCACHE_MAX_STRING + 1];

	for (const struct field *field = fields; field->name; field++) {
		json_t *value;

		field_text(cache, field, record, text, sizeof(text));
		if (field->form == FIELD_COUNT)
			value = json_count(cache_field_value(field, record));
		else if (field->form == FIELD_SIGNED)
			value = json_integer((json_int_t)cache_field_value(field, record));
		else
			value = json_string(text);
		json_object_set_new(object, field->name, value);
	}
	return object;
}

/* name=value for each, on one line. Texts are quoted. */
static void print_record(struct tcache *cache, const struct field *fields, const void *record)
{
	char text[TCACHE_MAX_STRING + 1];

	for (const struct field *field = fields; field->name; field++) {
		const char *quote = field->form == FIELD_STRING || field->form == FIELD_TEXT ? "\"" : "";

		field_text(cache, field, record, text, sizeof(text));
		printf(" %s=%s%s%s", field->name, quote, text, quote);
	}
	putchar('\n');
}

/* Fields one below the other. */
static void print_fields(struct tcache *cache, const struct field *fields, const void *record)
{
	char text[TCACHE_MAX_STRING + 1];

	for (const struct field *field = fields; field->name; field++) {
		field_text(cache, field, record, text, sizeof(text));
		printf("  %-28s %s\n", field->name, text);
	}
}

/* ---- bytes ---- */

static void print_bytes_line(const u8 *bytes, u64 offset, size_t count)
{
	printf("  %08" PRIx64 " ", offset);
	for (size_t i = 0; i < LINE_BYTES; i++)
		if (i < count)
			printf(" %02x", bytes[i]);
		else
			fputs("   ", stdout);
	fputs("  |", stdout);
	for (size_t i = 0; i < count; i++)
		putchar(bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.');
	puts("|");
}

/* As hexdump does it: a line like the one before it is not printed, a star stands for all of them. */
static void print_bytes(const u8 *bytes, u64 length)
{
	bool starred = false;

	for (u64 at = 0; at < length && !ferror(stdout); at += LINE_BYTES) {
		size_t count = length - at < LINE_BYTES ? length - at : LINE_BYTES;

		if (at && count == LINE_BYTES && at + count < length &&
		    !memcmp(bytes + at, bytes + at - LINE_BYTES, count)) {
			if (!starred)
				puts("  *");
			starred = true;
			continue;
		}
		starred = false;
		print_bytes_line(bytes + at, at, count);
	}
}

static void print_bytes_json(const u8 *bytes, u64 length)
{
	fputs(", \"bytes\": \"", stdout);
	for (u64 i = 0; i < length && !ferror(stdout); i++)
		printf("%02x", bytes[i]);
	putchar('"');
}

/* ---- text ---- */

/* Lines of the log, or the strings of STRS with their offsets: `end` ends each. */
static void print_text(const char *text, u64 length, char end, struct json_lines *lines)
{
	for (u64 at = 0; at < length && !ferror(stdout);) {
		const char *stop = memchr(text + at, end, length - at);
		u64 size = stop ? (u64)(stop - text) - at : length - at;
		struct safe_text safe;

		safe_text(&safe, text + at, size);
		if (lines && end == '\n')
			json_lines_add(lines, json_string(safe.text));
		else if (lines && size)
			json_lines_add(lines, json_pack("{s:o, s:s}", "offset", json_count(at), "text", safe.text));
		else if (!lines && end == '\n')
			printf("  %s\n", safe.text);
		else if (!lines && size)
			printf("  %8" PRIu64 " \"%s\"\n", at, safe.text);
		at += size + 1;
	}
}

/* ---- chunks ---- */

static void print_records(struct tcache *cache, const struct tcache_toc_entry *entry, const u8 *data,
			  struct json_lines *lines)
{
	const struct field *fields = cache_fields(entry->type);
	u64 count = entry->length / entry->element_size;

	for (u64 i = 0; i < count && !ferror(stdout); i++) {
		const u8 *record = data + i * entry->element_size;

		if (lines) {
			json_lines_add(lines, record_json(cache, fields, record));
		} else {
			printf("  %7" PRIu64, i);
			print_record(cache, fields, record);
		}
	}
}

static void print_contents(struct tcache *cache, const struct tcache_toc_entry *entry, u32 chunk, const void *data,
			   bool json)
{
	/* understood, and not only of the same name */
	bool known = tcache_find(cache, entry->type) == chunk || entry->type == TCACHE_TYPE_kernel;
	struct json_lines lines = {0};

	if (known && cache_fields(entry->type)) {
		if (json)
			fputs(", \"records\": ", stdout);
		print_records(cache, entry, data, json ? &lines : NULL);
	} else if (known && (entry->type == TCACHE_TYPE_log || entry->type == TCACHE_TYPE_strings)) {
		if (json)
			fputs(entry->type == TCACHE_TYPE_log ? ", \"lines\": " : ", \"strings\": ", stdout);
		print_text(data, entry->length, entry->type == TCACHE_TYPE_log ? '\n' : '\0', json ? &lines : NULL);
	} else if (json) {
		print_bytes_json(data, entry->length);
		return;
	} else {
		print_bytes(data, entry->length);
	}
	if (json)
		json_lines_end(&lines);
}

static int dump_chunk(struct tcache *cache, u32 chunk, struct json_lines *chunks)
{
	const struct tcache_toc_entry *entry = tcache_toc(cache, chunk);
	const char *meaning = tcache_type_text(entry->type);
	struct hex_text type = chunk_type_text(entry->type);
	u64 length;
	const void *data = tcache_chunk(cache, chunk, &length);

	if (!data)
		return -1;
	meaning = meaning ? meaning : "unknown";
	if (chunks) {
		json_lines_next(chunks);
		printf("{\"type\": \"%s\", \"meaning\": \"%s\", \"critical\": %s, \"schema\": %u, \"offset\": %" PRIu64
		       ", \"length\": %" PRIu64 ", \"element_size\": %u",
		       type.text, meaning, entry->flags & TCACHE_CRITICAL ? "true" : "false", entry->schema,
		       entry->offset, entry->length, entry->element_size);
	} else {
		printf("\nchunk %s: %s, %s, schema %u, offset %" PRIu64 ", ", type.text, meaning,
		       entry->flags & TCACHE_CRITICAL ? "critical" : "optional", entry->schema, entry->offset);
		if (entry->element_size == 1)
			printf("%" PRIu64 " bytes\n", entry->length);
		else
			printf("%" PRIu64 " records of %u bytes\n", entry->length / entry->element_size,
			       entry->element_size);
	}
	print_contents(cache, entry, chunk, data, chunks);
	if (chunks)
		putchar('}');
	tcache_forget(cache, chunk);
	return 0;
}

/* Whether there is such a chunk; any, if no name is given. */
static bool has_chunk(const struct tcache *cache, const char *name)
{
	for (u32 i = 0; i < tcache_chunk_count(cache); i++)
		if (!name || !strcasecmp(name, chunk_type_text(tcache_toc(cache, i)->type).text))
			return true;
	return !name;
}

static int dump_chunks(const struct command *command, struct tcache *cache, const char *name, struct json_lines *chunks)
{
	int status = STATUS_OK;

	if (!has_chunk(cache, name))
		return command_error(command, "'%s': has no chunk '%s'", tcache_name(cache), name);
	for (u32 i = 0; i < tcache_chunk_count(cache) && !ferror(stdout); i++) {
		if (name && strcasecmp(name, chunk_type_text(tcache_toc(cache, i)->type).text) != 0)
			continue;
		if (dump_chunk(cache, i, chunks) < 0)
			status = cache_tool_failed(command, cache);
	}
	return status;
}

static int dump_json(const struct command *command, struct tcache *cache, const char *name, const char *chunk)
{
	json_t *header = record_json(cache, cache_header_fields, tcache_header(cache));
	json_t *footer = record_json(cache, cache_footer_fields, tcache_footer(cache));
	json_t *file = json_string(name);
	struct json_lines chunks = {0};
	int status;

	fputs("{\"file\": ", stdout);
	json_dumpf(file, stdout, JSON_ENCODE_ANY);
	if (!chunk) {
		fputs(", \"header\": ", stdout);
		json_dumpf(header, stdout, 0);
		fputs(", \"footer\": ", stdout);
		json_dumpf(footer, stdout, 0);
	}
	fputs(", \"chunks\": ", stdout);
	status = dump_chunks(command, cache, chunk, &chunks);
	json_lines_end(&chunks);
	putchar('}');
	json_decref(file);
	json_decref(header);
	json_decref(footer);
	return status;
}

static int dump_text(const struct command *command, struct tcache *cache, const char *name, const char *chunk)
{
	int status;

	printf("file %s\n", name);
	if (!chunk) {
		puts("\nheader");
		print_fields(cache, cache_header_fields, tcache_header(cache));
	}
	status = dump_chunks(command, cache, chunk, NULL);
	if (!chunk) {
		puts("\nfooter");
		print_fields(cache, cache_footer_fields, tcache_footer(cache));
	}
	return status;
}

static int dump_main(const struct command *command, void *parsed)
{
	const struct dump_options *options = parsed;
	struct json_lines files = {0};
	int status = STATUS_OK;

	for (size_t i = 0; i < options->files.count; i++) {
		const char *path = options->files.items[i];
		struct tcache *cache = cache_tool_open(command, path);
		struct safe_text name;
		int result;

		if (!cache) {
			status = STATUS_ERROR;
			continue;
		}
		safe_text(&name, path, strlen(path));
		if (options->json) {
			json_lines_next(&files);
			result = dump_json(command, cache, name.text, options->chunk);
		} else {
			if (i)
				putchar('\n');
			result = dump_text(command, cache, name.text, options->chunk);
		}
		if (result)
			status = STATUS_ERROR;
		tcache_close(cache);
	}
	if (options->json) {
		json_lines_end(&files);
		putchar('\n');
	}
	return command_finish_output(status);
}

static const struct option_spec options[] = {
	{.help = "Options"},
	{"chunk", "NAME", "this chunk only, such as UNIT; 'avant cache info' tells the names", NULL, option_text,
	 offsetof(struct dump_options, chunk)},
	{"json", NULL, "print a JSON array instead of text", NULL, NULL, offsetof(struct dump_options, json)},
	{0},
};

const struct command command_cache_dump = {
	.name = "cache dump",
	.summary = "print everything in files",
	.usage = "[OPTION]... FILE...",
	.text = "Prints header, chunks and footer of each file: records one a line, bytes in hexadecimal. The file\n"
		"format is described in cache-format/FORMAT.md of the sources.\n",
	.examples = "  avant cache dump --chunk BLOG kernel.tcache\n"
		    "  avant cache dump --json --chunk unit kernel.tcache | jq '.[0].chunks[0].records[17]'\n"
		    "\nExit status: 0 success; 1 a file cannot be read, is damaged or has no such chunk; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct dump_options),
	.arguments_needed = 1,
	.arguments = "FILE...",
	.arguments_offset = offsetof(struct dump_options, files),
	.main = dump_main,
};
