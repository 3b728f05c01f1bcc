/*
 * Fuzzes the pre-scan of kernels: kallsyms, tables, patching, and the walk over units. Build by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime -Iaot tests/fuzz/fuzz_discover_kernel.c
 *\
 *		aot/discover/[a-z]*.c runtime/x86/[a-z]*.c runtime/translate/scan.c runtime/boot/blob.c
 *runtime/boot/kernel_image.c \
 *		runtime/boot/payload.c runtime/boot/file.c runtime/cpu/models.c runtime/util/err.c \
 *		-lelf -lz -llzma -llz4 -lzstd -larchive -lZydis -o fuzz_discover_kernel
 */
#include <stdlib.h>

#include "boot/kernel_image.h"
#include "discover/discover.h"
#include "translate/scan.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Every unit must lie in the image. */
static void walk(const struct image *image)
{
	const struct scan_options options = {.max = SCAN_MAX};
	struct err err = ERR_INIT;
	struct units *units = units_create(image, &options, &err);
	const struct scan *scan;

	if (!units)
		return;
	units_add_entries(units);
	while ((scan = units_next(units)))
		if (!image_at(image, scan->pc, scan->bytes))
			abort();
	units_free(units);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct kernel_options options = {.patch = true};
	struct kernel_image kernel;
	struct image image;
	struct err err = ERR_INIT;

	if (kernel_image_parse(data, size, "fuzz", NULL, &kernel, &err))
		return 0;
	if (discover_kernel(&kernel, &options, &image, &err)) {
		if (!err.text[0])
			abort();
	} else {
		for (u32 i = 0; i < image.entry_count; i++)
			if (!image_is_code(&image, image.entry[i].pc) ||
			    (i && image.entry[i - 1].pc >= image.entry[i].pc))
				abort();
		walk(&image);
		image_release(&image);
	}
	kernel_image_release(&kernel);
	return 0;
}
