/* A Linux kernel: symbols, the tables that name code, the bytes after patching. */
#include <elf.h>
#include <stdlib.h>

#include "boot/kernel_image.h"
#include "internal.h"

/* Addresses of .text, or all code if there is no such section. */
static void text_range(const struct image *image, const struct elf_file *elf, u64 *start, u64 *end)
{
	const struct elf_part *text = elf_section(elf, ".text");

	if (text && text->size) {
		*start = text->address;
		*end = text->address + text->size;
		return;
	}
	*start = image->code[0].address;
	*end = image->code[image->code_count - 1].address + image->code[image->code_count - 1].size;
}

/* In .rodata, or wherever it is. */
static bool find_kallsyms(const struct image *image, const struct elf_file *elf, struct kallsyms *kallsyms,
			  const char **reason)
{
	const struct elf_part *rodata = elf_section(elf, ".rodata");
	const u8 *bytes = rodata ? image_at(image, rodata->address, rodata->size) : NULL;
	u64 text, text_end;

	text_range(image, elf, &text, &text_end);
	if (bytes && kallsyms_read(kallsyms, bytes, rodata->size, rodata->address, text, text_end, reason))
		return true;
	for (u32 i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];
		u64 skip = -segment->address & 7;

		if (segment->size > skip && kallsyms_read(kallsyms, segment->bytes + skip, segment->size - skip,
							  segment->address + skip, text, text_end, reason))
			return true;
	}
	return false;
}

/* Names of the no-operations before a function, which are never executed (scripts/kallsyms.c knows them too). */
static bool is_padding(const char *name)
{
	return strncmp(name, "__pfx_", 6) == 0 || strncmp(name, "__cfi_", 6) == 0;
}

static int read_symbols(struct kernel_scan *scan, struct err *err)
{
	struct image *image = scan->image;
	struct kallsyms kallsyms;
	const char *reason = "no segments";

	if (!find_kallsyms(image, scan->elf, &kallsyms, &reason)) {
		report_line(&image->report, "kallsyms: not found: %s", reason);
		return 0;
	}
	report_line(&image->report, "kallsyms: %u symbols; names at %#llx, offsets at %#llx, tokens at %#llx",
		    kallsyms.count, (unsigned long long)kallsyms.name_table, (unsigned long long)kallsyms.offsets,
		    (unsigned long long)kallsyms.token_table);
	for (u64 i = 0; i < kallsyms.symbols.count; i++) {
		const struct image_entry *symbol = &kallsyms.symbols.entry[i];

		if (symbol->sources & ENTRY_SYMBOL && !is_padding(symbol->name))
			collect(&scan->entries, symbol->pc, ENTRY_SYMBOL, symbol->name);
	}
	image->names = kallsyms.names;
	return image_set_symbols(image, &kallsyms.symbols, err);
}

/* The ELF header has the entry as a physical address, and segments have both. */
static void note_start(struct kernel_scan *scan)
{
	for (u32 i = 0; i < scan->kernel->segment_count; i++) {
		const struct kernel_segment *loaded = &scan->kernel->segment[i];
		u64 offset = scan->kernel->entry - loaded->paddr;

		if (offset >= loaded->filesz)
			continue;
		for (u32 k = 0; k < scan->elf->segment_count; k++) {
			const struct elf_part *part = &scan->elf->segment[k];

			if (part->type == PT_LOAD && scan->elf->data + part->offset == loaded->data)
				collect(&scan->entries, part->address + offset, ENTRY_START, NULL);
		}
	}
}

static int discover(struct kernel_scan *scan, const struct kernel_options *options, struct err *err)
{
	struct image *image = scan->image;

	if (image_load(image, scan->elf, "kernel", err))
		return -1;
	if (!image->code_count)
		return err_set(err, "the kernel has no code in its upper half of the address space");
	if (read_symbols(scan, err))
		return -1;
	note_start(scan);
	kernel_read_tables(scan);
	kernel_read_relocations(scan);
	if (options->patch)
		kernel_patch(image, scan->elf, options->cpu);
	kernel_read_exports(scan);
	if (image_set_exports(image, &scan->exports, err) || image_set_entries(image, &scan->entries, err))
		return -1;
	image_report_entries(image);
	return 0;
}

int discover_kernel(const struct kernel_image *kernel, const struct kernel_options *options, struct image *image,
		    struct err *err)
{
	struct elf_file elf;
	struct kernel_scan scan = {.image = image, .elf = &elf, .kernel = kernel};

	*image = (struct image){.kernel = true};
	if (elf_open(&elf, kernel->elf, kernel->elf_size, "kernel", err))
		return -1;
	if (discover(&scan, options, err)) {
		free(scan.entries.entry);
		free(scan.exports.entry);
		image_release(image);
		elf_close(&elf);
		return -1;
	}
	elf_close(&elf);
	return 0;
}
