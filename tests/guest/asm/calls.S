/* Calls and returns that do not pair: deep nesting, unwinding, stack switches, forged and wrong return addresses. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	/* --- a million deep, and back (in memory below 48 MiB) */
	mov rbp, rsp
	mov rsp, 0x3000000
	mov ecx, 1000000
	xor eax, eax
	HERE
	call nest
	CHECK_EQ(rax, 1000000)
	CHECK_EQ(rsp, 0x3000000)
	/* through a register, mutually */
	mov ecx, 300000
	xor eax, eax
	mov rbx, offset nest_other
	HERE
	call rbx
	CHECK_EQ(rax, 600000)
	CHECK_EQ(rsp, 0x3000000)

	/* --- deep, and out of it at once (longjmp); many times */
	mov r12d, 20
unwind:
	mov ecx, 50000
	xor eax, eax
	mov r15, offset after_jump
	mov r14, rsp
	call nest_and_jump
	FAIL
after_jump:
	CHECK_EQ(rsp, 0x3000000)
	CHECK_EQ(rax, 50000)
	mov ecx, 1000
	xor eax, eax
	call nest
	CHECK_EQ(rax, 1000)
	dec r12d
	jnz unwind

	/* --- calls that never return, the stack taken back each time */
	mov ecx, 500000
never:	mov rsp, 0x3000000
	dec ecx
	jz 1f
	call never
1:
	/* --- returns to where nobody called from: push/ret chains */
	mov ecx, 10000
	xor eax, eax
pushed:	push offset 1f
	push offset 2f
	push offset 3f
	ret
3:	inc rax
	ret
2:	inc rax
	ret
1:	dec ecx
	jnz pushed
	CHECK_EQ(rax, 20000)
	/* the return address is changed by the callee, to each of several places */
	mov ecx, 3000
	xor ebx, ebx
forge:	call forger
	inc ebx
	jmp 9f
forged_1:
	add ebx, 2
	jmp 9f
forged_2:
	add ebx, 3
9:	dec ecx
	jnz forge
	CHECK_EQ(rbx, 6000)
	/* return address read and used as data, popped, skipped by ret n */
	call 1f
1:	pop rax
	mov rcx, offset 1b
	CHECK_EQ(rax, rcx)
	push 3
	push 4
	push 5
	call pop_three
	CHECK_EQ(rax, 12)
	CHECK_EQ(rsp, 0x3000000)
	/* the callee returns to the caller's caller */
	mov ecx, 1000
	xor ebx, ebx
1:	call two_up
	inc ebx
	dec ecx
	jnz 1b
	CHECK_EQ(rbx, 1000)
	/* call to the next instruction, 1000 times, then all returns of it */
	mov ecx, 1000
	xor eax, eax
	push offset 3f
1:	call 2f
	inc rax
	ret
2:	dec ecx
	jnz 1b
	ret
3:	CHECK_EQ(rax, 1000)
	CHECK_EQ(rsp, 0x3000000)

	/* --- threads that switch stacks in the middle of calls */
	mov ecx, 8
	mov rdi, offset contexts
	mov rdx, 0x2800000
1:	lea rax, [rdx - 8]
	mov qword ptr [rax], offset thread
	mov [rdi], rax
	add rdi, 8
	add rdx, 0x10000
	dec ecx
	jnz 1b
	mov qword ptr [rounds], 20000
	mov qword ptr [sum], 0
	mov dword ptr [current], 0
	mov [main_context], rsp
	HERE
	call first_switch
	mov rax, [sum]
	cmp rax, 20000 - 10
	jae 1f
	FAIL
1:
	/* --- returns to garbage: fault with the right state, and the VMM lives on */
	mov rsp, rbp
	mov r12d, 200
