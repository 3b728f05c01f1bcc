/* User programs and shared objects: what their tables say about their code. */
#include <elf.h>
#include <stdlib.h>

#include "internal.h"

#define PLT_SLOT 16u

struct program_scan {
	struct image *image;
	const struct elf_file *elf;
	struct collector entries, symbols;
	u64 spent; /* bytes of tables read */
};

/*
 * Sections of a file made on purpose may overlap: 65,535 times the whole file. No honest file has more bytes of tables
 * than bytes.
 */
static bool may_read(struct program_scan *scan, const struct elf_part *part)
{
	scan->spent += part->size;
	return scan->spent <= 4 * scan->elf->size;
}

/* --- symbols -------------------------------------------------------------------------------------------------------
 */

/* Room for all names: string tables are copied one after the other. */
static char *copy_strings(struct program_scan *scan, const struct elf_part *strings, u64 *used)
{
	char *copy = scan->image->names + *used;

	memcpy(copy, scan->elf->data + strings->offset, strings->size);
	copy[strings->size] = 0;
	*used += strings->size + 1;
	return copy;
}

static const struct elf_part *strings_of(const struct elf_file *elf, const struct elf_part *symbols)
{
	if ((symbols->type != SHT_SYMTAB && symbols->type != SHT_DYNSYM) || symbols->link >= elf->section_count ||
	    elf->section[symbols->link].type != SHT_STRTAB)
		return NULL;
	return &elf->section[symbols->link];
}

static u32 read_table(struct program_scan *scan, const struct elf_part *table, char *names, u64 names_size)
{
	u32 count = 0;

	for (u64 at = 0; at + sizeof(Elf64_Sym) <= table->size; at += sizeof(Elf64_Sym)) {
		Elf64_Sym symbol;
		const char *name;
		unsigned type;

		memcpy(&symbol, scan->elf->data + table->offset + at, sizeof(symbol));
		type = ELF64_ST_TYPE(symbol.st_info);
		if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names_size || !names[symbol.st_name] ||
		    (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE))
			continue;
		if (!image_is_code(scan->image, symbol.st_value))
			continue;
		name = cut_name(names + symbol.st_name);
		collect(&scan->symbols, symbol.st_value, ENTRY_SYMBOL, name);
		if (type != STT_NOTYPE)
			collect(&scan->entries, symbol.st_value, ENTRY_SYMBOL, name);
		count++;
	}
	return count;
}

static int read_symbols(struct program_scan *scan, struct err *err)
{
	const struct elf_file *elf = scan->elf;
	u64 room = 1, used = 0;
	u32 count = 0;

	/* hostile files may give many symbol tables the same strings */
	for (u32 i = 0; i < elf->section_count; i++)
		if (strings_of(elf, &elf->section[i]))
			room += strings_of(elf, &elf->section[i])->size + 1;
	if (room > 4 * elf->size + 1) {
		report_line(&scan->image->report, "symbols: more string tables than the file can hold, not read");
		return 0;
	}
	scan->image->names = malloc(room);
	if (!scan->image->names)
		return err_set(err, "not enough memory for the symbols of '%s'", scan->image->name);
	for (u32 i = 0; i < elf->section_count; i++) {
		const struct elf_part *strings = strings_of(elf, &elf->section[i]);

		if (strings && may_read(scan, &elf->section[i]))
			count += read_table(scan, &elf->section[i], copy_strings(scan, strings, &used), strings->size);
	}
	if (count)
		report_line(&scan->image->report, "symbols: %u of functions and labels", count);
	else
		report_line(&scan->image->report, "symbols: none (a stripped program)");
	return image_set_symbols(scan->image, &scan->symbols, err);
}

/* --- unwind tables -------------------------------------------------------------------------------------------------
 */

static void note_function(void *context, u64 start, u64 length)
{
	struct program_scan *scan = context;

	if (length)
		collect(&scan->entries, start, ENTRY_UNWIND, NULL);
}

/* Without section headers, .eh_frame_hdr says where .eh_frame is; its end is marked. */
static bool find_eh_frame(const struct program_scan *scan, u64 *address, u64 *size)
{
	const struct elf_part *section = elf_section(scan->elf, ".eh_frame");

	if (section) {
		*address = section->address;
		*size = section->size;
		return true;
	}
	for (u32 i = 0; i < scan->elf->segment_count; i++) {
		const struct elf_part *part = &scan->elf->segment[i];
		const u8 *header = part->type == PT_GNU_EH_FRAME ? image_at(scan->image, part->address, 8) : NULL;

		/* version 1, pointer to .eh_frame: signed 32 bits relative to itself */
		if (!header || header[0] != 1 || header[1] != 0x1b)
			continue;
		*address = part->address + 4 + (u64)(s64)(s32)get32(header + 4);
		for (u32 s = 0; s < scan->image->segment_count; s++) {
			const struct image_segment *segment = &scan->image->segment[s];

			if (*address - segment->address < segment->size) {
				*size = segment->size - (*address - segment->address);
				return true;
			}
		}
	}
	return false;
}

