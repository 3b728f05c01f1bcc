/*
 * What avant translate reads: kernels, initramfs files and trees of files, given by name or found in disk images and
 * archives. Everything is read by size and in one piece, never mapped: a file that shrinks is an error, not a signal.
 */
#ifndef AVANT_TOOLS_TRANSLATE_INPUTS_H
#define AVANT_TOOLS_TRANSLATE_INPUTS_H

#include "util/err.h"
#include "util/types.h"

#define INPUTS_MAX 16 /* images and trees together */

struct input_paths {
	const char *kernel, *initrd; /* or NULL */
	struct {
		const char *path;
		bool tree; /* need not be bootable */
	} image[INPUTS_MAX];
	unsigned image_count;
};

struct input_file {
	char *name; /* for people: where it comes from */
	u8 *data;
	u64 size;   /* bytes */
	bool found; /* in an image, not given by name */
};

struct inputs;

/*
 * Opens them and reads kernels and initramfs files: those that are given, or else those that each image would boot. An
 * initramfs of an image goes with its kernel: it is not used with a kernel that is given. NULL with a message in err.
 */
struct inputs *inputs_open(const struct input_paths *paths, struct err *err);
void inputs_close(struct inputs *inputs);

unsigned inputs_kernel_count(const struct inputs *inputs);
const struct input_file *inputs_kernel(const struct inputs *inputs, unsigned number);
/* All are read: the kernel's bytes are not needed any more after this, nor those of an initramfs. */
unsigned inputs_initrd_count(const struct inputs *inputs);
const struct input_file *inputs_initrd(const struct inputs *inputs, unsigned number);

/* Types of the file systems in the images ("ext4"), each once, then a NULL: at most `room` with it. */
void inputs_file_systems(const struct inputs *inputs, const char **type, unsigned room);

/* Lines of text, each ended: what was found in the images, what cannot be read and why. "" if there is nothing. */
const char *inputs_notes(const struct inputs *inputs);

/* What is told of the files in images and trees. Anything but 0 ends the walk with that. */
struct input_visitor {
	/* An ELF file or a compressed kernel module, whose bytes are gone when this returns. */
	int (*program)(void *opaque, const char *name, const u8 *data, u64 size, struct err *err);
	/* A file that is run by another program; NULL: is not told. */
	int (*script)(void *opaque, const char *interpreter, struct err *err);
	/* A symlink; NULL: is not told. */
	int (*link)(void *opaque, const char *name, const char *target, struct err *err);
};

/*
 * Visits all images and trees, in an order that depends on contents alone. What a file is, its first bytes say;
 * symlinks are not followed. What cannot be read is noted, once. Returns 0, what the visitor returned, or -1 with a
 * message in err.
 */
int inputs_walk(struct inputs *inputs, const struct input_visitor *visitor, void *opaque, struct err *err);

#endif
