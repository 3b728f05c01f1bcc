/* Bytes in pieces of files: read and mapped they are the same. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/blob.h"

#define SIZE (64u << 10)

static u8 bytes[SIZE];
static int fd;

static int setup(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		bytes[i] = (u8)(i * 2654435761u >> 24);
	fd = memfd_create("bytes", MFD_CLOEXEC);
	return fd < 0 || write(fd, bytes, SIZE) != SIZE;
}

struct piece {
	u64 offset, length;
	bool hole;
};

/* Each way to get at the bytes gives what the pieces say. */
static void check(const struct piece *piece, size_t count)
{
	u8 *expected = calloc(1, 8 * SIZE), *got = malloc(8 * SIZE);
	struct err err = ERR_INIT;
	struct blob blob;
	const u8 *mapped;
	u64 size = 0;

	assert_non_null(expected);
	assert_non_null(got);
	assert_int_equal(blob_init(&blob, "pieces", &err), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(
			blob_add(&blob, piece[i].hole ? BLOB_HOLE : fd, piece[i].offset, piece[i].length, &err), 0);
		if (!piece[i].hole)
			memcpy(expected + size, bytes + piece[i].offset, piece[i].length);
		size += piece[i].length;
	}
	assert_true(blob.size == size);
	mapped = blob_map(&blob, &err);
	assert_non_null(mapped);
	assert_memory_equal(mapped, expected, size);
	munmap((void *)mapped, size);
	for (u64 at = 0; at < size; at += size / 7 + 1)
		for (u64 length = 0; length <= size - at; length += size / 5 + 1) {
			assert_int_equal(blob_read(&blob, at, got, length, &err), 0);
			assert_memory_equal(got, expected + at, length);
		}
	blob_release(&blob);
	free(expected);
	free(got);
}

static void pieces_are_put_together(void **state)
{
	static const struct piece whole[] = {{0, SIZE, false}}, pages[] = {{8192, 4096, false}, {0, 8192, false}},
				  rest[] = {{4096, 4096, false}, {8192, 100, false}},
				  odd[] = {{1, 4096, false}, {4096, 4097, false}},
				  holes[] = {{0, 4096, true},
					     {4096, 4096, false},
					     {0, 10, true},
					     {4096, 4096, false},
					     {0, 5000, true}},
				  short_middle[] = {{0, 100, false}, {4096, 8192, false}};

	(void)state;
	check(whole, ARRAY_SIZE(whole));
	check(pages, ARRAY_SIZE(pages));
	check(rest, ARRAY_SIZE(rest));
	check(odd, ARRAY_SIZE(odd));
	check(holes, ARRAY_SIZE(holes));
	check(short_middle, ARRAY_SIZE(short_middle));
}

static void blobs_are_joined_at_multiples(void **state)
{
	struct err err = ERR_INIT;
	struct blob all, part;
	u8 got[13];

	(void)state;
	assert_int_equal(blob_init(&all, "all", &err), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(blob_init(&part, "part", &err), 0);
		assert_int_equal(blob_add(&part, fd, 100, 5, &err), 0);
		assert_int_equal(blob_own(&part, fcntl(fd, F_DUPFD_CLOEXEC, 0), &err), 0);
		assert_int_equal(blob_append(&all, &part, 4, &err), 0);
		assert_null(part.piece);
	}
	assert_true(all.size == 13);
	assert_int_equal(all.fd_count, 2);
	assert_int_equal(blob_read(&all, 0, got, 13, &err), 0);
	assert_memory_equal(got, bytes + 100, 5);
	assert_memory_equal(got + 5, "\0\0\0", 3);
	assert_memory_equal(got + 8, bytes + 100, 5);
	blob_release(&all);
}

static void what_cannot_be(void **state)
{
	struct err err = ERR_INIT;
	struct blob blob;
	u8 got[8];

	(void)state;
	assert_int_equal(blob_init(&blob, "odd", &err), 0);
	assert_int_equal(blob_add(&blob, fd, UINT64_MAX, 2, &err), -1);
	assert_int_equal(blob_add(&blob, fd, 0, UINT64_MAX, &err), -1);
	assert_string_equal(err.text, "'odd' is too large");
	/* beyond the end of its file */
	assert_int_equal(blob_add(&blob, fd, SIZE - 4, 8, &err), 0);
	assert_int_equal(blob_read(&blob, 0, got, 8, &err), -1);
	assert_string_equal(err.text, "'odd' became shorter while it was read");
	blob_release(&blob);
	assert_int_equal(blob_open(&blob, "/nowhere", "kernel", &err), -1);
	assert_string_equal(err.text, "cannot open kernel '/nowhere': No such file or directory");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_put_together),
		cmocka_unit_test(blobs_are_joined_at_multiples),
		cmocka_unit_test(what_cannot_be),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
