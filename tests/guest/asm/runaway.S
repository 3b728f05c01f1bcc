/* Loops for ever with interrupts off: must end by --timeout with status 4. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	cli
	xor eax, eax
1:	inc rax
	jmp 1b
