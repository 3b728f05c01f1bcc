/*
 * Code of which a part is patched before it runs, with what VARIANT says: a cache of one variant has, in another, units
 * that jump straight into one that is not there. They are bound alone, until the code is what the cache knows.
 */
#include "guest.inc"

#define ROUNDS 30 /* more than the drops from which on a page's units are bound one by one */
#define CACHED 1

	.text
	.globl test_main
test_main:
	COPY page, code, code_end
	mov r15d, offset page + (leads - code)
	mov r8d, offset page + (tail - code)
	mov r9d, offset page + (faults - code)
	mov ebp, offset page + (caller - code)
	/* --- patched once, used often */
	mov eax, VARIANT
	mov [page + 1], eax
	mov ebx, 1000
1:	HERE
	call r15
	CHECK_EQ(rdx, VARIANT)
	call r8
	CHECK_EQ(rdx, VARIANT)
	call rbp
	CHECK_EQ(rdx, VARIANT)
	dec ebx
	jnz 1b
	/* --- by turns, with what the cache has at last */
	mov ebx, ROUNDS
2:	mov r12d, CACHED
	mov r13d, VARIANT
	test ebx, 1
	cmovz r12d, r13d
	mov [page + 1], r12d
	mov r14d, 3
3:	HERE
	call r15 /* alone before one is wanted that jumps straight into it alone */
	CHECK_EQ(rdx, r12)
	call r8
	CHECK_EQ(rdx, r12)
	call rbp
	CHECK_EQ(rdx, r12)
	mov edi, offset page
	call r9
	CHECK_EQ(rdx, r12)
	mov edi, WINDOW
	FAULT
	call r9
	EXPECT(VEC_PF, 0)
	EXPECT_RIP(page + (load - code))
	dec r14d
	jnz 3b
	dec ebx
	jnz 2b
	ret

	/* position-independent: copied. Jumps back lead out of a unit. */
	.balign 4096
code:
patched:
	mov edx, 0
	ret
leads: /* straight into what is patched */
	xor edx, edx
	jz patched
	ud2
tail: /* straight into that alone */
	xor edx, edx
	jmp leads
faults: /* the same; what it does besides asks the VMM, and must be found in its table of addresses */
	str eax
load:
	mov ecx, [rdi]
	jmp leads
caller: /* the same with calls */
	xor edx, edx
	call leads
	mov eax, edx
	call patched
	cmp eax, edx
	jne 1f
	ret
1:	ud2
code_end:
	.balign 4096
