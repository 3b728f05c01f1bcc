/* What an ELF file is and which others it needs: enough to say how much it matters. */
#include <elf.h>

#include "internal.h"

/* `size` bytes of the file that are loaded at this address; NULL if they are not all there. */
static const u8 *loaded_at(const struct elf_file *elf, u64 address, u64 size)
{
	for (u32 i = 0; i < elf->segment_count; i++) {
		const struct elf_part *part = &elf->segment[i];

		if (part->type == PT_LOAD && address >= part->address &&
		    within(address - part->address, size, part->size))
			return elf->data + part->offset + (address - part->address);
	}
	return NULL;
}

/* The string at this address if it ends within the file. */
static const char *text_at(const struct elf_file *elf, u64 address)
{
	const u8 *text = loaded_at(elf, address, 1);

	return text && memchr(text, 0, (size_t)(elf->data + elf->size - text)) ? (const char *)text : NULL;
}

static const struct elf_part *find_segment(const struct elf_file *elf, u32 type)
{
	for (u32 i = 0; i < elf->segment_count; i++)
		if (elf->segment[i].type == type)
			return &elf->segment[i];
	return NULL;
}

/* Number `n` of the dynamic section; false behind its end. */
static bool dynamic_at(const struct elf_file *elf, const struct elf_part *dynamic, u64 n, Elf64_Dyn *entry)
{
	if (!within(n * sizeof(*entry), sizeof(*entry), dynamic->size))
		return false;
	memcpy(entry, elf->data + dynamic->offset + n * sizeof(*entry), sizeof(*entry));
	return entry->d_tag != DT_NULL;
}

static void read_dynamic(const struct elf_file *elf, struct program_summary *summary)
{
	const struct elf_part *dynamic = find_segment(elf, PT_DYNAMIC);
	Elf64_Dyn entry;
	u64 strings = 0;

	for (u64 n = 0; dynamic && dynamic_at(elf, dynamic, n, &entry); n++)
		if (entry.d_tag == DT_STRTAB)
			strings = entry.d_un.d_ptr;
	for (u64 n = 0; strings && dynamic_at(elf, dynamic, n, &entry); n++) {
		const char *text;

		if (entry.d_tag != DT_NEEDED && entry.d_tag != DT_SONAME)
			continue;
		text = text_at(elf, strings + entry.d_un.d_val);
		if (entry.d_tag == DT_SONAME)
			summary->soname = text;
		else if (text && summary->needed_count < SUMMARY_NEEDED)
			summary->needed[summary->needed_count++] = text;
	}
}

static void read_text(const struct elf_file *elf, struct program_summary *summary)
{
	for (u32 i = 0; i < elf->segment_count; i++) {
		const struct elf_part *part = &elf->segment[i];

		if (part->type != PT_LOAD || !(part->flags & PF_X))
			continue;
		summary->code += part->size;
		if (summary->text_count == SUMMARY_TEXT)
			continue;
		summary->text[summary->text_count].offset = part->offset;
		summary->text[summary->text_count++].size = part->size;
	}
}

static void read_entry(const struct elf_file *elf, struct program_summary *summary)
{
	if (elf->type != ET_EXEC)
		return;
	summary->entry = elf->entry;
	for (u32 i = 0; i < elf->segment_count; i++) {
		const struct elf_part *part = &elf->segment[i];

		if (part->type != PT_LOAD || elf->entry - part->address >= part->size)
			continue;
		summary->entry_bytes = elf->data + part->offset + (elf->entry - part->address);
		summary->entry_left = part->size - (elf->entry - part->address);
	}
}

static void read_interpreter(const struct elf_file *elf, struct program_summary *summary)
{
	const struct elf_part *part = find_segment(elf, PT_INTERP);

	if (part && part->size && !elf->data[part->offset + part->size - 1])
		summary->interpreter = (const char *)elf->data + part->offset;
}

/* Object files have no segments. */
static void read_code_sections(const struct elf_file *elf, struct program_summary *summary)
{
	for (u32 i = 0; i < elf->section_count; i++)
		if (elf->section[i].type == SHT_PROGBITS && elf->section[i].flags & SHF_EXECINSTR)
			summary->code += elf->section[i].size;
}

int discover_summary(const u8 *data, u64 size, const char *name, struct program_summary *summary, struct err *err)
{
	struct elf_file elf;

	*summary = (struct program_summary){0};
	if (elf_open(&elf, data, size, name, err))
		return -1;
	summary->module = elf.type == ET_REL;
	read_text(&elf, summary);
	if (summary->module)
		read_code_sections(&elf, summary);
	read_entry(&elf, summary);
	read_interpreter(&elf, summary);
	read_dynamic(&elf, summary);
	u16 type = elf.type;

	elf_close(&elf);
	if (type != ET_REL && type != ET_EXEC && type != ET_DYN)
		return err_set(err, "'%s' is an ELF file of type %u, no program", name, type);
	return 0;
}
