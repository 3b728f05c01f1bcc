/* A module's symbols and relocations. What depends on a load address leaves a hole in code. */
#include <elf.h>
#include <stdlib.h>

#include "internal.h"

#define OTHER_SIZE 16u /* bytes between the nominal addresses of what other modules export */

/* --- symbols ----------------------------------------------------------------------------------------------------- */

static void symbol_at(const struct module_scan *scan, u32 number, Elf64_Sym *symbol)
{
	memcpy(symbol, scan->elf.data + scan->symbols->offset + (u64)number * sizeof(*symbol), sizeof(*symbol));
}

static const char *name_of(const struct module_scan *scan, const Elf64_Sym *symbol)
{
	return symbol->st_name < scan->strings->size
		       ? (const char *)scan->elf.data + scan->strings->offset + symbol->st_name
		       : "";
}

static int find_symbols(struct module_scan *scan, struct err *err)
{
	const struct elf_file *elf = &scan->elf;

	for (u32 i = 0; i < elf->section_count && !scan->symbols; i++)
		if (elf->section[i].type == SHT_SYMTAB)
			scan->symbols = &elf->section[i];
	if (!scan->symbols || scan->symbols->entry_size != sizeof(Elf64_Sym) ||
	    scan->symbols->link >= elf->section_count)
		return err_set(err, "'%s' is no kernel module, or damaged: it has no symbols", scan->name);
	scan->strings = &elf->section[scan->symbols->link];
	/* then every name in it ends */
	if (scan->strings->type != SHT_STRTAB || !scan->strings->size ||
	    elf->data[scan->strings->offset + scan->strings->size - 1])
		return err_set(err, "'%s' is damaged: the names of its symbols cannot be read", scan->name);
	if (scan->symbols->size / sizeof(Elf64_Sym) > (0 - MODULE_OTHERS) / OTHER_SIZE)
		return err_set(err, "'%s' has too many symbols", scan->name);
	scan->symbol_count = (u32)(scan->symbols->size / sizeof(Elf64_Sym));
	return 0;
}

static struct module_symbol resolve(const struct module_scan *scan, u32 number, const Elf64_Sym *symbol)
{
	struct module_symbol other = {MODULE_OTHERS + (u64)number * OTHER_SIZE, GROUP_OTHERS}, fixed = {0, GROUP_FIXED};

	if (symbol->st_shndx == SHN_ABS)
		return (struct module_symbol){symbol->st_value, GROUP_FIXED};
	if (symbol->st_shndx == SHN_UNDEF)
		return image_exported(scan->kernel, name_of(scan, symbol), &fixed.value) ? fixed : other;
	if (symbol->st_shndx >= scan->elf.section_count || scan->group[symbol->st_shndx] == GROUP_NONE)
		return other;
	return (struct module_symbol){scan->elf.section[symbol->st_shndx].address + symbol->st_value,
				      scan->group[symbol->st_shndx]};
}

/* Is it a name that people know? */
static bool is_named(const Elf64_Sym *symbol, const char *name)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info);

	return *name && (type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE) &&
	       strncmp(name, "__pfx_", 6) != 0 && strncmp(name, "__cfi_", 6) != 0 && *name != '.';
}

/* All are resolved; those of code are entries. */
int module_read_symbols(struct module_scan *scan, struct err *err)
{
	struct image *image = &scan->module->image;
	struct collector names = {0};

	if (find_symbols(scan, err) < 0)
		return -1;
	scan->symbol = calloc(scan->symbol_count + 1ULL, sizeof(*scan->symbol));
	image->names = malloc(scan->strings->size);
	if (!scan->symbol || !image->names)
		return err_set(err, "not enough memory to read '%s'", scan->name);
	memcpy(image->names, scan->elf.data + scan->strings->offset, scan->strings->size);
	for (u32 i = 1; i < scan->symbol_count; i++) {
		struct module_symbol *value = &scan->symbol[i];
		Elf64_Sym symbol;
		const char *name;

		symbol_at(scan, i, &symbol);
		*value = resolve(scan, i, &symbol);
		name = symbol.st_name < scan->strings->size ? cut_name(image->names + symbol.st_name) : "";
		if (value->group == GROUP_FIXED || !is_named(&symbol, name))
			continue;
		collect(&names, value->value, image_is_code(image, value->value) ? ENTRY_SYMBOL : 0, name);
		if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC)
			collect(&scan->entries, value->value, ENTRY_SYMBOL, name);
	}
	return image_set_symbols(image, &names, err);
}

