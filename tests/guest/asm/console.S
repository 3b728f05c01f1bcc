/* Says "ready", echoes what it is told, and ends in the way that it is told: see tests/guest/ends-test.py. */
#include "guest.inc"

#define PORT_UART 0x3f8
#define PORT_PM1_CONTROL 0x604
#define PORT_RESET 0xcf9
#define PORT_EXIT 0xf4

	.text
	.globl test_main
test_main:
	SAY "ready\n"
next:
	call read_byte
	cmp al, 'p'
	je power_off
	cmp al, 'r'
	je reset
	cmp al, 't'
	je triple
	cmp al, 'd'
	je debug_exit
	cmp al, 'c'
	je compatibility
	cmp al, 'l'
	je loop_for_ever
	cmp al, 'h'
	je halt
	mov edx, PORT_UART
	out dx, al
	jmp next

read_byte:
	mov edx, PORT_UART + 5
1:	in al, dx
	test al, 1
	jz 1b
	mov edx, PORT_UART
	in al, dx
	ret

power_off:
	mov eax, 5 << 10 | 1 << 13
	mov edx, PORT_PM1_CONTROL
	out dx, ax
	FAIL
reset:
	mov eax, 6
	mov edx, PORT_RESET
	out dx, al
	FAIL
triple:
	mov word ptr [idt_pointer], 0
	lidt [idt_pointer]
	ud2
debug_exit: /* with the byte that follows */
	call read_byte
	movzx eax, al
	mov edx, PORT_EXIT
	out dx, eax
	FAIL
compatibility:
	mov rax, 0x00cf9b000000ffff /* 32-bit code */
	mov [gdt + 0x48], rax
	push 0x48
	push offset compatibility
	retfq
loop_for_ever:
	SAY "looping\n"
	cli
1:	jmp 1b
halt:
	SAY "halting\n"
	cli
1:	hlt
	jmp 1b
