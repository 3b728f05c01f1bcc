/*
 * What would be booted: the entry that the image's own boot loader would take, by its configuration, or else the newest
 * kernel. Tried in this order: GRUB, extlinux and syslinux, boot loader specification, /boot.
 */
#ifndef AVANT_IMAGE_BOOT_H
#define AVANT_IMAGE_BOOT_H

#include "image/reader/space.h"

#define BOOT_CONFIG_MOST  (4u << 20)  /* bytes of a configuration file */
#define BOOT_CMDLINE_MOST (16u << 10) /* bytes; kernels take 2048 or 4096 */

struct boot_place {
	u32 volume; /* index, or IMAGE_TREE */
	char *path;
};

struct boot {
	char *title, *source, *why, *cmdline;
	struct boot_place kernel, initrd[IMAGE_INITRDS_MAX];
	u32 initrd_count;
	char *note[IMAGE_NOTES_MAX]; /* what was tried before and does not serve */
	u32 note_count;
};

/* 0, or -1 with a message in err; the caller releases boot in either case. */
int boot_find(const struct space *space, struct boot *boot, struct err *err);
void boot_release(struct boot *boot);

/* ---- for those who look ---- */

/* One of the ways to find an entry. 0: found; 1: there is no such configuration; -1: it does not serve, err says why.
 */
typedef int boot_finder(const struct space *space, struct boot *boot, struct err *err);

boot_finder boot_find_grub, boot_find_extlinux, boot_find_bls, boot_find_newest;

/* Sets a text of the boot (printf format), freeing the one before. 0, or -1 with a message in err. */
int boot_set(char **text, struct err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Where the kernel, or another initramfs, is. 0, or -1 with a message in err. */
int boot_set_kernel(struct boot *boot, u32 volume, const char *path, struct err *err);
int boot_add_initrd(struct boot *boot, u32 volume, const char *path, struct err *err);

/* Forgets everything but the notes. */
void boot_clear(struct boot *boot);

/* Whether a regular file is there. */
bool boot_file_exists(const struct space *space, u32 volume, const char *path);

/*
 * The volumes in the order in which their configuration counts: that of /boot, the root, the others; those that cannot
 * be read are left out. Returns how many.
 */
u32 boot_volumes(const struct space *space, u32 order[IMAGE_VOLUMES_MAX]);

/* " of partition 2", or "" */
const char *boot_of_volume(const struct space *space, u32 volume, char buffer[48]);

#endif
