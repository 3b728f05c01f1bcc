/*
 * More code than a small code cache holds, run round after round and written to between the rounds: eviction must leave
 * nothing behind. Every page ends in an instruction that reaches into the next one.
 *
 * Page: 4 bytes of the predecessor's last instruction; blocks of `inc rax; jmp` with gaps between them; at 4094 the first
 * two bytes of add rax, imm32.
 */
#include "guest.inc"

#define PAGES 600
#define ROUNDS 8
#define BLOCK 80
#define BLOCKS 50
#define CODE 0x1400000

	.text
	.globl test_main
test_main:
	mov edi, CODE
	mov ecx, PAGES
make_page:
	lea rsi, [rdi + 4]
	mov edx, BLOCKS
1:	mov dword ptr [rsi], 0xe9c0ff48 /* inc rax; jmp rel32 */
	mov dword ptr [rsi + 4], BLOCK - 8
	add rsi, BLOCK
	dec edx
	jnz 1b
	/* the last jump goes to the end of the page */
	mov dword ptr [rsi - BLOCK + 4], 4094 - 4 - (BLOCKS - 1) * BLOCK - 8
	mov word ptr [rdi + 4094], 0x0548
	mov dword ptr [rdi + 4096], 1
	add rdi, 4096
	dec ecx
	jnz make_page
	mov byte ptr [rdi + 4], 0xc3

	mov r12d, ROUNDS
round:
	xor eax, eax
	mov ebx, CODE + 4
	HERE
	call rbx
	mov r13d, ROUNDS + 1
	sub r13d, r12d
	add r13d, BLOCKS
	imul r13d, r13d, PAGES
	CHECK_EQ(rax, r13)
	/* each page's immediate is one more next time */
	mov edi, CODE + 4096
	mov ecx, PAGES
1:	inc dword ptr [rdi]
	add rdi, 4096
	dec ecx
	jnz 1b
	dec r12d
	jnz round

	/*
	 * The same pages, each a function of its own now, and before its end a jump that reaches into the next page,
	 * where no code needs to have been run. Rounds of the jumps of the even pages, the functions of the odd pages,
	 * and a write to every page.
	 */
	mov edi, CODE
	mov ecx, PAGES
1:	mov byte ptr [rdi + 4 + (BLOCKS - 1) * BLOCK], 0xc3
	mov dword ptr [rdi + 4090], 0xe9c0ff48 /* inc rax; jmp */
	lea rax, [rdi + 4098]
	mov edx, offset only_return
	sub edx, eax
	mov [rdi + 4094], edx
	add rdi, 4096
	dec ecx
	jnz 1b
	mov r12d, ROUNDS
second:
	xor eax, eax
	mov ebx, CODE + 4090
	mov ecx, PAGES / 2
	HERE
1:	call rbx
	add rbx, 8192
	dec ecx
	jnz 1b
	mov ebx, CODE + 4096 + 4
	mov ecx, PAGES / 2
1:	call rbx
	add rbx, 8192
	dec ecx
	jnz 1b
	CHECK_EQ(rax, PAGES / 2 * BLOCKS)
	mov edi, CODE + 3 /* an unused byte */
	mov ecx, PAGES
1:	inc byte ptr [rdi]
	add rdi, 4096
	dec ecx
	jnz 1b
	dec r12d
	jnz second
	ret

only_return:
	ret
