/* avant cache info: what a file is, and for whom. */
#include "cache_tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct info_options {
	struct command_arguments files;
	bool json;
};

/* What is counted over all units. */
struct totals {
	u64 units, lifted, copied, cold, kernel, user, instructions, guest_bytes, code_bytes;
};

static int count_units(struct tcache *cache, struct totals *t)
{
	*t = (struct totals){.units = tcache_units_count(cache)};
	for (u64 i = 0; i < t->units; i++) {
		const struct tcache_unit *unit = tcache_units(cache, i, 1);

		if (!unit)
			return -1;
		t->lifted += !!(unit->flags & TCACHE_UNIT_LIFTED);
		t->copied += !!(unit->flags & TCACHE_UNIT_COPIED);
		t->cold += !!(unit->flags & TCACHE_UNIT_COLD);
		t->kernel += unit->pc >> 63;
		t->instructions += unit->instruction_count;
		t->guest_bytes += unit->guest_length;
		t->code_bytes += unit->code_length;
	}
	t->user = t->units - t->kernel;
	return 0;
}

/* 12345678 as "12,345,678". */
struct grouped {
	char text[32];
};

static struct grouped grouped(u64 number)
{
	struct grouped g = {""};
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number), used = 0;

	for (int i = 0; i < length; i++) {
		if (i && !((length - i) % 3))
			g.text[used++] = ',';
		g.text[used++] = digits[i];
	}
	return g;
}

#define N(number) grouped(number).text

/* The names of the features in `bits`, with commas between; "none". */
static void feature_names(const u64 bits[2], char *text, size_t size)
{
	size_t used = 0;

	snprintf(text, size, "none");
	for (unsigned i = 0; i < 128 && used < size; i++) {
		const char *name = tcache_host_feature_name(i);
		char number[24];

		if (!(bits[i / 64] >> i % 64 & 1))
			continue;
		snprintf(number, sizeof(number), "feature %u", i);
		used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", name ? name : number);
	}
}

static json_t *features_json(const u64 bits[2])
{
	json_t *list = json_array();

	for (unsigned i = 0; i < 128; i++)
		if (bits[i / 64] >> i % 64 & 1)
			json_array_append_new(list, tcache_host_feature_name(i)
							    ? json_string(tcache_host_feature_name(i))
							    : json_sprintf("feature %u", i));
	return list;
}

static void missing_features(const struct tcache_header *header, u64 missing[2])
{
	u64 have[2];

	tcache_host_features(have);
	for (int i = 0; i < 2; i++)
		missing[i] = header->fingerprint.host_features[i] & ~have[i];
}

