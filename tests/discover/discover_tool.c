/*
 * Shows what the pre-scan finds, and compares predicted bytes with those of a running guest.
 *
 *	discover_tool kernel FILE [units|list] [linked] [names] [symbols] [compare MEMORY ADDRESS]
 *	discover_tool initrd FILE [units|list] [names]
 *	discover_tool program FILE [units|list] [names]
 *
 * MEMORY holds the guest's bytes from ADDRESS on (tests/discover/kernel-bytes.py makes it). Exit status 1 on any error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/kernel_image.h"
#include "discover/discover.h"
#include "tool_input.h"
#include "translate/scan.h"

struct wishes {
	bool units, list, linked, names, symbols;
	const char *memory;
	u64 address;
};

/* --- comparison
 * ------------------------------------------------------------------------------------------------------- */

/* Functions are what lies between two symbols; each difference is shown once with its place. */
static void compare(const struct image *image, const struct wishes *wishes)
{
	u64 size, functions = 0, equal_functions = 0, pages = 0, equal_pages = 0, bytes = 0, equal_bytes = 0;
	u8 *memory = read_file(wishes->memory, &size);

	for (u32 i = 0; i < image->code_count; i++) {
		const struct code_range *range = &image->code[i];
		const u8 *predicted = image_at(image, range->address, range->size);
		u64 at = range->address - wishes->address;

		if (range->init || at >= size || range->size > size - at)
			continue;
		for (u64 k = 0; k < range->size; k++) {
			bytes++;
			equal_bytes += predicted[k] == memory[at + k];
		}
		for (u64 k = 0; k < range->size; k += PAGE_SIZE) {
			u64 n = range->size - k < PAGE_SIZE ? range->size - k : PAGE_SIZE;

			pages++;
			equal_pages += memcmp(predicted + k, memory + at + k, n) == 0;
		}
	}
	for (u32 i = 0; i < image->entry_count; i++) {
		u64 start = image->entry[i].pc;
		u64 end = i + 1 < image->entry_count ? image->entry[i + 1].pc : start + 1, offset;
		const char *name = image_symbol(image, start, &offset);
		u64 at = start - wishes->address;
		bool equal = true;

		if (!(image->entry[i].sources & ENTRY_SYMBOL) || at >= size)
			continue;
		while (i + 1 < image->entry_count && !(image->entry[i + 1].sources & ENTRY_SYMBOL))
			i++;
		end = i + 1 < image->entry_count ? image->entry[i + 1].pc : start + 1;
		for (u32 r = 0; r < image->code_count; r++)
			if (start - image->code[r].address < image->code[r].size &&
			    end > image->code[r].address + image->code[r].size)
				end = image->code[r].address + image->code[r].size;
		if (end - start > size - at)
			end = start + (size - at);
		functions++;
		for (u64 k = 0; k < end - start; k++) {
			const u8 *predicted = image_at(image, start + k, 1);

			if (!predicted || *predicted == memory[at + k])
				continue;
			equal = false;
			printf("differs %#llx %s+%#llx:", (unsigned long long)(start + k), name ? name : "?",
			       (unsigned long long)k);
			for (u64 b = 0; b < 8 && k + b < end - start; b++)
				printf(" %02x", *image_at(image, start + k + b, 1));
			printf(" is");
			for (u64 b = 0; b < 8 && k + b < end - start; b++)
				printf(" %02x", memory[at + k + b]);
			printf("\n");
			k += 7;
		}
		equal_functions += equal;
	}
	printf("equal: %.3f %% of %llu bytes, %.2f %% of %llu pages, %.2f %% of %llu functions\n",
	       100.0 * (double)equal_bytes / (double)bytes, (unsigned long long)bytes,
	       100.0 * (double)equal_pages / (double)pages, (unsigned long long)pages,
	       100.0 * (double)equal_functions / (double)functions, (unsigned long long)functions);
	free(memory);
}

/* --- showing
 * ----------------------------------------------------------------------------------------------------------- */

static void show_units(struct image *image, bool list)
{
	const struct scan_options options = {.max = SCAN_MAX};
	struct err err = ERR_INIT;
	struct units *units = units_create(image, &options, &err);
	const struct scan *scan;
	double start = seconds();
	u64 code = 0;
	struct units_figures f;

	if (!units) {
		fprintf(stderr, "discover_tool: %s\n", err.text);
		exit(1);
	}
	units_add_entries(units);
	while ((scan = units_next(units)))
		if (list)
			printf("unit %016llx %u\n", (unsigned long long)scan->pc, scan->count);
	f = units_figures(units);
	for (u32 i = 0; i < image->code_count; i++)
		code += image->code[i].size;
	printf("units: %llu with %llu instructions, %llu of one instruction across pages; %.1f %% of the code's bytes "
	       "covered; %llu call targets that no table names; %llu indirect jumps, %llu with a table; %.3f s\n",
	       (unsigned long long)f.units, (unsigned long long)f.instructions, (unsigned long long)f.straddling,
	       code ? 100.0 * (double)f.covered / (double)code : 0, (unsigned long long)f.calls,
	       (unsigned long long)f.indirect_jumps, (unsigned long long)f.resolved, seconds() - start);
	if (units_note_entries(units, image, &err)) {
		fprintf(stderr, "discover_tool: %s\n", err.text);
		exit(1);
	}
	units_free(units);
}

