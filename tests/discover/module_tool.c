/*
 * Shows what the pre-scan makes of kernel modules, and compares it with a running guest.
 *
 *	module_tool KERNEL [--facts DIRECTORY] [--show] [--units] MODULE...
 *
 * DIRECTORY/NAME.facts has lines "section NAME ADDRESS" and "symbol NAME ADDRESS", of the module and of all others;
 * DIRECTORY/NAME.text the bytes of its code from its first section on (tests/discover/module-bytes.py makes them).
 * Addresses are hexadecimal. Exit status 1 on any error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/kernel_image.h"
#include "discover/internal.h"
#include "discover/module.h"
#include "tool_input.h"
#include "translate/scan.h"

#define NEAR 32u /* bytes */

struct wishes {
	const char *facts;
	bool show, units;
};

struct totals {
	u64 modules, functions, equal, bytes, equal_bytes, holes, right, wrong, unknown;
	u64 code, units;
};

static u8 *read_packed(const char *path, u64 *size)
{
	u8 *data = read_file(path, size), *unpacked;
	struct err err = ERR_INIT;

	if (!module_is_packed(path, data, *size))
		return data;
	unpacked = module_unpack(data, *size, path, size, &err);
	free(data);
	if (unpacked)
		return unpacked;
	fprintf(stderr, "module_tool: %s\n", err.text);
	exit(1);
}

/* --- facts of the guest ------------------------------------------------------------------------------------------- */

struct fact {
	const char *kind, *name;
	u64 address;
};

struct facts {
	char *text;
	struct fact *fact; /* sorted by kind and name */
	u64 count;
};

static int compare_facts(const void *left, const void *right)
{
	const struct fact *a = left, *b = right;
	int order = strcmp(a->kind, b->kind);

	return order ? order : strcmp(a->name, b->name);
}

static struct facts read_facts(const char *path)
{
	u64 size, lines = 0;
	struct facts facts = {.text = (char *)read_file(path, &size)};

	for (u64 i = 0; i < size; i++)
		lines += facts.text[i] == '\n';
	facts.fact = calloc(lines + 1, sizeof(*facts.fact));
	for (char *line = strtok(facts.text, "\n"); line; line = strtok(NULL, "\n")) {
		struct fact *fact = &facts.fact[facts.count];
		char *name = strchr(line, ' '), *address = name ? strchr(name + 1, ' ') : NULL;

		if (!address)
			continue;
		*name = *address = 0;
		*fact = (struct fact){line, name + 1, strtoull(address + 1, NULL, 16)};
		facts.count++;
	}
	qsort(facts.fact, facts.count, sizeof(*facts.fact), compare_facts);
	return facts;
}

/* The address, or 0: not known, or there are several. */
static u64 fact_of(const struct facts *facts, const char *kind, const char *name)
{
	const struct fact key = {kind, name, 0};
	const struct fact *found = bsearch(&key, facts->fact, facts->count, sizeof(key), compare_facts);

	if (!found || (found > facts->fact && compare_facts(found - 1, &key) == 0) ||
	    (found + 1 < facts->fact + facts->count && compare_facts(found + 1, &key) == 0))
		return 0;
	return found->address;
}

/* --- comparison --------------------------------------------------------------------------------------------------- */

struct comparison {
	const struct module *module;
	struct facts facts;
	const u8 *memory;
	u64 base, size; /* of the memory */
	const struct wishes *wishes;
	struct totals *totals;
	const char *name;
};

/* Where the nominal address is in the guest, by a symbol. */
static u64 by_symbol(const struct comparison *c, u64 nominal)
{
	const struct image *image = &c->module->image;

	for (u32 i = 0; i < image->symbol_count; i++) {
		u64 offset = nominal - image->symbol[i].pc, found;

		if (offset < 16 && (found = fact_of(&c->facts, "symbol", image->symbol[i].name)))
			return found + offset;
	}
	return 0;
}

/* Where the nominal address is in the guest; 0: not known. */
static u64 placed(const struct comparison *c, u64 nominal)
{
	if (nominal < MODULE_TEXT)
		return nominal; /* the kernel's */
	if (nominal < MODULE_TEXT + MODULE_MOST)
		return c->base + (nominal - MODULE_TEXT);
	for (u32 i = 0; i < c->module->section_count; i++) {
		const struct module_section *section = &c->module->section[i];
		u64 address;

		/* with an addend in front of it, or behind it: there is a gap between sections */
		if (nominal + NEAR - section->address < section->size + 2 * NEAR &&
		    (address = fact_of(&c->facts, "section", section->name)))
			return address + (nominal - section->address);
	}
	return by_symbol(c, nominal);
}

