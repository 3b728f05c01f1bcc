/* fstab(5). */
#ifndef AVANT_IMAGE_FSTAB_H
#define AVANT_IMAGE_FSTAB_H

struct fstab_line {
	const char *device, *directory, *type, *options; /* empty if missing */
};

typedef void fstab_visitor(void *opaque, const struct fstab_line *line);

/* Calls `visit` for each line that has at least a device and a directory. Takes the text apart where it is. */
void fstab_read(char *text, fstab_visitor *visit, void *opaque);

#endif
