/* avant run --image: what is booted is found in the first disk. */
#ifndef AVANT_TOOLS_RUN_IMAGE_H
#define AVANT_TOOLS_RUN_IMAGE_H

#include "boot/blob.h"
#include "util/err.h"

struct image;
struct vm_config;

struct run_image {
	struct image *image; /* or NULL: nothing is read from it */
	struct blob kernel, initrd;
	char *append; /* the command line, if it was made here */
};

/*
 * Fills in what the configuration does not say yet: kernel, initramfs and command line, from the image, which is the
 * first disk. What was taken and why is said on standard error. A kernel that was given goes without the image's
 * initramfs, which has another one's modules. Returns 0, or -1 with a message in err; the caller releases it in either
 * case.
 */
int run_image_find(struct run_image *found, struct vm_config *config, struct err *err);

/* The configuration's kernel, initramfs and command line are gone then. */
void run_image_release(struct run_image *found);

#endif
