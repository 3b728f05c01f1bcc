/* Images: what is loaded where, what of it is code, and where that is entered. */
#include "util/err.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

#define MAX_IMAGE  (1ULL << 30) /* bytes of all segments */
#define KERNEL_LOW 0xffff800000000000ULL

static const char *const source_names[ENTRY_SOURCES] = {
	"start", "symbol", "export", "unwind", "fixup", "pointer", "plt", "init", "call", "jump table",
};

const char *entry_source_name(u16 source)
{
	for (unsigned i = 0; i < ENTRY_SOURCES; i++)
		if (source == BIT(i))
			return source_names[i];
	return "?";
}

/* --- entries ----------------------------------------------------------------------------------------------------- */

void collect(struct collector *collector, u64 pc, u16 source, const char *name)
{
	if (collector->count == collector->capacity) {
		u64 capacity = collector->capacity ? collector->capacity * 2 : 1024;
		struct image_entry *entry = realloc(collector->entry, capacity * sizeof(*entry));

		if (!entry) {
			collector->failed = true;
			return;
		}
		collector->entry = entry;
		collector->capacity = capacity;
	}
	collector->entry[collector->count++] = (struct image_entry){pc, source, name};
}

/* By address; then those with a name, by name. */
static int compare(const void *left, const void *right)
{
	const struct image_entry *a = left, *b = right;

	if (a->pc != b->pc)
		return a->pc < b->pc ? -1 : 1;
	if (!a->name || !b->name)
		return (b->name != NULL) - (a->name != NULL);
	return strcmp(a->name, b->name);
}

static int finish(struct collector *collector, struct err *err)
{
	if (collector->failed || collector->count > UINT32_MAX) {
		free(collector->entry);
		*collector = (struct collector){0};
		return err_set(err, "not enough memory for the entry points");
	}
	if (collector->count)
		qsort(collector->entry, collector->count, sizeof(*collector->entry), compare);
	return 0;
}

int image_set_entries(struct image *image, struct collector *collector, struct err *err)
{
	u32 count = 0;

	if (finish(collector, err))
		return -1;
	for (u64 i = 0; i < collector->count; i++) {
		const struct image_entry *entry = &collector->entry[i];

		if (count && collector->entry[count - 1].pc == entry->pc) {
			collector->entry[count - 1].sources |= entry->sources;
			continue;
		}
		if (image_is_code(image, entry->pc))
			collector->entry[count++] = *entry;
	}
	free(image->entry);
	image->entry = collector->entry;
	image->entry_count = count;
	*collector = (struct collector){0};
	return 0;
}

static int compare_exports(const void *left, const void *right)
{
	const struct image_entry *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	return order ? order : a->pc < b->pc ? -1 : a->pc > b->pc;
}

int image_set_exports(struct image *image, struct collector *collector, struct err *err)
{
	if (finish(collector, err))
		return -1;
	if (collector->count)
		qsort(collector->entry, collector->count, sizeof(*collector->entry), compare_exports);
	image->export = collector->entry;
	image->export_count = (u32)collector->count;
	*collector = (struct collector){0};
	return 0;
}

static int compare_names(const void *left, const void *right, void *context)
{
	const struct image_entry *symbols = context;
	const u32 *a = left, *b = right;
	int order = strcmp(symbols[*a].name, symbols[*b].name);

	return order ? order : *a < *b ? -1 : 1;
}

static int index_names(struct image *image, struct err *err)
{
	free(image->by_name);
	image->by_name = malloc((image->symbol_count + 1ULL) * sizeof(*image->by_name));
	if (!image->by_name)
		return err_set(err, "not enough memory for the symbols");
	for (u32 i = 0; i < image->symbol_count; i++)
		image->by_name[i] = i;
	qsort_r(image->by_name, image->symbol_count, sizeof(*image->by_name), compare_names, image->symbol);
	return 0;
}

int image_set_symbols(struct image *image, struct collector *collector, struct err *err)
{
	if (finish(collector, err))
		return -1;
	free(image->symbol);
	image->symbol = collector->entry;
	image->symbol_count = (u32)collector->count;
	*collector = (struct collector){0};
	return index_names(image, err);
}

