/* A loop that rewrites an immediate of its own in each of 100,000 rounds. Must end well within the time limit. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	mov ecx, 100000
	xor ebx, ebx
1:	mov [2f + 3], ecx
2:	add rbx, 0x7fffffff
	dec ecx
	jnz 1b
	movabs rax, 100000 * 100001 / 2
	CHECK_EQ(rbx, rax)
	ret
