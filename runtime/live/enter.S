/*
 * The border between C and generated code.
 *
 * In generated code each guest register is in the host register of the same name, but RSP is in r11, and r10 and r11
 * are in struct vcpu, as are r8 and r9 wherever a unit is entered or left. Host r10 is scratch. Host rsp is a prediction
 * stack: return addresses only, one for each of user and kernel. C runs on the stack that live_enter was called on.
 */
#include "live/offsets.h"

	.intel_syntax noprefix
	.text

/* Guest registers and arithmetic flags → struct vcpu. Leaves r10 alone; rax and rcx are free afterwards. */
.macro SAVE_GUEST
	mov [V_GPR(0)], rax
	mov [V_GPR(1)], rcx
	mov [V_GPR(2)], rdx
	mov [V_GPR(3)], rbx
	mov [V_GPR(4)], r11
	mov [V_GPR(5)], rbp
	mov [V_GPR(6)], rsi
	mov [V_GPR(7)], rdi
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
.endm

/* struct vcpu → guest registers and arithmetic flags. */
.macro LOAD_GUEST
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
	mov r11, [V_GPR(4)]
	mov rbp, [V_GPR(5)]
	mov rsi, [V_GPR(6)]
	mov rdi, [V_GPR(7)]
	mov r12, [V_GPR(12)]
	mov r13, [V_GPR(13)]
	mov r14, [V_GPR(14)]
	mov r15, [V_GPR(15)]
.endm

/* Remembers \sp as the top of the prediction stack of the CPL in force, and moves to the C stack. Clobbers rax, rcx. */
.macro LEAVE_PREDICTIONS sp_offset
	movzx eax, byte ptr [V_CPL]
	shr eax, 1
	lea rcx, [rsp + \sp_offset]
	mov [V_PREDICTION_SP + rax * 8], rcx
	mov rsp, [V_HOST_SP]
.endm

/* The prediction stack of the CPL in force. Clobbers rax and flags. */
.macro ENTER_PREDICTIONS
	movzx eax, byte ptr [V_CPL]
	shr eax, 1
	mov rsp, [V_PREDICTION_SP + rax * 8]
.endm

/* int live_enter(void *code) */
	.globl live_enter
	.type live_enter, @function
live_enter:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	sub rsp, 8
	mov [V_HOST_SP], rsp
	mov rax, rdi
live_resume: /* rax: where to go on */
	mov [V_ENTER_TARGET], rax
	ENTER_PREDICTIONS
	LOAD_GUEST
	/* AT&T syntax: clang's assembler takes `jmp [number]` for a jump to that address */
	.att_syntax
	jmp *V_ENTER_TARGET
	.intel_syntax noprefix
	.size live_enter, . - live_enter

/* The guest's state is stored and rsp is the C stack: back to live_enter's caller. */
	.globl live_leave
	.type live_leave, @function
live_leave:
	mov rsp, [V_HOST_SP]
	mov eax, [V_LIVE_EXIT]
	add rsp, 8
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret
	.size live_leave, . - live_leave

/* After a C call: rax is where to go on, 0 to leave, or the address that the stub was called from (in scratch[7]). */
.macro CONTINUE drop
	test rax, rax
	jz live_leave
	cmp rax, [V_SCRATCH + 56]
	jne live_resume
	ENTER_PREDICTIONS
	LOAD_GUEST
	lea rsp, [rsp - 8 - \drop]
.if \drop
	ret \drop
.else
	ret
.endif
.endm

/* Called by generated code: r10 = struct insn *, V_RIP = its address. */
	.globl live_stub_helper
live_stub_helper:
	SAVE_GUEST
	mov rdx, [rsp]
	mov [V_SCRATCH + 56], rdx
	LEAVE_PREDICTIONS 8
	mov rsi, r10
	mov edi, 0x10000000
	call live_call_helper
	CONTINUE 0

/* Called by generated code: V_RIP = address of an instruction that the single-instruction path shall execute. */
	.globl live_stub_interp
live_stub_interp:
	SAVE_GUEST
	mov rsi, [rsp]
	mov [V_SCRATCH + 56], rsi
	LEAVE_PREDICTIONS 8
	mov edi, 0x10000000
	call live_call_interp
	CONTINUE 0

/* Called by generated code: r10 = gva, [rsp + 8] = size and kind of access. */
.macro ACCESS_STUB name, function
	.globl \name
\name:
	SAVE_GUEST
	mov rdx, [rsp + 8]
	mov r8, [rsp]
	mov [V_SCRATCH + 56], r8
	LEAVE_PREDICTIONS 16
	mov rsi, r10
	mov rcx, r8
	mov edi, 0x10000000
	call \function
	CONTINUE 8
