/* Into and out of a case that runs natively. Addresses are those of struct native_frame (native.c). */
#define FRAME     0x0a000000
#define F_GPR(n)  (FRAME + (n) * 8)
#define F_FLAGS   (FRAME + 128)
#define F_RIP     (FRAME + 136)
#define F_FS      (FRAME + 144)
#define F_GS      (FRAME + 152)
#define F_HOST_SP (FRAME + 160)
#define F_HOST_FS (FRAME + 168)
#define F_HOST_GS (FRAME + 176)
#define F_VECTORS (FRAME + 192)

#define F_FAR     (FRAME + 184)
#define LEGACY_FS 0x07
#define LEGACY_GS 0x0f
#define FLAT_DATA 0x2b

	.intel_syntax noprefix
	.text

	.macro SAVE_HOST
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	mov [F_HOST_SP], rsp
	rdfsbase rax
	mov [F_HOST_FS], rax
	rdgsbase rax
	mov [F_HOST_GS], rax
	mov eax, 7
	xor edx, edx
	xrstor [F_VECTORS]
	.endm

	.macro LOAD_CASE
	push [F_FLAGS]
	popfq
	mov rax, [F_GPR(0)]
	mov rcx, [F_GPR(1)]
	mov rdx, [F_GPR(2)]
	mov rbx, [F_GPR(3)]
	mov rsp, [F_GPR(4)]
	mov rbp, [F_GPR(5)]
	mov rsi, [F_GPR(6)]
	mov rdi, [F_GPR(7)]
	mov r8, [F_GPR(8)]
	mov r9, [F_GPR(9)]
	mov r10, [F_GPR(10)]
	mov r11, [F_GPR(11)]
	mov r12, [F_GPR(12)]
	mov r13, [F_GPR(13)]
	mov r14, [F_GPR(14)]
	mov r15, [F_GPR(15)]
	.endm

	.globl native_enter
	.type native_enter, @function
native_enter:
	SAVE_HOST
	mov rax, [F_FS]
	wrfsbase rax
	mov rax, [F_GS]
	wrgsbase rax
	LOAD_CASE
	.att_syntax /* clang takes `jmp [address]` for a direct jump */
	jmp *F_RIP
	.intel_syntax noprefix
	.size native_enter, . - native_enter

	.globl native_enter_legacy
	.type native_enter_legacy, @function
native_enter_legacy:
	SAVE_HOST
	mov eax, FLAT_DATA
	mov ds, eax
	mov es, eax
	mov eax, LEGACY_FS
	mov fs, eax
	mov eax, LEGACY_GS
	mov gs, eax
	LOAD_CASE
	.att_syntax /* as above */
	ljmp *F_FAR
	.intel_syntax noprefix
	.size native_enter_legacy, . - native_enter_legacy

/* From the signal handler, which has put FS and GS back and was entered with fresh vector state. */
	.globl native_leave
	.type native_leave, @function
native_leave:
	mov rsp, [F_HOST_SP]
	push 2
	popfq
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret
	.size native_leave, . - native_leave

	.section .note.GNU-stack, "", @progbits
