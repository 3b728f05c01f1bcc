/* avant cache disasm: guest instructions beside what they became. */
#include "cache_disasm.h"
#include "cache_tool.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct disasm_options {
	struct command_arguments words; /* the file, then units */
	bool json;
};

/* What is passed to each unit found. */
struct output {
	const struct command *command;
	struct json_lines *lines; /* NULL: text */
	bool printed;
};

/* ---- text ---- */

#define GUEST_WIDTH 54

/* Both sides of a line. guest: what stands there, or ""; host: NULL if nothing does. */
static void print_sides(const char *guest, u64 base, const struct disasm_line *host)
{
	if (host)
		printf("  %-*s  %08" PRIx64 "  %s%s%s\n", GUEST_WIDTH, guest, base + host->offset, host->text,
		       *host->note ? "  ; " : "", host->note);
	else
		printf("  %s\n", guest);
}

/* Where the next segment that is not a repetition begins in the guest's order: what lies before it has no own one. */
static u32 guest_end(const struct disasm *d, u32 from, u32 length)
{
	u32 end = length;

	for (u32 i = 0; i < d->segment_count; i++)
		if (d->segments[i].guest != DISASM_NO_GUEST && d->segments[i].guest > from &&
		    d->segments[i].guest < end)
			end = d->segments[i].guest;
	return end;
}

/* The guest lines of a segment: *first, and how many. */
static u32 segment_guest(const struct disasm *d, const struct disasm_segment *s, u32 length, u32 *first)
{
	u32 count = 0, end;

	*first = 0;
	if (s->guest == DISASM_NO_GUEST) {
		/* what comes before the first instruction that has a record: mostly nothing */
		end = 0;
		if (d->segment_count > 1)
			for (end = d->segments[1].guest; *first < d->guest_count && d->guest[*first].offset < end;) {
				(*first)++;
				count++;
			}
		*first = 0;
		return count;
	}
	while (*first < d->guest_count && d->guest[*first].offset < s->guest)
		(*first)++;
	if (*first == d->guest_count)
		return 0;
	end = s->again ? s->guest + 1 : guest_end(d, s->guest, length);
	while (*first + count < d->guest_count && d->guest[*first + count].offset < end)
		count++;
	return count;
}

static void print_segments(struct tcache *cache, const struct tcache_unit *unit, const struct disasm *d)
{
	u64 base = tcache_place(cache)->code_address + unit->code_offset;
	u32 host = 0;

	for (u32 i = 0; i < d->segment_count; i++) {
		const struct disasm_segment *s = &d->segments[i];
		u32 guest, guests = segment_guest(d, s, unit->guest_length, &guest);

		for (u32 row = 0;; row++) {
			bool more = host < d->host_count && d->host[host].segment == i;
			char text[160] = "";

			if (row >= guests && !more)
				break;
			if (row < guests)
				snprintf(text, sizeof(text), "%016" PRIx64 "  %s",
					 unit->pc + d->guest[guest + row].offset, d->guest[guest + row].text);
			else if (!row && s->guest != DISASM_NO_GUEST)
				snprintf(text, sizeof(text), "%016" PRIx64, unit->pc + s->guest);
			print_sides(text, base, more ? &d->host[host++] : NULL);
		}
	}
}

static void print_unit(struct tcache *cache, const struct tcache_unit_view *view, u32 number, const struct disasm *d)
{
	const struct tcache_unit *unit = view->unit;
	const struct tcache_image *image = unit->image ? tcache_images(cache, unit->image - 1, 1) : NULL;
	char name[UNIT_NAME_SIZE];
	struct safe_text safe;

	printf("unit %u: ", number);
	if (unit->name)
		printf("%s, ", unit_name_text(cache, unit, &safe, name, sizeof(name)));
	printf("0x%" PRIx64 ", mode %08x, %s", unit->pc, unit->mode, unit_kind_text(unit->flags));
	if (image)
		printf(", of %s", cache_tool_string(cache, image->name, &safe));
	printf("\n  %u instructions in %u bytes, %u bytes of code", unit->instruction_count, unit->guest_length,
	       unit->code_length);
	if (unit->executions)
		printf(", executed %" PRIu64 " times", unit->executions);
	puts(view->guest ? "\n" : ", guest bytes not in the file\n");
	print_segments(cache, unit, d);
}

