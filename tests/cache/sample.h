/*
 * A small cache for tests: two images, three units, every chunk type. And means to damage it: edits of named places,
 * and seal(), which makes all digests right again after them, as somebody would who wants to be believed.
 */
#ifndef TESTS_CACHE_SAMPLE_H
#define TESTS_CACHE_SAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../cache-format/internal.h"

#define SAMPLE_KERNEL_SIZE 5000u

struct sample {
	struct tcache_image images[2];
	struct tcache_unit units[3];
	uint8_t code[96];
	struct tcache_pc pcs[5];
	struct tcache_relo relos[2];
	struct tcache_slot slots[3];
	struct tcache_verdict verdicts[2];
	struct tcache_profile profile[2];
	char log[40];
	uint8_t kernel[SAMPLE_KERNEL_SIZE];
	char strings[48];
};

static inline struct tcache_fingerprint sample_fingerprint(void)
{
	struct tcache_fingerprint f = {.translator = "sample 1", .guest_cpu = "sample-v3"};

	f.host_features[0] = 1ULL << TCACHE_HOST_BMI2 | 1ULL << TCACHE_HOST_AVX2;
	for (unsigned i = 0; i < sizeof(f.options); i++)
		f.options[i] = (uint8_t)i;
	return f;
}

/* The seed 0, 1, 2 …: a key for tests and nothing else. */
static inline void sample_key(uint8_t public_key[32], uint8_t secret_key[TCACHE_SECRET_KEY_SIZE])
{
	static const uint8_t public_bytes[32] = {
		0x03, 0xa1, 0x07, 0xbf, 0xf3, 0xce, 0x10, 0xbe, 0x1d, 0x70, 0xdd, 0x18, 0xe7, 0x4b, 0xc0, 0x99,
		0x67, 0xe4, 0xd6, 0x30, 0x9b, 0xa5, 0x0d, 0x5f, 0x1d, 0xdc, 0x86, 0x64, 0x12, 0x55, 0x31, 0xb8,
	};

	/* libsodium's form: seed, then public key */
	for (unsigned i = 0; i < 32; i++)
		secret_key[i] = (uint8_t)i;
	memcpy(secret_key + 32, public_bytes, 32);
	memcpy(public_key, public_bytes, 32);
}

static inline void sample_units(struct sample *s)
{
	/* push rbp; mov rbp,rsp; call +…; pop rbp; ret: the call's displacement is relocated */
	static const uint8_t guest0[] = {0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x5d, 0xc3};
	static const uint8_t guest1[] = {0x31, 0xc0, 0xc3};
	static const uint8_t guest2[] = {0x48, 0xff, 0xc0, 0x75, 0xfb, 0xc3};
	struct tcache_unit *u = s->units;

	u[0] = (struct tcache_unit){.image_address = 0xffffffff81000010,
				    .mode = 0x100,
				    .flags = TCACHE_UNIT_COPIED,
				    .guest_length = sizeof(guest0),
				    .page_offset = 0x010,
				    .first_length = 5,
				    .instruction_count = 5,
				    .image = 1,
				    .code_offset = 0,
				    .code_length = 40,
				    .body_offset = 8,
				    .pc_first = 0,
				    .pc_count = 3,
				    .relo_first = 0,
				    .relo_count = 1,
				    .slot_first = 0,
				    .slot_count = 2,
				    .name = 10};
	u[1] = (struct tcache_unit){.image_address = 0x401010,
				    .mode = 0x103,
				    .flags = TCACHE_UNIT_COPIED | TCACHE_UNIT_COLD,
				    .guest_length = sizeof(guest1),
				    .page_offset = 0x010,
				    .first_length = 3,
				    .instruction_count = 2,
				    .image = 2,
				    .code_offset = 40,
				    .code_length = 16,
				    .pc_first = 3,
				    .pc_count = 1};
	u[2] = (struct tcache_unit){.image_address = 0x401ff0,
				    .mode = 0x103,
				    .flags = TCACHE_UNIT_LIFTED,
				    .guest_length = sizeof(guest2),
				    .page_offset = 0xff0,
				    .first_length = 6,
				    .instruction_count = 3,
				    .image = 2,
				    .code_offset = 56,
				    .code_length = 40,
				    .pc_first = 4,
				    .pc_count = 1,
				    .relo_first = 1,
				    .slot_first = 2,
				    .slot_count = 1,
				    .name = 20};
	memcpy(u[0].first, guest0, u[0].first_length);
	memcpy(u[1].first, guest1, u[1].first_length);
	memcpy(u[2].first, guest2, u[2].first_length);
	tcache_hash(guest0, sizeof(guest0), u[0].hash);
	tcache_hash(guest1, sizeof(guest1), u[1].hash);
	tcache_hash(guest2, sizeof(guest2), u[2].hash);
	qsort(u, 3, sizeof(*u), tcache_unit_compare);
}