static void read_unwind(struct program_scan *scan)
{
	u64 address, size;

	if (find_eh_frame(scan, &address, &size))
		report_line(&scan->image->report, ".eh_frame: %u functions",
			    eh_frame_read(scan->image, address, size, note_function, scan));
	else
		report_line(&scan->image->report, ".eh_frame: not found");
}

/* --- addresses in data
 * ------------------------------------------------------------------------------------------------ */

/* Linkers do not always say it. Slots of 8 bytes are `jmp *slot(%rip)` and two bytes of padding. */
static u64 slot_size(const struct image *image, const struct elf_part *part)
{
	const u8 *bytes = image_at(image, part->address, 10);

	if (part->entry_size == 8 || part->entry_size == PLT_SLOT)
		return part->entry_size;
	return bytes && bytes[0] == 0xff && bytes[1] == 0x25 && bytes[8] == 0xff && bytes[9] == 0x25 ? 8 : PLT_SLOT;
}

static void read_plt(struct program_scan *scan)
{
	static const char *const names[] = {".plt", ".plt.sec", ".plt.got", ".iplt"};
	u32 count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const struct elf_part *part = elf_section(scan->elf, names[i]);
		u64 slot = part ? slot_size(scan->image, part) : PLT_SLOT;

		for (u64 at = 0; part && at + 6 <= part->size; at += slot, count++)
			collect(&scan->entries, part->address + at, ENTRY_PLT, NULL);
	}
	if (count)
		report_line(&scan->image->report, "plt: %u slots", count);
}

static void read_init_arrays(struct program_scan *scan)
{
	for (u32 i = 0; i < scan->elf->section_count; i++) {
		const struct elf_part *part = &scan->elf->section[i];
		const u8 *bytes;

		if (part->type != SHT_INIT_ARRAY && part->type != SHT_FINI_ARRAY && part->type != SHT_PREINIT_ARRAY)
			continue;
		if (!may_read(scan, part))
			return;
		bytes = image_at(scan->image, part->address, part->size);
		for (u64 at = 0; bytes && at + 8 <= part->size; at += 8)
			collect(&scan->entries, get64(bytes + at), ENTRY_INIT, NULL);
	}
}

/* Addresses that the program loader or start-up code will compute. */
static void read_relocations(struct program_scan *scan)
{
	for (u32 i = 0; i < scan->elf->section_count; i++) {
		const struct elf_part *part = &scan->elf->section[i];

		if (part->type != SHT_RELA || !may_read(scan, part))
			continue;
		for (u64 at = 0; at + sizeof(Elf64_Rela) <= part->size; at += sizeof(Elf64_Rela)) {
			Elf64_Rela relocation;
			u64 type;

			memcpy(&relocation, scan->elf->data + part->offset + at, sizeof(relocation));
			type = ELF64_R_TYPE(relocation.r_info);
			if (type == R_X86_64_RELATIVE || type == R_X86_64_IRELATIVE)
				collect(&scan->entries, (u64)relocation.r_addend, ENTRY_POINTER, NULL);
		}
	}
}

/* In a program of fixed addresses nothing marks pointers; an aligned word that is an address of code is taken for one.
 */
static void read_pointers(struct program_scan *scan)
{
	const struct image *image = scan->image;

	for (u32 i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];

		for (u64 at = -segment->address & 7; !segment->executable && within(at, 8, segment->size); at += 8) {
			u64 value = get64(segment->bytes + at);

			if (image_is_code(image, value))
				collect(&scan->entries, value, ENTRY_POINTER, NULL);
		}
	}
}

/* ------------------------------------------------------------------------------------------------------------------ */

static int discover(struct program_scan *scan, const char *name, struct err *err)
{
	struct image *image = scan->image;

	if (image_load(image, scan->elf, name, err))
		return -1;
	if (!image->code_count)
		return err_set(err, "'%s' has no code", name);
	if (read_symbols(scan, err))
		return -1;
	collect(&scan->entries, scan->elf->entry, ENTRY_START, NULL);
	read_unwind(scan);
	read_plt(scan);
	read_init_arrays(scan);
	read_relocations(scan);
	if (scan->elf->type == ET_EXEC)
		read_pointers(scan);
	if (image_set_entries(image, &scan->entries, err))
		return -1;
	image_report_entries(image);
	return 0;
}

int discover_program(const u8 *data, u64 size, const char *name, struct image *image, enum program_verdict *verdict,
		     struct err *err)
{
	struct elf_file elf;
	struct program_scan scan = {.image = image, .elf = &elf};

	*image = (struct image){.kernel = false};
	if (elf_open(&elf, data, size, name, err))
		return -1;
	if (elf.type == ET_REL)
		err_set(err, "'%s' is an object file or a kernel module, which has no addresses yet", name);
	else if (elf.type != ET_EXEC && elf.type != ET_DYN)
		err_set(err, "'%s' is an ELF file of type %u, no program", name, elf.type);
	else if (discover(&scan, name, err) == 0) {
		image->moves = elf.type == ET_DYN;
		*verdict = image->moves ? PROGRAM_INDEPENDENT : PROGRAM_FIXED;
		elf_close(&elf);
		return 0;
	}
	free(scan.entries.entry);
	free(scan.symbols.entry);
	image_release(image);
	elf_close(&elf);
	return -1;
}
