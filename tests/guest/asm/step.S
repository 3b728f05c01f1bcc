/* Single-stepping (RFLAGS.TF): a #DB after each instruction, with the address of the next one, DR6.BS set, RF clear. */
#include "guest.inc"

#define DR6_BS 0x4000

	.text
	/* Steps `code` and compares where the traps were with the labels that follow. */
	.macro STEP
	mov dword ptr [steps], 0
	pushfq
	or qword ptr [rsp], FLAG_TF
	popfq
	.endm
	.macro STOP
	pushfq
	and qword ptr [rsp], ~FLAG_TF
	popfq
	.endm
#define STEPPED(n, ...) stepped n, __LINE__, __VA_ARGS__
	.macro stepped n, line, labels:vararg
	.pushsection .rodata
	.balign 8
75:	.quad \labels
	.popsection
	mov dword ptr [line], \line
	push rsi
	push rcx
	mov rsi, offset 75b
	mov ecx, \n
	call check_steps
	pop rcx
	pop rsi
	.endm

	.globl test_main
test_main:
	HANDLER VEC_DB, stepper
	mov ebx, offset scratch
	xor eax, eax

	/* --- plain instructions, memory, stack, vectors, x87, string, sensitive ones */
	STEP
	nop
1:	inc eax
2:	mov [rbx], rax
3:	add qword ptr [rbx], 5
4:	push rax
5:	pop rcx
6:	movd xmm0, eax
7:	movups [rbx], xmm0
8:	fld1
9:	fstp qword ptr [rbx]
10:	cpuid
11:	mov ebx, offset scratch
12:	rdtsc
13:	mov edi, ebx
14:	stosb
15:	cld
16:	mov rdx, cr0
17:	mov cr0, rdx
18:	lea rsp, [rsp - 8]
19:	lea rsp, [rsp + 8]
20:	xchg [rbx], rax
21:	lock xadd [rbx], rax
22:	invlpg [rbx]
23:	mov rdx, cr3
24:	mov cr3, rdx
25:	sub esp, 0
26:	xor ecx, ecx
	/* the three of STOP: pushfq, and, popfq — the trap after popfq is taken, TF was on before it */
27:	pushfq
28:	and qword ptr [rsp], ~FLAG_TF
29:	popfq
30:	nop
	STEPPED(30, 1b, 2b, 3b, 4b, 5b, 6b, 7b, 8b, 9b, 10b, 11b, 12b, 13b, 14b, 15b, 16b, 17b, 18b, 19b, 20b, 21b, 22b, 23b, 24b, 25b, 26b, 27b, 28b, 29b, 30b)

	/* --- branches, calls, returns */
	mov ecx, 2
	mov rdx, offset 50f
	STEP
	jmp 1f
	nop
1:	stc
2:	jnc 4f
3:	jc 5f
4:	nop
5:	call 40f
6:	call rdx
7:	jmp [table]
8:	nop
9:	loop 9b
10:	jrcxz 11f
	nop
11:	push offset 13f
12:	ret
	nop
13:	pushfq
14:	and qword ptr [rsp], ~FLAG_TF
15:	popfq
16:	jmp 60f
40:	inc eax
41:	ret
50:	ret
60:
	.data
	.balign 8
table:	.quad 9b
	.text
	STEPPED(18, 1b, 2b, 3b, 5b, 40b, 41b, 6b, 50b, 7b, 9b, 9b, 10b, 11b, 12b, 13b, 14b, 15b, 16b)
	jmp 1f
1:
	/* --- pushf shows TF */
	STEP
	pushfq
1:	pop rdx
2:	pushfq
3:	and qword ptr [rsp], ~FLAG_TF
4:	popfq
5:	nop
	STEPPED(5, 1b, 2b, 3b, 4b, 5b)
	test edx, FLAG_TF
	jnz 1f
	FAIL
1:
	/* --- iretq, with TF before and after */
	mov rbp, rsp
	STEP
	nop
1:	push KERNEL_SS
2:	push rbp
3:	push 2 + FLAG_TF
4:	push KERNEL_CS
5:	push offset 7f
6:	iretq
	nop
7:	nop
8:	pushfq
9:	and qword ptr [rsp], ~FLAG_TF
10:	popfq
11:	nop
	STEPPED(11, 1b, 2b, 3b, 4b, 5b, 6b, 7b, 8b, 9b, 10b, 11b)
	/* iretq that switches TF on: the first trap is after the instruction that it goes to */
	mov dword ptr [steps], 0
	push KERNEL_SS
	push rbp
	push 2 + FLAG_TF
	push KERNEL_CS
	push offset 1f
	iretq
1:	nop
2:	pushfq
3:	and qword ptr [rsp], ~FLAG_TF
4:	popfq
5:	nop
	STEPPED(4, 2b, 3b, 4b, 5b)

	/* --- a fault is not stepped, its retry is; the handler runs without TF */
	HANDLER VEC_PF, map_it
	mov qword ptr [window_pt], 0
	STEP
	nop
