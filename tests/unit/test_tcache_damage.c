/* Damaged caches: every bit of the fixed parts, bits of the chunks, every length. */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cache/sample.h"

static struct bytes plain, with_signature;

static struct bytes make(bool is_signed)
{
	char directory[] = "/tmp/test-tcache-damage-XXXXXX", path[64], error[512];
	static struct sample sample;
	struct bytes bytes;

	sample_fill(&sample);
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/x.tcache", directory);
	assert_int_equal(sample_write(path, &sample, is_signed, error, sizeof(error)), TCACHE_OK);
	bytes = bytes_read(path);
	unlink(path);
	rmdir(directory);
	return bytes;
}

static int set_up(void **state)
{
	(void)state;
	plain = make(false);
	with_signature = make(true);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(plain.data);
	free(with_signature.data);
	return 0;
}

static int memory_file(const struct bytes *bytes)
{
	int fd = memfd_create("damaged", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes->data, bytes->size), (ssize_t)bytes->size);
	return fd;
}

/* Opens; verifies everything too if asked to. A refusal must come with a message. */
static enum tcache_status read_cache(int fd, bool verify)
{
	char error[512] = "";
	struct tcache *cache;
	enum tcache_status status = tcache_open_fd(fd, "x.tcache", TCACHE_TRUST, &cache, error, sizeof(error));

	if (status) {
		assert_null(cache);
		assert_memory_equal(error, "'x.tcache': ", 12);
		assert_true(strlen(error) > 12);
		return status;
	}
	if (verify) {
		status = tcache_verify_all(cache);
		assert_int_equal(!status, !tcache_error(cache)[0]);
	}
	tcache_close(cache);
	return status;
}

static void flip(int fd, const struct bytes *bytes, size_t offset, unsigned bit)
{
	uint8_t value = bytes->data[offset] ^ (uint8_t)(1u << bit);

	assert_int_equal(pwrite(fd, &value, 1, (off_t)offset), 1);
}

static void restore(int fd, const struct bytes *bytes, size_t offset)
{
	assert_int_equal(pwrite(fd, bytes->data + offset, 1, (off_t)offset), 1);
}

/* No bit of the bytes from … to may change unnoticed by opening. */
static void flip_all(const struct bytes *bytes, size_t from, size_t to)
{
	int fd = memory_file(bytes);

	for (size_t offset = from; offset < to; offset++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			flip(fd, bytes, offset, bit);
			if (!read_cache(fd, false))
				fail_msg("bit %u of byte %zu is not checked", bit, offset);
		}
		restore(fd, bytes, offset);
	}
	/* and all is well again */
	assert_int_equal(read_cache(fd, true), TCACHE_OK);
	close(fd);
}

static void test_header_bits(void **state)
{
	(void)state;
	flip_all(&plain, 0, TCACHE_PAGE);
}

static void test_tail_bits(void **state)
{
	(void)state;
	flip_all(&plain, bytes_header(&plain)->tail, plain.size);
}

static void test_signed_bits(void **state)
{
	(void)state;
	flip_all(&with_signature, 0, TCACHE_HEADER_SIZE);
	flip_all(&with_signature, with_signature.size - sizeof(struct tcache_footer), with_signature.size);
}

/* Chunks, padding included: opening does not notice, verifying does. */
static void chunk_bits(const struct bytes *bytes)
{
	int fd = memory_file(bytes);

	for (size_t offset = TCACHE_PAGE; offset < bytes_header(bytes)->tail; offset += 7) {
		flip(fd, bytes, offset, (unsigned)offset % 8);
		assert_int_equal(read_cache(fd, false), TCACHE_OK);
		if (read_cache(fd, true) != TCACHE_ERR_DIGEST)
			fail_msg("byte %zu is not checked", offset);
		restore(fd, bytes, offset);
	}
	close(fd);
}

static void test_chunk_bits(void **state)
{
	(void)state;
	chunk_bits(&plain);
	chunk_bits(&with_signature);
}

static void test_lengths(void **state)
{
	int fd = memory_file(&plain);

	(void)state;
	for (size_t size = plain.size; size-- > 0;) {
		enum tcache_status status;

		/* all of the first and the last pages, and around each page boundary */
		if (size > 2 * TCACHE_PAGE && size < plain.size - TCACHE_PAGE && size % TCACHE_PAGE > 2 &&
		    size % TCACHE_PAGE < TCACHE_PAGE - 2)
			continue;
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
		status = read_cache(fd, false);
		if (size < 8 && size)
			assert_int_equal(status, TCACHE_ERR_MAGIC);
		else
			assert_int_equal(status, TCACHE_ERR_TRUNCATED);
	}
	close(fd);
	fd = memory_file(&plain);
	assert_int_equal(ftruncate(fd, (off_t)plain.size + 1), 0);
	assert_int_equal(read_cache(fd, false), TCACHE_ERR_TRUNCATED);
	assert_int_equal(ftruncate(fd, (off_t)plain.size + TCACHE_PAGE), 0);
	assert_int_equal(read_cache(fd, false), TCACHE_ERR_TRUNCATED);
	assert_int_equal(ftruncate(fd, (off_t)plain.size), 0);
	assert_int_equal(read_cache(fd, true), TCACHE_OK);
	close(fd);
}

/* Two good chunks of the same length that have changed places. */
static void test_swapped_chunks(void **state)
{
	struct bytes bytes = bytes_copy(&plain);
	uint8_t *a = bytes.data + bytes_toc(&bytes)[SAMPLE_verdicts].offset;
	uint8_t *b = bytes.data + bytes_toc(&bytes)[SAMPLE_profile].offset;
	uint8_t page[TCACHE_PAGE];
	int fd;

	(void)state;
	memcpy(page, a, sizeof(page));
	memcpy(a, b, sizeof(page));
	memcpy(b, page, sizeof(page));
	fd = memory_file(&bytes);
	assert_int_equal(read_cache(fd, false), TCACHE_OK);
	assert_int_equal(read_cache(fd, true), TCACHE_ERR_DIGEST);
	close(fd);
	free(bytes.data);
}

/* Random changes whose digests are right: anything may be said, but nothing may be read out of bounds. */
static void test_sealed_changes(void **state)
{
	uint64_t random = 1;
	unsigned refused = 0;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		struct bytes bytes = bytes_copy(&plain);
		int fd;

		for (unsigned i = 0; i < 1 + round % 4; i++) {
			size_t offset;

			random = random * 6364136223846793005 + 1442695040888963407;
			offset = (random >> 33) % (round % 2 ? SAMPLE_CHUNKS * 64 : bytes.size);
			if (round % 2)
				offset += bytes_header(&plain)->tail;
			bytes.data[offset] ^= (uint8_t)(1u << (random >> 20) % 8);
		}
		bytes_seal(&bytes);
		fd = memory_file(&bytes);
		refused += read_cache(fd, true) != TCACHE_OK;
		close(fd);
		free(bytes.data);
	}
	assert_true(refused > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_bits),    cmocka_unit_test(test_tail_bits),
		cmocka_unit_test(test_signed_bits),    cmocka_unit_test(test_chunk_bits),
		cmocka_unit_test(test_lengths),        cmocka_unit_test(test_swapped_chunks),
		cmocka_unit_test(test_sealed_changes),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