.endm

	ACCESS_STUB live_stub_tlb_miss, live_call_tlb_miss
	ACCESS_STUB live_stub_window_miss, live_call_window_miss

/* Jumped to: V_RIP = target. */
	.globl live_stub_jump_miss
live_stub_jump_miss:
	SAVE_GUEST
	LEAVE_PREDICTIONS 0
	mov edi, 0x10000000
	call live_call_jump_miss
	test rax, rax
	jnz live_resume
	jmp live_leave

/* Jumped to (or called, like a guest call): exit_info = number of a target that has no entry. */
	.globl live_stub_target_miss
live_stub_target_miss:
	SAVE_GUEST
	LEAVE_PREDICTIONS 0
	mov edi, 0x10000000
	call live_call_target_miss
	test rax, rax
	jnz live_resume
	jmp live_leave

/* Jumped to: V_RIP = an instruction for a careful translation. */
	.globl live_stub_careful
live_stub_careful:
	SAVE_GUEST
	LEAVE_PREDICTIONS 0
	mov edi, 0x10000000
	call live_call_careful
	test rax, rax
	jnz live_resume
	jmp live_leave

/*
 * Called by lifted code: r10 = gva. r10 := addend | 1, | 2 if the page may be written as well, or 0. The view in force
 * begins with its TLB (mem.h). Guest registers are anywhere: all but r10 are kept.
 */
.macro FILL name, size, write
	.globl live_stub_fill_\name
live_stub_fill_\name:
	push rax
	push rcx
	mov rax, r10
	shr rax, VIEW_TLB_SHIFT
	and eax, VIEW_TLB_MASK
	mov rcx, gs:[rax + VIEW_TLB_WRITE * \write]
	add rcx, r10
	cmp rcx, 4096 - \size
	ja 1f
.if \write
	mov r10d, 3
.else
	mov rcx, gs:[rax]
	xor r10d, r10d
	cmp rcx, gs:[rax + VIEW_TLB_WRITE]
	sete r10b
	lea r10, [r10 * 2 + 1]
.endif
	add r10, gs:[rax + VIEW_TLB_ADDEND]
	pop rcx
	pop rax
	ret
1:	mov eax, \size | \write << 7
	jmp live_fill_miss
.endm

	FILL read1, 1, 0
	FILL read2, 2, 0
	FILL read4, 4, 0
	FILL read8, 8, 0
	FILL read16, 16, 0
	FILL read32, 32, 0
	FILL write1, 1, 1
	FILL write2, 2, 1
	FILL write4, 4, 1
	FILL write8, 8, 1
	FILL write16, 16, 1
	FILL write32, 32, 1

/* eax = size and kind; rax and rcx are on the stack. */
live_fill_miss:
	push rdx
	push rsi
	push rdi
	push r8
	push r9
	push r11
	push rbx
	mov rbx, rsp
	mov edi, 0x10000000
	mov rsi, r10
	mov edx, eax
	mov rsp, [V_HOST_SP]
	call live_call_fill
	mov r10, rax
	mov rsp, rbx
	pop rbx
	pop r11
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rdx
	pop rcx
	pop rax
	ret

/*
 * Jumped to: a guest return to r10 that was not predicted. Common while a kernel goes through retpolines, so what the
 * jump table knows is good enough. r8 and r9 are free where units are entered; the flags are not.
 */
	.globl live_stub_return_miss
live_stub_return_miss:
	mov [V_RIP], r10
	mov r9, rax
	lahf
	seto al
	mov r8, r10
	shr r8, VIEW_SHIFT
	movzx r8d, r8w
	cmp gs:[VIEW_JUMP_PC + r8 * 8], r10
	jne 1f
	mov r8d, gs:[VIEW_JUMP + r8 * 4]
	add al, 0x7f
	sahf
	mov rax, r9
	lea r8, [r8 + LIVE_CODE]
	jmp r8
1:	add al, 0x7f
	sahf
	mov rax, r9
	jmp live_stub_jump_miss

/* A guest return (r10 = its target) found the prediction stack empty: put the sentinel back. */
	.globl live_stub_underflow
live_stub_underflow:
	lea rsp, [rsp - 8]
	jmp live_stub_return_miss

.macro LEAVING name, reason
	.globl \name
\name:
	SAVE_GUEST
	LEAVE_PREDICTIONS 0
	mov dword ptr [V_LIVE_EXIT], \reason
	jmp live_leave
.endm

	LEAVING live_stub_link, 1
	LEAVING live_stub_poll, 2
	LEAVING live_stub_budget, 3

	.section .note.GNU-stack, "", @progbits
