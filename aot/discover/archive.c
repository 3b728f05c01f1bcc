/*
 * Initramfs files (Documentation/driver-api/early-userspace/buffer-format.rst): cpio archives of the "newc" kind one
 * after the other, with zeros between them, each plain or compressed. libarchive unpacks; the archives are read here,
 * because it stops at the first one's end.
 */
#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/file.h"
#include "internal.h"

#define HEADER       110u /* bytes: magic and 13 numbers of 8 hexadecimal digits */
#define FIELD(n)     (6u + 8u * (n))
#define MODE         FIELD(1)
#define FILE_SIZE    FIELD(6)
#define NAME_SIZE    FIELD(11)
#define MAX_NAME     4096u
#define MAX_UNPACKED (1ULL << 30)
#define MAX_DEPTH    3u /* compression within compression */
#define TRAILER      "TRAILER!!!"

struct reader {
	struct archive_programs *programs;
	const char *name;
	u32 archives, files;
	u64 unpacked; /* bytes so far */
	struct err *err;
};

/* --- cpio ------------------------------------------------------------------------------------------------------------
 */

static bool is_cpio(const u8 *data, u64 size)
{
	return size >= HEADER && (memcmp(data, "070701", 6) == 0 || memcmp(data, "070702", 6) == 0);
}

static bool number(const u8 *digits, u64 *value)
{
	*value = 0;
	for (unsigned i = 0; i < 8; i++) {
		unsigned c = digits[i] | 0x20u, digit = 16;

		if (c - '0' < 10)
			digit = c - '0';
		else if (c - 'a' < 6)
			digit = c - 'a' + 10;
		if (digit > 15)
			return false;
		*value = *value << 4 | digit;
	}
	return true;
}

static int add_program(struct reader *reader, const u8 *data, u64 size, const char *name)
{
	struct archive_programs *programs = reader->programs;
	struct archive_program *grown, *program;
	struct err reason = ERR_INIT;

	grown = realloc(programs->program, (programs->count + 1ULL) * sizeof(*grown));
	if (!grown)
		return err_set(reader->err, "not enough memory to read '%s'", reader->name);
	programs->program = grown;
	program = &grown[programs->count];
	if (discover_program(data, size, name, &program->image, &program->verdict, &reason)) {
		report_line(&programs->report, "not translated: %s", reason.text);
		return 0;
	}
	programs->count++;
	report_line(&programs->report, "'%s': %s, %u entries", name,
		    program->verdict == PROGRAM_FIXED ? "fixed addresses" : "position independent",
		    program->image.entry_count);
	return 0;
}

static bool is_elf(const u8 *data, u64 size)
{
	return size >= sizeof(Elf64_Ehdr) && memcmp(data, ELFMAG, SELFMAG) == 0;
}

/* One archive from *at on, to behind its trailer. Where it is damaged it ends. */
static int read_cpio(struct reader *reader, const u8 *data, u64 size, u64 *at)
{
	reader->archives++;
	while (is_cpio(data + *at, size - *at)) {
		const u8 *header = data + *at;
		u64 mode, length, name_length, body;
		const char *name = (const char *)header + HEADER;

		if (!number(header + MODE, &mode) || !number(header + FILE_SIZE, &length) ||
		    !number(header + NAME_SIZE, &name_length))
			break;
		if (!name_length || name_length > MAX_NAME || !within(*at + HEADER, name_length, size) ||
		    name[name_length - 1] != 0)
			break;
		body = align_up(*at + HEADER + name_length, 4);
		if (!within(body, length, size))
			break;
		*at = align_up(body + length, 4);
		if (*at > size)
			*at = size;
		if (strcmp(name, TRAILER) == 0)
			return 0;
		reader->files++;
		if (S_ISREG(mode) && is_elf(data + body, length) && add_program(reader, data + body, length, name))
			return -1;
	}
	report_line(&reader->programs->report,
		    "'%s': an archive is damaged or truncated at byte %llu; the rest is left out", reader->name,
		    (unsigned long long)*at);
	*at = size;
	return 0;
}

/* --- compression
 * ------------------------------------------------------------------------------------------------------ */

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

/* The unpacked bytes, or NULL. What was unpacked before an error counts: the kernel takes it too. */
static u8 *unpack(struct reader *reader, const u8 *data, u64 size, u64 *unpacked, const char **reason)
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
		if (capacity - *unpacked < 65536) {
			u8 *grown;

			capacity = capacity ? capacity * 2 : 1 << 20;
			grown = reader->unpacked + capacity > 2 * MAX_UNPACKED ? NULL : realloc(out, capacity);
			if (!grown) {
				*reason = "it unpacks to more than 1 GiB, or memory ran out";
				break;
			}
			out = grown;
		}
		n = archive_read_data(archive, out + *unpacked, capacity - *unpacked);
		if (n <= 0)
			break;
		*unpacked += (u64)n;
	}
	archive_read_free(archive);
	reader->unpacked += *unpacked;
	if (*unpacked)
		return out;
	free(out);
	return NULL;
}

static int read_all(struct reader *reader, const u8 *data, u64 size, unsigned depth)
{
	for (u64 at = 0; at < size;) {
		const char *reason;
		u64 unpacked;
		u8 *bytes;
		int result;

		if (data[at] == 0) {
			at++;
			continue;
		}
		if (is_cpio(data + at, size - at)) {
			if (read_cpio(reader, data, size, &at))
				return -1;
			continue;
		}
		reason = "compressed too often";
		bytes = depth < MAX_DEPTH ? unpack(reader, data + at, size - at, &unpacked, &reason) : NULL;
		if (!bytes) {
			report_line(&reader->programs->report, "'%s': from byte %llu on not read: %s", reader->name,
				    (unsigned long long)at, reason);
			return 0;
		}
		result = read_all(reader, bytes, unpacked, depth + 1);
		free(bytes);
		/* libarchive does not say where the compressed part ended; it takes all parts of the same kind */
		return result;
	}
	return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */

int discover_archive_data(const u8 *data, u64 size, const char *name, struct archive_programs *programs,
			  struct err *err)
{
	struct reader reader = {.programs = programs, .name = name, .err = err};

	*programs = (struct archive_programs){0};
	if (read_all(&reader, data, size, 0)) {
		archive_programs_release(programs);
		return -1;
	}
	if (!reader.archives) {
		archive_programs_release(programs);
		return err_set(err, "'%s' is not an initramfs: no cpio archive in it, plain or compressed", name);
	}
	report_line(&programs->report, "%u archives, %u files, %u programs", reader.archives, reader.files,
		    programs->count);
	return 0;
}

int discover_archive(const char *path, struct archive_programs *programs, struct err *err)
{
	u64 size;
	int fd = file_open(path, "initrd", &size, err), result = -1;
	u8 *data;

	*programs = (struct archive_programs){0};
	if (fd < 0)
		return -1;
	data = malloc(size + 1);
	if (!data)
		err_set(err, "not enough memory to read initrd '%s'", path);
	else if (file_read(fd, data, size, path, "initrd", err) == 0)
		result = discover_archive_data(data, size, path, programs, err);
	free(data);
	close(fd);
	return result;
}

void archive_programs_release(struct archive_programs *programs)
{
	for (u32 i = 0; i < programs->count; i++)
		image_release(&programs->program[i].image);
	free(programs->program);
	report_release(&programs->report);
	*programs = (struct archive_programs){0};
}
