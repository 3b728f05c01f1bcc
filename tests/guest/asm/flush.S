/*
 * What a changed page table owes whom: after the flush that the manual asks for, nobody may see the old page, neither
 * data nor code, by whatever way the code is reached. Before the flush either is allowed.
 */
#include "guest.inc"

	.text
	.macro MAP n, k, flags
	mov qword ptr [window_pt + (\n) * 8], offset page + (\k) * 4096 + (\flags)
	.endm
#define RWX (P_ + W_)

	.globl test_main
test_main:
	/* frames 0 and 1: a function that returns the frame's number; data behind it */
	COPY page, return_0, return_0_end
	COPY "page + 4096", return_1, return_1_end
	mov qword ptr [page + 2048], 100
	mov qword ptr [page + 4096 + 2048], 101

	/* --- every kind of flush, for data and code; low and high addresses */
	.macro flush_test flush, at, again=20
	mov r12d, \again
79:	MAP 0, 0, RWX + G
	\flush
	movabs rbx, offset \at
	HERE
	call rbx
	CHECK_EQ(rax, 0)
	mov rax, [rbx + 2048]
	CHECK_EQ(rax, 100)
	call call_three_times
	CHECK_EQ(rax, 0)
	mov [rbx + 2056], r12
	MAP 0, 1, RWX + G
	\flush
	mov rax, [rbx + 2048]
	CHECK_EQ(rax, 101)
	HERE
	call rbx
	CHECK_EQ(rax, 1)
	call call_three_times
	CHECK_EQ(rax, 1)
	mov qword ptr [rbx + 2056], 5
	mov rax, [page + 4096 + 2056]
	CHECK_EQ(rax, 5)
	mov rax, [page + 2056]
	CHECK_EQ(rax, r12)
	dec r12d
	jnz 79b
	.endm
	.macro by_invlpg
	invlpg [W(0)]
	movabs r8, H(0)
	invlpg [r8]
	.endm
	.macro by_cr3
	RELOAD_CR3
	.endm
	.macro by_pge
	CR_CLEAR cr4, CR4_PGE
	CR_SET cr4, CR4_PGE
	.endm
	.macro by_wp
	CR_CLEAR cr0, CR0_WP
	CR_SET cr0, CR0_WP
	.endm
	.macro by_smep
	CR_CLEAR cr4, CR4_SMEP
	CR_SET cr4, CR4_SMEP
	CR_CLEAR cr4, CR4_SMEP
	.endm
	.macro by_invpcid type
	mov qword ptr [descriptor], 0
	movabs r8, W(0)
	mov qword ptr [descriptor + 8], r8
	mov r8d, \type
	invpcid r8, [descriptor]
	.if \type == 0
	movabs r8, H(0)
	mov qword ptr [descriptor + 8], r8
	mov r8d, \type
	invpcid r8, [descriptor]
	.endif
	.endm
	.set G, 0
	flush_test by_invlpg, W(0)
	flush_test by_cr3, W(0)
	flush_test by_pge, W(0)
	flush_test by_wp, W(0)
	flush_test by_smep, W(0)
	flush_test "by_invpcid 0", W(0)
	flush_test "by_invpcid 1", W(0)
	flush_test "by_invpcid 2", W(0)
	flush_test "by_invpcid 3", W(0)
	flush_test by_invlpg, H(0)
	flush_test by_cr3, H(0)
	flush_test by_pge, H(0)
	flush_test "by_invpcid 0", H(0)
	flush_test "by_invpcid 1", H(0)
	flush_test "by_invpcid 2", H(0)
	flush_test "by_invpcid 3", H(0)
	/* global pages stay for most, but go by these */
	CR_SET cr4, CR4_PGE
	.set G, G_
	flush_test by_invlpg, W(0)
	flush_test by_pge, W(0)
	flush_test "by_invpcid 2", W(0)
	flush_test by_invlpg, H(0)
	flush_test by_pge, H(0)
	flush_test "by_invpcid 2", H(0)
	CR_CLEAR cr4, CR4_PGE
	.set G, 0

	/* --- less rights after the flush: read-only, no-execute, gone */
	mov r12d, 5
