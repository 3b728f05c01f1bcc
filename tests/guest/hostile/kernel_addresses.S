/*
 * Ring 3 goes for what is ring 0's, after ring 0 has filled every table of the translator for those addresses: data
 * TLB (also under AC=1), jump table, linked jumps, return landings. It must get the page fault that it is owed, each
 * time, with the right error code, and ring 0 must go on working.
 */
#include "guest.inc"

#define PRESENT 1
#define WRITE 2
#define USERMODE 4
#define FETCH 16
#define ROUNDS 20

	.text
	.macro MAP n, k, flags
	mov qword ptr [window_pt + (\n) * 8], offset page + (\k) * 4096 + (\flags)
	.endm
	/* ring 3 runs `what` with rbx = address: a fault with this code, at this instruction */
#define USER_FAULTS(what, error) USER what; EXPECT(VEC_PF, error); CHECK_EQ(qword ptr [seen_cr2], rbx); CHECK_EQ(SEEN(CS), USER_CS)

	.globl test_main
test_main:
	mov qword ptr [page], 0x5ec4e7
	COPY "page + 256", function, function_end
	MAP 0, 0, P_ + W_
	MAP 1, 0, P_ + W_ + U_ /* the same frame, for ring 3 */
	mov r12d, ROUNDS
again:
	/* --- data: low window, high alias, identity map, the VMM's own places; each filled by ring 0 first */
	.macro data_at address
	movabs rbx, offset \address
	HERE
	mov rax, [rbx]
	mov [rbx], rax
	call touch_in_handler
	USER_FAULTS(user_read, PRESENT + USERMODE)
	USER_FAULTS(user_write, PRESENT + WRITE + USERMODE)
	USER_FAULTS(user_rmw, PRESENT + WRITE + USERMODE)
	USER_FAULTS(user_rep_read, PRESENT + USERMODE)
	USER_FAULTS(user_rep_write, PRESENT + WRITE + USERMODE)
	USER_FAULTS(user_sse, PRESENT + USERMODE)
	USER_FAULTS(user_pop, PRESENT + USERMODE)
	USER_FAULTS(user_ret, PRESENT + USERMODE)
	USER_FAULTS(user_jump_through, PRESENT + USERMODE)
	.endm
	data_at W(0)
	data_at H(0)
	data_at page
	data_at gdt
	/* addresses that mean something in the host, not in the guest: nothing is mapped there in this guest … */
	mov rbx, 0x10000000 /* … but the identity map is, without RAM behind it */
	USER_FAULTS(user_read, PRESENT + USERMODE)
	mov rbx, 0x20000000
	USER_FAULTS(user_read, PRESENT + USERMODE)
	USER_FAULTS(user_write, PRESENT + WRITE + USERMODE)
	USER_FAULTS(user_jump, PRESENT + FETCH + USERMODE)
	/* a push, a call and an interrupt's frame do not help either */
	movabs rbx, offset W(0) + 8
	USER user_push
	EXPECT(VEC_PF, PRESENT + WRITE + USERMODE)
	EXPECT_CR2(W(0))
	USER user_call_on
	EXPECT(VEC_PF, PRESENT + WRITE + USERMODE)
	EXPECT_CR2(W(0))
	cmp qword ptr [page], 0x5ec4e7
	je 1f
	FAIL
1:
	/* --- entries made by ring 0 with AC=1 over user pages, which answer ring 0 with AC=0 no more */
	CR_SET cr4, CR4_SMAP
	mov ebx, W(1)
	stac
	HERE
	mov rax, [rbx]
	mov [rbx], rax
	clac
	FAULT
	mov rax, [rbx]
	EXPECT(VEC_PF, PRESENT)
	FAULT
	mov [rbx], rax
	EXPECT(VEC_PF, PRESENT + WRITE)
	/* … over kernel pages, which answer ring 3 never, whatever its own AC */
	mov ebx, W(0)
	stac
	mov rax, [rbx]
	mov [rbx], rax
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER_FAULTS(user_read, PRESENT + USERMODE)
	USER_FAULTS(user_write, PRESENT + WRITE + USERMODE)
	mov qword ptr [user_flags], 2
	clac
	USER_FAULTS(user_read, PRESENT + USERMODE)
	/* … and code that runs under AC=1 in ring 0 */
	mov ebx, W(0) + 256
	stac
	HERE
	call rbx
	call rbx
	CHECK_EQ(rax, 0x600d)
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER_FAULTS(user_jump, PRESENT + FETCH + USERMODE)
	mov qword ptr [user_flags], 2
	clac
	/* ring 3 touches its page, with AC; ring 0 may not with the entry that this makes */
	mov ebx, W(1)
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER user_read
	EXPECT(VEC_DONE, ANY)
	mov qword ptr [user_flags], 2
	FAULT
	mov rax, [rbx]
	EXPECT(VEC_PF, PRESENT)
	/* interrupted in ring 3 with AC: the handler has no business with AC=0's … it has AC=1 until it clears it */
	CR_CLEAR cr4, CR4_SMAP
	/* SMEP: ring 3's code, in every table of ring 3, does not run in ring 0 */
	mov ebx, W(1) + 256
	USER user_call
	EXPECT(VEC_DONE, ANY)
	CR_SET cr4, CR4_SMEP
	USER user_call
	EXPECT(VEC_DONE, ANY)
	FAULT
	call rbx
	EXPECT(VEC_PF, PRESENT + FETCH)
	EXPECT_RIP(W(1) + 256)
	CR_CLEAR cr4, CR4_SMEP

	/* --- code: the jump table knows the address for ring 0, by calls, jumps and returns */
	.macro code_at address
	movabs rbx, offset \address
	mov ecx, 4
