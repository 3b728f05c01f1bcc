#include "boot/blob.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/file.h"

static int no_memory(const struct blob *blob, struct err *err)
{
	return err_set(err, "not enough memory to read '%s'", blob->name ? blob->name : "a file");
}

int blob_init(struct blob *blob, const char *name, struct err *err)
{
	*blob = (struct blob){.name = strdup(name)};
	return blob->name ? 0 : no_memory(blob, err);
}

int blob_open(struct blob *blob, const char *path, const char *what, struct err *err)
{
	u64 size;
	int fd = file_open(path, what, &size, err);

	if (fd < 0)
		return -1;
	if (blob_init(blob, path, err) == 0 && blob_own(blob, fd, err) == 0) {
		if (blob_add(blob, fd, 0, size, err) == 0)
			return 0;
	} else {
		close(fd);
	}
	blob_release(blob);
	return -1;
}

int blob_add(struct blob *blob, int fd, u64 offset, u64 length, struct err *err)
{
	struct blob_piece *grown;

	if (!length)
		return 0;
	if (length > INT64_MAX || offset > INT64_MAX - length || blob->size > INT64_MAX - length)
		return err_set(err, "'%s' is too large", blob->name);
	grown = realloc(blob->piece, (blob->piece_count + 1ULL) * sizeof(*grown));
	if (!grown)
		return no_memory(blob, err);
	blob->piece = grown;
	grown[blob->piece_count++] = (struct blob_piece){fd, offset, length};
	blob->size += length;
	return 0;
}

int blob_own(struct blob *blob, int fd, struct err *err)
{
	int *grown = realloc(blob->fd, (blob->fd_count + 1ULL) * sizeof(*grown));

	if (!grown)
		return no_memory(blob, err);
	blob->fd = grown;
	grown[blob->fd_count++] = fd;
	return 0;
}

int blob_append(struct blob *blob, struct blob *other, u64 align, struct err *err)
{
	if (blob_add(blob, BLOB_HOLE, 0, align_up(blob->size, align) - blob->size, err) < 0)
		return -1;
	for (u32 i = 0; i < other->piece_count; i++) {
		const struct blob_piece *piece = &other->piece[i];

		if (blob_add(blob, piece->fd, piece->offset, piece->length, err) < 0)
			return -1;
	}
	while (other->fd_count) {
		if (blob_own(blob, other->fd[other->fd_count - 1], err) < 0)
			return -1;
		other->fd_count--;
	}
	blob_release(other);
	return 0;
}

static int read_piece(const struct blob *blob, const struct blob_piece *piece, u64 skip, u8 *to, u64 size,
		      struct err *err)
{
	if (piece->fd == BLOB_HOLE) {
		memset(to, 0, size);
		return 0;
	}
	for (u64 done = 0; done < size;) {
		ssize_t n = pread(piece->fd, to + done, size - done, (off_t)(piece->offset + skip + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, "cannot read '%s': %s", blob->name, strerror(errno));
		if (n == 0)
			return err_set(err, "'%s' became shorter while it was read", blob->name);
		done += (u64)n;
	}
	return 0;
}

int blob_read(const struct blob *blob, u64 offset, void *to, u64 size, struct err *err)
{
	u64 at = 0;

	if (offset > blob->size || size > blob->size - offset)
		BUG("'%s' is read beyond its end", blob->name);
	for (u32 i = 0; i < blob->piece_count && size; at += blob->piece[i++].length) {
		const struct blob_piece *piece = &blob->piece[i];
		u64 skip, part;

		if (offset >= at + piece->length)
			continue;
		skip = offset - at;
		part = piece->length - skip < size ? piece->length - skip : size;
		if (read_piece(blob, piece, skip, to, part, err) < 0)
			return -1;
		to = (u8 *)to + part;
		offset += part;
		size -= part;
	}
	return 0;
}

/* Whole pages of a file can be mapped: all of the piece if it is the last one, whose page may have a rest. */
static bool can_map(const struct blob *blob, u32 i, u64 at)
{
	const struct blob_piece *piece = &blob->piece[i];

	return piece->fd != BLOB_HOLE && !PAGE_OFFSET(at) && !PAGE_OFFSET(piece->offset) &&
	       (!PAGE_OFFSET(piece->length) || i + 1 == blob->piece_count);
}

const u8 *blob_map(const struct blob *blob, struct err *err)
{
	u64 at = 0;
	u8 *area;

	if (!blob->size)
		return (const u8 *)"";
	area = mmap(NULL, blob->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED) {
		no_memory(blob, err);
		return NULL;
	}
	for (u32 i = 0; i < blob->piece_count; at += blob->piece[i++].length) {
		const struct blob_piece *piece = &blob->piece[i];

		if (can_map(blob, i, at)) {
			if (mmap(area + at, piece->length, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE, piece->fd,
				 (off_t)piece->offset) != MAP_FAILED)
				continue;
			err_set(err, "cannot read '%s': %s", blob->name, strerror(errno));
		} else if (piece->fd == BLOB_HOLE || read_piece(blob, piece, 0, area + at, piece->length, err) == 0) {
			continue;
		}
		munmap(area, blob->size);
		return NULL;
	}
	return area;
}

void blob_release(struct blob *blob)
{
	for (u32 i = 0; i < blob->fd_count; i++)
		close(blob->fd[i]);
	free(blob->fd);
	free(blob->piece);
	free(blob->name);
	*blob = (struct blob){0};
}
