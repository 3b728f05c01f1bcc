/*
 * Ring 3's code as under ASLR: the same page frames are mapped at one address after the other, never at two at once, and
 * what was translated for one is moved to the next. Pages name their own addresses and each other's; jumps lead to an
 * instruction that reaches into the next page; accesses over the end of a page are left again and again.
 */
#include "guest.inc"

#define RU  (P_ + U_)
#define RWU (P_ + W_ + U_)
#define PLACES 5
#define ROUNDS 60
#define PAGES  6

	.text
	.globl test_main
test_main:
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, service
	WRMSR_ MSR_SFMASK, FLAG_IF
	COPY page, code, code_end
	.set n, 0
	.rept PAGES
	mov qword ptr [window_pt + n * 8], offset page + n * 4096 + RWU
	.set n, n + 1
	.endr
	RELOAD_CR3
	USER user_main
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RAX), 0)
	ret

/* rdi: the place that the window is at from now on. rcx, r11 as syscall has it. */
service:
	mov esi, PLACES
1:	mov qword ptr [pml4 + rsi * 8], 0
	dec esi
	jnz 1b
	mov qword ptr [pml4 + rdi * 8], offset pdpt + 7
	mov rsi, cr3
	mov cr3, rsi
	sysretq

/* --- what is mapped: position-independent */
	.balign 4096
code:
first: /* rbx = edx = how often: r8 := sum of the addresses of all that ran */
	lea r8, [rip + first]
	call second
	call third
	call fourth
	lea rax, [rip + first]
	add r8, rax
	dec edx
	jnz first_again
	ret
first_again:
	push r8
	call first
	pop rax
	add r8, rax
	ret
	.balign 4096
second: /* goes on at an instruction that ends on the next page, and comes back */
	lea rax, [rip + second]
	add r8, rax
	jmp last
second_back:
	lea rax, [rip + second_back]
	add r8, rax
	ret
	.org second + 4096 - 3
last:	lea rax, [rip + last] /* 7 bytes */
	add r8, rax
	jmp second_back
	.balign 256
third:
	lea rax, [rip + third]
	add r8, rax
	ret
	.balign 4096
fourth: /* one word lies on two pages, the words around it with it: they are looked at together, and that fails */
	lea rsi, [rip + edge]
	mov rax, [rsi - 8]
	add r8, rax
	mov rax, [rsi]
	add r8, rax
	add qword ptr [rsi], 2
	sub qword ptr [rsi], 2
	mov rax, [rsi + 8]
	add r8, rax
	lea rax, [rip + fourth]
	add r8, rax
	ret
	.balign 4096
	.org fourth + 2 * 4096 - 4
edge:	.quad 1
	.quad 2
	.balign 4096
code_end:

	.section .user
user_main:
	mov r13d, ROUNDS
1:	mov r14d, PLACES
2:	mov edi, r14d
	syscall
	mov eax, r14d
	shl rax, 39
	lea rbx, [rax + WINDOW]
	/* more often in some rounds: links are complete then */
	mov r12d, r13d
	and r12d, 3
	inc r12d
	mov edx, r12d
	mov ebp, edx
	call rbx
	/* 7 addresses each time: two of `first`, `second`, `last`, `second_back`, `third`, `fourth`; the words: 1 + 2 + [-8] */
	lea rax, [rbx * 8]
	sub rax, rbx
	add rax, (second - first) + (last - first) + (second_back - first) + (third - first) + (fourth - first) + 3
	imul rax, rbp
	cmp rax, r8
	jne user_wrong
	dec r14d
	jnz 2b
	dec r13d
	jnz 1b
	xor eax, eax
	int VEC_DONE
user_wrong:
	mov eax, 1
	int VEC_DONE
