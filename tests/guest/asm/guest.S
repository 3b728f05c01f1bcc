/* Start of a small guest: tables, handlers, and how it ends. The test proper begins at test_main. */
#include "guest.inc"

#define PORT_UART 0x3f8
#define PORT_EXIT 0xf4
#define EXIT_PASS 21 /* exit status 43 */
#define EXIT_FAIL 50 /* exit status 101 */

	.text
	.globl _start
_start:
	mov rsp, offset kernel_stack_top
	lgdt [gdt_pointer]
	push KERNEL_CS
	push offset 1f
	retfq
1:	mov eax, KERNEL_SS
	mov ss, eax
	xor eax, eax
	mov ds, eax
	mov es, eax
	mov fs, eax
	mov gs, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, 0x801 /* NXE, SCE */
	wrmsr
	mov rax, offset pml4
	mov cr3, rax
	mov rax, cr4
	or rax, 0x600 /* OSFXSR, OSXMMEXCPT */
	mov cr4, rax
	fninit
	call make_idt
	lidt [idt_pointer]
	mov eax, offset tss
	mov [gdt + TSS_SEL + 2], ax
	shr eax, 16
	mov [gdt + TSS_SEL + 4], al
	mov eax, TSS_SEL
	ltr ax
	xor eax, eax
	call test_main
	/* a test that returns has passed */
	.globl pass
pass:
	mov eax, EXIT_PASS
	mov edx, PORT_EXIT
	out dx, eax
	.globl hang
hang:
	cli
	hlt
	jmp hang

make_idt:
	mov rdi, offset idt
	mov rsi, offset stubs
	xor ecx, ecx
1:	mov rax, rsi
	mov [rdi], ax
	mov word ptr [rdi + 2], KERNEL_CS
	mov word ptr [rdi + 4], 0x8e00 /* present, interrupt gate */
	shr rax, 16
	mov [rdi + 6], ax
	shr rax, 16
	mov [rdi + 8], rax
	add rdi, 16
	add rsi, 16
	inc ecx
	cmp ecx, 256
	jb 1b
	mov byte ptr [idt + VEC_DONE * 16 + 5], 0xee /* ring 3 may use it */
	/* double faults and stack faults have stacks of their own */
	mov byte ptr [idt + VEC_DF * 16 + 4], 1
	mov byte ptr [idt + VEC_SS * 16 + 4], 2
	ret

	.balign 16
	.globl stubs
stubs:
	.set n, 0
	.rept 256
	.balign 16
	.if n != 8 && (n < 10 || n > 14) && n != 17 && n != 21 && n != 29 && n != 30
	push 0
	.endif
	.byte 0x68 /* push n */
	.long n
	jmp isr
	.set n, n + 1
	.endr

isr:
	push r15
	push r14
	push r13
	push r12
	push r11
	push r10
	push r9
	push r8
	push rdi
	push rsi
	push rbp
	push rbx
	push rdx
	push rcx
	push rax
	cld
	mov rdi, rsp
	mov rbp, rsp
	mov eax, [rdi + F_VECTOR]
	mov rax, [handlers + rax * 8]
	test rax, rax
	jnz 1f
	mov rax, offset record
1:	and rsp, -16
	call rax
	mov rsp, rbp
	pop rax
	pop rcx
	pop rdx
	pop rbx
	pop rbp
	pop rsi
	pop rdi
	pop r8
	pop r9
	pop r10
	pop r11
	pop r12
	pop r13
	pop r14
	pop r15
	add rsp, 16
	iretq

/* The default handler: keeps the frame and goes on at `resume`, at CPL 0. */
	.globl record
record:
	mov [seen_at], rdi
	mov rsi, rdi
	mov rdx, rdi
	mov rdi, offset seen
	mov ecx, F_SIZE / 8
	rep movsq
	mov rax, cr2
	mov [seen_cr2], rax
	inc qword ptr [seen_count]
	mov rax, [resume]
	test rax, rax
	jz unexpected
	mov [rdx + F_RIP], rax
	mov qword ptr [rdx + F_CS], KERNEL_CS
	mov qword ptr [rdx + F_SS], KERNEL_SS
	mov rax, [resume_rsp]
	mov [rdx + F_RSP], rax
	mov qword ptr [rdx + F_FLAGS], 2
	ret

unexpected:
	SAY "unexpected "
	call fail

	.globl check_fault
check_fault:
	push rax
	mov rax, [wanted]
	cmp [seen + F_VECTOR], rax
	jne 1f
	mov rax, [wanted + 8]
	cmp rax, ANY
	je 2f
	cmp [seen + F_ERROR], rax
	je 2f
1:	SAY "wanted vector="
	mov rax, [wanted]
	call print_hex
	SAY " error="
	mov rax, [wanted + 8]
	call print_hex
	SAY "; "
	pop rax
	call fail
2:	pop rax
	ret

	.macro show name, value
	SAY " \name="
	mov rax, \value
	call print_hex
	.endm

	.globl fail
