/*
 * Disk images and file trees as a user has them: a disk with or without partitions (ext2, ext3, ext4), an archive (tar,
 * cpio, zip, … in any compression), a directory. All of it is read by a process of its own, which holds nothing but the
 * image's descriptor and is confined to reading it (reader/confine.h): a hostile image can do no more than be read
 * wrongly. This is the client's side; it believes nothing that comes from there beyond its form.
 *
 * Functions that return int return 0, or -1 with a message in err that names the image.
 */
#ifndef AVANT_IMAGE_IMAGE_H
#define AVANT_IMAGE_IMAGE_H

#include "util/err.h"
#include "util/types.h"

struct blob;
struct image;

#define IMAGE_TREE        UINT32_MAX /* instead of a volume: the root file system with what its fstab mounts into it */
#define IMAGE_VOLUMES_MAX 128
#define IMAGE_INITRDS_MAX 16
#define IMAGE_NOTES_MAX   16

/*
 * Opens the image and starts its reader: a file, a block device or a directory. reader: the program that reads, or NULL
 * for the one that belongs to this program. NULL with a message in err.
 */
struct image *image_open(const char *path, const char *reader, struct err *err);
void image_close(struct image *image);

/* Ends the reader: nothing more can be asked. What was opened can still be read until image_close(). */
void image_stop(struct image *image);

/* ---- what is in it ---- */

/* A file system, or what else a partition holds; of an archive or a directory: the only one. Texts may be empty. */
struct image_volume {
	u32 number;       /* of the partition; 0: not in a partition */
	u64 offset, size; /* bytes, within the image */
	bool readable;    /* its files can be read */
	const char *type; /* "ext4", "xfs", "LVM2_member", "tar", "directory", … */
	const char *label, *uuid;
	const char *partuuid, *partlabel;
	const char *mount; /* where it is in IMAGE_TREE: "/", "/boot", … */
	const char *note;  /* what is to be said about it: why it cannot be read, a journal that was replayed */
};

struct image_info {
	const char *format; /* "gpt", "dos" (MBR), "disk" (no partitions), "archive", "directory" */
	u64 size;           /* bytes */
	u32 root;           /* index of the volume with the root file system, or IMAGE_TREE: none can be read */
	u32 volume_count;
	struct image_volume volume[IMAGE_VOLUMES_MAX];
};

/* Stays valid until image_close(). NULL with a message in err. */
const struct image_info *image_info(struct image *image, struct err *err);

/* ---- files ---- */

enum image_kind {
	IMAGE_FILE,
	IMAGE_DIRECTORY,
	IMAGE_SYMLINK,
	IMAGE_CHARACTER,
	IMAGE_BLOCK,
	IMAGE_FIFO,
	IMAGE_SOCKET,
	IMAGE_UNREADABLE, /* damaged, or refused: `target` says why */
	IMAGE_KINDS,
};

struct image_entry {
	const char *path; /* of a walk: from where it began, "" being that itself; any bytes but NUL */
	enum image_kind kind;
	u32 mode; /* permissions, as in st_mode & 07777 */
	u32 uid, gid, links;
	u32 major, minor;   /* of devices */
	u64 identity;       /* hard links to one file have the same */
	u64 size;           /* bytes, as the image says */
	u64 mtime;          /* seconds since 1970 */
	const char *target; /* of a symlink */
};

/* Looks at a path; symlinks in it lead to places in the image only. The entry is valid until the next call. */
int image_stat(struct image *image, u32 volume, const char *path, bool follow, struct image_entry *entry,
	       struct err *err);

/*
 * The file's bytes, if it is a regular file of at most `most` bytes. The caller releases the blob before image_close().
 * What an archive holds is unpacked into memory by this.
 */
int image_open_file(struct image *image, u32 volume, const char *path, u64 most, struct blob *blob, struct err *err);

/* Called for each entry, which is valid until it returns. Returns 0, or anything else to end the walk with that. */
typedef int image_visitor(void *opaque, const struct image_entry *entry);

/*
 * Visits the directory (or file) and everything below it down to `depth` levels (0: it alone; UINT32_MAX: all), parents
 * before children, in an order that depends on the image's contents only: by name, in archives as they are there.
 * Symlinks are not followed, except by the path given. The visitor may call image_open_file() and image_stat(), but not
 * walk.
 */
int image_walk(struct image *image, u32 volume, const char *path, u32 depth, image_visitor *visit, void *opaque,
	       struct err *err);

/* ---- booting it ---- */

struct image_place {
	u32 volume;
	const char *path;
};

/* What the image's own boot loader would start. Texts stay valid until image_close(). */
struct image_boot {
	const char *title;   /* of the menu entry; may be empty */
	const char *source;  /* "GRUB, /boot/grub/grub.cfg of partition 1" */
	const char *why;     /* why this entry: "it is the default, '0'" */
	const char *cmdline; /* for the kernel */
	struct image_place kernel;
	struct image_place
		initrd[IMAGE_INITRDS_MAX]; /* to be loaded one after the other, each at a multiple of 4 bytes */
	u32 initrd_count;
	const char *note[IMAGE_NOTES_MAX]; /* what was tried before and why it does not serve */
	u32 note_count;
};

int image_find_boot(struct image *image, struct image_boot *boot, struct err *err);

/* The files of `boot`, ready to be loaded. initrd->size is 0 if there is none. The caller releases both. */
int image_open_boot(struct image *image, const struct image_boot *boot, struct blob *kernel, struct blob *initrd,
		    struct err *err);

#endif
