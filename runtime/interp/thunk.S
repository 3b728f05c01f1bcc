/* Runs one copied instruction: int interp_run(void *thunk); 0 executed, 1 it raised an exception (v->fault). */
#include "live/offsets.h"

	.intel_syntax noprefix
	.text

.macro RESTORE_C
	mov rsp, [V_INTERP_SP]
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
.endm

	.globl interp_run
	.type interp_run, @function
interp_run:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	mov [V_INTERP_SP], rsp
	mov [V_ENTER_TARGET], rdi
	mov eax, [V_ARITH]
	mov ecx, eax
	shr ecx, 11
	and ecx, 1
	add cl, 0x7f
	mov ah, al
	sahf
	mov rax, [V_GPR(0)]
	mov rcx, [V_GPR(1)]
	mov rdx, [V_GPR(2)]
	mov rbx, [V_GPR(3)]
	mov rbp, [V_GPR(5)]
	mov rsi, [V_GPR(6)]
	mov rdi, [V_GPR(7)]
	mov r8, [V_GPR(8)]
	mov r9, [V_GPR(9)]
	mov r10, [V_GPR(10)]
	mov r11, [V_GPR(11)]
	mov r12, [V_GPR(12)]
	mov r13, [V_GPR(13)]
	mov r14, [V_GPR(14)]
	mov r15, [V_GPR(15)]
	.att_syntax /* clang takes `jmp [address]` for a direct jump */
	jmp *V_ENTER_TARGET
	.intel_syntax noprefix
	.size interp_run, . - interp_run

/* A thunk ends here; guest RSP has been stored by the thunk if it can change. */
	.globl interp_thunk_done
	.type interp_thunk_done, @function
interp_thunk_done:
	mov [V_GPR(0)], rax
	mov [V_GPR(1)], rcx
	mov [V_GPR(2)], rdx
	mov [V_GPR(3)], rbx
	mov [V_GPR(5)], rbp
	mov [V_GPR(6)], rsi
	mov [V_GPR(7)], rdi
	mov [V_GPR(8)], r8
	mov [V_GPR(9)], r9
	mov [V_GPR(10)], r10
	mov [V_GPR(11)], r11
	mov [V_GPR(12)], r12
	mov [V_GPR(13)], r13
	mov [V_GPR(14)], r14
	mov [V_GPR(15)], r15
	lahf
	seto al
	movzx ecx, ah
	movzx eax, al
	shl eax, 11
	or eax, ecx
	mov [V_ARITH], rax
	RESTORE_C
	xor eax, eax
	ret
	.size interp_thunk_done, . - interp_thunk_done

/* The signal handler comes here when a thunk's instruction raised an exception. */
	.globl interp_thunk_fault
	.type interp_thunk_fault, @function
interp_thunk_fault:
	RESTORE_C
	mov eax, 1
	ret
	.size interp_thunk_fault, . - interp_thunk_fault

	.section .note.GNU-stack, "", @progbits
