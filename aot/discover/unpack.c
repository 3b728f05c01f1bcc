/* Compressed data of any usual kind, unpacked by libarchive within limits; modules of which there are such. */
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>

#include "internal.h"

#define ROOM_FIRST (1ULL << 20)
#define ROOM_LEAST 65536u

static struct archive *open_packed(const u8 *data, u64 size)
{
	struct archive *archive = archive_read_new();

	if (!archive)
		return NULL;
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_bzip2(archive);
	archive_read_support_filter_xz(archive);
	archive_read_support_filter_lzma(archive);
	archive_read_support_filter_lz4(archive);
	archive_read_support_filter_zstd(archive);
	archive_read_support_format_raw(archive);
	if (archive_read_open_memory(archive, data, size) != ARCHIVE_OK) {
		archive_read_free(archive);
		return NULL;
	}
	return archive;
}

/* False: there is no memory for more, or it is all that it may be. */
static bool make_room(u8 **out, u64 *capacity, u64 used, u64 most)
{
	u64 room = *capacity ? *capacity * 2 : ROOM_FIRST;
	u8 *grown;

	if (room > most)
		room = most;
	if (*capacity - used >= ROOM_LEAST || (*capacity == most && used < most))
		return true;
	if (used == most)
		return false;
	grown = realloc(*out, room);
	if (!grown)
		return false;
	*out = grown;
	*capacity = room;
	return true;
}

u8 *unpack(const u8 *data, u64 size, u64 most, u64 *unpacked, const char **reason)
{
	struct archive *archive = open_packed(data, size);
	struct archive_entry *entry;
	u64 capacity = 0;
	u8 *out = NULL;
	la_ssize_t n;

	*unpacked = 0;
	*reason = "neither a cpio archive nor compressed in a known way";
	if (!archive || archive_read_next_header(archive, &entry) != ARCHIVE_OK ||
	    archive_filter_code(archive, 0) == ARCHIVE_FILTER_NONE) {
		archive_read_free(archive);
		return NULL;
	}
	*reason = "its compressed data is damaged";
	for (;;) {
		if (!make_room(&out, &capacity, *unpacked, most)) {
			*reason = "it unpacks to too much, or memory ran out";
			break;
		}
		n = archive_read_data(archive, out + *unpacked, capacity - *unpacked);
		if (n <= 0)
			break;
		*unpacked += (u64)n;
	}
	archive_read_free(archive);
	if (*unpacked)
		return out;
	free(out);
	return NULL;
}

/* --- modules ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *ending;
	u8 magic[6];
	u8 length;
} packed[] = {
	{".ko.xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6},
	{".ko.zst", {0x28, 0xb5, 0x2f, 0xfd}, 4},
	{".ko.gz", {0x1f, 0x8b}, 2},
};

bool module_is_packed(const char *name, const u8 *data, u64 size)
{
	size_t length = strlen(name);

	for (unsigned i = 0; i < ARRAY_SIZE(packed); i++) {
		size_t ending = strlen(packed[i].ending);

		if (length > ending && strcmp(name + length - ending, packed[i].ending) == 0)
			return size >= packed[i].length && memcmp(data, packed[i].magic, packed[i].length) == 0;
	}
	return false;
}

u8 *module_unpack(const u8 *data, u64 size, const char *name, u64 *unpacked, struct err *err)
{
	const char *reason;
	u8 *bytes = unpack(data, size, MODULE_FILE_MOST + 1, unpacked, &reason);

	if (bytes && *unpacked <= MODULE_FILE_MOST)
		return bytes;
	err_set(err, "'%s' cannot be unpacked: %s", name, bytes ? "it is too large" : reason);
	free(bytes);
	return NULL;
}