static void show(struct image *image, const struct wishes *wishes)
{
	printf("%s", image->report.text ? image->report.text : "");
	if (wishes->memory)
		compare(image, wishes);
	if (wishes->units)
		show_units(image, wishes->list);
	for (u32 i = 0; wishes->symbols && i < image->symbol_count; i++)
		if (image->symbol[i].sources)
			printf("%016llx %s\n", (unsigned long long)image->symbol[i].pc, image->symbol[i].name);
	for (u32 i = 0; wishes->names && i < image->entry_count; i++) {
		printf("%016llx %s", (unsigned long long)image->entry[i].pc,
		       image->entry[i].name ? image->entry[i].name : "-");
		for (unsigned s = 0; s < ENTRY_SOURCES; s++)
			if (image->entry[i].sources & BIT(s))
				printf(" %s", entry_source_name((u16)BIT(s)));
		printf("\n");
	}
}

static int show_kernel(const char *path, const struct wishes *wishes, struct err *err)
{
	const struct kernel_options options = {.patch = !wishes->linked};
	struct kernel_image kernel;
	struct image image;
	double start = seconds(), loaded;

	if (kernel_image_load(path, NULL, &kernel, err))
		return -1;
	loaded = seconds();
	if (discover_kernel(&kernel, &options, &image, err)) {
		kernel_image_release(&kernel);
		return -1;
	}
	printf("unpacked in %.3f s, read in %.3f s\n", loaded - start, seconds() - loaded);
	kernel_image_release(&kernel);
	show(&image, wishes);
	image_release(&image);
	return 0;
}

static int show_program(const char *path, const struct wishes *wishes, struct err *err)
{
	enum program_verdict verdict;
	struct image image;
	u64 size;
	u8 *data = read_file(path, &size);
	int result = discover_program(data, size, path, &image, &verdict, err);

	free(data);
	if (result)
		return -1;
	printf("%s\n", verdict == PROGRAM_FIXED ? "fixed addresses" : "position independent");
	show(&image, wishes);
	image_release(&image);
	return 0;
}

static int show_file(void *opaque, const char *name, const u8 *data, u64 size, struct err *err)
{
	enum program_verdict verdict;
	struct err reason = ERR_INIT;
	struct image image;

	(void)err;
	if (discover_program(data, size, name, &image, &verdict, &reason) < 0) {
		printf("--- %s\n", reason.text);
		return 0;
	}
	printf("--- %s: %s\n", name, verdict == PROGRAM_FIXED ? "fixed addresses" : "position independent");
	show(&image, opaque);
	image_release(&image);
	return 0;
}

static int show_initrd(const char *path, struct wishes *wishes, struct err *err)
{
	struct report report = {0};
	u64 size;
	u8 *data = read_file(path, &size);
	int result = discover_archive(data, size, path, show_file, wishes, &report, err);

	if (report.text)
		fputs(report.text, stdout);
	report_release(&report);
	free(data);
	return result;
}

int main(int argc, char **argv)
{
	struct wishes wishes = {0};
	struct err err = ERR_INIT;
	int result = -1;

	for (int i = 3; i < argc; i++) {
		wishes.list |= strcmp(argv[i], "list") == 0;
		wishes.units |= wishes.list || strcmp(argv[i], "units") == 0;
		wishes.linked |= strcmp(argv[i], "linked") == 0;
		wishes.symbols |= strcmp(argv[i], "symbols") == 0;
		wishes.names |= strcmp(argv[i], "names") == 0;
		if (strcmp(argv[i], "compare") == 0 && i + 2 < argc) {
			wishes.memory = argv[++i];
			wishes.address = strtoull(argv[++i], NULL, 16);
		}
	}
	if (argc < 3) {
		fprintf(stderr, "usage: discover_tool kernel|initrd|program FILE [units|list] [linked] "
				"[names] [symbols] [compare MEMORY ADDRESS]\n");
		return 2;
	}
	if (strcmp(argv[1], "kernel") == 0)
		result = show_kernel(argv[2], &wishes, &err);
	else if (strcmp(argv[1], "initrd") == 0)
		result = show_initrd(argv[2], &wishes, &err);
	else if (strcmp(argv[1], "program") == 0)
		result = show_program(argv[2], &wishes, &err);
	if (result)
		fprintf(stderr, "discover_tool: %s\n", err.text);
	return result ? 1 : 0;
}