/* ---- JSON ---- */

static json_t *line_json(u64 base, const u8 *bytes, const struct disasm_line *line)
{
	json_t *object = json_pack("{s:o, s:s, s:s}", "address", json_address(base + line->offset), "bytes",
				   hex_text(bytes + line->offset, line->length).text, "text", line->text);

	if (*line->note)
		json_object_set_new(object, "note", json_string(line->note));
	return object;
}

static json_t *unit_json(struct tcache *cache, const struct tcache_unit_view *view, u32 number, const struct disasm *d)
{
	const struct tcache_unit *unit = view->unit;
	u64 base = tcache_place(cache)->code_address + unit->code_offset;
	json_t *guest = json_array(), *host = json_array(), *object = json_object();
	struct safe_text name;

	for (u32 i = 0; i < d->guest_count; i++)
		json_array_append_new(guest, line_json(unit->pc, view->guest, &d->guest[i]));
	for (u32 i = 0; i < d->host_count; i++) {
		u32 from = d->segments[d->host[i].segment].guest;
		json_t *line = line_json(base, view->code, &d->host[i]);

		json_object_set_new(line, "guest",
				    from == DISASM_NO_GUEST ? json_null() : json_address(unit->pc + from));
		json_array_append_new(host, line);
	}
	json_object_set_new(object, "unit", json_integer(number));
	json_object_set_new(object, "address", json_address(unit->pc));
	json_object_set_new(object, "name", json_string(cache_tool_string(cache, unit->name, &name)));
	json_object_set_new(object, "name_offset", json_integer(unit->name_offset));
	json_object_set_new(object, "kind", json_string(unit->flags & TCACHE_UNIT_LIFTED ? "lifted" : "copied"));
	json_object_set_new(object, "executions", json_count(unit->executions));
	json_object_set_new(object, "guest", view->guest ? guest : json_null());
	if (!view->guest)
		json_decref(guest);
	json_object_set_new(object, "host", host);
	return object;
}

/* ---- which units ---- */

static int show_unit(struct output *output, struct tcache *cache, u32 number)
{
	struct tcache_unit_view view;
	struct disasm disasm;
	int status = STATUS_OK;

	if (tcache_unit_view(cache, number, &view))
		return cache_tool_failed(output->command, cache);
	if (disasm_unit(cache, &view, &disasm) < 0) {
		status = command_error(output->command, "out of memory");
	} else if (output->lines) {
		json_lines_add(output->lines, unit_json(cache, &view, number, &disasm));
	} else {
		if (output->printed)
			putchar('\n');
		print_unit(cache, &view, number, &disasm);
		output->printed = true;
	}
	disasm_free(&disasm);
	return status;
}

/* The units that `matches` picks. STATUS_ERROR with a message if there are none, or on damage. */
static int show_matching(struct output *output, struct tcache *cache, const char *word,
			 bool (*matches)(struct tcache *cache, const struct tcache_unit *unit, const void *key),
			 const void *key)
{
	u64 count = tcache_units_count(cache);
	int status = STATUS_OK;
	bool any = false;

	for (u64 i = 0; i < count; i++) {
		const struct tcache_unit *unit = tcache_units(cache, i, 1);

		if (!unit)
			return cache_tool_failed(output->command, cache);
		if (!matches(cache, unit, key))
			continue;
		any = true;
		if (show_unit(output, cache, (u32)i))
			status = STATUS_ERROR;
	}
	if (!any)
		return command_error(output->command, "'%s': has no unit '%s'", tcache_name(cache), word);
	return status;
}

