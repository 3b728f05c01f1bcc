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

/* --- whose is it? ------------------------------------------------------------------------------------------------ */

#define BANNER   "Linux version "
#define VERMAGIC "vermagic="

/* The value of .modinfo, whose strings end with zeros; its length, 0 if it is not there. */
static const char *find_vermagic(const struct elf_file *elf, u64 *length)
{
	const struct elf_part *part = elf_section(elf, ".modinfo");
	const char *text = part && part->size ? (const char *)elf->data + part->offset : NULL, *end;

	*length = 0;
	for (const char *at = text; at && at < text + part->size; at = end + 1) {
		end = memchr(at, 0, (size_t)(text + part->size - at));
		if (!end)
			return NULL;
		if (strncmp(at, VERMAGIC, strlen(VERMAGIC)) == 0) {
			at += strlen(VERMAGIC);
			*length = strcspn(at, " ");
			return at;
		}
	}
	return NULL;
}

bool module_fits(const u8 *data, u64 size, const struct image *kernel)
{
	u64 banner = image_find(kernel, "linux_banner"), length, left = banner ? image_left(kernel, banner) : 0;
	const char *text = left ? (const char *)image_at(kernel, banner, left) : NULL, *release;
	struct elf_file elf;
	bool fits;

	if (elf_open(&elf, data, size, "module", NULL) < 0)
		return false;
	release = find_vermagic(&elf, &length);
	fits = text && length && left > strlen(BANNER) + length && memcmp(text, BANNER, strlen(BANNER)) == 0 &&
	       memcmp(text + strlen(BANNER), release, length) == 0 && text[strlen(BANNER) + length] == ' ';
	elf_close(&elf);
	return fits;
}
