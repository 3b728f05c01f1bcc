/*
 * Ring 3's code at many addresses: one page frame is mapped at several at once, two frames hold the same bytes, pages
 * call each other across their borders and name their own data. Then bytes change, also over and over, which every
 * address must notice; and returns go where no prediction is left.
 */
#include "guest.inc"

#define RU  (P_ + U_)
#define RWU (P_ + W_ + U_)
#define PLACES 12 /* addresses: (1 … PLACES) << 39, plus the window's */
#define ROUNDS 30
#define CHANGES 12 /* rounds at the end in which code changes */
#define MAGIC  0x1122334455667788

	.text
	.globl test_main
test_main:
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, service
	WRMSR_ MSR_SFMASK, FLAG_IF
	mov ecx, PLACES
1:	mov qword ptr [pml4 + rcx * 8], offset pdpt + 7
	dec ecx
	jnz 1b
	/* pages 0–3 of the window: three of code, one of data; pages 4–7: the same bytes in other frames */
	COPY page, code, code_end
	COPY "page + 4 * 4096", code, code_end
	movabs rax, MAGIC
	mov [page + 3 * 4096], rax
	mov [page + 7 * 4096], rax
	.set n, 0
	.rept 8
	mov qword ptr [window_pt + n * 8], offset page + n * 4096 + RWU
	.set n, n + 1
	.endr
	RELOAD_CR3
	USER user_main
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RAX), 0)
	ret

/* rdi = 0: CR3 is loaded, so nothing is predicted; else rsi, 4 bytes, is written there. rcx, r11 as syscall has it. */
service:
	test rdi, rdi
	jnz 1f
	mov rdi, cr3
	mov cr3, rdi
	xor edi, edi
	sysretq
1:	mov [rdi], esi
	sysretq

/* --- what is mapped: position-independent */
	.balign 4096
code:
first: /* r8, r9 := own address, the second page's; r10 := the data; the data's second word := r8 */
	lea r8, [rip + first]
	call second
	mov r10, [rip + data]
	mov [rip + data + 8], r8
	add qword ptr [rip + data + 16], 1
	call local
	lea r11, [rip + first]
	ret
local:
	lea rax, [rip + local]
	sub rax, r8
	ret
	.balign 256
deep: /* ecx times itself, then CR3 is loaded; rax := sum of where its returns came back to */
	dec ecx
	jz 1f
	call deep
deep_back:
	lea rdx, [rip + deep_back]
	add rax, rdx
	ret
1:	push r11
	xor edi, edi
	syscall
	pop r11
	xor eax, eax
	ret
	.balign 4096
second:
	lea r9, [rip + second]
	push rbx
	call [rip + pointer]
	pop rbx
	ret
third:
constant:
	mov r12d, 0
	ret
	.balign 4096
twice: /* calls the second page from the third: another number for the same target */
	call second
	lea rbx, [rip + twice]
	ret
	.balign 4096
data:	.quad 0, 0, 0
pointer: /* `third`, whose address depends on the place: it is filled in before the call */
	.quad 0
code_end:

	.section .user
	/* rbx = where `first` is, ebp = what `constant` says */
user_check:
	lea rax, [rbx + (third - first)]
	mov [rbx + (pointer - first)], rax
	xor r12d, r12d
	call rbx
	lea rcx, [rbx]
	cmp r8, rcx
	jne user_wrong
	cmp r11, rcx
	jne user_wrong
	lea rcx, [rbx + 4096]
	cmp r9, rcx
	jne user_wrong
	cmp rax, local - first
	jne user_wrong
	movabs rcx, MAGIC
	cmp r10, rcx
	jne user_wrong
	cmp [rbx + 3 * 4096 + 8], rbx
	jne user_wrong
	cmp r12d, ebp
	jne user_wrong
	push rbx
	add rbx, 2 * 4096
	call rbx
	pop rcx
	sub rbx, rcx
	cmp rbx, 2 * 4096
	mov rbx, rcx
	jne user_wrong
	ret
user_wrong:
	mov eax, 1
	int VEC_DONE

	/* rbx: `deep` is run there; its returns find no predictions */
user_deep:
	mov ecx, 9
	lea rax, [rbx + (deep - first)]
	call rax
	lea rcx, [rbx + (deep_back - first)]
	shl rcx, 3
	cmp rax, rcx
	jne user_wrong
	ret

user_main:
	mov r13d, ROUNDS
	xor ebp, ebp
1:	/* --- all places one after the other, then from both ends by turns */
	mov r14d, PLACES
2:	call user_place
	call user_check
	call user_check
	call user_deep
	dec r14d
	jnz 2b
	mov r14d, PLACES
3:	call user_place
	call user_check
	neg r14d
	add r14d, PLACES + 1
	call user_place
	call user_check
	call user_check
	neg r14d
	add r14d, PLACES + 1
	dec r14d
	jnz 3b
	/* --- other frames with the same bytes; at last with a constant of their own */
	xor esi, esi
	cmp r13d, CHANGES
	ja 5f
	mov edi, offset page + 5 * 4096 + (constant - second) + 2
	lea esi, [r13 + 100]
	syscall
5:	mov r14d, PLACES
4:	call user_place
	call user_check
	add rbx, 4 * 4096
	mov ebp, esi
	call user_check
	call user_check
	call user_deep
	xor ebp, ebp
	call user_place
	call user_check
	dec r14d
	jnz 4b
	cmp r13d, CHANGES
	ja 6f
	/* --- the first frames' constant changes, and is the same again */
	mov edi, offset page + 4096 + (constant - second) + 2
	mov esi, r13d
	syscall
	mov ebp, r13d
	mov r14d, 3
	call user_place
	call user_check
	mov edi, offset page + 4096 + (constant - second) + 2
	xor esi, esi
	syscall
	xor ebp, ebp
	call user_check
6:	dec r13d
	jnz 1b
	xor eax, eax
	int VEC_DONE

user_place: /* rbx := where place r14 has the window */
	mov eax, r14d
	shl rax, 39
	lea rbx, [rax + WINDOW]
	ret
