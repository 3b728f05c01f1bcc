/* A small ET_EXEC or ET_DYN program: code at 0x401000, data behind, symbols, .eh_frame, all with section headers. */
#ifndef AVANT_TESTS_SYNTH_PROGRAM_H
#define AVANT_TESTS_SYNTH_PROGRAM_H

#include <elf.h>
#include <string.h>

#include "util/types.h"

#define PROGRAM_CODE  0x401000ULL
#define PROGRAM_DATA  0x402000ULL
#define PROGRAM_SIZE  0x4000u
#define PROGRAM_ENTRY (PROGRAM_CODE + 0x10)

enum { SECTION_TEXT = 1, SECTION_FRAMES, SECTION_INIT, SECTION_SYMBOLS, SECTION_STRINGS, SECTION_NAMES, SECTION_COUNT };

static inline u64 synth_frames(u8 *out, u64 address)
{
	static const u8 common[] = {20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0, 0, 0, 0, 0, 0, 0};
	u64 at = sizeof(common);

	memcpy(out, common, sizeof(common));
	for (unsigned i = 0; i < 2; i++) {
		u32 words[] = {16, (u32)at + 4, (u32)(PROGRAM_CODE + 0x40 + 0x20 * i - (address + at + 8)), 0x20, 0};

		memcpy(out + at, words, sizeof(words));
		at += sizeof(words);
	}
	memset(out + at, 0, 4);
	return at + 4;
}

static inline void synth_program(u8 *file, u16 type)
{
	static const char names[] = "\0.text\0.eh_frame\0.init_array\0.symtab\0.strtab\0.shstrtab";
	static const char strings[] = "\0first\0second";
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *segments = (Elf64_Phdr *)(header + 1);
	Elf64_Shdr *sections = (Elf64_Shdr *)(file + 0x3000);
	Elf64_Sym *symbols = (Elf64_Sym *)(file + 0x3800);
	u64 pointers[] = {PROGRAM_CODE + 0x90};

	memset(file, 0, PROGRAM_SIZE);
	*header = (Elf64_Ehdr){
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = type,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = PROGRAM_ENTRY,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_shoff = 0x3000,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = SECTION_COUNT,
		.e_shstrndx = SECTION_NAMES,
	};
	segments[0] = (Elf64_Phdr){.p_type = PT_LOAD,
				   .p_flags = PF_R | PF_X,
				   .p_offset = 0x1000,
				   .p_vaddr = PROGRAM_CODE,
				   .p_filesz = 0x200,
				   .p_memsz = 0x200};
	segments[1] = (Elf64_Phdr){.p_type = PT_LOAD,
				   .p_flags = PF_R | PF_W,
				   .p_offset = 0x2000,
				   .p_vaddr = PROGRAM_DATA,
				   .p_filesz = 0x200,
				   .p_memsz = 0x800};
	sections[SECTION_TEXT] = (Elf64_Shdr){.sh_name = 1,
					      .sh_type = SHT_PROGBITS,
					      .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
					      .sh_addr = PROGRAM_CODE,
					      .sh_offset = 0x1000,
					      .sh_size = 0x200};
	sections[SECTION_FRAMES] = (Elf64_Shdr){.sh_name = 7,
						.sh_type = SHT_PROGBITS,
						.sh_flags = SHF_ALLOC,
						.sh_addr = PROGRAM_DATA,
						.sh_offset = 0x2000,
						.sh_size = synth_frames(file + 0x2000, PROGRAM_DATA)};
	sections[SECTION_INIT] = (Elf64_Shdr){.sh_name = 17,
					      .sh_type = SHT_INIT_ARRAY,
					      .sh_flags = SHF_ALLOC,
					      .sh_addr = PROGRAM_DATA + 0x180,
					      .sh_offset = 0x2180,
					      .sh_size = 8};
	memcpy(file + 0x2180, pointers, sizeof(pointers));
	pointers[0] = PROGRAM_CODE + 0xa0;
	memcpy(file + 0x2190, pointers, sizeof(pointers));
	sections[SECTION_SYMBOLS] = (Elf64_Shdr){.sh_name = 29,
						 .sh_type = SHT_SYMTAB,
						 .sh_offset = 0x3800,
						 .sh_size = 3 * sizeof(Elf64_Sym),
						 .sh_link = SECTION_STRINGS,
						 .sh_entsize = sizeof(Elf64_Sym)};
	symbols[1] = (Elf64_Sym){.st_name = 1,
				 .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
				 .st_shndx = SECTION_TEXT,
				 .st_value = PROGRAM_CODE + 0x40};
	symbols[2] = (Elf64_Sym){.st_name = 7,
				 .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
				 .st_shndx = SECTION_TEXT,
				 .st_value = PROGRAM_CODE + 0x80};
	sections[SECTION_STRINGS] =
		(Elf64_Shdr){.sh_name = 37, .sh_type = SHT_STRTAB, .sh_offset = 0x3a00, .sh_size = sizeof(strings)};
	memcpy(file + 0x3a00, strings, sizeof(strings));
	sections[SECTION_NAMES] =
		(Elf64_Shdr){.sh_name = 45, .sh_type = SHT_STRTAB, .sh_offset = 0x3b00, .sh_size = sizeof(names)};
	memcpy(file + 0x3b00, names, sizeof(names));
	memset(file + 0x1000, 0xc3, 0x200);
}

#endif
