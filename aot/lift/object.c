/* ELF for x86-64 (System V ABI, AMD64 supplement). Every bound is checked, though the input is LLVM's. */
#include "object.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

struct object {
	const u8 *bytes;
	u64 size;
	const Elf64_Shdr *sections;
	unsigned section_count;
	const Elf64_Shdr *symtab;
	unsigned text; /* section number */
};

static bool inside(const struct object *o, u64 offset, u64 length)
{
	return offset <= o->size && length <= o->size - offset;
}

static const char *string_at(const struct object *o, const Elf64_Shdr *table, u64 offset)
{
	if (offset >= table->sh_size || !memchr(o->bytes + table->sh_offset + offset, 0, table->sh_size - offset))
		return "";
	return (const char *)o->bytes + table->sh_offset + offset;
}

/* The decimal number after a prefix, or -1. */
static long number_after(const char *name, const char *prefix)
{
	size_t length = strlen(prefix);
	char *end;

	if (strncmp(name, prefix, length) != 0 || name[length] < '0' || name[length] > '9')
		return -1;
	long number = strtol(name + length, &end, 10);

	return *end ? -1 : number;
}

static bool find_sections(struct object *o)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)o->bytes;

	if (o->size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
	    header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64 ||
	    header->e_shentsize != sizeof(Elf64_Shdr) ||
	    !inside(o, header->e_shoff, (u64)header->e_shnum * sizeof(Elf64_Shdr)) ||
	    header->e_shstrndx >= header->e_shnum)
		return false;
	o->sections = (const Elf64_Shdr *)(o->bytes + header->e_shoff);
	o->section_count = header->e_shnum;
	for (unsigned i = 0; i < o->section_count; i++) {
		const Elf64_Shdr *s = &o->sections[i];

		if (s->sh_type != SHT_NOBITS && !inside(o, s->sh_offset, s->sh_size))
			return false;
	}
	for (unsigned i = 0; i < o->section_count; i++) {
		const Elf64_Shdr *s = &o->sections[i];

		if (s->sh_type == SHT_SYMTAB && s->sh_link < o->section_count)
			o->symtab = s;
		if (s->sh_type == SHT_PROGBITS && (s->sh_flags & SHF_EXECINSTR) &&
		    strcmp(string_at(o, &o->sections[header->e_shstrndx], s->sh_name), ".text") == 0)
			o->text = i;
	}
	return o->symtab && o->text;
}

static const Elf64_Sym *symbol_at(const struct object *o, u64 n)
{
	if (n >= o->symtab->sh_size / sizeof(Elf64_Sym))
		return NULL;
	return (const Elf64_Sym *)(o->bytes + o->symtab->sh_offset) + n;
}

static void take_functions(const struct object *o, struct lifted *lifted)
{
	for (unsigned i = 0; i < SCAN_ROOM; i++)
		lifted->function[i] = LIFT_NONE;
	for (u64 i = 0; symbol_at(o, i); i++) {
		const Elf64_Sym *symbol = symbol_at(o, i);
		long item = number_after(string_at(o, &o->sections[o->symtab->sh_link], symbol->st_name), "f");

		if (symbol->st_shndx == o->text && item >= 0 && item < SCAN_ROOM &&
		    symbol->st_value < lifted->text_size)
			lifted->function[item] = (u32)symbol->st_value;
	}
}

static bool take_fix(const struct object *o, const Elf64_Rela *r, struct lifted *lifted)
{
	const Elf64_Sym *symbol = symbol_at(o, ELF64_R_SYM(r->r_info));
	unsigned type = ELF64_R_TYPE(r->r_info);

	if (!symbol || (type != R_X86_64_PLT32 && type != R_X86_64_PC32) || r->r_offset > lifted->text_size - 4)
		return false;
	long exit = number_after(string_at(o, &o->sections[o->symtab->sh_link], symbol->st_name), "exit_");

	if (exit < 0 || exit >= (long)lifted->exit_count)
		return false;
	lifted->fix[lifted->fix_count++] =
		(struct lift_fix){.at = (u32)r->r_offset, .exit = (u16)exit, .addend = (s32)r->r_addend};
	return true;
}

static bool take_fixes(const struct object *o, struct lifted *lifted)
{
	for (unsigned i = 0; i < o->section_count; i++) {
		const Elf64_Shdr *s = &o->sections[i];

		if (s->sh_type != SHT_RELA || s->sh_info != o->text)
			continue;
		u64 count = s->sh_size / sizeof(Elf64_Rela);

		lifted->fix = calloc(count ? count : 1, sizeof(*lifted->fix));
		if (!lifted->fix)
			return false;
		for (u64 n = 0; n < count; n++) {
			if (!take_fix(o, (const Elf64_Rela *)(o->bytes + s->sh_offset) + n, lifted))
				return false;
		}
		return true;
	}
	return true;
}

struct lifted *object_read(const u8 *bytes, u64 size, const struct lift_exit *exits, unsigned exit_count,
			   const char **reason)
{
	struct object o = {.bytes = bytes, .size = size};
	struct lifted *lifted = calloc(1, sizeof(*lifted));

	*reason = "out of memory";
	if (!lifted)
		return NULL;
	if (!find_sections(&o) || o.sections[o.text].sh_size < 4 || o.sections[o.text].sh_size > 0x100000) {
		*reason = "the object file is not as expected";
		lift_free(lifted);
		return NULL;
	}
	lifted->text_size = (u32)o.sections[o.text].sh_size;
	lifted->text = malloc(lifted->text_size);
	lifted->exit_count = exit_count;
	lifted->exit = calloc(exit_count ? exit_count : 1, sizeof(*lifted->exit));
	if (!lifted->text || !lifted->exit) {
		lift_free(lifted);
		return NULL;
	}
	memcpy(lifted->text, bytes + o.sections[o.text].sh_offset, lifted->text_size);
	memcpy(lifted->exit, exits, exit_count * sizeof(*exits));
	take_functions(&o, lifted);
	if (!take_fixes(&o, lifted)) {
		*reason = "the code depends on more than itself";
		lift_free(lifted);
		return NULL;
	}
	*reason = NULL;
	return lifted;
}