1:	mov rax, [WINDOW]
2:	pushfq
3:	and qword ptr [rsp], ~FLAG_TF
4:	popfq
5:	nop
	STEPPED(5, 1b, 2b, 3b, 4b, 5b)
	NO_HANDLER VEC_PF

#ifdef STEP_CORNERS
	/* --- int n: its handler runs without TF and without a trap; the next one is after what follows int n */
	HANDLER 0x81, just_return
	HANDLER VEC_BP, just_return
	STEP
	nop
1:	int 0x81
	nop
2:	int3
	nop
3:	pushfq
4:	and qword ptr [rsp], ~FLAG_TF
5:	popfq
6:	nop
	STEPPED(6, 1b, 2b, 3b, 4b, 5b, 6b)
	NO_HANDLER VEC_BP

	/* --- mov ss holds the trap back until after the next instruction */
	mov eax, KERNEL_SS
	STEP
	nop
1:	mov ss, eax
	nop
2:	pushfq
3:	and qword ptr [rsp], ~FLAG_TF
4:	popfq
5:	nop
	STEPPED(5, 1b, 2b, 3b, 4b, 5b)

	/* --- rep: a trap after each element */
	mov esi, ebx
	lea edi, [ebx + 16]
	mov ecx, 3
	STEP
	nop
1:	rep movsb
2:	pushfq
3:	and qword ptr [rsp], ~FLAG_TF
4:	popfq
5:	nop
	STEPPED(7, 1b, 1b, 1b, 2b, 3b, 4b, 5b)

	/* --- ring 3, through syscall (TF is masked) and back by iretq (the trap comes after the next instruction) */
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, syscall_entry
	WRMSR_ MSR_SFMASK, FLAG_TF
	mov dword ptr [steps], 0
	mov qword ptr [user_flags], 2 + FLAG_TF
	USER user_steps
	EXPECT(VEC_DONE, ANY)
	mov qword ptr [user_flags], 2
	STEPPED(2, user_1, user_3)
#endif

	/* --- RF: on in the frame of a fault, off in that of a trap, also when IRET has just set it */
	mov r12d, 5
9:	push KERNEL_SS
	push rbp
	push 2 + FLAG_RF
	push KERNEL_CS
	push offset 1f
	FAULT
	iretq
1:	nop
	nop
	int3
	EXPECT(VEC_BP, ANY)
	test SEEN(FLAGS), FLAG_RF
	jz 1f
	FAIL
1:	mov rsp, rbp
	dec r12d
	jnz 9b
	FAULT
	ud2
	EXPECT(VEC_UD, ANY)
	test SEEN(FLAGS), FLAG_RF
	jnz 1f
	FAIL
1:	/* pushf does not show it */
	push KERNEL_SS
	push rbp
	push 2 + FLAG_RF
	push KERNEL_CS
	push offset 1f
	iretq
1:	pushfq
	pop rax
	test eax, FLAG_RF
	jz 1f
	FAIL
1:
	/* --- debug registers hold what is written, and fixed bits are fixed */
	mov rax, 0x12345678
	mov dr0, rax
	mov rcx, dr0
	CHECK_EQ(rcx, rax)
	xor eax, eax
	mov dr7, rax
	mov rcx, dr7
	CHECK_EQ(rcx, 0x400)
	bts rax, 40
	FAULT
	mov dr7, rax
	EXPECT(VEC_GP, 0)
	CR_SET cr4, 8
	FAULT
	mov rax, dr4
	EXPECT(VEC_UD, ANY)
	ret

stepper:
	mov rax, dr6
	test eax, DR6_BS
	jnz 1f
	FAIL
1:	and eax, ~DR6_BS
	mov dr6, rax
	test qword ptr [rdi + F_FLAGS], FLAG_RF
	jz 1f
	FAIL
1:	mov eax, [steps]
	mov rcx, [rdi + F_RIP]
	mov [log + rax * 8], rcx
	inc eax
	mov [steps], eax
	cmp eax, 100
	jb 1f
	FAIL
1:	pushfq
	pop rax
	test eax, FLAG_TF
	jz 1f
	FAIL
1:	ret

/* rsi = expected addresses, ecx of them (0s at the end of a short list do not count) */
check_steps:
	push rax
	push rdx
	xor edx, edx
1:	mov rax, [rsi + rdx * 8]
	cmp rax, [log + rdx * 8]
	je 2f
	mov rbx, [log + rdx * 8]
	call fail
2:	inc edx
	cmp edx, ecx
	jb 1b
	cmp edx, [steps]
	je 3f
	mov ebx, [steps]
	call fail
3:	pop rdx
	pop rax
	ret

map_it:
	mov qword ptr [window_pt], offset page + P_ + W_
	ret
just_return:
	ret
syscall_entry: /* the user's stack is as good as any here */
	push USER_SS
	push offset user_stack_top
	push r11
	push USER_CS
	push rcx
	mov rcx, rsp
	iretq

	.section .user
user_steps:
	nop
user_1:	syscall
	nop
user_3:	int VEC_DONE

	.bss
	.balign 16
scratch:
	.skip 64
log:	.skip 1024
steps:	.skip 4
