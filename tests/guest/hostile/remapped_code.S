/*
 * Ring 3's code is replaced or taken away behind an address, as munmap and mmap do it: by the page tables and a flush,
 * while the old code has been executed, linked, called from and is about to be returned to. And two address spaces that
 * have different code at one address, as two processes have.
 */
#include "guest.inc"

#define PRESENT 1
#define USERMODE 4
#define FETCH 16
#define ROUNDS 20
#define RU (P_ + U_)

	.text
	.macro MAP n, k, flags
	mov qword ptr [window_pt + (\n) * 8], offset page + (\k) * 4096 + (\flags)
	.endm
	/* the system call of ring 3: rdi = entry, rsi = its new value, rdx = how to flush */
	.globl test_main
test_main:
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, remap_call
	WRMSR_ MSR_SFMASK, FLAG_IF
	COPY page, code_1, code_1_end
	COPY "page + 4096", code_2, code_2_end
	COPY "page + 2*4096", caller_1, caller_1_end
	COPY "page + 3*4096", caller_2, caller_2_end
	COPY "page + 4*4096", jumper, jumper_end
	mov r12d, ROUNDS
again:
	xor r13d, r13d
	.macro by flush
	mov qword ptr [flush_kind], \flush
	/* --- replaced between calls: by the low entry of the window */
	MAP 0, 0, RU
	RELOAD_CR3
	USER user_replace
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(R8), 1)
	CHECK_EQ(SEEN(R9), 2)
	/* … reached by a jump of another page (linked), which stays */
	MAP 0, 0, RU
	MAP 4, 4, RU
	RELOAD_CR3
	USER user_replace_jump
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(R8), 1)
	CHECK_EQ(SEEN(R9), 2)
	/* --- taken away: call, jump, and return to it */
	MAP 0, 0, RU
	RELOAD_CR3
	USER user_remove_call
	EXPECT(VEC_PF, FETCH + USERMODE)
	EXPECT_CR2(W(0))
	MAP 0, 0, RU
	RELOAD_CR3
	USER user_remove_jump
	EXPECT(VEC_PF, FETCH + USERMODE)
	EXPECT_CR2(W(0))
	/* --- made ring 0's, or not executable */
	MAP 0, 0, RU
	RELOAD_CR3
	mov rsi, offset page + P_
	USER user_change_call
	EXPECT(VEC_PF, PRESENT + FETCH + USERMODE)
	EXPECT_CR2(W(0))
	MAP 0, 0, RU
	RELOAD_CR3
	mov rsi, offset page + RU
	bts rsi, 63
	USER user_change_call
	EXPECT(VEC_PF, PRESENT + FETCH + USERMODE)
	EXPECT_CR2(W(0))
	/* --- the caller's page is replaced while its callee is in the kernel: the return runs the new code */
	MAP 2, 2, RU
	RELOAD_CR3
	mov rsi, offset page + 3 * 4096 + RU
	USER W(2)
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RAX), 222)
	/* … or taken away */
	MAP 2, 2, RU
	RELOAD_CR3
	xor esi, esi
	USER W(2)
	EXPECT(VEC_PF, FETCH + USERMODE)
	EXPECT_CR2(W(2) + caller_back - caller_1)
	.endm
	by 0
	by 1
	by 2
	by 3

	/* --- two processes: the same addresses, other frames; switched between by system calls, with and without PCIDs */
	call make_second
	mov qword ptr [flush_kind], 0
	MAP 0, 0, RU
	mov qword ptr [pt_b], offset page + 4096 + RU
	MAP 2, 2, RU
	mov qword ptr [pt_b + 16], offset page + 3 * 4096 + RU
	mov rax, offset pml4
	mov [space], rax
	mov rax, offset pml4_b
	mov [space + 8], rax
	WRMSR_ MSR_LSTAR, switch_call
	USER user_two_spaces
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(R13), 0)
	mov rax, offset pml4
	mov cr3, rax
	CR_SET cr4, CR4_PCIDE
	mov rax, offset pml4 + 1
	mov rcx, offset pml4_b + 2
	mov cr3, rcx
	mov cr3, rax
	bts rax, 63
	bts rcx, 63
	mov [space], rax
	mov [space + 8], rcx
	USER user_two_spaces
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(R13), 0)
	mov rax, offset pml4
	mov cr3, rax
	CR_CLEAR cr4, CR4_PCIDE
	WRMSR_ MSR_LSTAR, remap_call
	dec r12d
	jnz again
	ret

