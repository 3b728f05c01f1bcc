/* Short names for fixed-width integers, and the few macros every file needs. */
#ifndef AVANT_UTIL_TYPES_H
#define AVANT_UTIL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n)        (1ULL << (n))
#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)

#define PAGE_SHIFT     12
#define PAGE_SIZE      4096ULL
#define PAGE_OFFSET(a) ((a) & (PAGE_SIZE - 1))
#define PAGE_BASE(a)   ((a) & ~(PAGE_SIZE - 1))

static inline u64 align_up(u64 value, u64 to)
{
	return (value + to - 1) & ~(to - 1);
}

#endif
