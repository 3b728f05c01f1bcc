/* Memory: bandwidth of the C library's copies in and out of the caches, and latency of dependent loads. */
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

enum { SMALL = 32 << 10, LARGE = 16 << 20 };

static void *buffers_setup(void)
{
	uint8_t *buffers = bench_alloc(2 * LARGE);
	uint64_t seed = 13;

	for (int i = 0; buffers && i < 2 * LARGE; i += 4096)
		buffers[i] = (uint8_t)random_next(&seed);
	return buffers;
}

static void buffers_teardown(void *state)
{
	munmap(state, 2 * LARGE);
}

static void copy_bytes(struct job *job, size_t size)
{
	uint8_t *from = job->state, *to = from + LARGE;

	for (uint64_t n = 0; n < job->iterations; n++) {
		memcpy(to, from, size);
		barrier();
	}
	if (memcmp(to, from, size))
		job_fail(job, "copy differs");
}

static void set_bytes(struct job *job, size_t size)
{
	uint8_t *to = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		memset(to, (int)(n & 0xff), size);
		barrier();
	}
	if (to[0] != to[size - 1] || memcmp(to, to + 1, size - 1))
		job_fail(job, "bytes differ");
}

static void memcpy_small_run(struct job *job)
{
	copy_bytes(job, SMALL);
}

static void memcpy_large_run(struct job *job)
{
	copy_bytes(job, LARGE);
}

static void memset_small_run(struct job *job)
{
	set_bytes(job, SMALL);
}

static void memset_large_run(struct job *job)
{
	set_bytes(job, LARGE);
}

/* One cycle through all cache lines of a buffer in random order: caches, page tables and TLBs, real or emulated. */
enum { CHASE_LINE = 64, CHASE_LINES = (8 << 20) / CHASE_LINE, CHASE_STEPS = 16384 };

struct chase_line {
	struct chase_line *next;
	uint32_t index;
	uint8_t pad[CHASE_LINE - sizeof(void *) - sizeof(uint32_t)];
};

static void *chase_setup(void)
{
	struct chase_line *lines = bench_alloc(CHASE_LINES * sizeof(*lines));
	uint64_t seed = 29;

	if (!lines)
		return NULL;
	for (uint32_t i = 0; i < CHASE_LINES; i++)
		lines[i].index = i;
	/* Sattolo's shuffle gives a permutation that is a single cycle. */
	for (uint32_t i = CHASE_LINES - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(random_next(&seed) >> 32) % i, swap = lines[i].index;

		lines[i].index = lines[j].index;
		lines[j].index = swap;
	}
	for (uint32_t i = 0; i < CHASE_LINES; i++)
		lines[i].next = &lines[lines[i].index];
	return lines;
}

static void chase_teardown(void *state)
{
	munmap(state, CHASE_LINES * sizeof(struct chase_line));
}

static void chase_run(struct job *job)
{
	struct chase_line *lines = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		struct chase_line *at = lines;

		for (int i = 0; i < CHASE_STEPS; i++)
			at = at->next;
		job_sum(job, (uint64_t)(at - lines));
		barrier();
	}
}

const struct row rows_memory[] = {
	{"memcpy_32k", "ns", 1, buffers_setup, memcpy_small_run, buffers_teardown},
	{"memcpy_16m", "us", 1, buffers_setup, memcpy_large_run, buffers_teardown},
	{"memset_32k", "ns", 1, buffers_setup, memset_small_run, buffers_teardown},
	{"memset_16m", "us", 1, buffers_setup, memset_large_run, buffers_teardown},
	{"pointer_chase", "ns", CHASE_STEPS, chase_setup, chase_run, chase_teardown},
	{0},
};
