/* The C library at work: formatting, string search (which it does with vector registers), allocation. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void snprintf_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t seed = 5, sum = 0;

		for (int i = 0; i < 500; i++) {
			uint64_t r = random_next(&seed);
			char text[160];
			int length = snprintf(text, sizeof(text), "%d %08x %-12s|%lu %c %.3f", (int)(r >> 33),
					      (unsigned)r, "name", (unsigned long)(r >> 17), (char)('a' + r % 26),
					      (double)(r >> 44) / 64);

			for (int k = 0; k < length; k++)
				sum = sum_mix(sum, (uint8_t)text[k]);
		}
		job_sum(job, sum);
	}
}

enum { TEXT_SIZE = 64 << 10 };

static void *strings_setup(void)
{
	char *text = bench_alloc(TEXT_SIZE);
	uint64_t seed = 77;

	for (int i = 0; text && i < TEXT_SIZE - 1; i++) {
		uint64_t r = random_next(&seed) >> 56;

		text[i] = r < 6 ? '\n' : r < 50 ? ' ' : (char)('a' + r % 20);
	}
	return text;
}

static void strings_teardown(void *state)
{
	munmap(state, TEXT_SIZE);
}

static void strings_run(struct job *job)
{
	const char *text = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t sum = strlen(text);
		const char *line = text, *previous = text;

		while (*line) {
			const char *end = strchr(line, '\n');
			size_t length = end ? (size_t)(end - line) : strlen(line);
			const char *blank = memchr(line, ' ', length);

			sum = sum_mix(sum, length);
			sum = sum_mix(sum, blank ? (uint64_t)(blank - line) : 0);
			sum = sum_mix(sum, strcmp(line, previous) > 0);
			sum = sum_mix(sum, strcspn(line, "xyz\n"));
			previous = line;
			line += length + (end != NULL);
		}
		job_sum(job, sum);
		barrier();
	}
}

enum { SLOTS = 512 };

static void malloc_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t seed = 31, sum = 0;
		uint64_t *slots[SLOTS] = {0};

		for (int i = 0; i < 10000; i++) {
			uint64_t r = random_next(&seed) >> 32;
			size_t size = 16 + r % 700;
			uint64_t **slot = &slots[(r >> 16) % SLOTS];

			if (*slot)
				sum = sum_mix(sum, **slot);
			free(*slot);
			*slot = malloc(size);
			if (!*slot) {
				job_fail(job, "malloc");
				break;
			}
			**slot = r;
		}
		for (int i = 0; i < SLOTS; i++)
			free(slots[i]);
		job_sum(job, sum);
	}
}

const struct row rows_library[] = {
	{"snprintf", "us", 1, NULL, snprintf_run, NULL},
	{"strings", "us", 1, strings_setup, strings_run, strings_teardown},
	{"malloc", "us", 1, NULL, malloc_run, NULL},
	{0},
};