less:	MAP 0, 0, RWX
	invlpg [W(0)]
	mov ebx, W(0)
	HERE
	call rbx
	call call_three_times
	mov [W(0) + 2056], rax
	MAP 0, 0, P_
	invlpg [W(0)]
	FAULT
	mov [W(0) + 2056], rax
	EXPECT(VEC_PF, 3)
	HERE
	mov rax, [W(0) + 2056]
	bts PTE(0), NX_BIT
	invlpg [W(0)]
	FAULT
	call rbx
	EXPECT(VEC_PF, 0x11)
	FAULT
	call call_three_times
	EXPECT(VEC_PF, 0x11)
	mov PTE(0), 0
	invlpg [W(0)]
	FAULT
	call rbx
	EXPECT(VEC_PF, 0x10)
	FAULT
	mov rax, [rbx]
	EXPECT(VEC_PF, 0)
	dec r12d
	jnz less

	/* --- jumps that were linked: a page that jumps to another one, directly and through the jump table */
	COPY "page + 2 * 4096", jump_ahead, jump_ahead_end
	MAP 2, 2, RWX
	mov r12d, 20
chained:
	MAP 3, 0, RWX
	invlpg [W(3)]
	mov ebx, W(2)
	HERE
	call call_three_times
	CHECK_EQ(rax, 0)
	MAP 3, 1, RWX
	invlpg [W(3)]
	HERE
	call call_three_times
	CHECK_EQ(rax, 1)
	MAP 3, 1, 0
	invlpg [W(3)]
	FAULT
	call rbx
	EXPECT(VEC_PF, 0x10)
	EXPECT_CR2(W(3))
	dec r12d
	jnz chained

	/* --- an instruction that lies in two pages, of which the second changes: mov eax, imm32; ret */
	mov byte ptr [page + 4 * 4096 + 4093], 0xb8
	mov word ptr [page + 4 * 4096 + 4094], 0
	mov byte ptr [page + 9 * 4096 + 4093], 0xb8
	mov word ptr [page + 9 * 4096 + 4094], 5
	mov dword ptr [page + 5 * 4096], 0xc30000
	mov dword ptr [page + 6 * 4096], 0xc30001
	MAP 4, 4, RWX
	mov r12d, 20
straddle:
	mov ebx, W(4) + 4093
	MAP 5, 5, RWX
	invlpg [W(5)]
	HERE
	call call_three_times
	CHECK_EQ(rax, 0)
	MAP 5, 6, RWX
	invlpg [W(5)]
	HERE
	call call_three_times
	CHECK_EQ(rax, 0x10000)
	/* the first page becomes another one */
	MAP 4, 9, RWX
	invlpg [W(4)]
	HERE
	call call_three_times
	CHECK_EQ(rax, 0x10005)
	MAP 4, 9, 0
	invlpg [W(4)]
	FAULT
	call rbx
	EXPECT(VEC_PF, 0x10)
	EXPECT_CR2(W(4) + 4093)
	MAP 4, 4, RWX
	invlpg [W(4)]
	HERE
	call call_three_times
	CHECK_EQ(rax, 0x10000)
	bts PTE(5), NX_BIT
	invlpg [W(5)]
	FAULT
	call rbx
	EXPECT(VEC_PF, 0x11)
	EXPECT_CR2(W(5))
	EXPECT_RIP(W(4) + 4093)
	MAP 5, 6, 0
	invlpg [W(5)]
	FAULT
	call rbx
	EXPECT(VEC_PF, 0x10)
	EXPECT_CR2(W(5))
	dec r12d
	jnz straddle

	/* --- the caller's page changes while the callee runs: the return must find what is there now */
	.macro return_test flush, at
	COPY "page + 7 * 4096", caller_0, caller_0_end
	COPY "page + 8 * 4096", caller_1, caller_1_end
	mov r12d, 10
