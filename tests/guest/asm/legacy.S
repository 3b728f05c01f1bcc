/* 32-bit user code: the ways in and out, faults, segments with limits, single steps, and code that changes itself. */
#include "guest.inc"

#define CS32 0x53
#define SMALL_DS 0x5b /* small_data, 16 bytes */

	.text
	.macro USER32 target
	FAULT
	push USER_SS
	push offset user_stack_top
	push qword ptr [user_flags]
	push CS32
	push offset \target
	iretq
	.endm

	/* Ends by VEC_DONE with this in eax, in 32-bit code. */
#define ENDS(target, value) ends target, value, __LINE__
	.macro ends target, value, line
	USER32 \target
	EXPECT(VEC_DONE, ANY)
	mov dword ptr [line], \line
	mov rax, SEEN(RAX)
	mov ebx, \value
	cmp rax, rbx
	je 79f
	call fail
79:	mov rax, SEEN(CS)
	cmp rax, CS32
	je 79f
	call fail
79:
	.endm

	.globl test_main
test_main:
	mov r8, 0x8888888800000000
	mov eax, offset small_data
	mov [gdt + SMALL_DS - 3 + 2], ax
	shr eax, 16
	mov [gdt + SMALL_DS - 3 + 4], al
	mov [gdt + SMALL_DS - 3 + 7], ah
	mov ax, USER_SS
	mov ds, eax
	mov es, eax

	/* --- by IRET; what 64-bit code lacks; registers that are out of reach stay */
	ENDS(plain, 0x12345678)
	mov rax, offset user_stack_top
	CHECK_EQ(SEEN(RSP), rax)
	mov rax, 0x8888888800000000
	CHECK_EQ(SEEN(R8), rax)
	ENDS(decimal, 0x0401)
	ENDS(narrow_loop, 0x10)

	/* --- to 64-bit code and back, by far jump, call and return */
	ENDS(far_jumps, 0x77)
	USER far_64
	EXPECT(VEC_DONE, ANY)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 5)
	mov rax, SEEN(CS)
	CHECK_EQ(rax, CS32)

	/* --- by SYSRET */
	mov ecx, MSR_STAR
	xor eax, eax
	mov edx, CS32 << 16
	wrmsr
	FAULT
	mov r11d, 2
	mov ecx, offset plain
	mov esp, offset user_stack_top
	.byte 0x0f, 0x07 /* sysret without REX.W */
	EXPECT(VEC_DONE, ANY)
	mov rax, SEEN(CS)
	CHECK_EQ(rax, CS32)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 0x12345678)

	/* --- faults */
	USER32 reads_nothing
	EXPECT(VEC_PF, 4)
	EXPECT_CR2(WINDOW + 0x123)
	EXPECT_RIP(reads_nothing)
	USER32 system_call
	EXPECT(VEC_UD, ANY)
	EXPECT_RIP(system_call)
	USER32 privileged
	EXPECT(VEC_GP, 0)
	USER32 beyond_limit
	EXPECT(VEC_GP, 0)
	EXPECT_RIP(beyond)
	USER32 null_segment
	EXPECT(VEC_GP, 0)
	ENDS(within_limit, 0x44)
	USER32 wraps
	EXPECT(VEC_DONE, ANY)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 0x44)

	/* --- a trap after each instruction */
	HANDLER VEC_DB, on_debug
	or qword ptr [user_flags], FLAG_TF
	ENDS(steps, 3)
	mov rax, [hits]
	CHECK_EQ(rax, 4)
	mov rax, [last_rip]
	mov rcx, offset steps_end
	CHECK_EQ(rax, rcx)
	and qword ptr [user_flags], ~FLAG_TF

	/* --- code that changes what comes next, twice */
	ENDS(changes, 0x0503)
	ENDS(changes, 0x0503)
	ret

on_debug:
	inc qword ptr [hits]
	mov rax, [rdi + F_RIP]
	mov [last_rip], rax
	ret

	.section .user
	.code32
plain:
	mov eax, 0x12345678
	push eax
	push ds
	pushad
	xor eax, eax
	popad
	pop ds
	call 1f
	add esp, 4
	int VEC_DONE
1:	mov eax, [esp + 4]
	inc eax
	dec eax
	ret

decimal:
	mov eax, 0x0009
	add al, 0x05
	aaa /* 14: ax = 0104 */
	aam 10 /* 4: ah = 0, al = 4 … */
	add ah, 4
	mov al, 0x56
	add al, 0x45
	daa /* 56 + 45 = 101 */
	int VEC_DONE

narrow_loop:
	xor eax, eax
	mov ecx, 0x10
1:	inc eax
	addr16 loop 1b
	into
	int VEC_DONE

far_jumps:
	.byte 0xea /* jmp USER_CS:1f */
	.long 1f
	.word USER_CS
	.code64
1:	mov r9, -1
	mov eax, 0x70
	push CS32
	push offset 2f
	retfq
	.code32
2:	call fword ptr [far_pointer]
	add al, 2
	int VEC_DONE
	.code64
far_routine:
	add al, 5
	.byte 0xcb /* retf of 4 bytes each */
far_64:
	mov eax, 5
	jmp fword ptr [far_pointer_32]
	.code32
far_end:
	int VEC_DONE

reads_nothing:
	mov eax, [WINDOW + 0x123]
system_call:
	syscall
privileged:
	cli
beyond_limit:
	mov eax, SMALL_DS
	mov fs, eax
beyond:	mov eax, fs:[13]
null_segment:
	xor eax, eax
	mov gs, eax
	mov eax, gs:[0]
within_limit:
	mov eax, SMALL_DS
	mov es, eax
	xor eax, eax
	mov edi, 15
	scasb
	movzx eax, byte ptr es:[15]
	push USER_SS
	pop es
	int VEC_DONE
wraps:
	mov eax, SMALL_DS
	mov fs, eax
	mov bx, -1
	mov si, 16
	addr16 movzx eax, byte ptr fs:[bx + si]
	int VEC_DONE

steps:
	mov eax, 1
	inc eax
	inc eax
	nop
steps_end:
	int VEC_DONE

changes:
	xor eax, eax
	mov byte ptr [1f + 1], 3
1:	add al, 0
	mov byte ptr [2f + 2], 5
2:	add ah, 0
	int VEC_DONE

	.balign 8
far_pointer:
	.long far_routine
	.word USER_CS
far_pointer_32:
	.long far_end
	.word CS32
small_data:
	.fill 15, 1, 0
	.byte 0x44

	.code64
	.bss
hits:	.skip 8
last_rip:
	.skip 8
