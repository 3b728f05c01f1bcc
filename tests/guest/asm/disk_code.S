/*
 * Code that comes from a disk: what a virtio block device reads into a page is what is executed there next, also if the
 * page has been executed before and if it is the one that asks. Nor may a kick change vector registers.
 */
#include "guest.inc"
#include "virtio.inc"

#define ROUNDS 50

	.text
	.globl test_main
test_main:
	call find_device
	call start_device
	call other_page
	call own_page
	ret

/* --- code in another page ------------------------------------------------------------------------------------------ */

/* Sectors 0 and 1 hold functions that return different numbers; they are read over each other. */
other_page:
	mov edi, BLK_OUT
	xor esi, esi
	mov rdx, offset first_code
	call transfer
	mov edi, BLK_OUT
	mov esi, 1
	mov rdx, offset second_code
	call transfer
	mov r12d, ROUNDS
1:	mov edi, BLK_IN
	mov esi, r12d
	and esi, 1
	mov rdx, offset code_page + 0x100 /* not all of the page is overwritten */
	call transfer
	call code_page
	mov ecx, r12d
	and ecx, 1
	lea ecx, [rcx * 2 + 0x5001]
	CHECK_EQ(rax, rcx)
	dec r12d
	jnz 1b
	ret

/* --- code in the page that is being executed ----------------------------------------------------------------------- */

own_page:
	mov r12d, ROUNDS
1:	/* sector 2 gets this page's code with another number in it */
	lea eax, [r12d + 0x70000]
	mov [own_number], eax
	mov edi, BLK_OUT
	mov esi, 2
	mov rdx, offset own_code
	call transfer
	mov dword ptr [own_number], 0xbad
	mov edi, BLK_IN
	mov esi, 2
	mov rdx, offset own_code
	call prepare
	mov ecx, 16
	mov rax, offset pattern
2:	inc byte ptr [rax]
	add rax, 16
	dec ecx
	jnz 2b
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps xmm\n, [pattern + 16 * \n]
	.endr
	call own_code
	lea ecx, [r12d + 0x70000]
	CHECK_EQ(rax, rcx)
	dec r12d
	jnz 1b
	ret

	.section .text.own, "ax"
	.balign 4096
own_code:
	mov rax, [notify]
	mov word ptr [rax], 0
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps [seen_pattern + 16 * \n], xmm\n
	.endr
	WAIT
	mov rsi, offset pattern
	mov rdi, offset seen_pattern
	mov ecx, 256 / 8
	repe cmpsq
	jne own_fail
	.byte 0xb8 /* mov eax, imm */
own_number:
	.long 0
	ret
own_fail:
	FAIL
	.org own_code + SECTOR /* an error if it is longer */
	.balign 4096

	.section .text.code, "ax"
code_page:
	call code_page + 0x100
	ret
	.balign 4096

	.data
	.balign 512
first_code:
	mov eax, 0x5001
	ret
	.balign 512
second_code:
	mov eax, 0x5003
	ret
	.balign 512
pattern:
	.set n, 0
	.rept 256
	.byte n * 7 & 0xff
	.set n, n + 1
	.endr

	.bss
	.balign 16
seen_pattern: .skip 256
