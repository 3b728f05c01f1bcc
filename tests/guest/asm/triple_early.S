/* The same, without any IDT, by a jump to garbage. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	sub rsp, 16
	mov word ptr [rsp], 0
	mov qword ptr [rsp + 2], 0
	lidt [rsp]
	movabs rax, 0xdeadbeef12345678
	jmp rax
	FAIL
