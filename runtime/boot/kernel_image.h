/*
 * Linux kernel images: a bzImage (Documentation/arch/x86/boot.rst) or an ELF vmlinux, as segments to load and a place
 * to enter. Independent of the VMM: the offline translator reads kernels through this too.
 */
#ifndef AVANT_BOOT_KERNEL_IMAGE_H
#define AVANT_BOOT_KERNEL_IMAGE_H

#include "boot/payload.h"
#include "util/err.h"
#include "util/types.h"

#define KERNEL_MAX_SEGMENTS 32
#define KERNEL_MAX_SIZE     (1ULL << 30) /* bytes, of the file and of the unpacked ELF */

/* The setup header within the boot parameters (boot.rst, "The Real-Mode Kernel Header"). */
#define SETUP_HEADER_OFFSET 0x1f1u
#define SETUP_HEADER_END    0x290u /* at the latest: other boot parameters begin here */

/* A PT_LOAD segment: filesz bytes at data go to paddr, zeros follow up to memsz. filesz <= memsz, memsz > 0. */
struct kernel_segment {
	u64 paddr;
	const u8 *data;
	u64 filesz, memsz;
	bool writable;
	u64 data_from; /* from here on no section of it holds code; filesz if that is not known */
};

struct kernel_image {
	struct kernel_segment segment[KERNEL_MAX_SEGMENTS];
	unsigned segment_count;
	u64 start, end; /* physical range that covers all segments */
	u64 entry;      /* physical address of startup_64, within the file data of a segment */
	u8 setup[SETUP_HEADER_END - SETUP_HEADER_OFFSET]; /* setup header as in the image, or made up for an ELF file */
	unsigned setup_size;                              /* bytes of it that count */
	const u8 *elf; /* the whole (unpacked) ELF, and the relocations that follow it in a bzImage */
	u64 elf_size;
	struct payload unpacked; /* what elf points into: this, */
	const u8 *file;          /* or this mapping, or memory of kernel_image_parse()'s caller */
	u64 file_size;
};

/*
 * Somebody who has kept what was unpacked before: find() returns the payload of the bzImage with these contents, which
 * stays valid as long as the image is in use, or NULL.
 */
struct kernel_keeper {
	const u8 *(*find)(void *opaque, const u8 *file, u64 size, u64 *unpacked_size);
	void *opaque;
};

/*
 * Reads the kernel at `path`; keeper: NULL if there is none. Returns 0, and the caller releases the image; or -1 with a
 * message in err that names the file, and nothing to release.
 */
int kernel_image_load(const char *path, const struct kernel_keeper *keeper, struct kernel_image *image,
		      struct err *err);

/* The same from bytes that are at hand, which are not needed any more afterwards. */
struct blob;
int kernel_image_load_blob(const struct blob *file, const struct kernel_keeper *keeper, struct kernel_image *image,
			   struct err *err);

/* The same from memory; data must outlive the image (an ELF is not copied). `name` is used in messages. */
int kernel_image_parse(const u8 *data, u64 size, const char *name, const struct kernel_keeper *keeper,
		       struct kernel_image *image, struct err *err);

void kernel_image_release(struct kernel_image *image);

#endif
