/* Kernel modules: where they are laid out, which fields are holes, what their kernel patches; and damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "synth_module.h"

static struct synth_module m;
static struct synth_parts parts;
static struct image kernel;
static struct module module;
static struct err err;

static void put(unsigned section, u64 at, const void *bytes, u64 size)
{
	memcpy(m.section[section].bytes + at, bytes, size);
}

#define PUT(section, at, ...)                                                                                          \
	do {                                                                                                           \
		const u8 given[] = {__VA_ARGS__};                                                                      \
		put(section, at, given, sizeof(given));                                                                \
	} while (0)

#define EXPECT(address, ...)                                                                                           \
	do {                                                                                                           \
		const u8 wanted[] = {__VA_ARGS__};                                                                     \
		assert_non_null(image_at(&module.image, address, sizeof(wanted)));                                     \
		assert_memory_equal(image_at(&module.image, address, sizeof(wanted)), wanted, sizeof(wanted));         \
	} while (0)

static int start(void **state)
{
	(void)state;
	synth_kernel(&kernel);
	module_parts(&m, &parts);
	err.text[0] = 0;
	return 0;
}

static int stop(void **state)
{
	(void)state;
	module_release(&module);
	image_release(&kernel);
	return 0;
}

static int discover(void)
{
	u8 *copy;
	int result;

	module_finish(&m);
	copy = malloc(m.size); /* so that a sanitizer sees its end */
	memcpy(copy, m.file, m.size);
	result = discover_module(copy, m.size, "test.ko", &kernel, NULL, &module, &err);
	free(copy);
	return result;
}

/* The hole that begins there, or NULL. */
static const struct module_hole *hole_at(u64 address)
{
	u32 count;
	const struct module_hole *hole = module_holes(&module, address, 1, &count);

	return hole && hole->address == address ? hole : NULL;
}

static bool is_plain(u64 address, u64 size)
{
	u32 count;

	return !module_holes(&module, address, size, &count) && !count;
}

static u64 relative(u64 field)
{
	return field + (u64)(s64)(s32)get32(image_at(&module.image, field, 4));
}

static u16 sources_of(u64 pc)
{
	for (u32 i = 0; i < module.image.entry_count; i++)
		if (module.image.entry[i].pc == pc)
			return module.image.entry[i].sources;
	return 0;
}

#define TEXT_UNLIKELY (MODULE_TEXT + 0x200)
#define REPLACEMENT   (MODULE_TEXT + 0x223)
#define EXIT          (MODULE_TEXT + 0x250)

static void test_layout(void **state)
{
	static const struct {
		const char *name;
		u64 address;
	} wanted[] = {
		{".text", MODULE_TEXT},
		{".text.unlikely", TEXT_UNLIKELY},
		{".exit.text", EXIT},
		{".altinstr_replacement", REPLACEMENT},
		{".init.text", MODULE_INIT_TEXT},
		{".data", MODULE_DATA},
	};

	(void)state;
	module_symbol(&m, "f", STT_FUNC, parts.text, 0x10);
	module_symbol(&m, "init_module", STT_FUNC, parts.init, 0);
	module_symbol(&m, "variable", STT_OBJECT, parts.data, 8);
	module_symbol(&m, "__pfx_f", STT_FUNC, parts.text, 0);
	assert_int_equal(discover(), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
		for (u32 k = 0; k < module.section_count; k++)
			if (strcmp(module.section[k].name, wanted[i].name) == 0)
				assert_int_equal(module.section[k].address, wanted[i].address);
	assert_int_equal(module.section_count, 7); /* without .modinfo */
	assert_int_equal(image_left(&module.image, MODULE_TEXT), PAGE_SIZE);
	assert_int_equal(image_left(&module.image, MODULE_INIT_TEXT), PAGE_SIZE);
	assert_true(image_is_code(&module.image, EXIT));
	assert_false(image_is_code(&module.image, REPLACEMENT));
	assert_int_equal(module.image.code_count, 4);
	assert_true(module.image.code[3].init);
	assert_int_equal(sources_of(MODULE_TEXT + 0x10), ENTRY_SYMBOL);
	assert_int_equal(sources_of(MODULE_TEXT), 0);
	assert_int_equal(image_find(&module.image, "init_module"), MODULE_INIT_TEXT);
	assert_int_equal(image_find(&module.image, "variable"), MODULE_DATA + 8);
	assert_true(module.image.kernel && module.image.moves);
	assert_int_equal(module.hole_count, 0);
}

/* Of symbols, a name that is too long is cut, and what begins in the middle of it with it; of sections, it is none. */
static void test_long_names(void **state)
{
	static const unsigned lengths[] = {NAME_MOST - 1, NAME_MOST, NAME_MOST + 200};
	char name[NAME_MOST + 201];

	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		const Elf64_Ehdr *elf = (Elf64_Ehdr *)m.file;
		Elf64_Shdr *header;

		memset(name, 'x', lengths[i]);
		name[lengths[i]] = 0;
		start(state);
		module_symbol(&m, name, STT_FUNC, parts.text, 0x10);
		m.symbol[module_symbol(&m, "", STT_FUNC, parts.text, 0x20)].st_name =
			m.symbol[m.symbols - 2].st_name + 9;
		module_finish(&m);
		/* all sections are named by it too */
		header = (Elf64_Shdr *)(m.file + elf->e_shoff);
		for (unsigned k = 0; k < elf->e_shnum; k++)
			header[k].sh_name = m.symbol[m.symbols - 2].st_name;
		((Elf64_Ehdr *)m.file)->e_shstrndx--;
		assert_int_equal(discover_module(m.file, m.size, "test.ko", &kernel, NULL, &module, &err), 0);
		assert_int_equal(module.image.symbol_count, 2);
		for (u32 k = 0; k < module.image.symbol_count; k++)
			assert_in_range(strlen(module.image.symbol[k].name), 1, NAME_MOST - 1);
		assert_true(module.section_count > 5);
		for (u32 k = 0; k < module.section_count; k++)
			assert_string_equal(module.section[k].name, lengths[i] < NAME_MOST ? name : "");
		stop(state);
	}
}

static void test_relocations(void **state)
{
	unsigned function = module_symbol(&m, "function", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned data = module_symbol(&m, "data", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned other = module_symbol(&m, "of_another", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned absolute = module_symbol(&m, "absolute", STT_NOTYPE, SHN_ABS, 0x1234);
	const struct module_hole *hole;

	(void)state;
	memset(m.section[parts.text].bytes, 0, 0x200);
	module_rela(&m, parts.text, 0x00, R_X86_64_PLT32, parts.of_unlikely, 0x10 - 4); /* own: its distance is known */
	module_rela(&m, parts.text, 0x10, R_X86_64_PLT32, function, -4);
	module_rela(&m, parts.text, 0x20, R_X86_64_PC32, parts.of_data, 0x18 - 4);
	module_rela(&m, parts.text, 0x30, R_X86_64_32S, parts.of_bss, 0x20);
	module_rela(&m, parts.text, 0x40, R_X86_64_32S, data, 0);
	module_rela(&m, parts.text, 0x50, R_X86_64_64, parts.of_text, 0x44);
	module_rela(&m, parts.text, 0x60, R_X86_64_32S, other, 8);
	module_rela(&m, parts.text, 0x70, R_X86_64_32, absolute, 1);
	module_rela(&m, parts.text, 0x1fe, R_X86_64_32S, other, 0);    /* reaches out of the section */
	module_rela(&m, parts.text, 0x80, R_X86_64_GOTPCREL, data, 0); /* not in modules */
	module_rela(&m, parts.text, 0x90, R_X86_64_32S, 40, 0);        /* no such symbol */
	memset(m.section[parts.init].bytes, 0, 0x40);
	module_rela(&m, parts.init, 0x00, R_X86_64_PLT32, parts.of_text, -4); /* from group to group */
	module_rela(&m, parts.data, 0x08, R_X86_64_64, parts.of_text, 0x30);
	assert_int_equal(discover(), 0);

	assert_true(is_plain(MODULE_TEXT, 0x10));
	assert_int_equal(relative(MODULE_TEXT) + 4, TEXT_UNLIKELY + 0x10);
	hole = hole_at(MODULE_TEXT + 0x10);
	assert_non_null(hole);
	assert_int_equal(hole->size, 4);
	assert_int_equal(hole->kind, HOLE_RELATIVE);
	assert_int_equal(relative(MODULE_TEXT + 0x10) + 4, KERNEL_FUNCTION);
	hole = hole_at(MODULE_TEXT + 0x20);
	assert_true(hole && hole->kind == HOLE_RELATIVE);
	assert_int_equal(relative(MODULE_TEXT + 0x20) + 4, MODULE_DATA + 0x18);
	hole = hole_at(MODULE_TEXT + 0x30);
	assert_true(hole && hole->kind == HOLE_ABSOLUTE && hole->size == 4);
	assert_true(is_plain(MODULE_TEXT + 0x40, 0x10));
	assert_int_equal(get32(image_at(&module.image, MODULE_TEXT + 0x40, 4)), (u32)KERNEL_DATA);
	hole = hole_at(MODULE_TEXT + 0x50);
	assert_true(hole && hole->kind == HOLE_ABSOLUTE && hole->size == 8);
	assert_int_equal(get64(image_at(&module.image, MODULE_TEXT + 0x50, 8)), MODULE_TEXT + 0x44);
	hole = hole_at(MODULE_TEXT + 0x60);
	assert_true(hole && hole->kind == HOLE_ABSOLUTE);
	assert_int_equal(get32(image_at(&module.image, MODULE_TEXT + 0x60, 4)),
			 (u32)image_find(&module.image, "of_another") + 8);
	assert_true(image_find(&module.image, "of_another") >= MODULE_OTHERS);
	assert_int_equal(get32(image_at(&module.image, MODULE_TEXT + 0x70, 4)), 0x1235);
	assert_true(is_plain(MODULE_TEXT + 0x70, 0x190));
	hole = hole_at(MODULE_INIT_TEXT);
	assert_true(hole && hole->kind == HOLE_RELATIVE);
	assert_int_equal(module.hole_count, 6);
	assert_int_equal(sources_of(MODULE_TEXT + 0x30), ENTRY_POINTER);
	assert_int_equal(sources_of(MODULE_TEXT + 0x44), ENTRY_POINTER);

	u32 count;

	hole = module_holes(&module, MODULE_TEXT + 0x23, 0x10, &count);
	assert_true(hole && hole->address == MODULE_TEXT + 0x20 && count == 2);
	assert_true(is_plain(MODULE_TEXT + 0x24, 0xc));
}

static void call(u64 at, unsigned symbol)
{
	PUT(parts.text, at, 0xe8, 0, 0, 0, 0);
	module_rela(&m, parts.text, at + 1, R_X86_64_PLT32, symbol, -4);
}

/* What has been patched does not depend on where the kernel is any more. */
static void test_plain_patches(void **state)
{
	static const u64 retpolines[] = {0x00}, returns[] = {0x10}, locks[] = {0x20, 0x201};
	unsigned thunk = module_symbol(&m, "__x86_indirect_thunk_rax", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned ret = module_symbol(&m, "__x86_return_thunk", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned tracer = module_symbol(&m, "__fentry__", STT_NOTYPE, SHN_UNDEF, 0);
	static const u8 zeros[8];
	unsigned section;

	(void)state;
	call(0x00, thunk);
	PUT(parts.text, 0x10, 0xe9, 0, 0, 0, 0);
	module_rela(&m, parts.text, 0x11, R_X86_64_PLT32, ret, -4);
	PUT(parts.text, 0x20, 0xf0, 0x48, 0xff, 0x00);
	PUT(parts.unlikely, 0x01, 0xf0, 0x48, 0xff, 0x00);
	call(0x30, tracer);
	module_places(&m, &parts, ".retpoline_sites", retpolines, 1);
	module_places(&m, &parts, ".return_sites", returns, 1);
	module_places(&m, &parts, ".smp_locks", locks, 2);
	section = module_section(&m, "__mcount_loc", SHF_ALLOC, 1, zeros, 8);
	module_rela(&m, section, 0, R_X86_64_64, parts.of_text, 0x30);
	assert_int_equal(discover(), 0);
	EXPECT(MODULE_TEXT + 0x00, 0xff, 0xd0, 0x0f, 0x1f, 0x00);
	EXPECT(MODULE_TEXT + 0x10, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc);
	EXPECT(MODULE_TEXT + 0x20, 0x3e, 0x48, 0xff, 0x00);
	EXPECT(TEXT_UNLIKELY + 1, 0xf0, 0x48, 0xff, 0x00); /* kernels of this age do .text alone */
	EXPECT(MODULE_TEXT + 0x30, 0x0f, 0x1f, 0x44, 0x00, 0x00);
	assert_int_equal(module.hole_count, 0);
	assert_int_equal(sources_of(MODULE_TEXT + 0x30), 0);
}

/* With a call in the replacement, a hole moves; with none, it goes. */
static void test_alternatives(void **state)
{
	unsigned function = module_symbol(&m, "function", STT_NOTYPE, SHN_UNDEF, 0);
	static const u8 entries[24] = {[8] = 9 * 32 % 256 + 9,  [9] = 1,  [10] = 6, [11] = 5,
				       [20] = 9 * 32 % 256 + 9, [21] = 1, [22] = 5, [23] = 3};
	unsigned section = module_section(&m, ".altinstructions", SHF_ALLOC, 1, entries, sizeof(entries));

	(void)state;
	PUT(parts.text, 0x00, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90);
	call(0x10, function);
	PUT(parts.replacement, 0x00, 0xe8, 0, 0, 0, 0, 0x0f, 0xae, 0xe8);
	module_rela(&m, parts.replacement, 1, R_X86_64_PLT32, function, -4);
	for (unsigned i = 0; i < 2; i++) {
		module_rela(&m, section, 12 * i, R_X86_64_PC32, parts.of_text, 0x10 * i);
		module_rela(&m, section, 12 * i + 4, R_X86_64_PC32, parts.of_replacement, 5 * i);
	}
	assert_int_equal(discover(), 0);
	EXPECT(MODULE_TEXT, 0xe8);
	assert_int_equal(relative(MODULE_TEXT + 1) + 4, KERNEL_FUNCTION);
	assert_true(hole_at(MODULE_TEXT + 1) && hole_at(MODULE_TEXT + 1)->kind == HOLE_RELATIVE);
	EXPECT(MODULE_TEXT + 5, 0x90);
	EXPECT(MODULE_TEXT + 0x10, 0x0f, 0xae, 0xe8, 0x66, 0x90);
	assert_true(is_plain(MODULE_TEXT + 0x10, 5));
}

/* A newer kernel's: operands are relocated, too, and indirect calls become direct. */
static void test_newer_alternatives(void **state)
{
	unsigned function = module_symbol(&m, "function", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned pointer = module_symbol(&m, "__SCK__no_call", STT_NOTYPE, SHN_UNDEF, 0);
	static const u8 entries[28] = {[8] = 9 * 32 % 256 + 9,
				       [9] = 1,
				       [12] = 8,
				       [13] = 7,
				       [22] = 9 * 32 % 256 + 9,
				       [23] = 1,
				       [24] = 2,
				       [26] = 6,
				       [27] = 5};
	unsigned section = module_section(&m, ".altinstructions", SHF_ALLOC, 1, entries, sizeof(entries));

	(void)state;
	synth_data64(&kernel, KERNEL_NO_CALL - DATA, KERNEL_FUNCTION);
	PUT(parts.text, 0x10, 0xff, 0x15, 0, 0, 0, 0);
	module_rela(&m, parts.text, 0x12, R_X86_64_PC32, pointer, -4);
	PUT(parts.replacement, 0x00, 0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0);
	module_rela(&m, parts.replacement, 3, R_X86_64_PC32, parts.of_data, 0x10 - 4);
	module_rela(&m, parts.replacement, 8, R_X86_64_PLT32, function, -4);
	for (unsigned i = 0; i < 2; i++) {
		module_rela(&m, section, 14 * i, R_X86_64_PC32, parts.of_text, 0x10 * i);
		module_rela(&m, section, 14 * i + 4, R_X86_64_PC32, parts.of_replacement, 7 * i);
	}
	assert_int_equal(discover(), 0);
	EXPECT(MODULE_TEXT, 0x48, 0x8b, 0x05);
	assert_int_equal(relative(MODULE_TEXT + 3) + 4, MODULE_DATA + 0x10);
	assert_non_null(hole_at(MODULE_TEXT + 3));
	EXPECT(MODULE_TEXT + 0x10, 0xe8);
	assert_int_equal(relative(MODULE_TEXT + 0x11) + 4, KERNEL_FUNCTION);
	assert_non_null(hole_at(MODULE_TEXT + 0x11));
	EXPECT(MODULE_TEXT + 0x15, 0x90);
	assert_null(hole_at(MODULE_TEXT + 0x12));
	assert_int_equal(module.hole_count, 4); /* with those of the replacement itself */
}

static void test_static_calls(void **state)
{
	unsigned tramp = module_symbol(&m, "__SCT__call", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned none = module_symbol(&m, "__SCK__no_call", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned other = module_symbol(&m, "__SCK__of_another", STT_NOTYPE, SHN_UNDEF, 0);
	static const u8 zeros[32];
	unsigned section = module_section(&m, ".static_call_sites", SHF_ALLOC, 1, zeros, 32);
	const unsigned keys[] = {tramp, none, parts.of_data, other};

	(void)state;
	module_rela(&m, parts.data, 0x20, R_X86_64_64, parts.of_text, 0x100);
	for (unsigned i = 0; i < 4; i++) {
		call(0x10 * i, tramp);
		module_rela(&m, section, 8 * i, R_X86_64_PC32, parts.of_text, 0x10 * i);
		module_rela(&m, section, 8 * i + 4, R_X86_64_PC32, keys[i], i == 2 ? 0x20 : 0);
	}
	assert_int_equal(discover(), 0);
	assert_int_equal(relative(MODULE_TEXT + 0x01) + 4, KERNEL_FUNCTION);
	assert_non_null(hole_at(MODULE_TEXT + 0x01));
	EXPECT(MODULE_TEXT + 0x10, 0x0f, 0x1f, 0x44, 0x00, 0x00);
	assert_true(is_plain(MODULE_TEXT + 0x10, 5));
	assert_int_equal(relative(MODULE_TEXT + 0x21) + 4, MODULE_TEXT + 0x100); /* own */
	assert_true(is_plain(MODULE_TEXT + 0x20, 5));
	assert_int_equal(relative(MODULE_TEXT + 0x31) + 4, KERNEL_TRAMP); /* whatever it will be */
	assert_non_null(hole_at(MODULE_TEXT + 0x31));
}

static void test_static_keys(void **state)
{
	unsigned on = module_symbol(&m, "key_on", STT_NOTYPE, SHN_UNDEF, 0);
	unsigned off = module_symbol(&m, "key_off", STT_NOTYPE, SHN_UNDEF, 0);
	static const u8 zeros[64];
	unsigned section = module_section(&m, "__jump_table", SHF_ALLOC, 1, zeros, 64);
	/* bit 0: the code jumps if the key is off */
	const struct {
		unsigned symbol;
		s64 addend;
	} keys[] = {{on, 0}, {off, 1}, {parts.of_data, 0x40}, {parts.of_bss, 1}};

	(void)state;
	m.section[parts.data].bytes[0x40] = 1;
	PUT(parts.text, 0x00, 0x66, 0x90);                   /* to jump */
	PUT(parts.text, 0x10, 0x0f, 0x1f, 0x44, 0x00, 0x00); /* to jump */
	PUT(parts.text, 0x20, 0xeb, 0x10);                   /* jumps, and has to */
	PUT(parts.text, 0x30, 0x66, 0x90);                   /* to jump */
	for (unsigned i = 0; i < 4; i++) {
		module_rela(&m, section, 16 * i, R_X86_64_PC32, parts.of_text, 0x10 * i);
		module_rela(&m, section, 16 * i + 4, R_X86_64_PC32, parts.of_text, 0x10 * i + 0x12);
		module_rela(&m, section, 16 * i + 8, R_X86_64_PC64, keys[i].symbol, keys[i].addend);
	}
	assert_int_equal(discover(), 0);
	EXPECT(MODULE_TEXT + 0x00, 0xeb, 0x10);
	EXPECT(MODULE_TEXT + 0x10, 0xe9, 0x0d, 0x00, 0x00, 0x00);
	EXPECT(MODULE_TEXT + 0x20, 0xeb, 0x10);
	EXPECT(MODULE_TEXT + 0x30, 0xeb, 0x10);
	assert_int_equal(module.hole_count, 0);
}

static void test_info(void **state)
{
	static const char *const none[] = {NULL}, *const ext4[] = {"btrfs", "ext4", NULL};
	struct module_info info;

	(void)state;
	module_finish(&m);
	assert_int_equal(module_read_info(m.file, m.size, "test.ko", none, NULL, &info, &err), 0);
	assert_string_equal(info.name, "synthetic");
	assert_string_equal(info.depends, "one,two");
	assert_true(info.for_guests);
	assert_true(module_fits(&info, &kernel));
	info.release = "6.1.0-tes ";
	assert_false(module_fits(&info, &kernel));
	info.release = "6.1.0-test2";
	assert_false(module_fits(&info, &kernel));
	info.release = "";
	assert_false(module_fits(&info, &kernel));

	module_parts(&m, &parts);
	strcpy(m.section[m.sections - 1].name, "other");
	module_section(&m, ".modinfo", SHF_ALLOC, 1, "alias=fs-ext4", 14);
	module_finish(&m);
	assert_int_equal(module_read_info(m.file, m.size, "test.ko", none, NULL, &info, &err), 0);
	assert_false(info.for_guests);
	assert_string_equal(info.release, "");
	assert_int_equal(module_read_info(m.file, m.size, "test.ko", ext4, NULL, &info, &err), 0);
	assert_true(info.for_guests);
	m.section[m.sections - 1].header.sh_size = 13; /* its zero is lost */
	module_finish(&m);
	assert_int_equal(module_read_info(m.file, m.size, "test.ko", ext4, NULL, &info, &err), -1);
	assert_non_null(strstr(err.text, "test.ko"));
}

static void test_packed(void **state)
{
	/* "module" by gzip */
	static const u8 gzip[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0xcd, 0x4f,
				  0x29, 0xcd, 0x49, 0x05, 0x00, 0x28, 0x26, 0x24, 0x0c, 0x06, 0x00, 0x00, 0x00};
	u64 size;
	u8 *bytes;

	(void)state;
	assert_true(module_is_packed("a/b.ko.gz", gzip, sizeof(gzip)));
	assert_false(module_is_packed("a/b.ko.gz", gzip, 1));
	assert_false(module_is_packed("a/b.ko.xz", gzip, sizeof(gzip)));
	assert_false(module_is_packed("b.gz", gzip, sizeof(gzip)));
	assert_false(module_is_packed(".ko.gz", gzip, sizeof(gzip)));
	bytes = module_unpack(gzip, sizeof(gzip), "b.ko.gz", &size, &err);
	assert_non_null(bytes);
	assert_int_equal(size, 6);
	assert_memory_equal(bytes, "module", 6);
	free(bytes);
	assert_null(module_unpack(gzip, 11, "b.ko.gz", &size, &err));
	assert_non_null(strstr(err.text, "b.ko.gz"));
}

/* --- what is wrong ------------------------------------------------------------------------------------------------ */

static void expect_error(const char *text)
{
	err.text[0] = 0;
	assert_int_equal(discover(), -1);
	assert_non_null(strstr(err.text, "test.ko"));
	assert_non_null(strstr(err.text, text));
	module_parts(&m, &parts);
}

static void test_errors(void **state)
{
	(void)state;
	m.section[parts.text].header.sh_addralign = 24;
	expect_error("alignment");
	m.section[parts.data].header.sh_addralign = 1ULL << 40;
	expect_error("alignment");
	m.section[parts.bss].header.sh_size = 1ULL << 62;
	expect_error("MiB");
	m.section[parts.bss].header.sh_flags |= SHF_EXECINSTR;
	expect_error("code without bytes");
	module_finish(&m);
	m.file[16] = ET_DYN;
	assert_int_equal(discover_module(m.file, m.size, "test.ko", &kernel, NULL, &module, &err), -1);
	assert_non_null(strstr(err.text, "no object file"));
	memset(m.file, 0, 64);
	assert_int_equal(discover_module(m.file, m.size, "test.ko", &kernel, NULL, &module, &err), -1);
	assert_non_null(strstr(err.text, "not an ELF file"));
}

static Elf64_Shdr *header_of(unsigned type)
{
	Elf64_Ehdr *elf = (Elf64_Ehdr *)m.file;
	Elf64_Shdr *header = (Elf64_Shdr *)(m.file + elf->e_shoff);

	for (unsigned i = 0; i < elf->e_shnum; i++)
		if (header[i].sh_type == type)
			return &header[i];
	return NULL;
}

static void expect_damage(const char *text)
{
	assert_int_equal(discover_module(m.file, m.size, "test.ko", &kernel, NULL, &module, &err), -1);
	assert_non_null(strstr(err.text, text));
	module_finish(&m);
}

static void test_damaged_tables(void **state)
{
	(void)state;
	module_rela(&m, parts.text, 0, R_X86_64_32S, parts.of_data, 0);
	module_finish(&m);
	header_of(SHT_SYMTAB)->sh_type = SHT_PROGBITS;
	expect_damage("no symbols");
	header_of(SHT_SYMTAB)->sh_link = 1;
	expect_damage("names");
	header_of(SHT_STRTAB)->sh_size--;
	expect_damage("names");
	/* tables that lie over each other */
	for (unsigned i = 0; i < 30; i++) {
		unsigned section = module_section(&m, "more", SHF_ALLOC, 1, "", 1);

		m.section[section].header.sh_size = 1;
	}
	module_finish(&m);
	Elf64_Shdr *header = (Elf64_Shdr *)(m.file + ((Elf64_Ehdr *)m.file)->e_shoff);

	for (unsigned i = 10; i < 30; i++) {
		header[i].sh_offset = 0;
		header[i].sh_size = m.size;
	}
	expect_damage("overlap");
	header = (Elf64_Shdr *)(m.file + ((Elf64_Ehdr *)m.file)->e_shoff);
	for (unsigned i = 10; i < 12; i++)
		header[i] = (Elf64_Shdr){.sh_type = SHT_RELA, .sh_size = m.size, .sh_info = parts.text};
	expect_damage("overlap");
}

/* Holes lie in code, in order, and apart. */
static void check_sound(void)
{
	for (u32 i = 0; i < module.hole_count; i++) {
		const struct module_hole *hole = &module.hole[i];

		assert_true(hole->size == 4 || hole->size == 8);
		assert_true(image_is_executable(&module.image, hole->address + hole->size - 1));
		assert_true(!i || hole[-1].address + hole[-1].size <= hole->address);
	}
	for (u32 i = 0; i < module.image.entry_count; i++)
		assert_true(image_is_code(&module.image, module.image.entry[i].pc));
}

static void test_random_damage(void **state)
{
	unsigned function = module_symbol(&m, "function", STT_NOTYPE, SHN_UNDEF, 0), read = 0;
	static const u64 places[] = {0x00, 0x10, 0x20};

	(void)state;
	call(0x00, function);
	call(0x10, function);
	module_places(&m, &parts, ".retpoline_sites", places, 3);
	module_places(&m, &parts, ".smp_locks", places, 3);
	module_places(&m, &parts, ".altinstructions", places, 3);
	module_places(&m, &parts, ".static_call_sites", places, 2);
	module_finish(&m);
	srand(9);
	for (unsigned round = 0; round < 3000; round++) {
		u64 size = round % 4 ? m.size : (u64)rand() % m.size;
		u8 *copy = malloc(size + 1);

		memcpy(copy, m.file, size);
		for (unsigned i = 0; size && i <= round % 7; i++) {
			u64 at =
				round % 2 ? size - 1 - (u64)rand() % (size < 0x900 ? size : 0x900) : (u64)rand() % size;

			copy[at] = rand() % 3 ? copy[at] ^ (u8)(1 << rand() % 8) : (u8)rand();
		}
		err.text[0] = 0;
		if (discover_module(copy, size, "test.ko", &kernel, NULL, &module, &err) == 0) {
			check_sound();
			module_release(&module);
			read++;
		} else {
			assert_true(err.text[0] != 0);
		}
		free(copy);
	}
	assert_true(read > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_layout, start, stop),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test_setup_teardown(test_relocations, start, stop),
		cmocka_unit_test_setup_teardown(test_plain_patches, start, stop),
		cmocka_unit_test_setup_teardown(test_alternatives, start, stop),
		cmocka_unit_test_setup_teardown(test_newer_alternatives, start, stop),
		cmocka_unit_test_setup_teardown(test_static_calls, start, stop),
		cmocka_unit_test_setup_teardown(test_static_keys, start, stop),
		cmocka_unit_test_setup_teardown(test_info, start, stop),
		cmocka_unit_test_setup_teardown(test_packed, start, stop),
		cmocka_unit_test_setup_teardown(test_errors, start, stop),
		cmocka_unit_test_setup_teardown(test_damaged_tables, start, stop),
		cmocka_unit_test_setup_teardown(test_random_damage, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
