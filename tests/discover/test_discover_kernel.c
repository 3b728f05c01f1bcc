/* Whole kernels: a tiny one with kallsyms and sections, and damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "boot/kernel_image.h"
#include "discover/internal.h"
#include "kernel_synth.h"
#include "synth_kallsyms.h"

#define RODATA_ADDRESS 0xffffffff82000000ULL
#define TEXT_SIZE      0x4000u
#define ENTRY_OFFSET   0x40u
#define NAMES          "\0.text\0.rodata\0.shstrtab\0__ksymtab\0__ex_table\0.return_sites"

static struct synth_kallsyms tables;

/* One executable segment: text, then rodata with kallsyms, exports and fixups; relocations behind the ELF. */
static struct bytes make_kernel(void)
{
	u64 rodata = TEXT_SIZE, exports, fixups, size, headers, names;
	struct bytes elf = bytes_of(1 << 18);
	Elf64_Shdr *sections;
	u64 text = 0x1000;
	u32 words[] = {0, (u32)RODATA_ADDRESS, 0, 0, (u32)(SYNTH_TEXT + 0x10)};

	synth_kallsyms(&tables, SYNTH_OFFSETS_LAST, SYNTH_PERCPU);
	exports = align_up(tables.size, 16);
	fixups = exports + 12;
	size = fixups + 12;
	*synth_ehdr(elf) = (Elf64_Ehdr){
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = 0x1000000 + ENTRY_OFFSET,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 6,
		.e_shstrndx = 3,
	};
	*synth_phdr(elf, 0) = (Elf64_Phdr){.p_type = PT_LOAD,
					   .p_flags = PF_R | PF_X,
					   .p_offset = text,
					   .p_vaddr = SYNTH_TEXT,
					   .p_paddr = 0x1000000,
					   .p_filesz = TEXT_SIZE,
					   .p_memsz = TEXT_SIZE};
	*synth_phdr(elf, 1) = (Elf64_Phdr){.p_type = PT_LOAD,
					   .p_flags = PF_R,
					   .p_offset = text + rodata,
					   .p_vaddr = RODATA_ADDRESS,
					   .p_paddr = 0x2000000,
					   .p_filesz = size,
					   .p_memsz = size};
	memset(elf.data + text, 0xc3, TEXT_SIZE);
	memcpy(elf.data + text + rodata, tables.bytes, tables.size);
	put32(elf.data + text + rodata + exports, (u32)(SYNTH_TEXT + 0x100 - (RODATA_ADDRESS + exports)));
	put32(elf.data + text + rodata + fixups, (u32)(SYNTH_TEXT + 0x200 - (RODATA_ADDRESS + fixups)));
	put32(elf.data + text + rodata + fixups + 4, (u32)(SYNTH_TEXT + 0x304 - (RODATA_ADDRESS + fixups + 4)));
	/* an address of code, for the first relocation to find; before the tables there is room */
	memcpy(elf.data + text + rodata, &(u64){SYNTH_TEXT + 0x408}, 8);
	names = text + rodata + size;
	memcpy(elf.data + names, NAMES, sizeof(NAMES));
	headers = align_up(names + sizeof(NAMES), 8);
	synth_ehdr(elf)->e_shoff = headers;
	sections = (Elf64_Shdr *)(elf.data + headers);
	sections[1] = (Elf64_Shdr){.sh_name = 1,
				   .sh_type = SHT_PROGBITS,
				   .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				   .sh_addr = SYNTH_TEXT,
				   .sh_offset = text,
				   .sh_size = TEXT_SIZE};
	sections[2] = (Elf64_Shdr){.sh_name = 7,
				   .sh_type = SHT_PROGBITS,
				   .sh_flags = SHF_ALLOC,
				   .sh_addr = RODATA_ADDRESS,
				   .sh_offset = text + rodata,
				   .sh_size = tables.size};
	sections[3] = (Elf64_Shdr){.sh_name = 15, .sh_type = SHT_STRTAB, .sh_offset = names, .sh_size = sizeof(NAMES)};
	sections[4] = (Elf64_Shdr){.sh_name = 25,
				   .sh_type = SHT_PROGBITS,
				   .sh_flags = SHF_ALLOC,
				   .sh_addr = RODATA_ADDRESS + exports,
				   .sh_offset = text + rodata + exports,
				   .sh_size = 12};
	sections[5] = (Elf64_Shdr){.sh_name = 35,
				   .sh_type = SHT_PROGBITS,
				   .sh_flags = SHF_ALLOC,
				   .sh_addr = RODATA_ADDRESS + fixups,
				   .sh_offset = text + rodata + fixups,
				   .sh_size = 12};
	elf.size = headers + 6 * sizeof(Elf64_Shdr);
	/* 0, places of 64 bits; 0, none; 0, places of 32 bits */
	memcpy(elf.data + elf.size, words, sizeof(words));
	elf.size += sizeof(words);
	return elf;
}

static const struct kernel_options options = {.patch = true};

