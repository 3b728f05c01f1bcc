#include "boot/payload.h"

#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum result { UNPACKED, DAMAGED, TOO_BIG, NO_MEMORY };

static const char *const result_text[] = {
	[DAMAGED] = "is damaged or truncated",
	[TOO_BIG] = "unpacks to more than the permitted size",
	[NO_MEMORY] = "needs too much memory to unpack",
};

struct input {
	const u8 *data;
	u64 size;
};

/* `capacity` bytes at data; the unpacker sets size. */
struct output {
	u8 *data;
	u64 capacity, size;
};

#define XZ_MEMORY_LIMIT  (256ULL << 20) /* the kernel's build uses a 32 MiB dictionary */
#define HUGE_PAGES_FROM  (1ULL << 20)   /* packed bytes; less would pay for zeroing 2 MiB in vain */
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8 << 20) /* unpacked size of every block but the last */

static u32 get_u32(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

static enum result unpack_gzip(struct input in, struct output *out)
{
	z_stream z = {.next_in = (u8 *)in.data,
		      .avail_in = (uInt)in.size,
		      .next_out = out->data,
		      .avail_out = (uInt)out->capacity};
	int status;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) /* + 16: gzip header and trailer */
		return NO_MEMORY;
	status = inflate(&z, Z_FINISH);
	out->size = z.total_out;
	inflateEnd(&z);
	if (status == Z_STREAM_END)
		return UNPACKED;
	if (status == Z_MEM_ERROR)
		return NO_MEMORY;
	return status == Z_BUF_ERROR && z.avail_out == 0 ? TOO_BIG : DAMAGED;
}

static enum result unpack_xz(struct input in, struct output *out)
{
	lzma_stream xz = LZMA_STREAM_INIT;
	lzma_ret status;

	if (lzma_stream_decoder(&xz, XZ_MEMORY_LIMIT, 0) != LZMA_OK)
		return NO_MEMORY;
	xz.next_in = in.data;
	xz.avail_in = in.size;
	xz.next_out = out->data;
	xz.avail_out = out->capacity;
	status = lzma_code(&xz, LZMA_FINISH);
	out->size = xz.total_out;
	lzma_end(&xz);
	if (status == LZMA_STREAM_END)
		return UNPACKED;
	if (status == LZMA_MEM_ERROR || status == LZMA_MEMLIMIT_ERROR)
		return NO_MEMORY;
	return xz.avail_out == 0 && status != LZMA_DATA_ERROR ? TOO_BIG : DAMAGED;
}

/* The legacy frame has no end mark; what is left when the blocks end is Linux's 4-byte size, or nothing. */
static enum result unpack_lz4(struct input in, struct output *out)
{
	const u8 *p = in.data + 4, *end = in.data + in.size;

	while (end - p > 4) {
		u32 packed = get_u32(p);
		u64 room = out->capacity - out->size;
		int unpacked;

		p += 4;
		if (packed == LZ4_LEGACY_MAGIC) /* a further frame */
			continue;
		if (packed > (u64)(end - p) || packed > LZ4_COMPRESSBOUND(LZ4_LEGACY_BLOCK))
			return DAMAGED;
		unpacked = LZ4_decompress_safe((const char *)p, (char *)out->data + out->size, (int)packed,
					       room < LZ4_LEGACY_BLOCK ? (int)room : LZ4_LEGACY_BLOCK);
		/* LZ4 does not tell "no room" from "damaged" */
		if (unpacked < 0)
			return room < LZ4_LEGACY_BLOCK ? TOO_BIG : DAMAGED;
		out->size += (u64)unpacked;
		p += packed;
	}
	return end == p || end - p == 4 ? UNPACKED : DAMAGED;
}

/* In one call: needs no window buffer besides the output, and takes every window size. */
static enum result unpack_zstd(struct input in, struct output *out)
{
	size_t frame = ZSTD_findFrameCompressedSize(in.data, in.size);
	size_t unpacked;

	if (ZSTD_isError(frame))
		return DAMAGED;
	unpacked = ZSTD_decompress(out->data, out->capacity, in.data, frame);
	if (!ZSTD_isError(unpacked)) {
		out->size = unpacked;
		return UNPACKED;
	}
	switch (ZSTD_getErrorCode(unpacked)) {
	case ZSTD_error_dstSize_tooSmall:
		return TOO_BIG;
	case ZSTD_error_memory_allocation:
		return NO_MEMORY;
	default:
		return DAMAGED;
	}
}

/* All that Linux' x86 build can produce (arch/x86/boot/compressed/Makefile). No unpacker: known, but not supported. */
static const struct format {
	const char *name;
	u8 magic_size, magic[6];
	enum result (*unpack)(struct input in, struct output *out);
} formats[] = {
	{"gzip", 2, {0x1f, 0x8b}, unpack_gzip},
	{"xz", 6, {0xfd, '7', 'z', 'X', 'Z', 0}, unpack_xz},
	{"lz4", 4, {0x02, 0x21, 0x4c, 0x18}, unpack_lz4},
	{"zstd", 4, {0x28, 0xb5, 0x2f, 0xfd}, unpack_zstd},
	{"bzip2", 3, {'B', 'Z', 'h'}, NULL},
	{"lzma", 3, {0x5d, 0, 0}, NULL},
	{"lzo", 4, {0x89, 'L', 'Z', 'O'}, NULL},
};

static const struct format *find_format(const u8 *data, u64 size)
{
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		if (size >= formats[i].magic_size && !memcmp(data, formats[i].magic, formats[i].magic_size))
			return &formats[i];
	return NULL;
}

const char *payload_format(const u8 *data, u64 size)
{
	const struct format *format = find_format(data, size);

	return format ? format->name : NULL;
}

int payload_unpack(const u8 *data, u64 size, u64 limit, struct payload *out, struct err *err)
{
	const struct format *format = find_format(data, size);
	struct output output = {.capacity = limit};
	enum result result;
	u64 used;

	*out = (struct payload){0};
	if (!format && size < 4)
		return err_set(err, "its payload is empty");
	if (!format)
		return err_set(err, "its payload has an unknown format (it starts with bytes %02x %02x %02x %02x)",
			       data[0], data[1], data[2], data[3]);
	if (!format->unpack)
		return err_set(err,
			       "its payload is compressed with %s, which is not supported (gzip, xz, lz4, zstd are)",
			       format->name);
	if (size > INT_MAX || limit > (u64)INT_MAX + 1)
		return err_set(err, "its payload is too large");

	/* Address space for the worst case costs nothing; only what gets written becomes memory. */
	output.data = mmap(NULL, limit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (output.data == MAP_FAILED)
		return err_set(err, "its payload cannot be unpacked: no address space for %llu MiB",
			       (unsigned long long)(limit >> 20));
	if (size >= HUGE_PAGES_FROM)
		madvise(output.data, limit, MADV_HUGEPAGE); /* a third less time for a real kernel */
	result = format->unpack((struct input){data, size}, &output);
	if (result == UNPACKED && output.size == 0)
		result = DAMAGED;
	if (result != UNPACKED) {
		munmap(output.data, limit);
		return err_set(err, "its %s payload %s", format->name, result_text[result]);
	}
	used = align_up(output.size, PAGE_SIZE);
	if (used < align_up(limit, PAGE_SIZE))
		munmap(output.data + used, align_up(limit, PAGE_SIZE) - used);
	*out = (struct payload){output.data, output.size};
	return 0;
}

void payload_release(struct payload *payload)
{
	if (payload->data)
		munmap(payload->data, align_up(payload->size, PAGE_SIZE));
	*payload = (struct payload){0};
}
