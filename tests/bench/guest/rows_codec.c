/* Integer compute over byte streams: checksums, a hash, decompression. */
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

enum { CRC_TABLE_SIZE = 256 << 10, CRC_BITWISE_SIZE = 16 << 10, SHA_SIZE = 64 << 10 };

struct bytes_state {
	uint32_t table[256];
	uint8_t bytes[CRC_TABLE_SIZE];
};

static const uint32_t crc_polynomial = 0xedb88320u; /* reflected IEEE 802.3 */

static void *bytes_setup(void)
{
	struct bytes_state *state = bench_alloc(sizeof(*state));
	uint64_t seed = 3;

	if (!state)
		return NULL;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ crc_polynomial : crc >> 1;
		state->table[i] = crc;
	}
	for (int i = 0; i < CRC_TABLE_SIZE; i++)
		state->bytes[i] = (uint8_t)(random_next(&seed) >> 56);
	return state;
}

static void bytes_teardown(void *state)
{
	munmap(state, sizeof(struct bytes_state));
}

static void crc32_table_run(struct job *job)
{
	const struct bytes_state *state = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint32_t crc = ~0u;

		for (int i = 0; i < CRC_TABLE_SIZE; i++)
			crc = crc >> 8 ^ state->table[(crc ^ state->bytes[i]) & 0xff];
		job_sum(job, ~crc);
		barrier();
	}
}

static void crc32_bitwise_run(struct job *job)
{
	const struct bytes_state *state = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint32_t crc = ~0u;

		for (int i = 0; i < CRC_BITWISE_SIZE; i++) {
			crc ^= state->bytes[i];
			for (int bit = 0; bit < 8; bit++)
				crc = crc >> 1 ^ (crc_polynomial & -(crc & 1));
		}
		job_sum(job, ~crc);
		barrier();
	}
}

/* SHA-256, FIPS 180-4. */
static const uint32_t sha_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate_right(uint32_t x, int count)
{
	return x >> count | x << (32 - count);
}

