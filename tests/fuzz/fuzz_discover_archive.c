/*
 * Fuzzes the pre-scan of initramfs files and of the programs in them. Build by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime -Iaot
 *tests/fuzz/fuzz_discover_archive.c \
 *		aot/discover/[a-z]*.c runtime/x86/[a-z]*.c runtime/translate/scan.c runtime/boot/blob.c
 *runtime/boot/kernel_image.c \
 *		runtime/boot/payload.c runtime/boot/file.c runtime/cpu/models.c runtime/util/err.c \
 *		-lelf -lz -llzma -llz4 -lzstd -larchive -lZydis -o fuzz_discover_archive
 */
#include <stdlib.h>
#include <string.h>

#include "discover/discover.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check(const struct image *image)
{
	for (u32 i = 0; i < image->entry_count; i++)
		if (!image_is_code(image, image->entry[i].pc) || (i && image->entry[i - 1].pc >= image->entry[i].pc))
			abort();
	for (u32 i = 0; i < image->symbol_count; i++)
		if (!strlen(image->symbol[i].name) || !image_find(image, image->symbol[i].name))
			abort();
}

static int check_program(void *opaque, const char *name, const u8 *data, u64 size, struct err *err)
{
	struct err reason = ERR_INIT;
	struct program_summary summary;
	enum program_verdict verdict;
	struct image image;
	u64 bytes = 0;

	(void)opaque;
	(void)err;
	if (discover_summary(data, size, name, &summary, &reason) == 0) {
		for (u32 i = 0; i < summary.needed_count; i++)
			bytes += strlen(summary.needed[i]);
		bytes += summary.soname ? strlen(summary.soname) : 0;
		bytes += summary.interpreter ? strlen(summary.interpreter) : 0;
		if (bytes > (SUMMARY_NEEDED + 2) * size)
			abort();
	}
	if (discover_program(data, size, name, &image, &verdict, &reason) == 0) {
		check(&image);
		image_release(&image);
	}
	return 0;
}

/* An input is tried as a program, too: the archive around it is hard to make right by chance. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct report report = {0};
	struct err err = ERR_INIT;

	discover_archive(data, size, "fuzz", check_program, NULL, &report, &err);
	report_release(&report);
	return check_program(NULL, "fuzz", data, size, &err);
}
