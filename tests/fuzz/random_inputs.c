/*
 * Runs a fuzzer on random inputs, always the same ones for the same seed: random_inputs [COUNT [SEED [FILE]]]. With
 * FILE an input is what it holds, with a few changes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_BYTES 2048
#define FILE_MAX_BYTES (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

/* xorshift64* (Vigna 2014) */
static uint64_t random_number(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static size_t fill(uint8_t *data, uint64_t *state)
{
	const size_t size = random_number(state) % SIZE_MAX_BYTES;

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(random_number(state) >> 56);
	return size;
}

/* An offset near something: most of a file with pages is padding. */
static size_t place(const uint8_t *data, size_t size, uint64_t *state)
{
	size_t at = 0;

	for (unsigned tries = 0; tries < 200; tries++) {
		at = random_number(state) % size;
		if (data[at])
			break;
	}
	return at;
}

static void change(uint8_t *data, size_t size, uint64_t *state)
{
	static const uint64_t values[] = {0, 1, 0x7f, 0xff, 0x1000, 0x7fffffff, 0xffffffff, UINT64_MAX};
	const uint64_t kind = random_number(state) >> 32;
	const size_t at = place(data, size, state), from = place(data, size, state);
	const size_t width = (size_t)1 << (kind >> 8) % 4;

	if (width > size - at || width > size - from)
		return;
	switch (kind % 5) {
	case 0:
		data[at] ^= (uint8_t)(1u << (kind >> 16) % 8);
		break;
	case 1:
		data[at] = (uint8_t)(data[at] + (kind >> 16) % 9 - 4);
		break;
	case 2:
		data[at] = (uint8_t)(kind >> 16);
		break;
	case 3:
		memcpy(data + at, &values[(kind >> 16) % (sizeof(values) / sizeof(values[0]))], width);
		break;
	default:
		memmove(data + at, data + from, width);
	}
}

static size_t read_file(const char *path, uint8_t *data)
{
	FILE *file = fopen(path, "rb");
	const size_t size = file ? fread(data, 1, FILE_MAX_BYTES, file) : 0;

	if (!size || ferror(file) || !feof(file)) {
		fprintf(stderr, "%s: cannot be read, is empty, or is longer than 1 MiB\n", path);
		exit(1);
	}
	fclose(file);
	return size;
}

int main(int argc, char **argv)
{
	const unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
	const unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	static uint8_t data[FILE_MAX_BYTES], original[FILE_MAX_BYTES];
	size_t size = 0;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	if (argc > 3)
		size = read_file(argv[3], original);
	for (unsigned long n = 0; n < count; n++) {
		uint64_t state = (seed << 32 | n) * 0x9e3779b97f4a7c15ULL + 1;

		if (size) {
			memcpy(data, original, size);
			for (uint64_t changes = 1 + random_number(&state) % 4; changes; changes--)
				change(data, size, &state);
			LLVMFuzzerTestOneInput(data, size);
		} else {
			const size_t length = fill(data, &state);

			LLVMFuzzerTestOneInput(data, length);
		}
	}
	printf("%lu inputs\n", count);
	return 0;
}