79:	MAP 7, 7, RWX
	\flush
	mov qword ptr [callee], offset just_return
	movabs rbx, offset \at
	HERE
	call call_three_times
	CHECK_EQ(rax, 70)
	mov qword ptr [callee], offset 80f
	HERE
	call rbx
	CHECK_EQ(rax, 80)
	dec r12d
	jnz 79b
	jmp 81f
80:	MAP 7, 8, RWX
	\flush
	mov eax, 10
	ret
81:
	.endm
	.macro by_invlpg_low
	invlpg [W(7)]
	.endm
	.macro by_invlpg_high
	movabs r8, H(7)
	invlpg [r8]
	.endm
	return_test by_cr3, W(7)
	return_test by_pge, W(7)
	return_test by_cr3, H(7)
	return_test by_pge, H(7)
	return_test by_invlpg_high, H(7)
	return_test by_invlpg_low, W(7)

	/* … and goes away */
	mov qword ptr [callee], offset 1f
	mov ebx, W(7)
	mov rbp, rsp
	FAULT
	call rbx
	nop
	EXPECT(VEC_PF, 0x10)
	jmp 2f
1:	MAP 7, 7, 0
	RELOAD_CR3
	ret
2:

	/* --- PCIDs: two address spaces, whose window shows different frames */
	mov rcx, offset pml4
	mov rdi, offset pml4_b
	xor eax, eax
1:	mov rdx, [rcx + rax * 8]
	mov [rdi + rax * 8], rdx
	inc eax
	cmp eax, 512
	jb 1b
	mov qword ptr [pml4_b], offset pdpt_b + 7
	mov qword ptr [pml4_b + 511 * 8], offset high_b + 7
	mov qword ptr [high_b + 511 * 8], offset pd_b + 7
	mov rdx, [pdpt]
	mov [pdpt_b], rdx
	mov rdx, [pdpt + 24]
	mov [pdpt_b + 24], rdx
	mov qword ptr [pdpt_b + 8], offset pd_b + 7
	mov qword ptr [pd_b], offset pt_b + 7
	MAP 0, 0, RWX
	mov qword ptr [pt_b], offset page + 4096 + RWX
	RELOAD_CR3
	CR_SET cr4, CR4_PCIDE
	.macro two_spaces at, keep
	movabs rbx, offset \at
	mov r14, offset pml4 + 1
	mov r15, offset pml4_b + 2
	.if \keep
	mov cr3, r14
	mov cr3, r15
	bts r14, 63
	bts r15, 63
	.endif
	mov r12d, 50
79:	mov cr3, r14
	HERE
	call rbx
	CHECK_EQ(rax, 0)
	mov rax, [rbx + 2048]
	CHECK_EQ(rax, 100)
	mov [rbx + 2056], rax
	call call_three_times
	CHECK_EQ(rax, 0)
	mov cr3, r15
	HERE
	call rbx
	CHECK_EQ(rax, 1)
	mov rax, [rbx + 2048]
	CHECK_EQ(rax, 101)
	mov [rbx + 2056], rax
	call call_three_times
	CHECK_EQ(rax, 1)
	dec r12d
	jnz 79b
	cmp qword ptr [page + 2056], 100
	je 80f
	FAIL
80:	cmp qword ptr [page + 4096 + 2056], 101
	je 80f
	FAIL
80:
	.endm
	two_spaces W(0), 0
	two_spaces W(0), 1
	two_spaces H(0), 0
	two_spaces H(0), 1

	/* the callee switches spaces: its return lands in the other one's code */
	.macro switch_test at
	mov r14, offset pml4 + 1
	mov r15, offset pml4_b + 2
	mov cr3, r14
	MAP 7, 7, RWX
	mov qword ptr [pt_b + 7 * 8], offset page + 8 * 4096 + RWX
	mov cr3, r15
	mov cr3, r14
	bts r14, 63
	bts r15, 63
	movabs rbx, offset \at
	mov r12d, 10
