/* ELF64 headers of a file that may be anything. libelf would do, but for files cut or bent on purpose it is too much.
 */
#include <elf.h>
#include <stdlib.h>

#include "internal.h"

/* A section's name, if it is not too long and the string table holds it with its final zero. */
static const char *name_at(const struct elf_file *elf, const struct elf_part *strings, u32 offset)
{
	const char *text = (const char *)elf->data + strings->offset + offset;
	u64 left = offset < strings->size ? strings->size - offset : 0;

	if (strings->type != SHT_STRTAB || !left || !memchr(text, 0, left < NAME_MOST ? left : NAME_MOST))
		return "";
	return text;
}

static void note_end(struct elf_file *elf, u64 end)
{
	if (end > elf->end)
		elf->end = end;
}

static void read_sections(struct elf_file *elf, const Elf64_Ehdr *header)
{
	u32 strings = header->e_shstrndx;

	for (u32 i = 0; i < elf->section_count; i++) {
		struct elf_part *part = &elf->section[i];
		Elf64_Shdr sh;

		memcpy(&sh, elf->data + header->e_shoff + (u64)i * sizeof(sh), sizeof(sh));
		*part = (struct elf_part){.name = "", .type = SHT_NULL};
		if (sh.sh_type == SHT_NULL ||
		    (sh.sh_type != SHT_NOBITS && !within(sh.sh_offset, sh.sh_size, elf->size)))
			continue;
		if (sh.sh_addr + sh.sh_size < sh.sh_addr)
			continue;
		part->type = sh.sh_type;
		part->flags = sh.sh_flags;
		part->address = sh.sh_addr;
		part->offset = sh.sh_type == SHT_NOBITS ? 0 : sh.sh_offset;
		part->size = sh.sh_type == SHT_NOBITS ? 0 : sh.sh_size;
		part->memory_size = sh.sh_size;
		part->entry_size = sh.sh_entsize;
		part->align = sh.sh_addralign;
		part->link = sh.sh_link;
		part->info = sh.sh_info;
		note_end(elf, part->offset + part->size);
	}
	if (strings >= elf->section_count)
		return;
	for (u32 i = 0; i < elf->section_count; i++) {
		u32 name;

		memcpy(&name, elf->data + header->e_shoff + (u64)i * sizeof(Elf64_Shdr), sizeof(name));
		if (elf->section[i].type != SHT_NULL)
			elf->section[i].name = name_at(elf, &elf->section[strings], name);
	}
}

static int read_segments(struct elf_file *elf, const Elf64_Ehdr *header, const char *name, struct err *err)
{
	for (u32 i = 0; i < elf->segment_count; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, elf->data + header->e_phoff + (u64)i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD && (!within(ph.p_offset, ph.p_filesz, elf->size) || ph.p_filesz > ph.p_memsz ||
					     ph.p_vaddr + ph.p_memsz < ph.p_vaddr))
			return err_set(err, "'%s' is truncated or damaged: segment %u does not lie within the file",
				       name, i);
		elf->segment[i] = (struct elf_part){.name = "", .type = PT_NULL};
		if (!within(ph.p_offset, ph.p_filesz, elf->size))
			continue;
		elf->segment[i] = (struct elf_part){
			.name = "",
			.type = ph.p_type,
			.flags = ph.p_flags,
			.address = ph.p_vaddr,
			.offset = ph.p_offset,
			.size = ph.p_filesz,
			.memory_size = ph.p_memsz,
		};
		note_end(elf, ph.p_offset + ph.p_filesz);
	}
	return 0;
}

int elf_open(struct elf_file *elf, const u8 *data, u64 size, const char *name, struct err *err)
{
	Elf64_Ehdr header;

	*elf = (struct elf_file){.data = data, .size = size};
	if (size < sizeof(header) || memcmp(data, ELFMAG, SELFMAG) != 0)
		return err_set(err, "'%s' is not an ELF file", name);
	memcpy(&header, data, sizeof(header));
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
	    header.e_machine != EM_X86_64)
		return err_set(err, "'%s' is an ELF file for another processor, not for x86-64 in 64-bit mode", name);
	if (header.e_phnum && (header.e_phentsize != sizeof(Elf64_Phdr) ||
			       !within(header.e_phoff, (u64)header.e_phnum * sizeof(Elf64_Phdr), size)))
		return err_set(err, "'%s' is truncated or damaged: its program headers cannot be read", name);
	elf->type = header.e_type;
	elf->entry = header.e_entry;
	elf->segment_count = header.e_phnum;
	elf->segment = calloc(header.e_phnum + 1u, sizeof(*elf->segment));
	if (header.e_shnum && header.e_shentsize == sizeof(Elf64_Shdr) &&
	    within(header.e_shoff, (u64)header.e_shnum * sizeof(Elf64_Shdr), size))
		elf->section_count = header.e_shnum;
	elf->section = calloc(elf->section_count + 1u, sizeof(*elf->section));
	if (!elf->segment || !elf->section) {
		elf_close(elf);
		return err_set(err, "not enough memory to read '%s'", name);
	}
	note_end(elf, header.e_phoff + (u64)header.e_phnum * sizeof(Elf64_Phdr));
	if (elf->section_count) {
		note_end(elf, header.e_shoff + (u64)header.e_shnum * sizeof(Elf64_Shdr));
		read_sections(elf, &header);
	}
	if (read_segments(elf, &header, name, err)) {
		elf_close(elf);
		return -1;
	}
	return 0;
}

void elf_close(struct elf_file *elf)
{
	free(elf->segment);
	free(elf->section);
	*elf = (struct elf_file){0};
}

const struct elf_part *elf_section(const struct elf_file *elf, const char *name)
{
	for (u32 i = 0; i < elf->section_count; i++)
		if (elf->section[i].type != SHT_NULL && strcmp(elf->section[i].name, name) == 0)
			return &elf->section[i];
	return NULL;
}
