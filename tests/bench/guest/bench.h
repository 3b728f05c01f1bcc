/*
 * The benchmark guest: one static program that runs as init of an initramfs and, unchanged, on the host. Every row is a
 * struct row; the files rows_*.c hold them by subject, harness.c times and prints them, main.c chooses and sets the
 * scene.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One row under measurement. A row's run function repeats its work `iterations` times. */
struct job {
	void *state; /* what the row's setup returned */
	uint64_t iterations;
	uint64_t sum; /* checksum of one iteration; every iteration must give the same */
	bool summed;
	const char *error; /* first thing that went wrong, or NULL */
	int error_number;  /* errno at that moment */
};

struct row {
	const char *name;
	const char *unit;     /* of the printed value: ns, us or ms */
	double ops;           /* operations in one iteration: the value printed is the time of one operation */
	void *(*setup)(void); /* may be NULL; returns the state, or NULL on failure */
	void (*run)(struct job *job);
	void (*teardown)(void *state); /* may be NULL */
};

struct group {
	const char *name;
	const struct row *rows; /* ends with a row without name */
};

extern const struct row rows_integer[], rows_codec[], rows_call[], rows_library[], rows_float[], rows_memory[],
	rows_system[], rows_process[];

/* How long and how often a row is measured. */
struct effort {
	unsigned repetitions; /* samples, of which the median is printed */
	uint64_t sample_ns;   /* aimed-at length of a sample */
	uint64_t row_ns;      /* no further sample begins once a row has taken so long */
};

/* Measures one row and prints its ROW, COLD and SUM lines, or a FAIL line. False if it failed. */
bool harness_measure(const struct row *row, const struct effort *effort);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t harness_now(void);

/* Reports the checksum of an iteration; remembers an error if it differs from that of an earlier one. */
void job_sum(struct job *job, uint64_t value);

/* Remembers the first error of a job, with errno. */
void job_fail(struct job *job, const char *what);

/* The path of a file of this name beside the running program. False if it cannot be found out. */
bool bench_sibling(const char *name, char *path, size_t size);

/* Memory that is known to be present: allocated and touched. NULL if there is none. */
void *bench_alloc(size_t size);

/* A small fixed pseudo random sequence (xorshift64*): the same data everywhere. */
static inline uint64_t random_next(uint64_t *seed)
{
	uint64_t x = *seed;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*seed = x;
	return x * 0x2545f4914f6cdd1dULL;
}

/* One step of a checksum over 64-bit values (FNV-1a's multiplier, plus a shift so that high bits count). */
static inline uint64_t sum_mix(uint64_t sum, uint64_t value)
{
	sum = (sum ^ value) * 0x100000001b3ULL;
	return sum ^ (sum >> 29);
}

/* Makes the compiler forget what it knows of memory, so that no iteration is hoisted out of a loop. */
#define barrier() __asm__ volatile("" ::: "memory")

/* Keeps a function a function: calls to it are what a row measures. */
#if defined(__has_attribute)
#if __has_attribute(noipa)
#define KEEP_CALL __attribute__((noinline, noipa))
#endif
#endif
#ifndef KEEP_CALL
#define KEEP_CALL __attribute__((noinline))
#endif

#endif