static bool begins_at(struct tcache *cache, const struct tcache_unit *unit, const void *key)
{
	(void)cache;
	return unit->pc == *(const u64 *)key;
}

static bool contains(struct tcache *cache, const struct tcache_unit *unit, const void *key)
{
	u64 address = *(const u64 *)key;

	(void)cache;
	return address >= unit->pc && address - unit->pc < unit->guest_length;
}

static bool is_named(struct tcache *cache, const struct tcache_unit *unit, const void *key)
{
	const char *name = tcache_string(cache, unit->name);

	return name && *name && !strcmp(name, key);
}

/* A guest address: units that begin there, otherwise units that contain it. Or the address of code. */
static int show_address(struct output *output, struct tcache *cache, const char *word, u64 address)
{
	const struct tcache_placement *p = tcache_units_count(cache) ? tcache_place(cache) : NULL;
	u32 first, count, number;

	if (tcache_unit_find(cache, address, &first, &count))
		return cache_tool_failed(output->command, cache);
	if (count)
		return show_matching(output, cache, word, begins_at, &address);
	if (p && address >= p->code_address && address - p->code_address < tcache_code_count(cache) &&
	    !tcache_unit_at_code(cache, address - p->code_address, &number))
		return show_unit(output, cache, number);
	return show_matching(output, cache, word, contains, &address);
}

static int show_word(struct output *output, struct tcache *cache, const char *word)
{
	bool hex = word[0] == '0' && tolower((unsigned char)word[1]) == 'x';
	u64 number;
	char *end;

	if (!isdigit((unsigned char)*word))
		return show_matching(output, cache, word, is_named, word);
	errno = 0;
	number = strtoull(word, &end, hex ? 16 : 10);
	if (errno || *end)
		return command_error(output->command, "'%s' is neither a number nor an address such as 0x401000", word);
	if (hex)
		return show_address(output, cache, word, number);
	if (number >= tcache_units_count(cache))
		return command_error(output->command, "'%s': has no unit %s (it has %" PRIu64 ")", tcache_name(cache),
				     word, tcache_units_count(cache));
	return show_unit(output, cache, (u32)number);
}

static int disasm_main(const struct command *command, void *parsed)
{
	const struct disasm_options *options = parsed;
	struct json_lines lines = {0};
	struct output output = {.command = command, .lines = options->json ? &lines : NULL};
	struct tcache *cache = cache_tool_open(command, options->words.items[0]);
	int status = cache ? STATUS_OK : STATUS_ERROR;

	for (size_t i = 1; cache && i < options->words.count; i++)
		if (show_word(&output, cache, options->words.items[i]))
			status = STATUS_ERROR;
	if (options->json) {
		json_lines_end(&lines);
		putchar('\n');
	}
	tcache_close(cache);
	return command_finish_output(status);
}

static const struct option_spec options[] = {
	{.help = "Options"},
	{"json", NULL, "print a JSON array instead of text", NULL, NULL, offsetof(struct disasm_options, json)},
	{0},
};

const struct command command_cache_disasm = {
	.name = "cache disasm",
	.summary = "show guest instructions beside what they became",
	.usage = "[OPTION]... FILE UNIT|ADDRESS|NAME...",
	.text = "Disassembles units of a file, guest instructions on the left, the host's on the right. Units are\n"
		"named by their number, by a guest address (0x...) at which they begin or which they contain, by\n"
		"the address of their code, or by the function's name. Guest instructions need the chunk GBYT.\n",
	.examples = "  avant cache disasm kernel.tcache do_syscall_64\n"
		    "  avant cache disasm kernel.tcache 0xffffffff81000010 17\n"
		    "  avant cache disasm --json kernel.tcache 17 | jq '.[0].host[] | .text'\n"
		    "\nExit status: 0 success; 1 the file cannot be read, or there is no such unit; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct disasm_options),
	.arguments_needed = 2,
	.arguments = "FILE and UNIT, ADDRESS or NAME",
	.arguments_offset = offsetof(struct disasm_options, words),
	.main = disasm_main,
};