fail:
	mov [saved_rax], rax
	mov [saved_rbx], rbx
	cld
	SAY "FAIL line "
	mov eax, [line]
	call print_decimal
	SAY ": last event:"
	show vector, [seen+F_VECTOR]
	show error, [seen+F_ERROR]
	show rip, [seen+F_RIP]
	show cs, [seen+F_CS]
	show flags, [seen+F_FLAGS]
	show rsp, [seen+F_RSP]
	show cr2, [seen_cr2]
	show count, [seen_count]
	SAY "; now:"
	show rax, [saved_rax]
	show rbx, [saved_rbx]
	show rcx, rcx
	show from, [rsp]
	SAY "\n"
	mov eax, EXIT_FAIL
	mov edx, PORT_EXIT
	out dx, eax
	jmp hang

/* rsi = text */
	.globl print
print:
	push rax
	push rdx
	mov edx, PORT_UART
1:	lodsb
	test al, al
	jz 2f
	out dx, al
	jmp 1b
2:	pop rdx
	pop rax
	ret

/* rax = value */
	.globl print_hex
print_hex:
	push rcx
	push rdx
	push rsi
	mov rsi, offset digits_end
1:	mov ecx, eax
	and ecx, 15
	mov cl, [hex + rcx]
	dec rsi
	mov [rsi], cl
	shr rax, 4
	jnz 1b
	call print
	pop rsi
	pop rdx
	pop rcx
	ret

	.globl print_decimal
print_decimal:
	push rcx
	push rdx
	push rsi
	mov rsi, offset digits_end
	mov ecx, 10
1:	xor edx, edx
	div rcx
	add dl, '0'
	dec rsi
	mov [rsi], dl
	test rax, rax
	jnz 1b
	call print
	pop rsi
	pop rdx
	pop rcx
	ret

	.data
hex:	.ascii "0123456789abcdef"
	.skip 24
digits_end:
	.byte 0

	.balign 16
	.globl gdt
gdt:
	.quad 0, 0
	.quad 0x00af9b000000ffff /* 10: kernel code */
	.quad 0x00cf93000000ffff /* 18: kernel data */
	.quad 0x00cff3000000ffff /* 20: user data */
	.quad 0x00affb000000ffff /* 28: user code */
	.quad 0x0000890000000067, 0 /* 30: TSS; _start enters its address */
	.quad 0x00cf13000000ffff /* 40: data, not present */
	.quad 0x00af1b000000ffff /* 48: code, not present */
	.quad 0x00cffb000000ffff /* 50: user code of 32 bits */
	.quad 0x0040f3000000000f /* 58: user data, 16 bytes at an address that a test enters */
gdt_end:
	.globl gdt_pointer, idt_pointer
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
idt_pointer:
	.word 256 * 16 - 1
	.quad idt

	.balign 16
	.globl tss
tss:
	.long 0
	.quad interrupt_stack_top, 0, 0
	.quad 0
	.quad ist1_top, ist2_top, ist3_top, 0, 0, 0, 0
	.quad 0
	.word 0, 0x68

	.globl line, user_flags
line:	.long 0, 0
user_flags:
	.quad 2

/* Page tables. */
	.balign 4096
	.globl pml4, pdpt, pd0, window_pd, high_pdpt, window_pt
pml4:
	.quad pdpt + 7
	.fill 510, 8, 0
	.quad high_pdpt + 7
pdpt:
	.quad pd0 + 7, window_pd + 7, 0, pd3 + 7
	.fill 508, 8, 0
high_pdpt:
	.fill 511, 8, 0
	.quad window_pd + 7
pd0:
	.set n, 0
	.rept 512
	.quad n * 0x200000 + 0x83 - (n == 8) * 4
	.set n, n + 1
	.endr
pd3:
	.set n, 0
	.rept 512
	.quad 0xc0000000 + n * 0x200000 + 0x83
	.set n, n + 1
	.endr
window_pd:
	.quad window_pt + 7
	.fill 511, 8, 0

	.bss
	.balign 4096
window_pt:
	.skip 4096
	.globl page
page: /* frames to map in the window */
	.skip 16 * 4096
	.globl idt, handlers, resume, resume_rsp, seen, seen_cr2, seen_count, seen_at, wanted
idt:	.skip 4096
handlers:
	.skip 2048
seen:	.skip F_SIZE
seen_cr2:
	.skip 8
seen_count:
	.skip 8
seen_at:
	.skip 8
resume:	.skip 8
resume_rsp:
	.skip 8
wanted:	.skip 16
saved_rax:
	.skip 8
saved_rbx:
	.skip 8
	.balign 16
	.skip 65536
	.globl kernel_stack_top, interrupt_stack_top, ist1_top, ist2_top, ist3_top
kernel_stack_top:
	.skip 16384
interrupt_stack_top:
	.skip 8192
ist1_top:
	.skip 8192
ist2_top:
	.skip 8192
ist3_top:

	.section .user, "awx"
	.balign 4096
	.globl user_stack_top
	.skip 8192
user_stack_top:
