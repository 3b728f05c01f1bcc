/*
 * Fuzzes the pre-scan of kernel modules: what they say of themselves, layout, relocations, patching, holes, and the
 *walk over units. FUZZ_MODULE_SEED=FILE writes a module with a little of everything, to begin with. Build by hand, for
 * example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime -Iaot -Itests/discover \
 *		tests/fuzz/fuzz_discover_module.c aot/discover/[a-z]*.c runtime/x86/[a-z]*.c runtime/translate/scan.c \
 *		runtime/boot/blob.c runtime/boot/kernel_image.c runtime/boot/payload.c runtime/boot/file.c
 *runtime/cpu/models.c \ runtime/util/err.c -lelf -lz -llzma -llz4 -lzstd -larchive -lZydis -o fuzz_discover_module
 */
#include <stdio.h>

#include "synth_module.h"
#include "translate/scan.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct image kernel;

/* Sites of each kind, at calls to what they are about. */
static void make_seed(struct synth_module *m)
{
	static const u8 call[] = {0xe8, 0, 0, 0, 0}, entry[12] = {[8] = 0x29, [9] = 1, [10] = 5, [11] = 5};
	static const u64 places[] = {0x00, 0x10, 0x20, 0x30};
	static const char *const names[] = {"function", "__x86_indirect_thunk_rax", "__x86_return_thunk",
					    "__SCT__call"};
	static const char *const tables[] = {".smp_locks", ".retpoline_sites", ".return_sites", ".static_call_sites"};
	struct synth_parts parts;
	unsigned section;

	module_parts(m, &parts);
	module_symbol(m, "init_module", STT_FUNC, parts.init, 0);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(m->section[parts.text].bytes + places[i], call, sizeof(call));
		module_rela(m, parts.text, places[i] + 1, R_X86_64_PLT32,
			    module_symbol(m, names[i], STT_NOTYPE, SHN_UNDEF, 0), -4);
		module_places(m, &parts, tables[i], places, 4);
	}
	section = module_section(m, ".altinstructions", SHF_ALLOC, 1, entry, sizeof(entry));
	module_rela(m, section, 0, R_X86_64_PC32, parts.of_text, 0x40);
	module_rela(m, section, 4, R_X86_64_PC32, parts.of_replacement, 0);
	section = module_section(m, "__jump_table", SHF_ALLOC, 1, entry, 0);
	m->section[section].header.sh_size = 16;
	module_rela(m, section, 0, R_X86_64_PC32, parts.of_text, 0x50);
	module_rela(m, section, 4, R_X86_64_PC32, parts.of_text, 0x60);
	module_rela(m, section, 8, R_X86_64_PC64, parts.of_data, 0x40);
	module_rela(m, parts.data, 0x20, R_X86_64_64, parts.of_text, 0x70);
	module_finish(m);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static struct synth_module seed;
	const char *path = getenv("FUZZ_MODULE_SEED");
	FILE *file = path ? fopen(path, "wb") : NULL;

	(void)argc;
	(void)argv;
	synth_kernel(&kernel);
	if (!file)
		return 0;
	make_seed(&seed);
	if (fwrite(seed.file, 1, seed.size, file) != seed.size)
		abort();
	fclose(file);
	return 0;
}

static void walk(const struct module *module)
{
	const struct scan_options options = {.max = SCAN_MAX};
	struct units *units = units_create(&module->image, &options, NULL);
	const struct scan *scan;

	if (!units)
		return;
	units_set_disjoint(units);
	units_add_entries(units);
	while ((scan = units_next(units)))
		if (!image_at(&module->image, scan->pc, scan->bytes))
			abort();
	units_free(units);
}

static void check(const struct module *module)
{
	const struct image *image = &module->image;

	for (u32 i = 0; i < image->entry_count; i++)
		if (!image_is_code(image, image->entry[i].pc) || (i && image->entry[i - 1].pc >= image->entry[i].pc))
			abort();
	for (u32 i = 0; i < module->hole_count; i++) {
		const struct module_hole *hole = &module->hole[i], *found;
		u32 count;

		found = module_holes(module, hole->address, hole->size, &count);
		if ((hole->size != 4 && hole->size != 8) || hole->kind > HOLE_ABSOLUTE || found != hole || count != 1 ||
		    !image_at(image, hole->address, hole->size) || !image_is_executable(image, hole->address) ||
		    (i && hole[-1].address + hole[-1].size > hole->address))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const char *const file_systems[] = {"ext4", NULL};
	struct module_info info;
	struct module module;
	struct err err = ERR_INIT;

	if (module_read_info(data, size, "fuzz", file_systems, NULL, &info, &err) == 0)
		module_fits(&info, &kernel);
	else if (!err.text[0])
		abort();
	err.text[0] = 0;
	if (discover_module(data, size, "fuzz", &kernel, NULL, &module, &err) < 0) {
		if (!err.text[0])
			abort();
		return 0;
	}
	check(&module);
	walk(&module);
	module_release(&module);
	return 0;
}
