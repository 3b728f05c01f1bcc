/* Calls for ever, on a stack of one page that is mapped again and again, interrupts off: status 4 by --timeout. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	mov ecx, 512
	mov rdx, offset page + P_ + W_
	xor ebx, ebx
1:	mov [window_pt + rbx * 8], rdx
	inc ebx
	cmp ebx, ecx
	jb 1b
	mov rsp, WINDOW + 0x200000
deeper:
	lea rax, [rsp - WINDOW - 64]
	shr rax, 63
	jz 2f
	mov rsp, WINDOW + 0x200000
2:	call deeper
	FAIL
