/*
 * Initramfs files (Documentation/driver-api/early-userspace/buffer-format.rst): cpio archives of the "newc" kind one
 * after the other, with zeros between them, each plain or compressed. libarchive unpacks; the archives are read here,
 * because it stops at the first one's end.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

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
	archive_visitor *visit;
	void *opaque;
	struct report *report;
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

static bool is_elf(const u8 *data, u64 size)
{
	return size >= sizeof(Elf64_Ehdr) && memcmp(data, ELFMAG, SELFMAG) == 0;
}

/* One archive from *at on, to behind its trailer. Where it is damaged it ends. Returns what the visitor does. */
static int read_cpio(struct reader *reader, const u8 *data, u64 size, u64 *at)
{
	reader->archives++;
	while (is_cpio(data + *at, size - *at)) {
		const u8 *header = data + *at;
		u64 mode, length, name_length, body;
		int result = 0;
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
		if (S_ISREG(mode) && (is_elf(data + body, length) || module_is_packed(name, data + body, length)))
			result = reader->visit(reader->opaque, name, data + body, length, reader->err);
		if (result)
			return result;
	}
	report_line(reader->report, "'%s': an archive is damaged or truncated at byte %llu; the rest is left out",
		    reader->name, (unsigned long long)*at);
	*at = size;
	return 0;
}

/* --- compression ---------------------------------------------------------------------------------------------------
 */

/*
 * The unpacked bytes, or NULL. What was unpacked before an error counts: the kernel takes it too. All parts together
 * are MAX_UNPACKED at most.
 */
static u8 *unpack_part(struct reader *reader, const u8 *data, u64 size, u64 *unpacked, const char **reason)
{
	u8 *bytes = unpack(data, size, MAX_UNPACKED - reader->unpacked, unpacked, reason);

	reader->unpacked += *unpacked;
	return bytes;
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
			result = read_cpio(reader, data, size, &at);
			if (result)
				return result;
			continue;
		}
		reason = "compressed too often";
		bytes = depth < MAX_DEPTH ? unpack_part(reader, data + at, size - at, &unpacked, &reason) : NULL;
		if (!bytes) {
			report_line(reader->report, "'%s': from byte %llu on not read: %s", reader->name,
				    (unsigned long long)at, reason);
			return 0;
		}
		/* libarchive does not say where the compressed part ended; it takes all parts of the same kind */
		result = read_all(reader, bytes, unpacked, depth + 1);
		free(bytes);
		return result;
	}
	return 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */

int discover_archive(const u8 *data, u64 size, const char *name, archive_visitor *visit, void *opaque,
		     struct report *report, struct err *err)
{
	struct report unread = {0};
	struct reader reader = {
		.visit = visit, .opaque = opaque, .report = report ? report : &unread, .name = name, .err = err};
	int result = read_all(&reader, data, size, 0);

	report_release(&unread);
	if (result)
		return result;
	if (!reader.archives)
		return err_set(err, "'%s' is not an initramfs: no cpio archive in it, plain or compressed", name);
	if (report)
		report_line(report, "'%s': %u archives, %u files", name, reader.archives, reader.files);
	return 0;
}