static inline void sample_fill(struct sample *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->strings, "\0kernel-1\0start\0    loop\0", 25);
	memcpy(s->log, "2 images, 3 units, nothing left out\n", 36);
	memcpy(s->kernel,
	       "\x7f"
	       "ELF",
	       4);
	s->kernel[SAMPLE_KERNEL_SIZE - 1] = 0xee;
	s->images[0] = (struct tcache_image){
		.size = 1234, .data_size = SAMPLE_KERNEL_SIZE, .name = 1, .kind = TCACHE_IMAGE_KERNEL, .data = 10};
	s->images[1] = (struct tcache_image){.size = 99, .name = 20, .kind = TCACHE_IMAGE_PROGRAM};
	tcache_digest("kernel", 6, s->images[0].digest);
	tcache_digest("program", 7, s->images[1].digest);
	sample_units(s);
	for (unsigned i = 0; i < sizeof(s->code); i++)
		s->code[i] = i % 8 == 7 ? 0xc3 : 0x90;
	s->pcs[0] = (struct tcache_pc){.code = 0, .guest = 0, .left = 5};
	s->pcs[1] = (struct tcache_pc){.code = 12, .guest = 1, .home = 1u << 10, .left = 4};
	s->pcs[2] = (struct tcache_pc){.code = 30, .guest = 4, .left = 3};
	s->pcs[3] = (struct tcache_pc){.code = 0, .guest = 0, .left = 2};
	s->pcs[4] = (struct tcache_pc){.code = 9, .guest = 3, .left = 2};
	s->relos[0] =
		(struct tcache_relo){.value = -5, .name = 10, .offset = 5, .size = 4, .kind = TCACHE_RELO_RELATIVE};
	s->relos[1] = (struct tcache_relo){.offset = 1, .size = 8, .kind = TCACHE_RELO_ABSOLUTE};
	s->slots[0] = (struct tcache_slot){.kind = TCACHE_SLOT_HELPER, .target = 3};
	s->slots[1] = (struct tcache_slot){.kind = TCACHE_SLOT_LINK, .target = 2};
	s->slots[2] = (struct tcache_slot){.kind = TCACHE_SLOT_EXIT, .value = 6};
	s->verdicts[0] = (struct tcache_verdict){.hash = {1, 2}, .image = 0, .page = 7, .flags = TCACHE_VERDICT_PLAIN};
	s->verdicts[1] = (struct tcache_verdict){.hash = {3, 4}, .image = 1, .page = 1};
	s->profile[0] = (struct tcache_profile){.hash = {8, 1}, .count = 1000000, .mode = 0x103, .page_offset = 0xff0};
	s->profile[1] = (struct tcache_profile){.hash = {7, 2}, .count = 5, .mode = 0x100, .page_offset = 0x010};
}

/* Number of the chunk in a sample file: the order of TCACHE_CHUNKS. */
enum sample_chunk {
#define X(name, fourcc, record, single, flags, schema, text) SAMPLE_##name,
	TCACHE_CHUNKS(X)
#undef X
		SAMPLE_CHUNKS
};

