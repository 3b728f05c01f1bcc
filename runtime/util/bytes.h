/* Copying and clearing memory without vector registers: libc's versions would destroy the guest's. */
#ifndef AVANT_UTIL_BYTES_H
#define AVANT_UTIL_BYTES_H

#include "util/types.h"

/* What operands have, at once: a processor takes longer to begin with REP. */
static inline void bytes_copy(void *to, const void *from, u64 length)
{
	/* the compiler is not to object to cases that cannot come */
	__asm__("" : "+r"(to), "+r"(from));
	switch (length) {
	case 1:
		*(u8 *)to = *(const u8 *)from;
		break;
	case 2:
		__builtin_memcpy(to, from, 2);
		break;
	case 4:
		__builtin_memcpy(to, from, 4);
		break;
	case 8:
		__builtin_memcpy(to, from, 8);
		break;
	default:
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
		break;
	}
}

static inline void bytes_set(void *to, u8 value, u64 length)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(value) : "memory");
}

static inline void bytes_zero(void *to, u64 length)
{
	bytes_set(to, 0, length);
}

#endif
