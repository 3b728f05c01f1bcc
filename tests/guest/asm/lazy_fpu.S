/*
 * Vector state switched lazily, as kernels did for a long time: CR0.TS is set at every switch, and the first use of a
 * register raises #NM, whose handler clears it. Must end well within the time limit.
 */
#include "guest.inc"

#define ROUNDS 100000

	.text
	.globl test_main
test_main:
	HANDLER VEC_NM, on_nm
	CR_SET cr0, CR0_MP
	mov r12d, ROUNDS
	pxor xmm0, xmm0
round:
	CR_SET cr0, CR0_TS
	HERE
	call integers
	CHECK_EQ(rax, 42)
	HERE
	call vectors
	dec r12d
	jnz round
	CHECK_EQ(qword ptr [traps], ROUNDS)
	movd eax, xmm0
	CHECK_EQ(rax, 2 * ROUNDS)
	/* what returns from a mode to another one finds code for that */
	mov r12d, 100
1:	CR_SET cr0, CR0_TS
	call clear_and_return
	paddd xmm0, xmm1
	call set_and_return
	movd eax, xmm0
	dec r12d
	jnz 1b
	CHECK_EQ(qword ptr [traps], ROUNDS + 100)
	ret

clear_and_return:
	clts
	ret
set_and_return:
	CR_SET cr0, CR0_TS
	ret

integers:
	mov eax, 42
	ret

vectors:
	mov eax, 1
	movd xmm1, eax
	paddd xmm0, xmm1
	call more_vectors
	ret
more_vectors:
	paddd xmm0, xmm1
	ret

on_nm:	inc qword ptr [traps]
	clts
	ret

	.data
traps:	.quad 0