/* --- relocations ------------------------------------------------------------------------------------------------- */

/* Tables that name code without leading there: places to patch, places in the middle of functions. */
static const char *const no_pointers[] = {
	"__mcount_loc",     ".parainstructions", ".altinstructions", ".smp_locks",
	".retpoline_sites", ".return_sites",     "__jump_table",     "__bug_table",
	".orc_unwind_ip",   ".ibt_endbr_seal",   ".call_sites",      ".static_call_sites",
};

static bool has_pointers(const struct elf_part *part)
{
	for (unsigned i = 0; i < ARRAY_SIZE(no_pointers); i++)
		if (strcmp(part->name, no_pointers[i]) == 0)
			return false;
	return true;
}

static const struct {
	u32 type;
	u8 size;
	bool relative;
} kinds[] = {
	{R_X86_64_64, 8, false},  {R_X86_64_32, 4, false},   {R_X86_64_32S, 4, false},
	{R_X86_64_PC32, 4, true}, {R_X86_64_PLT32, 4, true}, {R_X86_64_PC64, 8, true},
};

struct target {
	const struct elf_part *part;
	u8 group; /* enum module_group */
	bool pointers;
};

static bool is_hole(const struct target *target, const struct module_symbol *symbol, bool relative)
{
	return relative ? symbol->group != target->group : symbol->group != GROUP_FIXED;
}

/* Unknown types and places outside of the section are left: such a module is not loaded. */
static void apply(struct module_scan *scan, const struct target *target, const Elf64_Rela *rela)
{
	u32 number = (u32)ELF64_R_SYM(rela->r_info), type = (u32)ELF64_R_TYPE(rela->r_info), k = 0;
	u64 place = target->part->address + rela->r_offset, value;
	const struct module_symbol *symbol;
	u8 *bytes;

	while (k < ARRAY_SIZE(kinds) && kinds[k].type != type)
		k++;
	if (k == ARRAY_SIZE(kinds) || !number || number >= scan->symbol_count ||
	    !within(rela->r_offset, kinds[k].size, target->part->size))
		return;
	bytes = image_write_at(&scan->module->image, place, kinds[k].size);
	if (!bytes)
		return;
	symbol = &scan->symbol[number];
	value = symbol->value + (u64)rela->r_addend;
	if (!kinds[k].relative && target->pointers && image_is_code(&scan->module->image, value))
		collect(&scan->entries, value, ENTRY_POINTER, NULL);
	value -= kinds[k].relative ? place : 0;
	memcpy(bytes, &value, kinds[k].size);
	if (is_hole(target, symbol, kinds[k].relative))
		holes_set(&scan->holes, place, kinds[k].size, kinds[k].relative ? HOLE_RELATIVE : HOLE_ABSOLUTE);
}

int module_relocate(struct module_scan *scan, struct err *err)
{
	u64 total = 0;

	for (u32 i = 0; i < scan->elf.section_count; i++) {
		const struct elf_part *part = &scan->elf.section[i];
		struct target target;

		if (part->type != SHT_RELA || part->info >= scan->elf.section_count ||
		    scan->group[part->info] == GROUP_NONE)
			continue;
		total += part->size;
		if (total > scan->elf.size)
			return err_set(err, "'%s' is damaged: its relocations overlap", scan->name);
		target.part = &scan->elf.section[part->info];
		target.group = scan->group[part->info];
		target.pointers = has_pointers(target.part);
		for (u64 at = 0; at + sizeof(Elf64_Rela) <= part->size; at += sizeof(Elf64_Rela)) {
			Elf64_Rela rela;

			memcpy(&rela, scan->elf.data + part->offset + at, sizeof(rela));
			apply(scan, &target, &rela);
		}
	}
	return 0;
}
