/*
 * What kernels do a million times in a boot, without a way through C: REP MOVS and REP STOS forward within pages that are
 * in the TLB, and PUSHF. Generated code calls these instead of live_stub_helper, in the same way (r10 = struct insn *,
 * V_RIP = its address); what is not as simple as that goes there. r8 and r9 are free, flags and all else are kept.
 */
#include "live/offsets.h"

	.intel_syntax noprefix
	.text

/* Flags and rax to the prediction stack, and back. */
.macro SAVE_FLAGS
	push rax
	lahf
	seto al
	push rax
.endm

.macro LOAD_FLAGS
	pop rax
	add al, 0x7f
	sahf
	pop rax
.endm

/*
 * \entry := the offset in the view of the TLB entry for \address; where the access has no right to all of its \length
 * bytes (a register expression that is added to the offset in the page), goes to 9. Clobbers rax.
 */
.macro LOOK_UP entry, address, tag, length
	mov \entry, \address
	shr \entry, VIEW_TLB_SHIFT
	and \entry, VIEW_TLB_MASK
	mov rax, gs:[\entry + \tag]
	add rax, \address
	cmp rax, 4095
	ja 9f
	lea rax, [rax + \length]
	cmp rax, 4096
	ja 9f
.endm

/* Words of 8 bytes up to this number one by one: a processor takes longer to begin with REP. */
#define WORDS_WITHOUT_REP 16

.macro REPEAT name, moves, size, instruction
	.globl live_stub_\name
	.type live_stub_\name, @function
live_stub_\name:
	SAVE_FLAGS
	test dword ptr [V_RFLAGS], 0x500 /* DF, TF */
	jnz 9f
	lea rax, [rcx - 1]
	cmp rax, 4096
	jae 9f
	LOOK_UP r8, rdi, VIEW_TLB_WRITE, "rcx * \size"
.if \moves
	LOOK_UP r9, rsi, 0, "rcx * \size"
	add rsi, gs:[r9 + VIEW_TLB_ADDEND]
.else
	mov rax, [rsp + 8]
.endif
	add rdi, gs:[r8 + VIEW_TLB_ADDEND]
.if \size == 8
	cmp ecx, WORDS_WITHOUT_REP
	ja 2f
1:
.if \moves
	mov rax, [rsi]
	add rsi, 8
.endif
	mov [rdi], rax
	add rdi, 8
	dec ecx
	jnz 1b
	jmp 3f
.endif
2:	rep \instruction
3:	sub rdi, gs:[r8 + VIEW_TLB_ADDEND]
.if \moves
	sub rsi, gs:[r9 + VIEW_TLB_ADDEND]
.endif
	mov byte ptr [V_SHADOW], 0
	LOAD_FLAGS
	ret
9:	LOAD_FLAGS
	jmp live_stub_helper
	.size live_stub_\name, . - live_stub_\name
.endm

	REPEAT movs1, 1, 1, movsb
	REPEAT movs4, 1, 4, movsd
	REPEAT movs8, 1, 8, movsq
	REPEAT stos1, 0, 1, stosb
	REPEAT stos4, 0, 4, stosd
	REPEAT stos8, 0, 8, stosq

/* PUSHF of 8 bytes; the guest's rsp is r11. */
	.globl live_stub_pushf
	.type live_stub_pushf, @function
live_stub_pushf:
	SAVE_FLAGS
	lea r9, [r11 - 8]
	LOOK_UP r8, r9, VIEW_TLB_WRITE, 8
	mov rax, [rsp] /* as lahf and seto left it */
	mov r11, r9
	add r9, gs:[r8 + VIEW_TLB_ADDEND]
	movzx r8d, al
	shr eax, 8
	and eax, 0xd5
	shl r8d, 11
	or eax, r8d
	or rax, [V_RFLAGS]
	or eax, 2
	and eax, 0xfffcffff /* neither RF nor VM */
	mov [r9], rax
	mov byte ptr [V_SHADOW], 0
	LOAD_FLAGS
	ret
9:	LOAD_FLAGS
	jmp live_stub_helper
	.size live_stub_pushf, . - live_stub_pushf

	.section .note.GNU-stack, "", @progbits