79:	HERE
	call rbx
	CHECK_EQ(rax, 0x600d)
	dec ecx
	jnz 79b
	USER_FAULTS(user_jump, PRESENT + FETCH + USERMODE)
	CHECK_EQ(SEEN(RIP), rbx)
	USER_FAULTS(user_call, PRESENT + FETCH + USERMODE)
	USER_FAULTS(user_return_to, PRESENT + FETCH + USERMODE)
	USER_FAULTS(user_jump_memory, PRESENT + FETCH + USERMODE)
	USER user_iret
	EXPECT(VEC_PF, PRESENT + FETCH + USERMODE)
	/* sysret to it: the kernel was made to return to a kernel address */
	mov rcx, rbx
	mov r11d, 2
	FAULT
	sysretq
	EXPECT(VEC_PF, PRESENT + FETCH + USERMODE)
	CHECK_EQ(qword ptr [seen_cr2], rbx)
	.endm
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, syscall_entry
	WRMSR_ MSR_SFMASK, FLAG_IF
	code_at W(0)+256
	code_at H(0)+256
	code_at function
	code_at isr_like

	/* --- return landings: ring 0 calls, its callee goes to ring 3 by iret, and ring 3 returns to where ring 0 would */
	HERE
	call into_ring_3 /* pushes a prediction for what follows; comes back by the fault */
	mov rbx, offset 80f
	FAULT
	call 81f
80:	jmp broken
81:	push USER_SS
	push offset user_stack_top
	push 2
	push USER_CS
	push offset user_return_to /* rbx: the landing */
	iretq
	EXPECT(VEC_PF, PRESENT + FETCH + USERMODE)
	CHECK_EQ(qword ptr [seen_cr2], rbx)
	/* by syscall and sysret, from inside a nest of calls on both sides */
	mov rbx, offset syscall_landing
	USER user_nested_syscall
	EXPECT(VEC_PF, PRESENT + FETCH + USERMODE)
	CHECK_EQ(qword ptr [seen_cr2], rbx)
	/* ring 3's landings are of no use to ring 0 under SMEP, and mean ring 0 without it */
	dec r12d
	jnz again
	ret

broken:	FAIL

	/* the handler of int3 touches the page at rbx, on its own stack */
touch_in_handler:
	HANDLER VEC_BP, toucher
	int3
	NO_HANDLER VEC_BP
	ret
toucher:
	mov rax, [rdi + F_RBX]
	mov rcx, [rax]
	mov [rax], rcx
	ret

into_ring_3:
	mov rbx, [rsp]
	USER_FAULTS(user_return_to, PRESENT + FETCH + USERMODE)
	ret

syscall_entry: /* ring 3's stack pointer in r15; calls, so that there are landings; back by sysret */
	mov r15, rsp
	mov rsp, offset interrupt_stack_top
	call syscall_work
syscall_landing:
	mov rsp, r15
	sysretq
syscall_work:
	call function
	ret

function:
	mov eax, 0x600d
	ret
function_end:
isr_like:
	mov eax, 0x600d
	ret

	.section .user
user_read:
	mov rax, [rbx]
	int VEC_DONE
user_write:
	mov [rbx], rax
	int VEC_DONE
user_rmw:
	lock inc qword ptr [rbx]
	int VEC_DONE
user_rep_read:
	mov rsi, rbx
	mov edi, offset user_scratch
	mov ecx, 8
	rep movsb
	int VEC_DONE
user_rep_write:
	mov rdi, rbx
	mov ecx, 8
	rep stosb
	int VEC_DONE
user_sse:
	movups xmm0, [rbx]
	int VEC_DONE
user_pop:
	mov rsp, rbx
	pop rax
	int VEC_DONE
user_push:
	mov rsp, rbx
	push rax
	int VEC_DONE
user_ret:
	mov rsp, rbx
	ret
user_call_on:
	mov rsp, rbx
	call user_read
user_jump_through:
	jmp [rbx]
user_jump:
	jmp rbx
user_jump_memory:
	mov [user_scratch], rbx
	jmp [user_scratch]
user_call:
	call rbx
	int VEC_DONE
user_return_to:
	push rbx
	ret
user_iret:
	mov rax, rsp
	push USER_SS
	push rax
	push 2
	push USER_CS
	push rbx
	iretq
user_nested_syscall:
	call 1f
	int VEC_DONE
1:	call 2f
	ret
2:	syscall
	mov [rsp], rbx /* the return address becomes ring 0's landing */
	ret
	.balign 16
user_scratch:
	.quad 0, 0
