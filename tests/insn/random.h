/* Repeatable randomness. */
#ifndef AVANT_TEST_INSN_RANDOM_H
#define AVANT_TEST_INSN_RANDOM_H

#include "util/types.h"

struct random {
	u64 state;
};

/* splitmix64 */
static inline u64 random_u64(struct random *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static inline unsigned random_below(struct random *r, unsigned n)
{
	return (unsigned)((random_u64(r) >> 32) * n >> 32);
}

static inline bool random_one_in(struct random *r, unsigned n)
{
	return random_below(r, n) == 0;
}

/* Values that find errors: small ones, limits, floating-point numbers, anything. */
static inline u64 random_interesting(struct random *r)
{
	static const u64 limits[] = {0,
				     1,
				     ~0ULL,
				     0x7f,
				     0x80,
				     0xff,
				     0x7fff,
				     0x8000,
				     0x7fffffff,
				     0x80000000,
				     0xffffffff,
				     0x100000000,
				     0x7fffffffffffffff,
				     0x8000000000000000,
				     0x3ff0000000000000,
				     0x3f8000003f800000,
				     0x7ff0000000000000,
				     0x7f800000ff800000,
				     0x7ff8000000000001,
				     0x0000000100000001};
	u64 any = random_u64(r);

	switch (random_below(r, 6)) {
	case 0:
		return limits[random_below(r, ARRAY_SIZE(limits))];
	case 1:
		return any & 0xff;
	case 2: { /* two floats of moderate size */
		u64 one = 0x3f800000 + (any & 0x3ffffff), two = 0x3f000000 + (any >> 32 & 0x3ffffff);

		return one | two << 32 | (any & 0x8000000080000000);
	}
	case 3: /* a double of moderate size */
		return 0x3f80000000000000 + (any & 0x00ffffffffffffff);
	default:
		return any;
	}
}

#endif
