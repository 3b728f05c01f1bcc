#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "discover/internal.h"
#include "synth_program.h"

static _Alignas(16) u8 file[PROGRAM_SIZE];

static int read_copy(u64 size, struct image *image, enum program_verdict *verdict, struct err *err)
{
	u8 *copy = malloc(size ? size : 1);
	int result;

	memcpy(copy, file, size);
	result = discover_program(copy, size, "prog", image, verdict, err);
	free(copy);
	if (result)
		assert_non_null(strstr(err->text, "'prog'"));
	return result;
}

static void expect_entry(const struct image *image, u64 pc, u16 sources, const char *name)
{
	for (u32 i = 0; i < image->entry_count; i++) {
		if (image->entry[i].pc != pc)
			continue;
		assert_int_equal(image->entry[i].sources, sources);
		if (name)
			assert_string_equal(image->entry[i].name, name);
		else
			assert_null(image->entry[i].name);
		return;
	}
	fail_msg("no entry at %#llx", (unsigned long long)pc);
}

static void test_fixed(void **state)
{
	enum program_verdict verdict;
	struct err err = ERR_INIT;
	struct image image;
	u64 offset;

	(void)state;
	synth_program(file, ET_EXEC);
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_int_equal(verdict, PROGRAM_FIXED);
	assert_int_equal(image.entry_count, 6);
	expect_entry(&image, PROGRAM_ENTRY, ENTRY_START, NULL);
	expect_entry(&image, PROGRAM_CODE + 0x40, ENTRY_SYMBOL | ENTRY_UNWIND, "first");
	expect_entry(&image, PROGRAM_CODE + 0x60, ENTRY_UNWIND, NULL);
	expect_entry(&image, PROGRAM_CODE + 0x80, ENTRY_SYMBOL, "second");
	expect_entry(&image, PROGRAM_CODE + 0x90, ENTRY_INIT | ENTRY_POINTER, NULL);
	expect_entry(&image, PROGRAM_CODE + 0xa0, ENTRY_POINTER, NULL);
	for (u32 i = 1; i < image.entry_count; i++)
		assert_true(image.entry[i - 1].pc < image.entry[i].pc);
	assert_string_equal(image_symbol(&image, PROGRAM_CODE + 0x85, &offset), "second");
	assert_int_equal(offset, 5);
	assert_null(image_symbol(&image, PROGRAM_CODE + 0x3f, &offset));
	assert_null(image_symbol(&image, PROGRAM_DATA, &offset));
	assert_int_equal(image_find(&image, "first"), PROGRAM_CODE + 0x40);
	assert_int_equal(image_find(&image, "third"), 0);
	assert_non_null(image_at(&image, PROGRAM_CODE, 0x200));
	assert_false(image_is_code(&image, PROGRAM_CODE + 0x200));
	assert_null(image_at(&image, PROGRAM_DATA, 0x201));
	assert_null(image_at(&image, PROGRAM_CODE + 0x1ff, UINT64_MAX));
	image_release(&image);
}

static void test_independent(void **state)
{
	enum program_verdict verdict;
	struct err err = ERR_INIT;
	struct image image;

	(void)state;
	synth_program(file, ET_DYN);
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_int_equal(verdict, PROGRAM_INDEPENDENT);
	expect_entry(&image, PROGRAM_CODE + 0x90, ENTRY_INIT, NULL);
	image_release(&image);
}

/* Code comes in pages, as it will be in memory. */
static void test_pages(void **state)
{
	Elf64_Phdr *segments = (Elf64_Phdr *)((Elf64_Ehdr *)file + 1);
	enum program_verdict verdict;
	struct err err = ERR_INIT;
	struct image image;

	(void)state;
	synth_program(file, ET_DYN);
	file[0x1fff] = 'x';
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_memory_equal(image_at(&image, PROGRAM_CODE, PAGE_SIZE), file + 0x1000, PAGE_SIZE);
	image_release(&image);

	/* it begins within a page */
	segments[0].p_offset += 0x100;
	segments[0].p_vaddr += 0x100;
	segments[0].p_filesz = segments[0].p_memsz = 0x100;
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_memory_equal(image_at(&image, PROGRAM_CODE, PAGE_SIZE), file + 0x1000, PAGE_SIZE);
	image_release(&image);

	/* variables behind it */
	segments[0].p_memsz = 0x200;
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_memory_equal(image_at(&image, PROGRAM_CODE, 0x200), file + 0x1000, 0x200);
	assert_int_equal(image_at(&image, PROGRAM_CODE, PAGE_SIZE)[0xfff], 0);
	image_release(&image);

	/* another segment in the same page, and the file's end */
	synth_program(file, ET_DYN);
	segments[0].p_vaddr += PAGE_SIZE - 0x200;
	segments[0].p_offset = PROGRAM_SIZE - 0x200;
	segments[1].p_vaddr = PROGRAM_CODE;
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_null(image_at(&image, PROGRAM_CODE, PAGE_SIZE));
	assert_non_null(image_at(&image, PROGRAM_CODE + 0x200, PAGE_SIZE - 0x200));
	image_release(&image);

	/* no kernel maps a page of the file from anywhere else than the beginning of a page */
	synth_program(file, ET_DYN);
	segments[0].p_vaddr += 0x10;
	segments[0].p_filesz = 0x1f0;
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	assert_null(image_at(&image, PROGRAM_CODE, PAGE_SIZE));
	image_release(&image);
}

