/*
 * Two versions of one guest (VERSION is 1 or 2), for caches that are made from older ones: loops that are worth lifting, one
 * of which the versions differ in, code of the kernel's on both sides of it, and ring 3's at an address that moves.
 */
#include "guest.inc"

#define COUNT 30000 /* words */
#define LOOPS 6
#define THREE 3
#define USER_PLACE ((1 << 39) + W(0))

	.text
	.globl test_main
test_main:
	mov edi, offset words
	mov ecx, COUNT
	mov eax, THREE
	rep stosq
	.macro check_loop n, want
	mov edi, offset words
	mov ecx, COUNT
	call loop_\n
	CHECK_EQ(rax, \want)
	.endm
	check_loop 0, COUNT*THREE
	check_loop 1, COUNT*THREE
	check_loop 2, COUNT*THREE
	check_loop 3, COUNT*(THREE+VERSION)
	check_loop 4, COUNT*THREE
	check_loop 5, COUNT*THREE
	call changed
	CHECK_EQ(rax, VERSION + 5)
	call steady
	CHECK_EQ(rax, VERSION + 7)

	COPY page, code, code_end
	mov qword ptr [pml4 + 8], offset pdpt + 7
	mov PTE(0), offset page + P_ + U_
	mov PTE(1), offset page + 4096 + P_ + U_
	RELOAD_CR3
	USER USER_PLACE
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RAX), 40 * VERSION)
	ret

	/* rax := sum of rcx words at rdi */
	.set n, 0
	.macro make_loop n
	.balign 4096
loop_\n:
	xor eax, eax
1:	add rax, [rdi]
	.if \n == 3
	add rax, VERSION
	.endif
	add rdi, 8
	dec rcx
	jnz 1b
	.rept \n /* no two alike */
	nop
	.endr
	ret
	.endm
	make_loop 0
	make_loop 1
	make_loop 2
	make_loop 3
	make_loop 4
	make_loop 5

	.balign 4096
changed: /* handed over to the runtime, linked, and a target of its own: what keeps its number */
	push rbx
	cpuid
	xor eax, eax
	call far_away
	add eax, VERSION
	test eax, eax
	jz 1f
	pop rbx
	ret
1:	mov eax, -1
	pop rbx
	ret
	.balign 4096
far_away:
	add eax, 5
	ret
	.balign 4096
1:	add eax, VERSION
	ret
steady: /* does not change, but what it jumps to does */
	mov eax, 7
	test eax, eax
	jnz 1b
	ud2

	/* --- ring 3's, position-independent: two pages */
	.balign 4096
code:
	xor eax, eax
	mov ecx, 40
1:	call step
	dec ecx
	jnz 1b
	int VEC_DONE
	.balign 4096
step:
	add eax, VERSION
	ret
code_end:

	.bss
	.balign 4096
page:	.skip 2 * 4096
words:	.skip COUNT * 8
