/*
 * A function that two others jump to, each from a page of its own; it is rewritten between. CALLERS says which of the
 * two run: caches made from runs of one of them each give the function a number of their own.
 */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	mov r12d, 5
round:
	mov ebx, offset shared
	.macro through bit, caller
	test byte ptr [callers], \bit
	jz 79f
	mov eax, offset \caller
	call rax
	CHECK_EQ(rax, r12)
79:
	.endm
	.macro both
	mov [shared + 1], r12d
	.rept 3
	through 1, first
	through 2, second
	.endr
	.endm
	both
	add r12d, 1000
	both
	sub r12d, 1001
	jnz round
	ret

	.balign 4096
first:
	jmp shared
	.balign 4096
second:
	nop
	jmp shared
	.balign 4096
shared:
	mov eax, 0
	ret

	.data
callers:
	.byte CALLERS
