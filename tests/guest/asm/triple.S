/* A triple fault ends the run with status 3: here by a double fault that cannot be delivered either. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	mov byte ptr [idt + VEC_DF * 16 + 5], 0x0e
	mov byte ptr [idt + VEC_GP * 16 + 5], 0x0e
	mov ecx, 0xffffffff
	rdmsr
	FAIL
