/*
 * More jumps from page to page than the translator has numbers for: those of the kernel leave few, and ring 3's code wants
 * more than that at each turn. If it took a place from itself every time, this would take minutes.
 */
#include "guest.inc"

#define RWU    (P_ + W_ + U_)
#define CHAINS 0x2000000 /* pairs of pages */
#define LONG   800       /* jumps from each page of a pair */
#define PAIRS  40        /* 64,000 numbers … */
#define LAST   500       /* … and 1,000: some 500 are left, of 65,536 */
#define SHORT  400       /* ring 3's pair: 800 numbers */
#define ROUNDS 20000

	.text
	.globl test_main
test_main:
	mov edi, CHAINS
	mov ebx, PAIRS
1:	mov ecx, LONG
	call make_chain
	dec ebx
	jnz 1b
	mov ecx, LAST
	call make_chain
	/* ring 3's, far up */
	mov esi, edi
	mov ecx, SHORT
	call make_chain
	mov qword ptr [pml4 + 8], offset pdpt + 7
	lea rax, [rsi + RWU]
	mov [window_pt], rax
	add rax, 4096
	mov [window_pt + 8], rax
	RELOAD_CR3

	mov edi, CHAINS
	mov ebx, PAIRS + 1
2:	call rdi
	add edi, 2 * 4096
	dec ebx
	jnz 2b
	USER user_main
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RBX), 0)
	ret

/* Two pages at rdi that jump to each other ecx times, then return; rdi goes to their end. */
make_chain:
	xor eax, eax
1:	lea rdx, [rax + rax * 4]
	mov byte ptr [rdi + rdx], 0xe9 /* to the same place in the second page */
	mov dword ptr [rdi + rdx + 1], 4096 - 5
	mov byte ptr [rdi + rdx + 4096], 0xe9 /* to the next place in the first */
	mov dword ptr [rdi + rdx + 4096 + 1], -4096
	inc eax
	cmp eax, ecx
	jb 1b
	mov byte ptr [rdi + rdx + 5], 0xc3
	add rdi, 2 * 4096
	ret

	.section .user
user_main:
	mov ebx, ROUNDS
	movabs rbp, (1 << 39) + WINDOW
1:	call rbp
	dec ebx
	jnz 1b
	int VEC_DONE
