/* System calls from code that runs while the guest's vector registers are live: libc promises nothing about those. */
#ifndef AVANT_TOOLS_CONSOLE_RAW_CALL_H
#define AVANT_TOOLS_CONSOLE_RAW_CALL_H

#include <asm/unistd.h>

/* The result, or a negative errno value. */
static inline long raw_call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

#endif
