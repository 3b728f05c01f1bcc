/*
 * Where a module's sections lie: code in the order of the file, each section aligned, in one group of pages; what is
 * for initialization in another. So do all kernels. Data only has to have addresses, in any order: code names it
 * through holes.
 */
#include <elf.h>
#include <stdlib.h>

#include "internal.h"

#define ALIGN_MOST 0x200000ULL
#define COPIES     4u  /* sections of a sane file do not overlap */
#define DATA_GAP   64u /* bytes between sections of data, so that a place before or behind one is of no other */

struct group {
	u64 address, size; /* in memory */
};

static bool starts_with(const char *name, const char *start)
{
	return strncmp(name, start, strlen(start)) == 0;
}

/* In the kernel's memory while the module is there; .modinfo and __versions are dropped. */
static enum module_group group_of(const struct elf_part *part)
{
	if (!(part->flags & SHF_ALLOC) || part->type == SHT_NULL)
		return GROUP_NONE;
	if (!(part->flags & SHF_EXECINSTR))
		return strcmp(part->name, "__versions") == 0 || strcmp(part->name, ".modinfo") == 0 ? GROUP_NONE
												    : GROUP_DATA;
	return starts_with(part->name, ".init") ? GROUP_INIT_TEXT : GROUP_TEXT;
}

static int place(struct module_scan *scan, u32 number, struct group *group, struct err *err)
{
	struct module *module = scan->module;
	struct elf_part *part = &scan->elf.section[number];
	struct module_section *section;
	u64 align = part->align ? part->align : 1;

	if ((align & (align - 1)) || align > ALIGN_MOST)
		return err_set(err, "'%s' is damaged: its section %u has an alignment of %llu bytes", scan->name,
			       number, (unsigned long long)align);
	if (part->memory_size > MODULE_MOST || align_up(group->size, align) + part->memory_size > MODULE_MOST)
		return err_set(err, "'%s' has sections of more than %llu MiB, which is not read", scan->name,
			       (unsigned long long)(MODULE_MOST >> 20));
	group->size = align_up(group->size, align);
	part->address = group->address + group->size;
	group->size += part->memory_size + (part->flags & SHF_EXECINSTR ? 0 : DATA_GAP);
	section = &module->section[module->section_count];
	*section = (struct module_section){strdup(part->name), part->address, part->memory_size};
	if (!section->name)
		return err_set(err, "not enough memory to read '%s'", scan->name);
	module->section_count++;
	return 0;
}

/* Those of a group that have bytes in the file, or those that have none. */
static int place_all(struct module_scan *scan, enum module_group which, bool bytes, struct group *group,
		     struct err *err)
{
	for (u32 i = 0; i < scan->elf.section_count; i++) {
		if (scan->group[i] != which || (scan->elf.section[i].type != SHT_NOBITS) != bytes)
			continue;
		if (which != GROUP_DATA && !bytes)
			return err_set(err, "'%s' is damaged: its section %u is code without bytes", scan->name, i);
		if (place(scan, i, group, err) < 0)
			return -1;
	}
	return 0;
}

static int copy_segment(struct module_scan *scan, enum module_group which, const struct group *group, u64 size)
{
	struct image *image = &scan->module->image;
	struct image_segment *segment = &image->segment[image->segment_count];

	*segment = (struct image_segment){.address = group->address,
					  .size = size,
					  .bytes = calloc(1, size),
					  .executable = which != GROUP_DATA,
					  .writable = which == GROUP_DATA};
	if (!segment->bytes)
		return -1;
	image->segment_count++;
	for (u32 i = 0; i < scan->elf.section_count; i++) {
		const struct elf_part *part = &scan->elf.section[i];

		if (scan->group[i] == which && part->size)
			memcpy(segment->bytes + (part->address - group->address), scan->elf.data + part->offset,
			       part->size);
	}
	return which == GROUP_DATA ? 0 : holes_add_group(&scan->holes, group->address, size);
}

/* Sections lie in the order of their addresses. */
static void add_ranges(struct module_scan *scan, enum module_group which)
{
	struct image *image = &scan->module->image;

	for (u32 i = 0; i < scan->elf.section_count; i++) {
		const struct elf_part *part = &scan->elf.section[i];

		/* never executed where it lies */
		if (scan->group[i] != which || !part->size || strcmp(part->name, ".altinstr_replacement") == 0)
			continue;
		image->code[image->code_count++] =
			(struct code_range){part->address, part->size, which == GROUP_INIT_TEXT};
	}
}

int module_lay_out(struct module_scan *scan, struct err *err)
{
	struct image *image = &scan->module->image;
	u32 count = scan->elf.section_count;
	u64 total = 0;
	static const struct {
		enum module_group group;
		u64 address;
	} groups[] = {{GROUP_TEXT, MODULE_TEXT}, {GROUP_INIT_TEXT, MODULE_INIT_TEXT}, {GROUP_DATA, MODULE_DATA}};

	scan->group = calloc(count + 1u, 1);
	image->segment = calloc(ARRAY_SIZE(groups), sizeof(*image->segment));
	image->code = calloc(count + 1u, sizeof(*image->code));
	scan->module->section = calloc(count + 1u, sizeof(*scan->module->section));
	if (!scan->group || !scan->module->section || !image->segment || !image->code)
		return err_set(err, "not enough memory to read '%s'", scan->name);
	for (u32 i = 0; i < count; i++) {
		scan->group[i] = (u8)group_of(&scan->elf.section[i]);
		total += scan->group[i] == GROUP_NONE ? 0 : scan->elf.section[i].size;
	}
	if (total > COPIES * scan->elf.size)
		return err_set(err, "'%s' is damaged: its sections overlap", scan->name);
	for (unsigned g = 0; g < ARRAY_SIZE(groups); g++) {
		struct group group = {.address = groups[g].address};
		u64 size;

		if (place_all(scan, groups[g].group, true, &group, err) < 0)
			return -1;
		size = groups[g].group == GROUP_DATA ? group.size : align_up(group.size, PAGE_SIZE);
		if (place_all(scan, groups[g].group, false, &group, err) < 0)
			return -1;
		if (size && copy_segment(scan, groups[g].group, &group, size) < 0)
			return err_set(err, "not enough memory to read '%s'", scan->name);
		if (groups[g].group != GROUP_DATA)
			add_ranges(scan, groups[g].group);
	}
	return 0;
}