static void created_text(u64 created, char *text, size_t size)
{
	time_t seconds = (time_t)created;
	struct tm tm;

	if (!created)
		snprintf(text, size, "not recorded");
	else if (!gmtime_r(&seconds, &tm) || !strftime(text, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(text, size, "%" PRIu64, created);
}

static const char *digest_text(u32 kind)
{
	return kind == TCACHE_DIGEST_BLAKE2B ? "BLAKE2b-256" : "XXH3-128";
}

/* ---- text ---- */

static void print_area(const char *heading, const char *name, u64 address, u64 size)
{
	if (size)
		printf("%-15s%-13s0x%08" PRIx64 " … 0x%08" PRIx64 "\n", heading, name, address, address + size - 1);
	else
		printf("%-15s%-13s-\n", heading, name);
}

static int print_places(struct tcache *cache)
{
	const struct tcache_placement *p;

	if (!tcache_placement_count(cache)) {
		puts("addresses      none, there is no code");
		return 0;
	}
	p = tcache_place(cache);
	if (!p)
		return -1;
	print_area("addresses", "code", p->code_address, tcache_code_size(cache));
	print_area("", "cells", p->cells_address, tcache_cells_size(cache));
	print_area("", "instructions", p->insns_address, tcache_insns_size(cache));
	return 0;
}

static int print_images(struct tcache *cache)
{
	u64 count = tcache_images_count(cache);
	const struct tcache_image *images = tcache_images(cache, 0, count);

	if (!images)
		return -1;
	if (!count)
		puts("images         none");
	for (u64 i = 0; i < count; i++) {
		struct safe_text name;

		printf("%-15s%-11s%s, %s bytes", i ? "" : "images", image_kind_text(images[i].kind),
		       cache_tool_string(cache, images[i].name, &name), N(images[i].size));
		if (images[i].data)
			printf(", unpacked %s bytes", N(images[i].data_size));
		printf("\n%-26s%s\n", "", hex_text(images[i].digest, sizeof(images[i].digest)).text);
	}
	return 0;
}

static void print_chunks(struct tcache *cache)
{
	const struct tcache_toc_entry *entry;

	printf("chunks\n  %-6s%-10s%12s%16s  %s\n", "type", "", "records", "bytes", "meaning");
	for (u32 i = 0; (entry = tcache_toc(cache, i)); i++) {
		const char *text = tcache_type_text(entry->type);
		bool known = text && tcache_find(cache, entry->type) != TCACHE_NO_CHUNK;

		printf("  %-6s%-10s%12s%16s  %s\n", chunk_type_text(entry->type).text,
		       entry->flags & TCACHE_CRITICAL ? "critical" : "optional", N(entry->length / entry->element_size),
		       N(entry->length), known ? text : "not known here, ignored");
	}
}

static void print_header(struct tcache *cache)
{
	const struct tcache_header *h = tcache_header(cache);
	struct safe_text name;
	char text[1024];
	u64 missing[2];

	printf("file           %s\n", safe_text(&name, tcache_name(cache), strlen(tcache_name(cache))));
	printf("size           %s bytes\n", N(h->length));
	printf("format         version %u, digests by %s\n", h->version, digest_text(h->group_digest));
	created_text(h->created, text, sizeof(text));
	printf("created        %s\n", text);
	if (h->flags & TCACHE_SIGNED)
		printf("signed by      %s\n", hex_text(tcache_footer(cache)->public_key, 32).text);
	else
		puts("signed by      nobody");
	printf("translator     %s\n", h->fingerprint.translator);
	printf("options        %s\n", hex_text(h->fingerprint.options, sizeof(h->fingerprint.options)).text);
	printf("guest CPU      %s\n", h->fingerprint.guest_cpu);
	feature_names(h->fingerprint.host_features, text, sizeof(text));
	printf("host features  %s\n", text);
	missing_features(h, missing);
	if (missing[0] | missing[1]) {
		feature_names(missing, text, sizeof(text));
		printf("this host      lacks %s\n", text);
	} else {
		puts("this host      has them all");
	}
}

static int print_info(struct tcache *cache)
{
	struct totals t;

	if (count_units(cache, &t) < 0)
		return -1;
	print_header(cache);
	if (print_places(cache) < 0 || print_images(cache) < 0)
		return -1;
	printf("units          %s: %s copied, %s lifted; %s cold; %s kernel, %s user\n", N(t.units), N(t.copied),
	       N(t.lifted), N(t.cold), N(t.kernel), N(t.user));
	printf("guest code     %s bytes, %s instructions\n", N(t.guest_bytes), N(t.instructions));
	if (t.guest_bytes)
		printf("code           %s bytes, %.1f for a guest byte\n", N(t.code_bytes),
		       (double)t.code_bytes / (double)t.guest_bytes);
	else
		printf("code           %s bytes\n", N(t.code_bytes));
	print_chunks(cache);
	return 0;
}

/* ---- JSON ---- */

static json_t *area_json(u64 address, u64 size)
{
	return json_pack("{s:o, s:o}", "address", json_address(address), "bytes", json_count(size));
}

static json_t *places_json(struct tcache *cache)
{
	const struct tcache_placement *p = tcache_placement_count(cache) ? tcache_place(cache) : NULL;

	if (!p)
		return json_null();
	return json_pack("{s:o, s:o, s:o}", "code", area_json(p->code_address, tcache_code_size(cache)), "cells",
			 area_json(p->cells_address, tcache_cells_size(cache)), "instructions",
			 area_json(p->insns_address, tcache_insns_size(cache)));
}

static json_t *images_json(struct tcache *cache)
{
	u64 count = tcache_images_count(cache);
	const struct tcache_image *images = tcache_images(cache, 0, count);
	json_t *list = json_array();

	for (u64 i = 0; images && i < count; i++) {
		struct safe_text name;

		json_array_append_new(
			list, json_pack("{s:s, s:s, s:o, s:o, s:s}", "kind", image_kind_text(images[i].kind), "name",
					cache_tool_string(cache, images[i].name, &name), "bytes",
					json_count(images[i].size), "unpacked_bytes", json_count(images[i].data_size),
					"digest", hex_text(images[i].digest, sizeof(images[i].digest)).text));
	}
	return list;
}

static json_t *chunks_json(struct tcache *cache)
{
	const struct tcache_toc_entry *entry;
	json_t *list = json_array();

	for (u32 i = 0; (entry = tcache_toc(cache, i)); i++)
		json_array_append_new(list, json_pack("{s:s, s:b, s:I, s:o, s:o, s:o}", "type",
						      chunk_type_text(entry->type).text, "critical",
						      !!(entry->flags & TCACHE_CRITICAL), "schema",
						      (json_int_t)entry->schema, "offset", json_count(entry->offset),
						      "records", json_count(entry->length / entry->element_size),
						      "bytes", json_count(entry->length)));
	return list;
}

static json_t *units_json(const struct totals *t)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "count", json_count(t->units), "lifted",
			 json_count(t->lifted), "copied", json_count(t->copied), "cold", json_count(t->cold), "kernel",
			 json_count(t->kernel), "user", json_count(t->user), "guest_instructions",
			 json_count(t->instructions), "guest_bytes", json_count(t->guest_bytes), "code_bytes",
			 json_count(t->code_bytes));
}