static void sha_block(uint32_t *h, const uint8_t *block)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;

		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	for (int i = 0; i < 8; i++)
		v[i] = h[i];
	for (int i = 0; i < 64; i++) {
		uint32_t s1 = rotate_right(v[4], 6) ^ rotate_right(v[4], 11) ^ rotate_right(v[4], 25);
		uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha_constants[i] + w[i];
		uint32_t s0 = rotate_right(v[0], 2) ^ rotate_right(v[0], 13) ^ rotate_right(v[0], 22);
		uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		v[7] = v[6];
		v[6] = v[5];
		v[5] = v[4];
		v[4] = v[3] + t1;
		v[3] = v[2];
		v[2] = v[1];
		v[1] = v[0];
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

/* size must be a multiple of 64; returns the first 8 bytes of the digest. */
static uint64_t sha256(const uint8_t *bytes, size_t size)
{
	uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	uint8_t last[64] = {0x80};

	for (int i = 0; i < 8; i++)
		last[63 - i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
	for (size_t i = 0; i < size; i += 64)
		sha_block(h, bytes + i);
	sha_block(h, last);
	return (uint64_t)h[0] << 32 | h[1];
}

static void sha256_run(struct job *job)
{
	const struct bytes_state *state = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		job_sum(job, sha256(state->bytes, SHA_SIZE));
		barrier();
	}
}

/*
 * A byte-oriented Lempel-Ziv format: a token below 0x80 is followed by that many literals; otherwise its low seven bits
 * plus LZ_MIN_MATCH are the length of a match, and two bytes (little endian) its distance.
 */
enum { LZ_SIZE = 256 << 10, LZ_MIN_MATCH = 4, LZ_MAX_MATCH = 127 + LZ_MIN_MATCH, LZ_HASH = 1 << 12, LZ_WINDOW = 65535 };

struct lz_state {
	uint8_t text[LZ_SIZE], packed[2 * LZ_SIZE], output[LZ_SIZE];
	uint32_t heads[LZ_HASH];
	size_t packed_size;
};

static void lz_fill_text(uint8_t *text)
{
	static const char *const words[] = {"page ",  "fault ",   "the ", "translator ", "of ",   "a ",
					    "guest ", "kernel\n", "and ", "cache ",      "unit ", "return ",
					    "to ",    "in ",      "is ",  "0x"};
	uint64_t seed = 17;
	size_t at = 0;

	while (at < LZ_SIZE) {
		uint64_t r = random_next(&seed);
		const char *word = words[r >> 60];

		for (; *word && at < LZ_SIZE; word++)
			text[at++] = (uint8_t)*word;
		if ((r >> 40 & 7) == 0 && at < LZ_SIZE)
			text[at++] = (uint8_t)(r >> 32 & 0x7f);
	}
}

static size_t lz_put_literals(uint8_t *to, const uint8_t *from, size_t count)
{
	size_t out = 0;

	while (count) {
		size_t run = count < 127 ? count : 127;

		to[out++] = (uint8_t)run;
		memcpy(to + out, from, run);
		out += run;
		from += run;
		count -= run;
	}
	return out;
}

/* Greedy, one candidate per hash: enough to make something worth unpacking. */
static size_t lz_pack(struct lz_state *lz)
{
	size_t at = 0, out = 0, literals = 0;

	while (at + LZ_MIN_MATCH <= LZ_SIZE) {
		const uint8_t *p = lz->text + at;
		uint32_t four = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		uint32_t *head = &lz->heads[four * 2654435761u >> 20];
		size_t candidate = *head, length = 0;

		*head = (uint32_t)at + 1; /* 0: none */
		if (candidate && at - (candidate - 1) <= LZ_WINDOW)
			while (at + length < LZ_SIZE && length < LZ_MAX_MATCH &&
			       lz->text[candidate - 1 + length] == p[length])
				length++;
		if (length < LZ_MIN_MATCH) {
			at++;
			continue;
		}
		out += lz_put_literals(lz->packed + out, lz->text + literals, at - literals);
		lz->packed[out++] = (uint8_t)(0x80 | (length - LZ_MIN_MATCH));
		lz->packed[out++] = (uint8_t)(at - (candidate - 1));
		lz->packed[out++] = (uint8_t)((at - (candidate - 1)) >> 8);
		at += length;
		literals = at;
	}
	return out + lz_put_literals(lz->packed + out, lz->text + literals, LZ_SIZE - literals);
}

static size_t lz_unpack(uint8_t *to, const uint8_t *from, size_t from_size)
{
	const uint8_t *end = from + from_size;
	uint8_t *out = to;

	while (from < end) {
		uint32_t token = *from++;

		if (token < 0x80) {
			while (token--)
				*out++ = *from++;
		} else {
			const uint8_t *match = out - (from[0] | from[1] << 8);

			from += 2;
			for (token = (token & 0x7f) + LZ_MIN_MATCH; token; token--) {
				*out++ = *match++;
				barrier(); /* byte by byte, as decompressors do for near matches */
			}
		}
	}
	return (size_t)(out - to);
}

static void *lz_setup(void)
{
	struct lz_state *lz = bench_alloc(sizeof(*lz));

	if (lz) {
		lz_fill_text(lz->text);
		lz->packed_size = lz_pack(lz);
	}
	return lz;
}

static void lz_teardown(void *state)
{
	munmap(state, sizeof(struct lz_state));
}

static void lz_run(struct job *job)
{
	struct lz_state *lz = job->state;
	uint64_t sum = lz->packed_size;

	for (uint64_t n = 0; n < job->iterations; n++) {
		if (lz_unpack(lz->output, lz->packed, lz->packed_size) != LZ_SIZE)
			job_fail(job, "unpacked size is wrong");
		barrier();
	}
	if (memcmp(lz->output, lz->text, LZ_SIZE))
		job_fail(job, "unpacked text differs");
	for (int i = 0; i < LZ_SIZE; i += 8)
		sum = sum_mix(sum, (uint64_t)lz->output[i] << 8 | lz->output[i + 7]);
	job_sum(job, sum);
}

const struct row rows_codec[] = {
	{"crc32_table", "us", 1, bytes_setup, crc32_table_run, bytes_teardown},
	{"crc32_bitwise", "us", 1, bytes_setup, crc32_bitwise_run, bytes_teardown},
	{"sha256", "us", 1, bytes_setup, sha256_run, bytes_teardown},
	{"lz_decompress", "us", 1, lz_setup, lz_run, lz_teardown},
	{0},
};
