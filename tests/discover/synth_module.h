/* Makes small kernel modules (object files) for tests, section by section, and a kernel that exports a little. */
#ifndef AVANT_TESTS_SYNTH_MODULE_H
#define AVANT_TESTS_SYNTH_MODULE_H

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "synth_image.h"

#define MODULE_SECTIONS 48u
#define MODULE_SYMBOLS  48u
#define MODULE_RELAS    64u /* of one section */
#define MODULE_FILE     0x8000u

struct synth_module {
	struct {
		char name[32];
		Elf64_Shdr header;
		u8 bytes[0x400];
		Elf64_Rela rela[MODULE_RELAS];
		unsigned relas;
	} section[MODULE_SECTIONS];
	unsigned sections;
	Elf64_Sym symbol[MODULE_SYMBOLS];
	unsigned symbols;
	char strings[0x400];
	unsigned strings_size;
	u8 file[MODULE_FILE];
	u64 size;
};

static inline void module_start(struct synth_module *m)
{
	memset(m, 0, sizeof(*m));
	m->sections = m->symbols = m->strings_size = 1;
}

/* Returns its number. */
static inline unsigned module_section(struct synth_module *m, const char *name, u64 flags, u64 align, const void *bytes,
				      u64 size)
{
	unsigned number = m->sections++;

	strcpy(m->section[number].name, name);
	m->section[number].header = (Elf64_Shdr){.sh_type = bytes ? SHT_PROGBITS : SHT_NOBITS,
						 .sh_flags = flags,
						 .sh_size = size,
						 .sh_addralign = align};
	if (bytes)
		memcpy(m->section[number].bytes, bytes, size);
	return number;
}

static inline unsigned module_symbol(struct synth_module *m, const char *name, unsigned type, unsigned section,
				     u64 value)
{
	m->symbol[m->symbols] = (Elf64_Sym){.st_name = m->strings_size,
					    .st_info = ELF64_ST_INFO(STB_GLOBAL, type),
					    .st_shndx = (u16)section,
					    .st_value = value};
	strcpy(m->strings + m->strings_size, name);
	m->strings_size += (unsigned)strlen(name) + 1;
	return m->symbols++;
}

/* The symbol of a section itself. */
static inline unsigned module_start_of(struct synth_module *m, unsigned section)
{
	m->symbol[m->symbols] = (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_LOCAL, STT_SECTION), .st_shndx = (u16)section};
	return m->symbols++;
}

static inline void module_rela(struct synth_module *m, unsigned section, u64 offset, unsigned type, unsigned symbol,
			       s64 addend)
{
	m->section[section].rela[m->section[section].relas++] =
		(Elf64_Rela){.r_offset = offset, .r_info = ELF64_R_INFO((u64)symbol, type), .r_addend = addend};
}

static inline u64 module_put(struct synth_module *m, const void *bytes, u64 size)
{
	u64 at = align_up(m->size, 8);

	memcpy(m->file + at, bytes, size);
	m->size = at + size;
	return at;
}

/* The file; section headers are at its end. */
static inline void module_finish(struct synth_module *m)
{
	Elf64_Shdr headers[2 * MODULE_SECTIONS + 3] = {0};
	unsigned count = m->sections, symbols;
	char names[0x800] = "";
	unsigned names_size = 1;

	m->size = sizeof(Elf64_Ehdr);
	for (unsigned i = 1; i < m->sections; i++) {
		headers[i] = m->section[i].header;
		headers[i].sh_name = names_size;
		strcpy(names + names_size, m->section[i].name);
		names_size += (unsigned)strlen(m->section[i].name) + 1;
		if (headers[i].sh_type != SHT_NOBITS)
			headers[i].sh_offset = module_put(m, m->section[i].bytes, headers[i].sh_size);
	}
	for (unsigned i = 1; i < m->sections; i++) {
		u64 size = m->section[i].relas * sizeof(Elf64_Rela);

		if (size)
			headers[count++] = (Elf64_Shdr){.sh_type = SHT_RELA,
							.sh_flags = SHF_INFO_LINK,
							.sh_offset = module_put(m, m->section[i].rela, size),
							.sh_size = size,
							.sh_info = i,
							.sh_entsize = sizeof(Elf64_Rela)};
	}
	symbols = count++;
	headers[symbols] = (Elf64_Shdr){.sh_type = SHT_SYMTAB,
					.sh_offset = module_put(m, m->symbol, m->symbols * sizeof(Elf64_Sym)),
					.sh_size = m->symbols * sizeof(Elf64_Sym),
					.sh_link = count,
					.sh_entsize = sizeof(Elf64_Sym)};
	headers[count++] = (Elf64_Shdr){.sh_type = SHT_STRTAB,
					.sh_offset = module_put(m, m->strings, m->strings_size),
					.sh_size = m->strings_size};
	headers[count++] = (Elf64_Shdr){
		.sh_type = SHT_STRTAB, .sh_offset = module_put(m, names, names_size), .sh_size = names_size};
	Elf64_Ehdr header = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_REL,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_shoff = module_put(m, headers, count * sizeof(Elf64_Shdr)),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = (u16)count,
		.e_shstrndx = (u16)(count - 1),
	};
	memcpy(m->file, &header, sizeof(header));
}

/* --- a kernel ------------------------------------------------------------------------------------------------------
 */

