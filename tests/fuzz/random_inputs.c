/* Runs a fuzzer on random inputs, always the same ones for the same seed: random_inputs [COUNT [SEED]]. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE_MAX_BYTES 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* xorshift64* (Vigna 2014) */
static uint64_t random_number(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

int main(int argc, char **argv)
{
	const unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
	const unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	static uint8_t data[SIZE_MAX_BYTES];

	for (unsigned long n = 0; n < count; n++) {
		uint64_t state = (seed << 32 | n) * 0x9e3779b97f4a7c15ULL + 1;
		const size_t size = random_number(&state) % sizeof(data);

		for (size_t i = 0; i < size; i++)
			data[i] = (uint8_t)(random_number(&state) >> 56);
		LLVMFuzzerTestOneInput(data, size);
	}
	printf("%lu inputs\n", count);
	return 0;
}