void image_report_entries(struct image *image)
{
	u64 of[ENTRY_SOURCES] = {0}, only[ENTRY_SOURCES] = {0};

	for (u32 i = 0; i < image->entry_count; i++)
		for (unsigned s = 0; s < ENTRY_SOURCES; s++) {
			of[s] += image->entry[i].sources >> s & 1;
			only[s] += image->entry[i].sources == BIT(s);
		}
	report_line(&image->report, "entries: %u distinct addresses", image->entry_count);
	for (unsigned s = 0; s < ENTRY_SOURCES; s++)
		if (of[s])
			report_line(&image->report, "  %s: %llu, of which no other source knows %llu", source_names[s],
				    (unsigned long long)of[s], (unsigned long long)only[s]);
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

static int compare_parts(const void *left, const void *right)
{
	const struct elf_part *const *a = left, *const *b = right;

	return (*a)->address < (*b)->address ? -1 : (*a)->address > (*b)->address;
}

static int compare_ranges(const void *left, const void *right)
{
	const struct code_range *a = left, *b = right;

	return a->address < b->address ? -1 : a->address > b->address;
}

/* The kernel's per-CPU segment is linked at 0; it is data, and moved. */
static bool is_loaded(const struct image *image, const struct elf_part *part)
{
	return part->type == PT_LOAD && part->size && (!image->kernel || part->address >= KERNEL_LOW);
}

/* The file's bytes from `offset` on; zeros behind its end. */
static void copy_file(u8 *to, const struct elf_file *elf, u64 offset, u64 size)
{
	u64 there = offset < elf->size ? elf->size - offset : 0;

	if (there > size)
		there = size;
	memcpy(to, elf->data + offset, there);
	memset(to + there, 0, size - there);
}

/*
 * Code of programs is mapped in whole pages: what the file has before and behind it in these is there too, unless it is
 * made zero to be variables. `low` and `high`: the neighbours' bounds.
 */
static int copy_segment(struct image *image, const struct elf_file *elf, const struct elf_part *part, u64 low, u64 high)
{
	struct image_segment *segment = &image->segment[image->segment_count];
	u64 begin = part->address, end = part->address + part->size;

	if (!image->kernel && part->flags & PF_X && PAGE_OFFSET(part->address) == PAGE_OFFSET(part->offset)) {
		begin = PAGE_BASE(begin) > low ? PAGE_BASE(begin) : low;
		if (align_up(end, PAGE_SIZE) > end)
			end = align_up(end, PAGE_SIZE) < high ? align_up(end, PAGE_SIZE) : high;
	}
	segment->bytes = malloc(end - begin);
	if (!segment->bytes)
		return -1;
	copy_file(segment->bytes, elf, part->offset - (part->address - begin), end - begin);
	if (part->memory_size > part->size)
		memset(segment->bytes + (part->address + part->size - begin), 0, end - (part->address + part->size));
	segment->address = begin;
	segment->size = end - begin;
	segment->executable = part->flags & PF_X;
	segment->writable = part->flags & PF_W;
	image->segment_count++;
	return 0;
}

static int copy_parts(struct image *image, const struct elf_file *elf, const struct elf_part **part, u32 count,
		      const char *name, struct err *err)
{
	u64 total = 0;

	qsort(part, count, sizeof(*part), compare_parts);
	for (u32 i = 0; i < count; i++) {
		u64 low = i ? part[i - 1]->address + part[i - 1]->size : 0;
		u64 high = i + 1 < count ? part[i + 1]->address : UINT64_MAX;

		total += part[i]->size;
		if (total > MAX_IMAGE)
			return err_set(err, "'%s' is too large: its segments overlap or exceed 1 GiB", name);
		if (low > part[i]->address)
			return err_set(err, "'%s' is damaged: two of its segments overlap", name);
		if (copy_segment(image, elf, part[i], low, high) < 0)
			return err_set(err, "not enough memory to read '%s'", name);
	}
	return 0;
}

static int copy_segments(struct image *image, const struct elf_file *elf, const char *name, struct err *err)
{
	const struct elf_part **part = malloc((elf->segment_count + 1ULL) * sizeof(*part));
	u32 count = 0;
	int result;

	image->segment = calloc(elf->segment_count + 1u, sizeof(*image->segment));
	if (!image->segment || !part) {
		free(part);
		return err_set(err, "not enough memory to read '%s'", name);
	}
	for (u32 i = 0; i < elf->segment_count; i++) {
		if (is_loaded(image, &elf->segment[i]))
			part[count++] = &elf->segment[i];
	}
	result = copy_parts(image, elf, part, count, name, err);
	free(part);
	return result;
}

static bool is_init_section(const char *name)
{
	return strncmp(name, ".init", 5) == 0 || strncmp(name, ".exit", 5) == 0 || strcmp(name, ".altinstr_aux") == 0;
}

/* Sections say more exactly what is code; without them it is all of an executable segment. */
static int find_code(struct image *image, const struct elf_file *elf, const char *name, struct err *err)
{
	u32 count = 0;

	image->code = calloc((u64)elf->section_count + elf->segment_count + 1, sizeof(*image->code));
	if (!image->code)
		return err_set(err, "not enough memory to read '%s'", name);
	for (u32 i = 0; i < elf->section_count; i++) {
		const struct elf_part *part = &elf->section[i];

		if (part->type != SHT_PROGBITS || !(part->flags & SHF_EXECINSTR) || !(part->flags & SHF_ALLOC) ||
		    !part->size || !image_is_executable(image, part->address) ||
		    !image_at(image, part->address, part->size))
			continue;
		/* never executed where it lies */
		if (image->kernel && strcmp(part->name, ".altinstr_replacement") == 0)
			continue;
		image->code[count++] = (struct code_range){
			.address = part->address,
			.size = part->size,
			.init = image->kernel && is_init_section(part->name),
		};
	}
	for (u32 i = 0, sections = count; i < elf->segment_count && !sections; i++) {
		const struct elf_part *part = &elf->segment[i];

		if (is_loaded(image, part) && part->flags & PF_X)
			image->code[count++] = (struct code_range){.address = part->address, .size = part->size};
	}
	qsort(image->code, count, sizeof(*image->code), compare_ranges);
	/* sections may overlap in a hostile file: the first wins */
	for (u32 i = 0; i < count; i++) {
		struct code_range *last = image->code_count ? &image->code[image->code_count - 1] : NULL;

		if (!last || image->code[i].address >= last->address + last->size)
			image->code[image->code_count++] = image->code[i];
	}
	return 0;
}

int image_load(struct image *image, const struct elf_file *elf, const char *name, struct err *err)
{
	image->name = strdup(name);
	if (!image->name)
		return err_set(err, "not enough memory to read '%s'", name);
	if (copy_segments(image, elf, name, err) || find_code(image, elf, name, err))
		return -1;
	return 0;
}

void image_release(struct image *image)
{
	for (u32 i = 0; i < image->segment_count; i++)
		free(image->segment[i].bytes);
	free(image->segment);
	free(image->code);
	free(image->entry);
	free(image->symbol);
	free(image->by_name);
	free(image->export);
	free(image->names);
	free(image->name);
	report_release(&image->report);
	*image = (struct image){0};
}

/* --- questions --------------------------------------------------------------------------------------------------- */

/* Both are sorted and do not overlap; files made on purpose have 65,535 of them. */
static struct image_segment *segment_at(const struct image *image, u64 address)
{
	u32 low = 0, high = image->segment_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (image->segment[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low && address - image->segment[low - 1].address < image->segment[low - 1].size
		       ? &image->segment[low - 1]
		       : NULL;
}

const struct code_range *image_range(const struct image *image, u64 address)
{
	u32 low = 0, high = image->code_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (image->code[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low && address - image->code[low - 1].address < image->code[low - 1].size ? &image->code[low - 1] : NULL;
}

u8 *image_write_at(struct image *image, u64 address, u64 size)
{
	struct image_segment *segment = segment_at(image, address);

	if (!segment || !within(address - segment->address, size, segment->size))
		return NULL;
	return segment->bytes + (address - segment->address);
}

const u8 *image_at(const struct image *image, u64 address, u64 size)
{
	return image_write_at((struct image *)image, address, size);
}

u64 image_left(const struct image *image, u64 address)
{
	const struct image_segment *segment = segment_at(image, address);

	return segment ? segment->size - (address - segment->address) : 0;
}

bool image_is_executable(const struct image *image, u64 address)
{
	const struct image_segment *segment = segment_at(image, address);

	return segment && segment->executable;
}

bool image_is_code(const struct image *image, u64 address)
{
	return image_range(image, address) != NULL;
}

/* Data symbols lie in other ranges, so that the nearest before pc is a code symbol or none at all. */
const char *image_symbol(const struct image *image, u64 pc, u64 *offset)
{
	const struct code_range *range = image_range(image, pc);
	u32 low = 0, high = image->symbol_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (image->symbol[middle].pc <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || !range || image->symbol[low - 1].pc < range->address)
		return NULL;
	*offset = pc - image->symbol[low - 1].pc;
	return image->symbol[low - 1].name;
}

u64 image_find(const struct image *image, const char *name)
{
	u32 low = 0, high = image->symbol_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (strcmp(image->symbol[image->by_name[middle]].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == image->symbol_count || strcmp(image->symbol[image->by_name[low]].name, name) != 0)
		return 0;
	return image->symbol[image->by_name[low]].pc;
}

bool image_exported(const struct image *image, const char *name, u64 *address)
{
	u32 low = 0, high = image->export_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;
		int order = strcmp(image->export[middle].name, name);

		if (order == 0) {
			*address = image->export[middle].pc;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}