/* Appends all chunks. */
static inline void sample_chunks(struct tcache_writer *w, const struct sample *s)
{
#define X(name, fourcc, record, single, flags, schema, text) [SAMPLE_##name] = {.type = fourcc},
	struct {
		uint32_t type;
		const void *data;
		size_t size;
	} c[] = {TCACHE_CHUNKS(X)};
#undef X
#define SAMPLE_DATA(name, field) c[SAMPLE_##name].data = s->field, c[SAMPLE_##name].size = sizeof(s->field)
	SAMPLE_DATA(images, images);
	SAMPLE_DATA(units, units);
	SAMPLE_DATA(code, code);
	SAMPLE_DATA(pcs, pcs);
	SAMPLE_DATA(relos, relos);
	SAMPLE_DATA(slots, slots);
	SAMPLE_DATA(verdicts, verdicts);
	SAMPLE_DATA(profile, profile);
	SAMPLE_DATA(kernel, kernel);
	SAMPLE_DATA(strings, strings);
#undef SAMPLE_DATA
	c[SAMPLE_log].data = s->log;
	c[SAMPLE_log].size = strlen(s->log);
	for (unsigned i = 0; i < SAMPLE_CHUNKS; i++)
		tcache_writer_chunk(w, c[i].type, c[i].data, c[i].size);
}

/* Writes a whole sample file; is_signed: with the test key. Returns the writer's status. */
static inline enum tcache_status sample_write(const char *path, const struct sample *s, bool is_signed, char *error,
					      size_t size)
{
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	uint8_t public_key[32], secret_key[TCACHE_SECRET_KEY_SIZE];
	struct tcache_writer *w;
	enum tcache_status status;

	sample_key(public_key, secret_key);
	options.secret_key = is_signed ? secret_key : NULL;
	status = tcache_writer_create(path, &options, &w, error, size);
	if (status)
		return status;
	sample_chunks(w, s);
	return tcache_writer_finish(w, error, size);
}

/* ---- a file in memory ---- */

struct bytes {
	uint8_t *data;
	size_t size;
};

static inline struct bytes bytes_new(size_t size)
{
	struct bytes b = {calloc(1, size + 1), size};

	if (!b.data)
		abort();
	return b;
}

static inline struct bytes bytes_copy(const struct bytes *from)
{
	struct bytes b = bytes_new(from->size);

	memcpy(b.data, from->data, from->size);
	return b;
}

/* Aborts if it cannot be read. */
static inline struct bytes bytes_read(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct bytes b;
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0) {
		perror(path);
		abort();
	}
	b = bytes_new((size_t)size);
	rewind(file);
	if (fread(b.data, 1, b.size, file) != b.size)
		abort();
	fclose(file);
	return b;
}

static inline struct tcache_header *bytes_header(const struct bytes *b)
{
	return (struct tcache_header *)b->data;
}

static inline struct tcache_toc_entry *bytes_toc(const struct bytes *b)
{
	return (struct tcache_toc_entry *)(b->data + bytes_header(b)->tail);
}

static inline struct tcache_footer *bytes_footer(const struct bytes *b)
{
	return (struct tcache_footer *)(b->data + b->size) - 1;
}

/* Makes the digests right for what the bytes are now, wherever the tables make any sense. */
static inline void bytes_seal(const struct bytes *b)
{
	struct tcache_header *h = bytes_header(b);
	uint64_t tables;

	if (b->size < TCACHE_PAGE || h->tail > b->size || h->tail % 8 ||
	    b->size - h->tail < sizeof(struct tcache_footer))
		return;
	tables = (uint64_t)h->chunk_count * sizeof(struct tcache_toc_entry) +
		 (uint64_t)h->group_count * sizeof(struct tcache_group);
	if (tables <= b->size - h->tail - sizeof(struct tcache_footer)) {
		struct tcache_toc_entry *toc = bytes_toc(b);
		struct tcache_group *groups = (struct tcache_group *)(toc + h->chunk_count);

		for (uint32_t i = 0; i < h->chunk_count; i++)
			for (uint64_t n = 0; n < toc[i].group_count && toc[i].first_group + n < h->group_count; n++) {
				uint64_t padded = pages_up(toc[i].length), start = n * TCACHE_GROUP;
				uint64_t size = padded - start < TCACHE_GROUP ? padded - start : TCACHE_GROUP;

				if (start >= padded || toc[i].offset > b->size || start > b->size - toc[i].offset ||
				    size > b->size - toc[i].offset - start)
					break;
				tcache_group_digest(h->group_digest, b->data + toc[i].offset + start, size,
						    groups[toc[i].first_group + n].digest);
			}
	}
	tcache_root_digest(b->data, b->data + h->tail, b->size - h->tail, bytes_footer(b)->digest);
}

#endif