static void check_hole(const struct comparison *c, const struct module_hole *hole)
{
	u64 at = hole->address - MODULE_TEXT, place = c->base + at, nominal = 0, real = 0, target;
	const u8 *predicted = image_at(&c->module->image, hole->address, hole->size);

	if (!within(at, hole->size, c->size))
		return;
	memcpy(&nominal, predicted, hole->size);
	memcpy(&real, c->memory + at, hole->size);
	if (hole->size == 4) {
		nominal = (u64)(s64)(s32)nominal;
		real = (u64)(s64)(s32)real;
	}
	if (hole->kind == HOLE_RELATIVE) {
		/* calls and most operands count from four bytes behind */
		nominal += hole->address + 4;
		real += place + 4;
	}
	target = placed(c, nominal);
	c->totals->holes++;
	c->totals->unknown += !target;
	c->totals->right += target && target == real;
	c->totals->wrong += target && target != real;
	if (c->wishes->show && target && target != real)
		printf("hole %s %#llx: %#llx was to be %#llx, is %#llx\n", c->name, (unsigned long long)at,
		       (unsigned long long)nominal, (unsigned long long)target, (unsigned long long)real);
}

static bool is_in_hole(const struct module *module, u64 address)
{
	u32 count;

	return module_holes(module, address, 1, &count) != NULL;
}

static void compare_function(const struct comparison *c, u64 start, u64 end)
{
	const struct image *image = &c->module->image;
	u64 offset = 0;
	const char *name = image_symbol(image, start, &offset);
	bool equal = true;

	for (u64 pc = start; pc < end && pc - MODULE_TEXT < c->size; pc++) {
		u64 at = pc - MODULE_TEXT;
		bool same = is_in_hole(c->module, pc) || *image_at(image, pc, 1) == c->memory[at];

		c->totals->bytes++;
		c->totals->equal_bytes += same;
		if (!same && equal && c->wishes->show) {
			printf("differs %s %#llx %s+%#llx:", c->name, (unsigned long long)at, name ? name : "?",
			       (unsigned long long)(pc - start));
			for (u64 b = 0; b < 8 && at + b < c->size; b++)
				printf(" %02x", *image_at(image, pc + b, 1));
			printf(" is");
			for (u64 b = 0; b < 8 && at + b < c->size; b++)
				printf(" %02x", c->memory[at + b]);
			printf("\n");
		}
		equal &= same;
	}
	c->totals->functions++;
	c->totals->equal += equal;
}

/* Functions are what lies between two symbols in a section. */
static void compare(const struct module *module, const char *name, const struct wishes *wishes, struct totals *totals)
{
	struct comparison c = {.module = module, .wishes = wishes, .totals = totals, .name = name};
	const struct image *image = &module->image;
	const char *first = NULL;
	char *path;

	for (u32 i = 0; i < module->section_count && !first; i++)
		if (module->section[i].address == MODULE_TEXT && module->section[i].size)
			first = module->section[i].name;
	if (asprintf(&path, "%s/%s.facts", wishes->facts, name) < 0)
		exit(1);
	c.facts = read_facts(path);
	free(path);
	if (asprintf(&path, "%s/%s.text", wishes->facts, name) < 0)
		exit(1);
	u8 *memory = read_file(path, &c.size);

	free(path);
	c.memory = memory;
	c.base = first ? fact_of(&c.facts, "section", first) : 0;
	if (!c.base) {
		fprintf(stderr, "module_tool: where '%s' is in the guest is not known\n", name);
		exit(1);
	}
	for (u32 r = 0; r < image->code_count; r++) {
		const struct code_range *range = &image->code[r];
		u64 start = range->address, end = range->address + range->size;

		for (u32 i = 0; i < image->entry_count && !range->init; i++)
			if (image->entry[i].sources & ENTRY_SYMBOL && image->entry[i].pc - start < end - start) {
				if (image->entry[i].pc > start)
					compare_function(&c, start, image->entry[i].pc);
				start = image->entry[i].pc;
			}
		if (!range->init)
			compare_function(&c, start, end);
	}
	for (u32 i = 0; i < module->hole_count; i++)
		check_hole(&c, &module->hole[i]);
	totals->modules++;
	free(memory);
	free(c.facts.text);
	free(c.facts.fact);
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void show_units(const struct module *module, struct totals *totals)
{
	const struct scan_options options = {.max = SCAN_MAX};
	struct err err = ERR_INIT;
	struct units *units = units_create(&module->image, &options, &err);
	struct units_figures f;

	if (!units) {
		fprintf(stderr, "module_tool: %s\n", err.text);
		exit(1);
	}
	units_set_disjoint(units);
	units_add_entries(units);
	while (units_next(units))
		;
	f = units_figures(units);
	totals->units += f.units;
	totals->bytes += f.covered;
	for (u32 i = 0; i < module->image.code_count; i++)
		totals->code += module->image.code[i].size;
	units_free(units);
}

/* "virtio_net" of "drivers/virtio-net.ko". */
static char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *name = strdup(slash ? slash + 1 : path), *dot = strstr(name, ".ko");

	if (dot)
		*dot = 0;
	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : *c;
	return name;
}

