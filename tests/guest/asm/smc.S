/*
 * Self-modifying code: what is written is what is executed next, however it is written and wherever it lies.
 * (The manual asks for a branch or a serializing instruction; processors do not need it, and guests rely on that.)
 */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	/* the same frames in the window: aliases of the page of `code` */
	mov qword ptr [window_pt], offset code_page + P_ + W_
	mov qword ptr [window_pt + 8], offset page + P_ + W_
	mov r12d, 50
again:
	/* --- a function in another page, patched between calls */
	mov dword ptr [imm_target], r12d
	call with_imm
	CHECK_EQ(rax, r12)
	lea r13d, [r12 + 1000]
	mov dword ptr [imm_target], r13d
	call with_imm
	CHECK_EQ(rax, r13)

	/* --- through an alias mapping */
	lea r13d, [r12 + 2000]
	mov dword ptr [WINDOW + imm_target - code_page], r13d
	call with_imm
	CHECK_EQ(rax, r13)
	/* … and executed at the alias too */
	mov ebx, offset WINDOW + with_imm - code_page
	call rbx
	CHECK_EQ(rax, r13)
	inc r13d
	mov dword ptr [imm_target], r13d
	call rbx
	CHECK_EQ(rax, r13)
	call with_imm
	CHECK_EQ(rax, r13)

	/* --- by rep movs, rep stos, SSE, xchg, cmpxchg16b, push, call, fxsave-like helpers, exception frames */
	mov r13d, 0x11111111
	add r13d, r12d
	mov [scratch], r13d
	mov esi, offset scratch
	mov edi, offset imm_target
	mov ecx, 4
	rep movsb
	call with_imm
	CHECK_EQ(rax, r13)
	mov eax, r12d
	mov edi, offset imm_target
	mov ecx, 4
	rep stosb
	call with_imm
	imul r13d, r12d, 0x01010101
	CHECK_EQ(rax, r13)
	inc r13d
	movd xmm0, r13d
	movd [imm_target], xmm0
	call with_imm
	CHECK_EQ(rax, r13)
	inc r13d
	mov eax, r13d
	xchg [imm_target], eax
	call with_imm
	CHECK_EQ(rax, r13)
	inc r13d
	inc dword ptr [imm_target]
	call with_imm
	CHECK_EQ(rax, r13)
	lock add dword ptr [imm_target], 5
	add r13d, 5
	call with_imm
	CHECK_EQ(rax, r13)
	/* by push: the stack lies over the constant of mov rax, imm64 */
	mov rbp, rsp
	mov rsp, offset imm64_target + 8
	push r12
	mov rsp, rbp
	call with_imm64
	CHECK_EQ(rax, r12)
	/* by call: the return address */
	mov rsp, offset imm64_target + 8
	call 1f
1:	mov rsp, rbp
	call with_imm64
	mov rcx, offset 1b
	CHECK_EQ(rax, rcx)
	/* by helpers in C */
	mov rsp, offset imm64_target + 8
	pushfq
	mov rsp, rbp
	call with_imm64
	test al, 2
	jnz 1f
	FAIL
1:	sgdt [imm64_target] /* 10 bytes */
	mov word ptr [imm64_target + 8], 0x9090
	call with_imm64
	cmp ax, [gdt_pointer]
	je 1f
	FAIL
1:	mov rcx, 0x0102030405060708
	mov [scratch], rcx
	fild qword ptr [scratch]
	fistp qword ptr [imm64_target]
	call with_imm64
	CHECK_EQ(rax, rcx)
	/* by the frame of an exception, on a stack in the page of code */
	HANDLER VEC_UD, skip_ud
	mov rsp, offset code_stack_top
2:	ud2
	mov rsp, rbp
	NO_HANDLER VEC_UD
	call with_imm64
	CHECK_EQ(rax, rcx)
	mov qword ptr [imm64_target], r12
	call with_imm64
	CHECK_EQ(rax, r12)

	/* --- ahead in the same page and the same unit */
	mov byte ptr [1f + 1], r12b
	nop
1:	mov al, 0x55
	CHECK_EQ(al, r12b)
	mov byte ptr [1f + 1], 0x77
1:	mov al, 0x55 /* the very next one */
	CHECK_EQ(al, 0x77)
	mov byte ptr [1b + 1], 0x55
	/* one instruction becomes another of another length: nop nop nop → xor eax, eax; nop */
	mov eax, 5
	mov dword ptr [3f], 0x9090c031
	jmp 2f
2:
3:	nop
	nop
	nop
	nop
	CHECK_EQ(rax, 0)
	mov dword ptr [3b], 0x90909090
	/* by rep movs, over itself's followers */
	mov esi, offset patch_source
	mov edi, offset 1f
	mov ecx, 5
	rep movsb
1:	mov eax, 1
	CHECK_EQ(rax, 0x1234)
	mov dword ptr [1b + 1], 1
	/* rep stos that runs over its own bytes: the rest of it goes on, as if not interrupted, with what was fetched */
	/* behind the current instruction, in the same unit: executed again by a loop */
	mov ecx, 3
	xor edx, edx
