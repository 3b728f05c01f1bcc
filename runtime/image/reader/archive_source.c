#include "image/reader/archive_source.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "image/reader/bytes.h"

#define FILTERS_MOST 3 /* compression within compression: more is made to harm */

static la_ssize_t read_some(struct archive *archive, void *opaque, const void **data)
{
	struct archive_source *source = opaque;
	u64 left = source->size - source->at, part = left < sizeof(source->buffer) ? left : sizeof(source->buffer);
	struct err err = ERR_INIT;

	if (bytes_read(source->fd, source->offset + source->at, source->buffer, part, &err) < 0) {
		archive_set_error(archive, EIO, "%s", err.text);
		return ARCHIVE_FATAL;
	}
	source->at += part;
	*data = source->buffer;
	return (la_ssize_t)part;
}

static la_int64_t skip(struct archive *archive, void *opaque, la_int64_t request)
{
	struct archive_source *source = opaque;
	u64 left = source->size - source->at, part = (u64)request < left ? (u64)request : left;

	(void)archive;
	if (request < 0)
		return ARCHIVE_FATAL;
	source->at += part;
	return (la_int64_t)part;
}

static la_int64_t seek(struct archive *archive, void *opaque, la_int64_t offset, int whence)
{
	struct archive_source *source = opaque;
	u64 base = whence == SEEK_CUR ? source->at : whence == SEEK_END ? source->size : 0;
	la_int64_t at;

	(void)archive;
	if (__builtin_add_overflow((la_int64_t)base, offset, &at) || at < 0 || (u64)at > source->size)
		return ARCHIVE_FATAL;
	source->at = (u64)at;
	return at;
}

/* Formats and filters that libarchive itself reads: those for which it would start a program are left out. */
static void choose_formats(struct archive *archive)
{
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_bzip2(archive);
	archive_read_support_filter_xz(archive);
	archive_read_support_filter_lzma(archive);
	archive_read_support_filter_lzip(archive);
	archive_read_support_filter_lz4(archive);
	archive_read_support_filter_zstd(archive);
	archive_read_support_filter_compress(archive);
	archive_read_support_format_tar(archive);
	archive_read_support_format_cpio(archive);
	archive_read_support_format_zip(archive);
	archive_read_support_format_7zip(archive);
	archive_read_support_format_iso9660(archive);
}

struct archive *archive_source_open(struct archive_source *source, struct err *err)
{
	struct archive *archive = archive_read_new();

	if (!archive) {
		err_set(err, "not enough memory");
		return NULL;
	}
	choose_formats(archive);
	source->at = 0;
	archive_read_set_read_callback(archive, read_some);
	archive_read_set_skip_callback(archive, skip);
	archive_read_set_seek_callback(archive, seek);
	archive_read_set_callback_data(archive, source);
	if (archive_read_open1(archive) != ARCHIVE_OK) {
		err_set(err, "%s", archive_error_string(archive));
	} else if (archive_filter_count(archive) - 1 > FILTERS_MOST) {
		err_set(err, "it is compressed more than %d times over", FILTERS_MOST);
	} else {
		return archive;
	}
	archive_read_free(archive);
	return NULL;
}

bool archive_source_packed(struct archive *archive)
{
	int format = archive_format(archive) & ARCHIVE_FORMAT_BASE_MASK;

	/* members of a zip archive are compressed each by itself: passing over one unpacks nothing */
	return archive_filter_count(archive) > 1 || format == ARCHIVE_FORMAT_7ZIP;
}