/* Without section headers the segments and .eh_frame_hdr have to do. */
/* All names are in one string of 0x2000 bytes: each is cut, where it begins in another one too. */
static void test_long_names(void **state)
{
	enum program_verdict verdict;
	struct err err = ERR_INIT;
	Elf64_Shdr *sections = (Elf64_Shdr *)(file + 0x3000);
	static u8 large[PROGRAM_SIZE + 0x2000];
	struct image image;

	(void)state;
	synth_program(file, ET_EXEC);
	((Elf64_Sym *)(file + 0x3800))[2].st_name = 100;
	sections[SECTION_STRINGS].sh_offset = PROGRAM_SIZE;
	sections[SECTION_STRINGS].sh_size = 0x2000;
	memcpy(large, file, PROGRAM_SIZE);
	memset(large + PROGRAM_SIZE, 'x', 0x2000 - 1);
	assert_int_equal(discover_program(large, sizeof(large), "prog", &image, &verdict, &err), 0);
	assert_int_equal(image.symbol_count, 2);
	for (u32 i = 0; i < image.symbol_count; i++)
		assert_in_range(strlen(image.symbol[i].name), NAME_MOST / 2, NAME_MOST - 1);
	assert_int_equal(image.entry_count, 6);
	image_release(&image);
}

static void test_no_sections(void **state)
{
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *segments = (Elf64_Phdr *)(header + 1);
	enum program_verdict verdict;
	struct err err = ERR_INIT;
	struct image image;
	u32 pointer = (u32)(PROGRAM_DATA - (PROGRAM_DATA + 0x1c0 + 4));

	(void)state;
	synth_program(file, ET_EXEC);
	header->e_shnum = 0;
	header->e_phnum = 3;
	segments[2] = (Elf64_Phdr){.p_type = PT_GNU_EH_FRAME,
				   .p_offset = 0x21c0,
				   .p_vaddr = PROGRAM_DATA + 0x1c0,
				   .p_filesz = 12,
				   .p_memsz = 12};
	memcpy(file + 0x21c0, "\x01\x1b\x03\x3b", 4);
	memcpy(file + 0x21c4, &pointer, 4);
	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), 0);
	expect_entry(&image, PROGRAM_CODE + 0x40, ENTRY_UNWIND, NULL);
	expect_entry(&image, PROGRAM_CODE + 0x60, ENTRY_UNWIND, NULL);
	image_release(&image);
}

static void expect_error(const char *text)
{
	enum program_verdict verdict;
	struct err err = ERR_INIT;
	struct image image;

	assert_int_equal(read_copy(PROGRAM_SIZE, &image, &verdict, &err), -1);
	if (!strstr(err.text, text))
		fail_msg("expected \"%s\" in: %s", text, err.text);
}

static void test_errors(void **state)
{
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *segments = (Elf64_Phdr *)(header + 1);

	(void)state;
	synth_program(file, ET_REL);
	expect_error("object file");
	synth_program(file, ET_EXEC);
	header->e_machine = EM_386;
	expect_error("another processor");
	synth_program(file, ET_EXEC);
	segments[0].p_offset = UINT64_MAX - 4;
	expect_error("does not lie within the file");
	synth_program(file, ET_EXEC);
	segments[1].p_vaddr = PROGRAM_CODE + 0x100;
	expect_error("overlap");
	synth_program(file, ET_EXEC);
	segments[0].p_memsz = 0x100;
	expect_error("does not lie within the file");
	synth_program(file, ET_EXEC);
	header->e_phoff = PROGRAM_SIZE - 8;
	expect_error("program headers");
	memset(file, 0, sizeof(file));
	expect_error("not an ELF file");
}

/* Anything may come: an error, or an image whose entries are code. */
static void test_damaged(void **state)
{
	enum program_verdict verdict;
	struct image image;

	(void)state;
	srand(3);
	for (unsigned round = 0; round < 4000; round++) {
		struct err err = ERR_INIT;
		u64 size = round % 4 ? PROGRAM_SIZE : (u64)rand() % PROGRAM_SIZE;

		synth_program(file, ET_EXEC);
		for (unsigned i = 0; i <= round % 6; i++) {
			static const u32 regions[] = {0, 0x2000, 0x3000, 0x3800};

			file[regions[rand() % 4] + (u32)rand() % 0x200] ^= (u8)(1 << rand() % 8);
		}
		if (read_copy(size, &image, &verdict, &err))
			continue;
		for (u32 i = 0; i < image.entry_count; i++)
			assert_true(image_is_code(&image, image.entry[i].pc));
		image_release(&image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed),      cmocka_unit_test(test_independent), cmocka_unit_test(test_pages),
		cmocka_unit_test(test_long_names), cmocka_unit_test(test_no_sections), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