1:	add edx, 1
	inc byte ptr [1b + 2]
	dec ecx
	jnz 1b
	CHECK_EQ(rdx, 1 + 2 + 3)
	mov byte ptr [1b + 2], 1

	/* --- a patched call target and a patched branch */
	mov eax, offset target_b
	sub eax, offset 1f + 5
	mov dword ptr [1f + 1], eax
1:	call target_a
	CHECK_EQ(rax, 2)
	mov eax, offset target_a
	sub eax, offset 1b + 5
	mov dword ptr [1b + 1], eax
	mov r14d, 2
2:	mov byte ptr [1f], 0x74
	xor eax, eax
	inc eax
1:	jz 3f /* becomes jnz in the second round */
	mov byte ptr [1b], 0x75
	or ecx, 1
1:
	jmp 4f
3:	FAIL
4:	dec r14d
	jnz 2b
	/* poking as Linux does it: int3 first, then the tail, then the first byte */
	HANDLER VEC_BP, poke_handler
	mov dword ptr [poked], 0
	mov byte ptr [poke], 0xcc
	HERE
	call poke
	CHECK_EQ(rax, 99)
	mov dword ptr [poke + 1], 0x321
	HERE
	call poke
	CHECK_EQ(rax, 99)
	mov byte ptr [poke], 0xb8
	call poke
	CHECK_EQ(rax, 0x321)
	mov dword ptr [poke + 1], 0x111
	NO_HANDLER VEC_BP
	mov eax, [poked]
	CHECK_EQ(rax, 2)

	/* --- patched in a handler, ahead of where it returns to and at that very place */
	HANDLER VEC_UD, patching_handler
	HERE
	ud2
patched_1:
	mov eax, 1
	CHECK_EQ(rax, 0x999)
	mov dword ptr [patched_1 + 1], 1
	/* … and the faulting instruction itself is replaced: ud2 → xor ecx, ecx */
	HANDLER VEC_UD, replacing_handler
	mov ecx, 5
replaced:
	ud2
	CHECK_EQ(rcx, 0)
	mov word ptr [replaced], 0x0b0f
	NO_HANDLER VEC_UD

	/* --- the caller is patched while the callee runs: the return finds the new code */
	mov qword ptr [callee], offset patch_caller
	call caller
	CHECK_EQ(rax, 0x4242)
	mov byte ptr [after_call], 0xb8
	mov dword ptr [after_call + 1], 1
	mov qword ptr [callee], offset do_nothing
	call caller
	CHECK_EQ(rax, 1)

	/* --- copied code that is replaced by other code at the same place, again and again */
	mov esi, offset blob_a
	mov edi, offset page
	mov ecx, offset blob_a_end - blob_a
	rep movsb
	mov ebx, W(1)
	call rbx
	CHECK_EQ(rax, 10)
	mov esi, offset blob_b
	mov edi, offset page
	mov ecx, offset blob_b_end - blob_b
	rep movsb
	call rbx
	CHECK_EQ(rax, 20)
	/* an instruction across two pages, whose second half is written */
	mov dword ptr [page + 4094], 0xb8
	mov byte ptr [page + 4095], 0xb8
	mov dword ptr [page + 4096], r12d
	mov byte ptr [page + 4100], 0xc3
	mov ebx, offset page + 4095
	call rbx
	CHECK_EQ(rax, r12)
	inc dword ptr [page + 4096]
	call rbx
	lea r13d, [r12 + 1]
	CHECK_EQ(rax, r13)
	/* its own unit's second page, from the first */
	dec r12d
	jnz again

	/* --- ring 3 patches itself */
	mov ecx, 10
	USER user_patch
	EXPECT(VEC_DONE, ANY)
	mov rcx, SEEN(RDX)
	CHECK_EQ(rcx, 55)
	ret

skip_ud:
	add qword ptr [rdi + F_RIP], 2
	ret

poke_handler:
	inc dword ptr [poked]
	mov qword ptr [rdi + F_RAX], 99
	mov qword ptr [rdi + F_RIP], offset do_nothing
	ret

patching_handler:
	mov dword ptr [patched_1 + 1], 0x999
	add qword ptr [rdi + F_RIP], 2
	ret
replacing_handler:
	mov word ptr [replaced], 0xc931
	ret

caller:
	call [callee]
after_call:
	mov eax, 1
	ret
patch_caller:
	mov dword ptr [after_call + 1], 0x4242
	ret
do_nothing:
	ret
target_a:
	mov eax, 1
	ret
target_b:
	mov eax, 2
	ret
poke:
	mov eax, 0x111
	ret
patch_source:
	mov eax, 0x1234
blob_a:
	mov eax, 10
	ret
blob_a_end:
blob_b:
	xor eax, eax
	nop
	add eax, 20
	ret
blob_b_end:

	.balign 4096
code_page:
with_imm:
	.byte 0xb8
imm_target:
	.long 0
	ret
	.balign 64
with_imm64:
	.byte 0x48, 0xb8
imm64_target:
	.quad 0
	nop
	nop
	ret
	.skip 1024
code_stack_top:

	.section .user
user_patch: /* adds 10, 9, … 1 by rewriting an immediate */
	xor edx, edx
1:	mov [2f + 2], cl
2:	add edx, 127
	dec ecx
	jnz 1b
	int VEC_DONE

	.data
	.balign 16
scratch:
	.quad 0, 0
callee:	.quad 0
poked:	.long 0
