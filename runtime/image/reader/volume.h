/*
 * What an image consists of: volumes, which are file systems (alone, or one in each partition) or what else a partition
 * holds. Partition tables and kinds of file systems are libblkid's business.
 */
#ifndef AVANT_IMAGE_VOLUME_H
#define AVANT_IMAGE_VOLUME_H

#include "image/image.h"
#include "image/reader/tree.h"

struct volume {
	struct tree *tree; /* or NULL: it cannot be read */
	u32 number;        /* of the partition; 0: it is in none */
	u64 offset, size;  /* bytes */
	char type[64];     /* "" if nothing is known in it */
	char label[128], uuid[64], partuuid[64], partlabel[128];
	char mount[256]; /* where it is in the whole tree; "" if nowhere */
	char note[400];
};

#define VOLUME_NONE UINT32_MAX

struct volumes {
	int fd; /* the image */
	const char *format;
	struct volume volume[IMAGE_VOLUMES_MAX];
	u32 count;
	u32 root; /* index of the volume with the root file system, or VOLUME_NONE */
};

/* Finds and opens what can be read. 0, or -1 with a message in err. */
int volumes_open(struct volumes *volumes, int fd, bool directory, struct err *err);
void volumes_close(struct volumes *volumes);

/* Why no volume can be read: "partition 2 holds xfs, which is not supported". For messages, in err. Returns -1. */
int volumes_none(const struct volumes *volumes, struct err *err);

/*
 * The volume that an fstab or a kernel command line calls by this name (UUID=, LABEL=, PARTUUID=, PARTLABEL=,
 * /dev/vda1, /dev/disk/by-…); VOLUME_NONE if there is none.
 */
u32 volumes_find(const struct volumes *volumes, const char *name);

/* "partition 2", or "the image" for what is in no partition. */
const char *volume_name(const struct volume *volume, char buffer[32]);

#endif