static bool discover(struct bytes elf, struct image *image)
{
	struct kernel_image kernel;
	struct err err = ERR_INIT;
	u8 *copy = malloc(elf.size ? elf.size : 1);
	bool found = false;

	memcpy(copy, elf.data, elf.size);
	if (kernel_image_parse(copy, elf.size, "test", NULL, &kernel, &err) == 0) {
		found = discover_kernel(&kernel, &options, image, &err) == 0;
		kernel_image_release(&kernel);
	}
	free(copy);
	if (!found)
		assert_true(err.text[0] != 0);
	return found;
}

static u16 sources_of(const struct image *image, u64 pc)
{
	for (u32 i = 0; i < image->entry_count; i++)
		if (image->entry[i].pc == pc)
			return image->entry[i].sources;
	return 0;
}

static void test_sources(void **state)
{
	struct bytes elf = make_kernel();
	struct image image;
	u64 offset;

	(void)state;
	assert_true(discover(elf, &image));
	assert_non_null(strstr(image.report.text, "kallsyms: 700 symbols"));
	assert_int_equal(sources_of(&image, SYNTH_TEXT + ENTRY_OFFSET), ENTRY_START);
	assert_int_equal(sources_of(&image, SYNTH_TEXT + 16 * 8), ENTRY_SYMBOL);
	assert_int_equal(sources_of(&image, SYNTH_TEXT + 16 * 9), 0); /* a data symbol */
	assert_int_equal(sources_of(&image, SYNTH_TEXT + 0x100), ENTRY_SYMBOL | ENTRY_EXPORT);
	assert_int_equal(sources_of(&image, SYNTH_TEXT + 0x304), ENTRY_FIXUP);
	assert_int_equal(sources_of(&image, SYNTH_TEXT + 0x408), ENTRY_POINTER);
	assert_string_equal(image_symbol(&image, SYNTH_TEXT + 16 * 8 + 3, &offset), "symbol_8");
	assert_int_equal(image_find(&image, "symbol_9"), SYNTH_TEXT + 16 * 9);
	image_release(&image);
	free(elf.data);
}

/* A name that ends in the bytes of a jump to the return thunk: when that is made plain, it has no end. */
static void test_patched_name(void **state)
{
	struct bytes elf = make_kernel();
	Elf64_Shdr *sections = (Elf64_Shdr *)(elf.data + synth_ehdr(elf)->e_shoff);
	u64 place = SYNTH_TEXT + 0x1000, table = sections[4].sh_addr;
	u8 *jump = elf.data + sections[1].sh_offset + 0x1000;

	(void)state;
	jump[-1] = 'n';
	jump[0] = 0xe9;
	put32(jump + 1, (u32)(SYNTH_TEXT + 16 * SYNTH_THUNK - (place + 5)));
	put32(elf.data + sections[4].sh_offset + 4, (u32)(place - 1 - (table + 4)));
	for (unsigned patched = 0; patched < 2; patched++) {
		struct image image;

		assert_true(discover(elf, &image));
		assert_int_equal(*image_at(&image, place, 1), patched ? 0xc3 : 0xe9);
		assert_int_equal(image.export_count, patched ? 0 : 1);
		assert_int_equal(sources_of(&image, SYNTH_TEXT + 0x100), ENTRY_SYMBOL | ENTRY_EXPORT);
		image_release(&image);
		/* the first word of the table of fixups becomes that of the jump */
		sections[5].sh_name = (u32)(strlen("0.text0.rodata0.shstrtab0__ksymtab0__ex_table0"));
		put32(elf.data + sections[5].sh_offset, (u32)(place - sections[5].sh_addr));
	}
	free(elf.data);
}

/* Nothing but segments: entries are few, and the report says what is missing. */
static void test_bare(void **state)
{
	struct bytes elf = synth_elf();
	struct image image;

	(void)state;
	assert_true(discover(elf, &image));
	assert_int_equal(image.entry_count, 1);
	assert_int_equal(image.entry[0].pc, SYNTH_VIRTUAL + SYNTH_ENTRY);
	assert_non_null(strstr(image.report.text, "kallsyms: not found"));
	assert_non_null(strstr(image.report.text, ".altinstructions: not found"));
	assert_non_null(strstr(image.report.text, "relocations: none"));
	image_release(&image);
	free(elf.data);
}

static void test_damaged(void **state)
{
	struct bytes elf = make_kernel();
	u64 size = elf.size;
	u8 *good = malloc(size);

	(void)state;
	memcpy(good, elf.data, size);
	srand(6);
	for (unsigned round = 0; round < 300; round++) {
		struct image image;

		memcpy(elf.data, good, size);
		elf.size = round % 3 ? size : (u64)rand() % size;
		for (unsigned i = 0; i <= round % 5; i++) {
			u64 at = round % 2 ? (u64)rand() % 0xb0 : size - 1 - (u64)rand() % 0x200;

			elf.data[at] ^= (u8)(1 << rand() % 8);
		}
		if (!discover(elf, &image))
			continue;
		for (u32 i = 0; i < image.entry_count; i++)
			assert_true(image_is_code(&image, image.entry[i].pc));
		image_release(&image);
	}
	free(good);
	free(elf.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_patched_name),
		cmocka_unit_test(test_bare),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