static int show(const char *path, const struct image *kernel, const struct wishes *wishes, struct totals *totals,
		struct err *err)
{
	static const char *const file_systems[] = {"ext4", NULL};
	struct module_info info;
	struct module module;
	u64 size;
	u8 *data = read_packed(path, &size);
	char *name = name_of(path);
	int result = module_read_info(data, size, path, file_systems, NULL, &info, err);

	if (result == 0 && !module_fits(&info, kernel))
		result = err_set(err, "'%s' is not made for this kernel", path);
	if (result == 0)
		result = discover_module(data, size, path, kernel, NULL, &module, err);
	bool for_guests = result == 0 && info.for_guests;

	free(data);
	if (result == 0) {
		if (wishes->show)
			printf("--- %s: %u holes%s\n%s", name, module.hole_count, for_guests ? ", for guests" : "",
			       module.image.report.text ? module.image.report.text : "");
		if (wishes->facts)
			compare(&module, name, wishes, totals);
		if (wishes->units)
			show_units(&module, totals);
		module_release(&module);
	}
	free(name);
	return result;
}

int main(int argc, char **argv)
{
	const struct kernel_options options = {.patch = true};
	struct wishes wishes = {0};
	struct totals t = {0};
	struct kernel_image loaded;
	struct image kernel;
	struct err err = ERR_INIT;
	double start;

	if (argc < 3) {
		fprintf(stderr, "usage: module_tool KERNEL [--facts DIRECTORY] [--show] [--units] MODULE...\n");
		return 2;
	}
	if (kernel_image_load(argv[1], NULL, &loaded, &err) < 0 ||
	    discover_kernel(&loaded, &options, &kernel, &err) < 0) {
		fprintf(stderr, "module_tool: %s\n", err.text);
		return 1;
	}
	kernel_image_release(&loaded);
	start = seconds();
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--show") == 0) {
			wishes.show = true;
		} else if (strcmp(argv[i], "--units") == 0) {
			wishes.units = true;
		} else if (strcmp(argv[i], "--facts") == 0 && i + 1 < argc) {
			wishes.facts = argv[++i];
		} else if (show(argv[i], &kernel, &wishes, &t, &err) < 0) {
			fprintf(stderr, "module_tool: %s\n", err.text);
			return 1;
		}
	}
	if (wishes.facts)
		printf("equal outside of holes: %.4f %% of %llu bytes, %.3f %% of %llu functions of %llu modules\n"
		       "holes: %llu, right %llu, wrong %llu, of unknown targets %llu\n",
		       100.0 * (double)t.equal_bytes / (double)t.bytes, (unsigned long long)t.bytes,
		       100.0 * (double)t.equal / (double)t.functions, (unsigned long long)t.functions,
		       (unsigned long long)t.modules, (unsigned long long)t.holes, (unsigned long long)t.right,
		       (unsigned long long)t.wrong, (unsigned long long)t.unknown);
	else if (wishes.units)
		printf("units: %llu, %.1f %% of %llu bytes of code\n", (unsigned long long)t.units,
		       100.0 * (double)t.bytes / (double)t.code, (unsigned long long)t.code);
	printf("%.3f s\n", seconds() - start);
	image_release(&kernel);
	return 0;
}
