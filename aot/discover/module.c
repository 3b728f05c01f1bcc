/* A kernel module, as the kernel makes it when it is loaded. */
#include "module.h"

#include <elf.h>
#include <stdlib.h>

#include "internal.h"

static int discover(struct module_scan *scan, const struct cpu_model *cpu, struct err *err)
{
	struct image *image = &scan->module->image;
	struct patcher patcher = {
		.image = image, .kernel = scan->kernel, .elf = &scan->elf, .cpu = cpu, .holes = &scan->holes};

	if (scan->elf.type != ET_REL)
		return err_set(err, "'%s' is no object file", scan->name);
	image->name = strdup(scan->name);
	if (!image->name)
		return err_set(err, "not enough memory to read '%s'", scan->name);
	if (module_lay_out(scan, err) < 0 || module_read_symbols(scan, err) < 0 || module_relocate(scan, err) < 0)
		return -1;
	read_fixups(image, &scan->elf, &scan->entries);
	patch(&patcher);
	if (holes_list(&scan->holes, scan->module) < 0)
		return err_set(err, "not enough memory to read '%s'", scan->name);
	if (image_set_entries(image, &scan->entries, err) < 0)
		return -1;
	image_report_entries(image);
	return 0;
}

int discover_module(const u8 *data, u64 size, const char *name, const struct image *kernel, const struct cpu_model *cpu,
		    struct module *module, struct err *err)
{
	struct module_scan scan = {.module = module, .kernel = kernel, .name = name};
	int result;

	*module = (struct module){.image = {.kernel = true, .moves = true}};
	if (elf_open(&scan.elf, data, size, name, err) < 0)
		return -1;
	result = discover(&scan, cpu, err);
	if (result < 0)
		module_release(module);
	elf_close(&scan.elf);
	holes_release(&scan.holes);
	free(scan.entries.entry);
	free(scan.symbol);
	free(scan.group);
	return result;
}

void module_release(struct module *module)
{
	image_release(&module->image);
	free(module->hole);
	for (u32 i = 0; i < module->section_count; i++)
		free(module->section[i].name);
	free(module->section);
	*module = (struct module){0};
}

const struct module_hole *module_holes(const struct module *module, u64 address, u64 size, u32 *count)
{
	u32 low = 0, high = module->hole_count, end;

	/* the first one that ends behind the address */
	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (module->hole[middle].address + module->hole[middle].size <= address)
			low = middle + 1;
		else
			high = middle;
	}
	for (end = low; end < module->hole_count && module->hole[end].address < address + size;)
		end++;
	*count = end - low;
	return *count ? &module->hole[low] : NULL;
}
