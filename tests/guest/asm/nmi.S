/* NMIs: whatever IF is, one at a time until IRET, one kept; they end HLT. */
#include "guest.inc"

#define LAPIC 0xfee00000
#define LAPIC_SVR (LAPIC + 0xf0)
#define LAPIC_ICR (LAPIC + 0x300)
#define LAPIC_ICR_HIGH (LAPIC + 0x310)
#define IOAPIC 0xfec00000
#define MASKED 0x10000
#define VEC_NMI 2

	.text
	.macro STORE address, value
	push rax
	mov eax, \address
	mov dword ptr [rax], \value
	pop rax
	.endm
	/* To ourselves, by the ICR. */
	.macro SEND_NMI
	STORE LAPIC_ICR, 0x4400
	.endm

	.globl test_main
test_main:
	mov al, 0xff
	out 0x21, al
	out 0xa1, al
	STORE LAPIC_SVR, 0x1ff
	STORE LAPIC_ICR_HIGH, 0

	/* --- delivered with IF off, before the next instruction; again and again */
	HANDLER VEC_NMI, count
	mov eax, LAPIC_ICR
	HERE
	mov dword ptr [rax], 0x4400
1:	nop
	CHECK_EQ(dword ptr [nmis], 1)
	mov rax, [interrupted]
	mov rcx, offset 1b
	CHECK_EQ(rax, rcx)
	mov r12d, 1000
1:	SEND_NMI
	dec r12d
	jnz 1b
	CHECK_EQ(dword ptr [nmis], 1001)

	/* --- held back in the handler, through all that is not IRET; one is kept, however many came */
	mov r12d, 20
1:	mov dword ptr [nmis], 0
	HANDLER VEC_NMI, provoke
	HERE
	SEND_NMI
	nop
	CHECK_EQ(dword ptr [nmis], 2)
	dec r12d
	jnz 1b

	/* --- the IRET of an exception inside the handler lets them in as well, before the next instruction */
	mov dword ptr [nmis], 0
	HANDLER VEC_NMI, nest
	HANDLER VEC_BP, just_return
	HERE
	SEND_NMI
	nop
	CHECK_EQ(dword ptr [nmis], 2)
	mov rax, [interrupted]
	mov rcx, offset nested_here
	CHECK_EQ(rax, rcx)

	/* --- and so does an IRET that faults */
	mov dword ptr [nmis], 0
	HANDLER VEC_NMI, nest_by_fault
	HANDLER VEC_GP, after_fault
	HERE
	SEND_NMI
	nop
	CHECK_EQ(dword ptr [nmis], 2)
	NO_HANDLER VEC_GP

	/* --- while ring 3 runs: into ring 0 and back */
	HANDLER VEC_NMI, count
	mov dword ptr [nmis], 0
	STORE IOAPIC, 0x15 /* entry 2: the PIT, as NMI */
	STORE IOAPIC+0x10, 0
	STORE IOAPIC, 0x14
	STORE IOAPIC+0x10, 0x400
	mov al, 0x34
	out 0x43, al
	mov al, 0xa9 /* 1 ms */
	out 0x40, al
	mov al, 4
	out 0x40, al
	USER user_loop
	EXPECT(VEC_DONE, ANY)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 5)

	/* --- HLT ends by an NMI, with IF off and on */
	mov r12d, 5
1:	mov ebx, [nmis]
	HERE
	cli
	hlt
	cmp [nmis], ebx
	jne 2f
	FAIL
2:	mov ebx, [nmis]
	sti
	hlt
	cmp [nmis], ebx
	jne 2f
	FAIL
2:	dec r12d
	jnz 1b
	cli
	STORE IOAPIC, 0x14
	STORE IOAPIC+0x10, MASKED
	ret

count:
	mov rax, [rdi + F_RIP]
	mov [interrupted], rax
	inc dword ptr [nmis]
	ret

provoke:
	inc dword ptr [nmis]
	cmp dword ptr [nmis], 2
	jae 9f /* the one that was kept */
	SEND_NMI
	SEND_NMI
	SEND_NMI
	mov ecx, 1000
1:	call 2f
	dec ecx
	jnz 1b
	sti
	nop
	cli
	/* a return to another privilege level that is not IRET is none either: far return */
	push KERNEL_CS
	push offset 3f
	retfq
3:	CHECK_EQ(dword ptr [nmis], 1)
9:	ret
2:	ret

nest:
	inc dword ptr [nmis]
	mov rax, [rdi + F_RIP]
	mov [interrupted], rax
	cmp dword ptr [nmis], 2
	jae 9f
	SEND_NMI
	nop
	nop
	CHECK_EQ(dword ptr [nmis], 1)
	int3
nested_here:
	nop
	CHECK_EQ(dword ptr [nmis], 2)
9:	ret
just_return:
	ret

nest_by_fault:
	inc dword ptr [nmis]
	cmp dword ptr [nmis], 2
	jae 9f
	SEND_NMI
	nop
	CHECK_EQ(dword ptr [nmis], 1)
	mov [saved], rsp
	push 0
	push 0
	push 2
	push 0 /* a null CS */
	push 0
	iretq
back:	CHECK_EQ(dword ptr [nmis], 2)
9:	ret
after_fault: /* runs with the NMI taken already, or about to */
	nop
	CHECK_EQ(dword ptr [nmis], 2)
	mov rax, [saved]
	mov [rdi + F_RSP], rax
	mov qword ptr [rdi + F_RIP], offset back
	ret

	.section .user
user_loop:
	mov ebx, [nmis]
	xor eax, eax
1:	cmp [nmis], ebx
	je 1b
	mov ebx, [nmis]
	inc eax
	cmp eax, 5
	jne 1b
	int VEC_DONE

	.balign 16
nmis:	.long 0

	.bss
	.balign 16
interrupted:
	.skip 8
saved:	.skip 8