79:	mov qword ptr [callee], offset just_return
	HERE
	call call_three_times
	CHECK_EQ(rax, 70)
	mov qword ptr [callee], offset 80f
	call rbx
	CHECK_EQ(rax, 80)
	mov qword ptr [callee], offset just_return
	call call_three_times
	CHECK_EQ(rax, 80)
	mov qword ptr [callee], offset 81f
	call rbx
	CHECK_EQ(rax, 70)
	dec r12d
	jnz 79b
	jmp 82f
80:	mov cr3, r15
	mov eax, 10
	ret
81:	mov cr3, r14
	mov eax, 10
	ret
82:
	.endm
	switch_test H(7)
	switch_test W(7)

	/* INVPCID for a space that is not the current one */
	.macro other_space type, at
	mov r14, offset pml4 + 1
	mov r15, offset pml4_b + 2
	bts r14, 63
	bts r15, 63
	movabs rbx, offset \at
	mov r12d, 10
79:	mov qword ptr [pt_b], offset page + RWX
	mov qword ptr [descriptor], 2
	mov qword ptr [descriptor + 8], rbx
	mov eax, \type
	invpcid rax, [descriptor]
	mov cr3, r15
	HERE
	call call_three_times
	CHECK_EQ(rax, 0)
	mov rax, [rbx + 2048]
	CHECK_EQ(rax, 100)
	mov cr3, r14
	mov qword ptr [pt_b], offset page + 4096 + RWX
	mov qword ptr [descriptor], 2
	mov qword ptr [descriptor + 8], rbx
	mov eax, \type
	invpcid rax, [descriptor]
	mov cr3, r15
	HERE
	call call_three_times
	CHECK_EQ(rax, 1)
	mov rax, [rbx + 2048]
	CHECK_EQ(rax, 101)
	mov cr3, r14
	dec r12d
	jnz 79b
	.endm
	other_space 0, W(0)
	other_space 1, W(0)
	other_space 2, W(0)
	other_space 3, W(0)
	other_space 0, H(0)
	other_space 1, H(0)
	other_space 2, H(0)
	other_space 3, H(0)
	/* what INVPCID refuses */
	mov qword ptr [descriptor], 0x1000
	mov eax, 1
	FAULT
	invpcid rax, [descriptor]
	EXPECT(VEC_GP, 0)
	mov qword ptr [descriptor], 0
	mov eax, 4
	FAULT
	invpcid rax, [descriptor]
	EXPECT(VEC_GP, 0)
	/* more spaces than there are slots; each with the same window, so only that nothing breaks */
	mov ecx, 200
1:	mov r14, offset pml4
	mov eax, ecx
	and eax, 63
	add r14, rax
	test ecx, 64
	jz 2f
	mov r14, offset pml4_b
	add r14, rax
2:	mov cr3, r14
	mov ebx, W(0)
	HERE
	call call_three_times
	mov edx, ecx
	shr edx, 6
	and edx, 1
	CHECK_EQ(rax, rdx)
	dec ecx
	jnz 1b
	mov r14, offset pml4
	mov cr3, r14
	CR_CLEAR cr4, CR4_PCIDE
	ret

	/* rbx = function. Often enough for whatever is remembered about calls. */
call_three_times:
	call rbx
	call rbx
	jmp rbx

just_return:
	mov eax, 0
	ret

return_0:
	mov eax, 0
	ret
return_0_end:
return_1:
	mov eax, 1
	ret
return_1_end:
jump_ahead: /* in window page 2 */
	jmp . + 4096
jump_ahead_end:
caller_0:
	call [callee]
	mov eax, 70
	ret
caller_0_end:
caller_1:
	call [callee]
	mov eax, 80
	ret
caller_1_end:

	.data
	.balign 16
descriptor:
	.quad 0, 0
callee:	.quad 0
	.bss
	.balign 4096
pml4_b:	.skip 4096
pdpt_b:	.skip 4096
high_b:	.skip 4096
pd_b:	.skip 4096
pt_b:	.skip 4096
