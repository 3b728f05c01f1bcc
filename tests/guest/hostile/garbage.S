/*
 * Random bytes as code, from one exception to the next: at ring 3 (told "u", then a seed of 4 bytes) so many times, then
 * it has passed; at ring 0 (told "k") for ever, or until something ends the run. See garbage-test.py.
 */
#include "guest.inc"

#define PORT_UART 0x3f8
#define LAPIC 0xfee00000
#define LAPIC_TPR (LAPIC + 0x80)
#define LAPIC_EOI (LAPIC + 0xb0)
#define LAPIC_SVR (LAPIC + 0xf0)
#define LAPIC_TIMER (LAPIC + 0x320)
#define LAPIC_INITIAL (LAPIC + 0x380)
#define LAPIC_DIVIDE (LAPIC + 0x3e0)
#define PERIODIC 0x20000
#define CR0_AM 0x40000
#define VEC_TIMER 0x50
#define EVENTS 20000
#define REFILL 32 /* events between two fillings of the area */
#define SIZE 0x4000

	.text
	.macro STORE address, value
	mov eax, \address
	mov dword ptr [rax], \value
	.endm

	.globl test_main
test_main:
	mov al, 0xff
	out 0x21, al
	out 0xa1, al
	call read_byte
	mov [mode], al
	mov ecx, 4
1:	call read_byte
	shl qword ptr [seed], 8
	or [seed], al
	dec ecx
	jnz 1b
	xor ecx, ecx
1:	mov qword ptr [handlers + rcx * 8], offset on_event
	mov eax, ecx
	shl eax, 4
	mov byte ptr [idt + rax + 4], 3 /* whatever RSP has become */
	inc ecx
	cmp ecx, 256
	jb 1b
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, syscall_entry
	WRMSR_ MSR_SFMASK, FLAG_TF + FLAG_IF
	CR_SET cr0, CR0_AM
	CR_SET cr4, 0x40000 /* OSXSAVE */
	mov eax, 7
	xor edx, edx
	xor ecx, ecx
	xsetbv
	STORE LAPIC_SVR, 0x1ff
	STORE LAPIC_TPR, 0
	STORE LAPIC_DIVIDE, 0xb
	STORE LAPIC_TIMER, PERIODIC+VEC_TIMER
	STORE LAPIC_INITIAL, 3000000
	ud2

syscall_entry: /* as if it were an exception */
	mov rsp, offset kernel_stack_top
	ud2

read_byte:
	mov edx, PORT_UART + 5
1:	in al, dx
	test al, 1
	jz 1b
	mov edx, PORT_UART
	in al, dx
	ret

random: /* rax; splitmix64 */
	push rdx
	movabs rax, 0x9e3779b97f4a7c15
	add rax, [seed]
	mov [seed], rax
	mov rdx, rax
	shr rdx, 30
	xor rax, rdx
	movabs rdx, 0xbf58476d1ce4e5b9
	imul rax, rdx
	mov rdx, rax
	shr rdx, 27
	xor rax, rdx
	movabs rdx, 0x94d049bb133111eb
	imul rax, rdx
	mov rdx, rax
	shr rdx, 31
	xor rax, rdx
	pop rdx
	ret

place: /* rax: somewhere in the area */
	call random
	and eax, SIZE - 1
	add rax, offset area
	ret

on_event:
	cmp qword ptr [rdi + F_VECTOR], VEC_TIMER
	jne 1f
	STORE LAPIC_EOI, 0
1:	mov rax, [events]
	inc qword ptr [events]
	cmp byte ptr [mode], 'u'
	jne 1f
	cmp rax, EVENTS
	jae pass
1:	and eax, REFILL - 1
	jnz 2f
	xor ecx, ecx
1:	call random
	mov [area + rcx], rax
	add ecx, 8
	cmp ecx, SIZE
	jb 1b
	/* registers: addresses in the area, some with a small number instead */
2:	xor ecx, ecx
1:	call place
	test eax, 0x70
	jnz 3f
	and eax, 15
3:	mov [rdi + F_RAX + rcx * 8], rax
	inc ecx
	cmp ecx, 15
	jb 1b
	call place
	mov [rdi + F_RIP], rax
	call place
	and rax, -8
	mov [rdi + F_RSP], rax
	mov qword ptr [rdi + F_FLAGS], 2 + FLAG_IF
	mov qword ptr [rdi + F_CS], USER_CS
	mov qword ptr [rdi + F_SS], USER_SS
	cmp byte ptr [mode], 'u'
	je 4f
	mov qword ptr [rdi + F_CS], KERNEL_CS
	mov qword ptr [rdi + F_SS], KERNEL_SS
4:	ret

	.data
	.balign 8
seed:	.quad 0
events:	.quad 0
mode:	.byte 0

	.section .user
	.balign 4096
area:	.skip SIZE
	.skip 64
