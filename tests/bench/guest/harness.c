/*
 * Timing: find an iteration count that makes a sample long enough, take samples, print the median. The first iteration
 * is reported apart (COLD): it contains the translation of the row's code where there is a translator.
 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REPETITIONS = 64 };
static const uint64_t max_iterations = 1ULL << 32;

uint64_t harness_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void job_sum(struct job *job, uint64_t value)
{
	if (!job->summed) {
		job->summed = true;
		job->sum = value;
	} else if (job->sum != value) {
		job_fail(job, "checksum differs between iterations");
	}
}

void job_fail(struct job *job, const char *what)
{
	if (job->error)
		return;
	job->error = what;
	job->error_number = errno;
}

void *bench_alloc(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

bool bench_sibling(const char *name, char *path, size_t size)
{
	char self[512];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;
	int written;

	if (length <= 0)
		return false;
	self[length] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return false;
	slash[1] = 0;
	written = snprintf(path, size, "%s%s", self, name);
	return written > 0 && (size_t)written < size;
}

static uint64_t time_run(const struct row *row, struct job *job, uint64_t iterations)
{
	uint64_t start;

	job->iterations = iterations;
	start = harness_now();
	row->run(job);
	return harness_now() - start;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static double in_unit(const struct row *row, uint64_t ns, uint64_t iterations)
{
	double value = (double)ns / (double)iterations / row->ops;

	if (!strcmp(row->unit, "us"))
		return value / 1e3;
	if (!strcmp(row->unit, "ms"))
		return value / 1e6;
	return value;
}

static double median(uint64_t *samples, unsigned count, const struct row *row, uint64_t iterations)
{
	unsigned middle = count / 2;

	qsort(samples, count, sizeof(*samples), compare_u64);
	if (count % 2)
		return in_unit(row, samples[middle], iterations);
	return (in_unit(row, samples[middle - 1], iterations) + in_unit(row, samples[middle], iterations)) / 2;
}

/* Grows the iteration count until a run lasts at least a third of a sample, then scales it to the sample's length. */
static uint64_t calibrate(const struct row *row, struct job *job, const struct effort *effort, uint64_t *cold_ns)
{
	uint64_t iterations = 1, ns = time_run(row, job, 1);

	*cold_ns = ns;
	if (ns < effort->sample_ns)
		ns = time_run(row, job, 1);
	while (!job->error && ns < effort->sample_ns / 3 && iterations < max_iterations) {
		uint64_t factor = ns ? effort->sample_ns / ns : 16;

		iterations *= factor < 2 ? 2 : factor > 16 ? 16 : factor;
		ns = time_run(row, job, iterations);
	}
	if (!job->error && ns) {
		double scaled = (double)iterations * ((double)effort->sample_ns / (double)ns);

		iterations = scaled < 1 ? 1 : (uint64_t)scaled;
	}
	return iterations;
}

static bool measure_samples(const struct row *row, struct job *job, const struct effort *effort)
{
	uint64_t samples[MAX_REPETITIONS], cold_ns, begin = harness_now();
	uint64_t iterations = calibrate(row, job, effort, &cold_ns);
	unsigned count = 0;

	do
		samples[count++] = time_run(row, job, iterations);
	while (!job->error && count < effort->repetitions && count < MAX_REPETITIONS &&
	       harness_now() - begin < effort->row_ns);
	if (job->error)
		return false;
	printf("ROW %s %s %.3f\n", row->name, row->unit, median(samples, count, row, iterations));
	printf("COLD %s %s %.3f\n", row->name, row->unit, in_unit(row, cold_ns, 1));
	if (job->summed)
		printf("SUM %s %016" PRIx64 "\n", row->name, job->sum);
	return true;
}

bool harness_measure(const struct row *row, const struct effort *effort)
{
	struct job job = {0};
	bool good;

	errno = 0;
	if (row->setup) {
		job.state = row->setup();
		if (!job.state) {
			printf("FAIL %s setup: %s\n", row->name, strerror(errno));
			return false;
		}
	}
	good = measure_samples(row, &job, effort);
	if (!good)
		printf("FAIL %s %s (errno: %s)\n", row->name, job.error, strerror(job.error_number));
	if (row->teardown)
		row->teardown(job.state);
	return good;
}
