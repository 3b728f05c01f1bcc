/* Conversions between clock rates: value * mul / div with a 128-bit product, without the compiler's library. */
#ifndef AVANT_DEV_SCALE_H
#define AVANT_DEV_SCALE_H

#include "util/types.h"

#define NS_PER_SECOND 1000000000ULL

/* (high:low) / div, rounded down; UINT64_MAX if that does not fit. */
static inline u64 divide_128(u64 high, u64 low, u64 div)
{
	u64 quotient, remainder;

	if (high >= div)
		return UINT64_MAX;
	__asm__("divq %4" : "=a"(quotient), "=d"(remainder) : "0"(low), "1"(high), "r"(div) : "cc");
	return quotient;
}

/* value * mul / div, rounded down; UINT64_MAX if that does not fit. */
static inline u64 scale(u64 value, u64 mul, u64 div)
{
	unsigned __int128 product = (unsigned __int128)value * mul;

	return divide_128((u64)(product >> 64), (u64)product, div);
}

/* The same rounded up: the smallest x with scale(x, div, mul) >= value. */
static inline u64 scale_up(u64 value, u64 mul, u64 div)
{
	unsigned __int128 product = (unsigned __int128)value * mul + (div - 1);

	return divide_128((u64)(product >> 64), (u64)product, div);
}

/* Sum that stays at UINT64_MAX instead of wrapping. */
static inline u64 add_saturating(u64 a, u64 b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

#endif