remap_call:
	mov [rdi], rsi
	mov rax, [flush_kind]
	test eax, eax
	jnz 1f
	invlpg [rdx]
	jmp 3f
1:	cmp eax, 1
	jne 2f
	mov rax, cr3
	mov cr3, rax
	jmp 3f
2:	cmp eax, 2
	jne 4f
	mov rax, cr4
	or rax, CR4_PGE
	mov cr4, rax
	and rax, ~CR4_PGE
	mov cr4, rax
	jmp 3f
4:	xor eax, eax
	mov [descriptor], rax
	mov [descriptor + 8], rdx
	invpcid rax, [descriptor]
3:	sysretq

switch_call: /* rdi = 0 or 1 */
	mov rax, [space + rdi * 8]
	mov cr3, rax
	sysretq

make_second: /* the same but for the window */
	mov rdi, offset pml4_b
	mov rsi, offset pml4
	mov ecx, 512
	rep movsq
	mov rsi, offset pdpt
	mov ecx, 512
	rep movsq
	mov qword ptr [pml4_b], offset pdpt_b + 7
	mov qword ptr [pml4_b + 254 * 8], offset pdpt_b + 7
	mov qword ptr [pdpt_b + 8], offset pd_b + 7
	mov qword ptr [pd_b], offset pt_b + 7
	ret

code_1:	mov eax, 1
	ret
code_1_end:
code_2:	mov eax, 2
	ret
code_2_end:
jumper:	jmp . - 4 * 4096 /* from window page 4 to 0 */
jumper_end:

	/* window page 2: calls back into the user section; what is behind the call differs */
caller_1:
	mov eax, offset user_remap_2
	call rax
caller_back:
	mov eax, 111
	int VEC_DONE
caller_1_end:
caller_2:
	mov eax, offset user_remap_2
	call rax
	mov eax, 222
	int VEC_DONE
caller_2_end:

	.section .user
	.macro three_calls address
	movabs rbx, offset \address
	call rbx
	call rbx
	call user_call_rbx
	.endm
user_call_rbx:
	call rbx
	ret
user_replace:
	three_calls W(0)
	mov r8, rax
	mov esi, offset page + 4096 + RU
	mov edi, offset window_pt
	movabs rdx, offset W(0)
	syscall
	three_calls W(0)
	mov r9, rax
	int VEC_DONE
user_replace_jump:
	three_calls W(4)
	mov r8, rax
	mov esi, offset page + 4096 + RU
	mov edi, offset window_pt
	movabs rdx, offset W(0)
	syscall
	three_calls W(4)
	mov r9, rax
	int VEC_DONE
user_remove_call:
	three_calls W(0)
	xor esi, esi
	mov edi, offset window_pt
	movabs rdx, offset W(0)
	syscall
	call rbx
	int VEC_DONE
user_remove_jump:
	three_calls W(0)
	xor esi, esi
	mov edi, offset window_pt
	movabs rdx, offset W(0)
	syscall
	push offset 1f
	jmp rbx
1:	int VEC_DONE
user_change_call: /* rsi = entry */
	three_calls W(0)
	mov edi, offset window_pt
	movabs rdx, offset W(0)
	syscall
	call rbx
	int VEC_DONE
user_remap_2: /* called from window page 2; rsi = its new entry */
	mov edi, offset window_pt + 16
	movabs rdx, offset W(2)
	syscall
	ret

user_two_spaces:
	xor r13d, r13d
	mov r14d, 100
1:	xor edi, edi
	syscall
	three_calls W(0)
	cmp eax, 1
	jne 2f
	mov edi, 1
	syscall
	three_calls W(0)
	cmp eax, 2
	jne 2f
	dec r14d
	jnz 1b
	int VEC_DONE
2:	inc r13d
	int VEC_DONE

	.data
	.balign 16
descriptor:
	.quad 0, 0
flush_kind:
	.quad 0
space:	.quad 0, 0
	.bss
	.balign 4096
pml4_b:	.skip 4096
pdpt_b:	.skip 4096
pd_b:	.skip 4096
pt_b:	.skip 4096