garbage:
	FAULT
	push 0x52345678
	ret
	EXPECT(VEC_PF, 0x10)
	FAULT
	movabs rax, 0x0000700000000000
	call rax
	EXPECT(VEC_PF, 0x10)
	EXPECT_RIP(0x0000700000000000)
	FAULT
	movabs rax, 0x7fffffffffff
	jmp rax
	EXPECT(VEC_PF, 0x10)
	movabs rbx, 0x8000000000000000
	FAULT
	jmp rbx
	EXPECT(VEC_GP, 0)
	FAULT
	call rbx
	EXPECT(VEC_GP, 0)
	FAULT
	push rbx
	ret
	EXPECT(VEC_GP, 0)
	/* zeros are code: add [rax], al */
	mov eax, offset page + 100
	mov byte ptr [page + 100], 1
	mov word ptr [page + 4094], 0x0b0f
	FAULT
	push offset page + 4086
	ret
	EXPECT(VEC_UD, ANY)
	EXPECT_RIP(page + 4094)
	/* into the middle of an instruction */
	xor eax, eax
	push offset 1f
	push offset middle + 2
	ret
1:	CHECK_EQ(rax, 7)
	/* no memory there at all: the bus reads as ones */
	FAULT
	mov eax, 0xd0000000
	jmp rax
	EXPECT(VEC_UD, ANY)
	dec r12d
	jnz garbage
	/*
	 * A jump to a non-canonical address is reported at the jump, with nothing done (SDM vol. 2, CALL, JMP, RET), or, as
	 * other processors do it, at its target, when it is done.
	 */
	mov rbp, rsp
	FAULT
1:	jmp rbx
	EXPECT(VEC_GP, 0)
	mov rax, offset 1b
	xor ecx, ecx
	call at_or_behind
	FAULT
1:	call rbx
	EXPECT(VEC_GP, 0)
	mov rax, offset 1b
	mov rcx, -8
	call at_or_behind
	push rbx
	FAULT
1:	ret
	EXPECT(VEC_GP, 0)
	mov rsp, rbp
	mov rax, offset 1b
	sub rbp, 8
	mov ecx, 8
	call at_or_behind
	ret

at_or_behind: /* rip == rax and rsp == rbp, or rip == rbx and rsp == rbp + rcx */
	cmp SEEN(RIP), rax
	jne 1f
	CHECK_EQ(SEEN(RSP), rbp)
	ret
1:	CHECK_EQ(SEEN(RIP), rbx)
	add rcx, rbp
	CHECK_EQ(SEEN(RSP), rcx)
	ret

nest:	inc rax
	dec ecx
	jz 1f
	call nest
1:	ret

nest_other:
	inc rax
	call nest_more
	ret
nest_more:
	inc rax
	dec ecx
	jz 1f
	call rbx
1:	ret

nest_and_jump:
	inc rax
	dec ecx
	jz 1f
	call nest_and_jump
	FAIL
1:	mov rsp, r14
	jmp r15

forger:
	mov eax, ecx
	xor edx, edx
	mov esi, 3
	div esi
	cmp edx, 1
	jb 1f
	mov rax, offset forged_1
	mov rsi, offset forged_2
	cmove rsi, rax
	mov [rsp], rsi
1:	ret

pop_three:
	mov rax, [rsp + 8]
	add rax, [rsp + 16]
	add rax, [rsp + 24]
	ret 24

two_up:
	call 1f
	FAIL
1:	add rsp, 8
	ret

middle:	/* from its third byte on: mov al, 7; ret */
	movabs rcx, 0xc307b0

first_switch:
	pop rax
	mov [main_return], rax
	mov rsp, [contexts]
	ret
thread: /* calls a function that switches in its middle */
	call thread_work
	jmp thread
thread_work:
	push rbx
	mov rbx, [sum]
	call switch
	inc qword ptr [sum]
	pop rbx
	ret
switch: /* to the next thread's stack */
	dec qword ptr [rounds]
	jz 1f
	mov eax, [current]
	mov [contexts + rax * 8], rsp
	inc eax
	and eax, 7
	mov [current], eax
	mov rsp, [contexts + rax * 8]
	ret
1:	mov rsp, [main_context]
	mov rax, [main_return]
	jmp rax

	.bss
contexts:
	.skip 64
main_context:
	.skip 8
main_return:
	.skip 8
rounds:	.skip 8
sum:	.skip 8
current:
	.skip 8
