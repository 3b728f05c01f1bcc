/* Floating compute in doubles. Only operations that IEEE 754 fixes to the bit, so that checksums can be compared. */
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

enum { MATRIX = 96 };

struct matrices {
	double a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX];
};

static uint64_t bits_of(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static void *matrix_setup(void)
{
	struct matrices *m = bench_alloc(sizeof(*m));
	uint64_t seed = 11;

	for (int i = 0; m && i < MATRIX * MATRIX; i++) {
		m->a[i / MATRIX][i % MATRIX] = (double)(random_next(&seed) >> 40) / 1024;
		m->b[i / MATRIX][i % MATRIX] = (double)(random_next(&seed) >> 40) / 4096 - 100;
	}
	return m;
}

static void matrix_teardown(void *state)
{
	munmap(state, sizeof(struct matrices));
}

static void matrix_run(struct job *job)
{
	struct matrices *m = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t sum = 0;

		for (int i = 0; i < MATRIX; i++) {
			for (int j = 0; j < MATRIX; j++) {
				double cell = 0;

				for (int k = 0; k < MATRIX; k++)
					cell += m->a[i][k] * m->b[k][j];
				m->c[i][j] = cell;
			}
		}
		for (int i = 0; i < MATRIX; i++)
			sum = sum_mix(sum, bits_of(m->c[i][(i * 7) % MATRIX]));
		job_sum(job, sum);
		barrier();
	}
}

enum { BODIES = 5 };

struct body {
	double position[3], velocity[3], mass;
};

/* The square root instruction is exact to the last bit; a library call would bring errno and other roundings in. */
static inline double square_root(double x)
{
	__asm__("sqrtsd %0, %0" : "+x"(x));
	return x;
}

static void bodies_step(struct body *bodies, double dt)
{
	for (int i = 0; i < BODIES; i++) {
		for (int j = i + 1; j < BODIES; j++) {
			double d[3], square = 0.01, pull;

			for (int k = 0; k < 3; k++) {
				d[k] = bodies[i].position[k] - bodies[j].position[k];
				square += d[k] * d[k];
			}
			pull = dt / (square * square_root(square));
			for (int k = 0; k < 3; k++) {
				bodies[i].velocity[k] -= d[k] * bodies[j].mass * pull;
				bodies[j].velocity[k] += d[k] * bodies[i].mass * pull;
			}
		}
	}
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			bodies[i].position[k] += dt * bodies[i].velocity[k];
}

static void nbody_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		struct body bodies[BODIES];
		uint64_t sum = 0;

		for (int i = 0; i < BODIES; i++)
			bodies[i] =
				(struct body){{i * 2.0, 3.0 - i * i, i * 0.5 - 1}, {0.1 * i, 0.2, -0.1 * i}, 1.0 + i};
		for (int step = 0; step < 5000; step++)
			bodies_step(bodies, 0.001);
		for (int i = 0; i < BODIES; i++)
			for (int k = 0; k < 3; k++)
				sum = sum_mix(sum, bits_of(bodies[i].position[k]));
		job_sum(job, sum);
	}
}

static void mandelbrot_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t sum = 0;

		for (int y = 0; y < 64; y++) {
			for (int x = 0; x < 96; x++) {
				double cr = x / 32.0 - 2.0, ci = y / 32.0 - 1.0, r = 0, i = 0;
				uint64_t count = 0;

				for (; count < 100 && r * r + i * i < 4; count++) {
					double next = r * r - i * i + cr;

					i = 2 * r * i + ci;
					r = next;
				}
				sum = sum_mix(sum, count);
			}
		}
		job_sum(job, sum);
		barrier();
	}
}

const struct row rows_float[] = {
	{"matrix_double", "us", 1, matrix_setup, matrix_run, matrix_teardown},
	{"nbody", "us", 1, NULL, nbody_run, NULL},
	{"mandelbrot", "us", 1, NULL, mandelbrot_run, NULL},
	{0},
};
