/*
 * Fuzzes the kernel image parser. Build by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_kernel_image.c \
 *		runtime/boot/kernel_image.c runtime/boot/payload.c runtime/boot/file.c runtime/util/err.c \
 *		-lelf -lz -llzma -llz4 -lzstd -o fuzz_kernel_image
 */
#include <stdlib.h>

#include "boot/kernel_image.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct kernel_image image;
	struct err err = ERR_INIT;
	volatile u8 last;

	if (kernel_image_parse(data, size, "fuzz", NULL, &image, &err)) {
		if (!err.text[0] || image.unpacked.data)
			abort();
		return 0;
	}
	/* what it promises must hold: data is readable to its last byte, the entry lies in a segment */
	bool entered = false;

	for (unsigned i = 0; i < image.segment_count; i++) {
		const struct kernel_segment *s = &image.segment[i];

		if (s->filesz > s->memsz || s->paddr < image.start || s->paddr + s->memsz > image.end)
			abort();
		if (s->filesz)
			last = s->data[s->filesz - 1];
		entered |= image.entry - s->paddr < s->filesz;
	}
	(void)last;
	if (!entered)
		abort();
	kernel_image_release(&image);
	return 0;
}