#define KERNEL_RELEASE  "6.1.0-test"
#define KERNEL_FUNCTION (CODE + 0x100)
#define KERNEL_THUNKS   (CODE + 0x400)
#define KERNEL_RETURN   (CODE + 0x800)
#define KERNEL_TRACER   (CODE + 0x900)
#define KERNEL_TRAMP    (CODE + 0xa00)
#define KERNEL_DATA     (DATA + 0x100)
#define KERNEL_KEY_ON   (DATA + 0x110)
#define KERNEL_KEY_OFF  (DATA + 0x120)
#define KERNEL_CALL     (DATA + 0x130) /* of a static call to KERNEL_FUNCTION … */
#define KERNEL_NO_CALL  (DATA + 0x140) /* … and to nothing */

static const struct {
	const char *name;
	u64 address;
	bool exported;
} synth_symbols[] = {
	{"function", KERNEL_FUNCTION, true},
	{"data", KERNEL_DATA, true},
	{"key_on", KERNEL_KEY_ON, true},
	{"key_off", KERNEL_KEY_OFF, true},
	{"__SCK__call", KERNEL_CALL, false},
	{"__SCT__call", KERNEL_TRAMP, true},
	{"__SCK__no_call", KERNEL_NO_CALL, true},
	{"__x86_indirect_thunk_array", KERNEL_THUNKS, false},
	{"__x86_indirect_thunk_rax", KERNEL_THUNKS, true},
	{"__x86_return_thunk", KERNEL_RETURN, true},
	{"__fentry__", KERNEL_TRACER, true},
	{"linux_banner", DATA + 0x200, false},
	{"__start_static_call_tramp_key", DATA + 0x300, false},
	{"__stop_static_call_tramp_key", DATA + 0x308, false},
};

static inline void synth_kernel(struct image *kernel)
{
	static const char banner[] = "Linux version " KERNEL_RELEASE " (somebody)";
	struct collector symbols = {0}, exports = {0};

	synth_image(kernel);
	for (unsigned i = 0; i < ARRAY_SIZE(synth_symbols); i++) {
		collect(&symbols, synth_symbols[i].address, 0, synth_symbols[i].name);
		if (synth_symbols[i].exported)
			collect(&exports, synth_symbols[i].address, 0, synth_symbols[i].name);
	}
	image_set_symbols(kernel, &symbols, NULL);
	image_set_exports(kernel, &exports, NULL);
	memcpy(kernel->segment[1].bytes + 0x200, banner, sizeof(banner));
	synth_data32(kernel, KERNEL_KEY_ON - DATA, 1);
	synth_data64(kernel, KERNEL_CALL - DATA, KERNEL_FUNCTION);
	synth_data32(kernel, 0x300, KERNEL_TRAMP - (DATA + 0x300));
	synth_data32(kernel, 0x304, KERNEL_CALL - (DATA + 0x304));
}

/* --- a module with a little of everything ----------------------------------------------------------------------------
 */

#define TEXT_FLAGS (SHF_ALLOC | SHF_EXECINSTR)
#define DATA_FLAGS (SHF_ALLOC | SHF_WRITE)

struct synth_parts {
	unsigned text, unlikely, init, replacement, exit, data, bss;    /* sections */
	unsigned of_text, of_unlikely, of_data, of_bss, of_replacement; /* symbols of them */
};

/* A table of 4-byte places in .text, relative to themselves. */
static inline void module_places(struct synth_module *m, const struct synth_parts *parts, const char *name,
				 const u64 *places, unsigned count)
{
	static const u8 zeros[0x100];
	unsigned section = module_section(m, name, SHF_ALLOC, 1, zeros, 4 * count);

	for (unsigned i = 0; i < count; i++)
		module_rela(m, section, 4 * i, R_X86_64_PC32, parts->of_text, (s64)places[i]);
}

#define MODINFO                                                                                                        \
	"license=GPL\0alias=virtio:d00000002v*\0depends=one,two\0name=synthetic\0vermagic=" KERNEL_RELEASE             \
	" SMP mod_unload"

/* Sections in the order in which they are laid out; code is int3 where nothing else is put. */
static inline void module_parts(struct synth_module *m, struct synth_parts *parts)
{
	static const u8 zeros[0x200];
	u8 code[0x200];

	memset(code, 0xcc, sizeof(code));
	module_start(m);
	parts->text = module_section(m, ".text", TEXT_FLAGS, 16, code, 0x200);
	parts->unlikely = module_section(m, ".text.unlikely", TEXT_FLAGS, 1, code, 0x23);
	parts->init = module_section(m, ".init.text", TEXT_FLAGS, 16, code, 0x40);
	parts->replacement = module_section(m, ".altinstr_replacement", TEXT_FLAGS, 1, code, 0x20);
	parts->exit = module_section(m, ".exit.text", TEXT_FLAGS, 16, code, 0x20);
	parts->data = module_section(m, ".data", DATA_FLAGS, 32, zeros, 0x100);
	parts->bss = module_section(m, ".bss", DATA_FLAGS, 32, NULL, 0x1000);
	parts->of_text = module_start_of(m, parts->text);
	parts->of_unlikely = module_start_of(m, parts->unlikely);
	parts->of_data = module_start_of(m, parts->data);
	parts->of_bss = module_start_of(m, parts->bss);
	parts->of_replacement = module_start_of(m, parts->replacement);
	module_section(m, ".modinfo", SHF_ALLOC, 1, MODINFO, sizeof(MODINFO));
}

#endif
