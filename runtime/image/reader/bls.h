/* Entries of the boot loader specification (UAPI.1): /loader/entries/NAME.conf, one file for each. */
#ifndef AVANT_IMAGE_BLS_H
#define AVANT_IMAGE_BLS_H

#include "image/reader/boot.h"

#define BLS_ENTRIES_MOST 200

struct bls_entry {
	char *path; /* of the file */
	char *id;   /* its name without ".conf" and without the counter of tries */
	char *title, *version, *machine, *sort_key, *linux_path, *options; /* NULL: missing */
	char *initrd[IMAGE_INITRDS_MAX];
	u32 initrd_count;
	bool bad;   /* its tries are used up */
	bool other; /* for another kind of processor, or no Linux kernel */
};

struct bls_list {
	struct bls_entry *entry; /* the one to prefer first */
	u32 count;
};

/* The volume's entries that can be booted. 0; 1: there are none; -1: error. */
int bls_read(const struct space *space, u32 volume, struct bls_list *list, struct err *err);
void bls_release(struct bls_list *list);

/* Fills in what the entry boots: kernel, initramfs files, command line, title. 0, or -1 with a message in err. */
int bls_apply(const struct bls_entry *entry, u32 volume, struct boot *boot, struct err *err);

#endif