/* NULL if the file is damaged. */
static json_t *info_json(struct tcache *cache)
{
	const struct tcache_header *h = tcache_header(cache);
	struct safe_text name;
	struct totals t;
	u64 missing[2];
	json_t *object;

	if (count_units(cache, &t) < 0 || (tcache_placement_count(cache) && !tcache_place(cache)) ||
	    !tcache_images(cache, 0, tcache_images_count(cache)))
		return NULL;
	missing_features(h, missing);
	object = json_object();
	json_object_set_new(object, "file",
			    json_string(safe_text(&name, tcache_name(cache), strlen(tcache_name(cache)))));
	json_object_set_new(object, "bytes", json_count(h->length));
	json_object_set_new(object, "version", json_integer(h->version));
	json_object_set_new(object, "digests", json_string(digest_text(h->group_digest)));
	json_object_set_new(object, "created", h->created ? json_count(h->created) : json_null());
	json_object_set_new(object, "signed_by",
			    h->flags & TCACHE_SIGNED ? json_string(hex_text(tcache_footer(cache)->public_key, 32).text)
						     : json_null());
	json_object_set_new(object, "translator", json_string(h->fingerprint.translator));
	json_object_set_new(object, "options",
			    json_string(hex_text(h->fingerprint.options, sizeof(h->fingerprint.options)).text));
	json_object_set_new(object, "guest_cpu", json_string(h->fingerprint.guest_cpu));
	json_object_set_new(object, "host_features", features_json(h->fingerprint.host_features));
	json_object_set_new(object, "host_features_missing", features_json(missing));
	json_object_set_new(object, "addresses", places_json(cache));
	json_object_set_new(object, "images", images_json(cache));
	json_object_set_new(object, "units", units_json(&t));
	json_object_set_new(object, "chunks", chunks_json(cache));
	return object;
}

static int info_main(const struct command *command, void *parsed)
{
	const struct info_options *options = parsed;
	json_t *list = json_array();
	int status = STATUS_OK;
	bool printed = false;

	for (size_t i = 0; i < options->files.count; i++) {
		struct tcache *cache = cache_tool_open(command, options->files.items[i]);
		json_t *object;
		bool good;

		if (!cache) {
			status = STATUS_ERROR;
			continue;
		}
		if (options->json) {
			object = info_json(cache);
			good = object && !json_array_append_new(list, object);
		} else {
			if (printed)
				putchar('\n');
			printed = true;
			good = print_info(cache) == 0;
		}
		if (!good)
			status = cache_tool_failed(command, cache);
		tcache_close(cache);
	}
	if (options->json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(list);
	return command_finish_output(status);
}

static const struct option_spec options[] = {
	{.help = "Options"},
	{"json", NULL, "print a JSON array instead of text", NULL, NULL, offsetof(struct info_options, json)},
	{0},
};

const struct command command_cache_info = {
	.name = "cache info",
	.summary = "say what files are and what is in them",
	.usage = "[OPTION]... FILE...",
	.text = "Says of each file who made it of what and for whom, whether this host can use it, the addresses it\n"
		"needs, and how much of what it holds.\n",
	.examples = "  avant cache info kernel.tcache\n"
		    "  avant cache info --json *.tcache | jq '.[] | .file, .units.count'\n"
		    "\nExit status: 0 success; 1 a file cannot be read; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct info_options),
	.arguments_needed = 1,
	.arguments = "FILE...",
	.arguments_offset = offsetof(struct info_options, files),
	.main = info_main,
};
