/* Interrupts: LAPIC timer in its modes, PIT and IOAPIC, masks and shadows, HLT, long instructions, priorities. */
#include "guest.inc"

#define LAPIC 0xfee00000
#define LAPIC_TPR (LAPIC + 0x80)
#define LAPIC_PPR (LAPIC + 0xa0)
#define LAPIC_EOI (LAPIC + 0xb0)
#define LAPIC_SVR (LAPIC + 0xf0)
#define LAPIC_ICR (LAPIC + 0x300)
#define LAPIC_TIMER (LAPIC + 0x320)
#define LAPIC_INITIAL (LAPIC + 0x380)
#define LAPIC_CURRENT (LAPIC + 0x390)
#define LAPIC_DIVIDE (LAPIC + 0x3e0)
#define PERIODIC 0x20000
#define DEADLINE 0x40000
#define MASKED 0x10000
#define MSR_DEADLINE 0x6e0
#define IOAPIC 0xfec00000
#define VEC_TIMER 0x50
#define VEC_PIT 0x60
#define VEC_LOW 0x41
#define VEC_HIGH 0xe1

	.text
	.macro STORE address, value
	push rax
	mov eax, \address
	mov dword ptr [rax], \value
	pop rax
	.endm
	.macro LOAD address /* eax */
	mov eax, \address
	mov eax, [rax]
	.endm
	/* An interrupt of our own, by the ICR. */
	.macro SEND vector
	STORE LAPIC_ICR, 0x44000+\vector
	.endm
	/* A deadline `ticks` from now. */
	.macro DEADLINE_IN ticks
	push rax
	push rcx
	push rdx
	rdtsc
	shl rdx, 32
	add rax, rdx
	add rax, \ticks
	mov rdx, rax
	shr rdx, 32
	mov ecx, MSR_DEADLINE
	wrmsr
	pop rdx
	pop rcx
	pop rax
	.endm

	.globl test_main
test_main:
	/* the 8259s silent */
	mov al, 0xff
	out 0x21, al
	out 0xa1, al
	STORE LAPIC_SVR, 0x1ff
	STORE LAPIC_TPR, 0
	STORE LAPIC_DIVIDE, 0xb
	HANDLER VEC_TIMER, on_timer
	HANDLER VEC_PIT, on_timer
	HANDLER VEC_LOW, on_low
	HANDLER VEC_HIGH, on_high

	/* --- nothing comes while IF is off; it comes with it */
	SEND VEC_LOW
	nop
	mov eax, [lows]
	CHECK_EQ(rax, 0)
	HERE
	sti
	nop
	nop
	mov eax, [lows]
	CHECK_EQ(rax, 1)
	/* at once, between two instructions */
	mov ecx, 1000
1:	SEND VEC_LOW
	dec ecx
	jnz 1b
	mov eax, [lows]
	CHECK_EQ(rax, 1001)
	cli

	/* --- the shadow of STI: one instruction; of MOV SS and POP SS: the same */
	SEND VEC_LOW
	HERE
	sti
1:	inc eax
2:	nop
	cli
	mov rax, [interrupted]
	mov rcx, offset 2b
	CHECK_EQ(rax, rcx)
	SEND VEC_LOW
	sti
	cli
	nop
	mov eax, [lows]
	CHECK_EQ(rax, 1002) /* sti; cli lets nothing in */
	mov ecx, KERNEL_SS
	sti
	nop
	nop
	CHECK_EQ(dword ptr [lows], 1003)
	cli
	SEND VEC_LOW
	pushfq
	or qword ptr [rsp], FLAG_IF
	/* popfq makes it deliverable: at once */
	popfq
3:	nop
	cli
	mov rax, [interrupted]
	mov rcx, offset 3b
	CHECK_EQ(rax, rcx)
	/* MOV SS with IF on: the interrupt asked for in the shadow waits one instruction more */
	mov ecx, KERNEL_SS
	mov eax, LAPIC_ICR
	mov edx, 0x44000 + VEC_LOW
	sti
	nop
	mov ss, ecx
	mov [rax], edx /* in the shadow; what it raises comes after it all the same */
4:	nop
	cli
	mov rax, [interrupted]
	mov rcx, offset 4b
	CHECK_EQ(rax, rcx)
	mov ecx, KERNEL_SS
	SEND VEC_LOW
	sti
	mov ss, ecx
5:	nop /* two shadows in a row: on some processors the interrupt comes before this one, never before mov ss */
6:	nop
	cli
	mov rax, [interrupted]
	mov rcx, offset 5b
	CHECK_AE(rax, rcx)
	mov rcx, offset 6b
	CHECK_BE(rax, rcx)
	CHECK_EQ(dword ptr [lows], 1006)

	/* --- iretq that sets IF delivers before the next instruction; sysret likewise is tested elsewhere */
	SEND VEC_LOW
	mov rbp, rsp
	push KERNEL_SS
	push rbp
	push 2 + FLAG_IF
	push KERNEL_CS
	push offset 7f
	iretq
7:	nop
	cli
	mov rax, [interrupted]
	mov rcx, offset 7b
	CHECK_EQ(rax, rcx)

	/* --- popfq that sets IF and clears AC with an interrupt pending: SMAP holds afterwards, in the handler as well */
	or byte ptr [pml4], U_
	mov qword ptr [window_pt], offset page + P_ + W_ + U_
	mov r12d, 10
1:	CR_SET cr4, CR4_SMAP
	stac
	mov rax, [WINDOW]
	SEND VEC_LOW
	push 2 + FLAG_IF
	FAULT
	popfq
	mov rax, [WINDOW]
	EXPECT(VEC_PF, 1)
	add rsp, 8
	cli
	/* the other way round: IF and AC set together */
	clac
	SEND VEC_LOW
	push 2 + FLAG_IF + FLAG_AC
	HERE
	popfq
	mov rax, [WINDOW]
	cli
	clac
	FAULT
	mov rax, [WINDOW]
	EXPECT(VEC_PF, 1)
	CR_CLEAR cr4, CR4_SMAP
	dec r12d
	jnz 1b

	/* --- one-shot timer, awaited by HLT, by a loop, and by a loop of calls */
	STORE LAPIC_TIMER, VEC_TIMER
	mov r12d, 20
1:	mov ebx, [timers]
	inc ebx
	STORE LAPIC_INITIAL, 20000
	HERE
	sti
	hlt
	cli
	CHECK_EQ(dword ptr [timers], ebx)
	inc ebx
	STORE LAPIC_INITIAL, 20000
	sti
2:	cmp [timers], ebx
	jne 2b
	inc ebx
	STORE LAPIC_INITIAL, 20000
	call wait_by_calls
	inc ebx
	STORE LAPIC_INITIAL, 20000
	mov rdx, offset 4f
	sti
4:	cmp [timers], ebx
	je 5f
	jmp rdx
5:	cli
	LOAD LAPIC_CURRENT
	CHECK_EQ(rax, 0)
	dec r12d
	jnz 1b

	/* --- a storm of sti; hlt with deadlines around the time that it takes: no wake-up may be lost */
	STORE LAPIC_TIMER, VEC_TIMER+DEADLINE
	mov r12d, 3000
1:	mov ebx, [timers]
	inc ebx
	mov r13d, r12d
	and r13d, 1023
	shl r13d, 4
	DEADLINE_IN r13
	mov ecx, r12d
	and ecx, 63
	jz 3f
2:	dec ecx
	jnz 2b
3:	HERE
	cmp [timers], ebx
	je 4f
	sti
	hlt
	cli
4:	CHECK_EQ(dword ptr [timers], ebx)
	dec r12d
	jnz 1b
	/* a deadline in the past comes at once; 0 disarms */
	mov ebx, [timers]
	inc ebx
	DEADLINE_IN -1000
	sti
	nop
	nop
	cli
	CHECK_EQ(dword ptr [timers], ebx)
	DEADLINE_IN 0x70000000 /* not before it has been read, however slow this is */
	mov ecx, MSR_DEADLINE
	rdmsr
	or eax, edx
	jnz 1f
	FAIL
1:	xor eax, eax
	xor edx, edx
	wrmsr
	STORE LAPIC_TIMER, MASKED

	/* --- periodic timer, with the processor in long instructions and in idle loops */
	STORE LAPIC_TIMER, PERIODIC+VEC_TIMER
	mov ebx, [timers]
	add ebx, 20
	STORE LAPIC_INITIAL, 500000
	sti
	mov r12d, 0
1:	mov esi, 0x1400000
	mov edi, 0x1800000
	mov ecx, 0x400000
	mov dword ptr [0x1400000], r12d
	mov dword ptr [0x17ffffc], r12d
	HERE
	rep movsb
	CHECK_EQ(rcx, 0)
	CHECK_EQ(rsi, 0x1800000)
	CHECK_EQ(rdi, 0x1c00000)
	CHECK_EQ(dword ptr [0x1bffffc], r12d)
	mov eax, r12d
	mov edi, 0x1800000
	mov ecx, 0x100000
	rep stosd
	CHECK_EQ(dword ptr [0x1bffffc], r12d)
	mov edi, 0x1800000
	mov ecx, 0x100000
	repe scasd
	CHECK_EQ(rcx, 0)
	inc r12d
	cmp r12d, 1000
	je no_timer
	cmp [timers], ebx
	jb 1b
	jmp 2f
no_timer:
	FAIL
2:	/* was a rep interrupted in its middle? rip is then its own */
	cli
	STORE LAPIC_TIMER, MASKED
	STORE LAPIC_INITIAL, 0

	/* --- priorities: TPR holds back classes at or below its own; a higher one interrupts a lower one's handler */
	STORE LAPIC_TPR, 0x40
	mov ebx, [lows]
	mov r12d, [highs]
	SEND VEC_LOW
	sti
	nop
	nop
	CHECK_EQ(dword ptr [lows], ebx)
	SEND VEC_HIGH
	inc r12d
	CHECK_EQ(dword ptr [highs], r12d)
	mov eax, 3
	mov cr8, rax /* lowers it: the waiting one comes */
	inc ebx
	nop
	CHECK_EQ(dword ptr [lows], ebx)
	mov rax, cr8
	CHECK_EQ(rax, 3)
	LOAD LAPIC_TPR
	CHECK_EQ(rax, 0x30)
	xor eax, eax
	mov cr8, rax
	cli
	/* nested: VEC_LOW's handler sends VEC_HIGH and VEC_LOW with interrupts on */
	HANDLER VEC_LOW, nesting_low
	mov dword ptr [order], 0
	SEND VEC_LOW
	HERE
	sti
	nop
	nop
	nop
	cli
	CHECK_EQ(dword ptr [order], 0x12345)
	HANDLER VEC_LOW, on_low
	/* both pending: the higher one first */
	HANDLER VEC_HIGH, note_high
	HANDLER VEC_LOW, note_low
	mov dword ptr [order], 0
	SEND VEC_LOW
	SEND VEC_HIGH
	sti
	nop
	nop
	cli
	CHECK_EQ(dword ptr [order], 0x21)

	/* --- PIT channel 0 through the IOAPIC, edge-triggered */
	mov eax, IOAPIC
	mov dword ptr [rax], 0x15 /* entry 2, high half */
	mov dword ptr [rax + 0x10], 0
	mov dword ptr [rax], 0x14
	mov dword ptr [rax + 0x10], VEC_PIT
	mov al, 0x34 /* rate generator */
	out 0x43, al
	mov al, 0xa9 /* 1193 ticks: 1 ms */
	out 0x40, al
	mov al, 4
	out 0x40, al
	mov ebx, [timers]
	add ebx, 10
	HERE
1:	sti
	hlt
	cli
	cmp [timers], ebx
	jb 1b
	/* masked in the IOAPIC: no more */
	mov eax, IOAPIC
	mov dword ptr [rax], 0x14
	mov dword ptr [rax + 0x10], MASKED + VEC_PIT
	sti
	nop
	nop
	mov ebx, [timers]
	mov ecx, 2000000
2:	dec ecx
	jnz 2b
	cli
	CHECK_EQ(dword ptr [timers], ebx)

	/* --- ring 3: interrupted anywhere, its registers are its own; and it cannot be kept from it */
	STORE LAPIC_TIMER, PERIODIC+VEC_TIMER
	STORE LAPIC_INITIAL, 500000
	mov qword ptr [user_flags], 2 + FLAG_IF
	USER user_loop
	EXPECT(VEC_DONE, ANY)
	STORE LAPIC_TIMER, MASKED
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 3000000)
	mov rax, SEEN(RBX)
	CHECK_EQ(rax, 1500000)
	/* a NMI-like thing is not sent here; the self-interrupt with IF off stays pending: clear it */
	sti
	nop
	nop
	cli
	ret

on_timer:
	inc dword ptr [timers]
	STORE LAPIC_EOI, 0
	ret
on_low:
	mov rax, [rdi + F_RIP]
	mov [interrupted], rax
	inc dword ptr [lows]
	STORE LAPIC_EOI, 0
	ret
on_high:
	inc dword ptr [highs]
	STORE LAPIC_EOI, 0
	ret
note_high:
	shl dword ptr [order], 4
	or dword ptr [order], 2
	STORE LAPIC_EOI, 0
	ret
note_low:
	shl dword ptr [order], 4
	or dword ptr [order], 1
	STORE LAPIC_EOI, 0
	ret
	.macro NOTE n
	shl dword ptr [order], 4
	or dword ptr [order], \n
	.endm
nesting_low:
	HANDLER VEC_LOW, second_low
	HANDLER VEC_HIGH, nested_high
	NOTE 1
	SEND VEC_LOW /* its class is in service: waits for EOI */
	SEND VEC_HIGH
	sti
	nop
	nop
	NOTE 3
	LOAD LAPIC_PPR
	CHECK_EQ(rax, VEC_LOW & 0xf0)
	STORE LAPIC_EOI, 0
	nop
	nop
	cli
	NOTE 5
	ret
nested_high:
	NOTE 2
	STORE LAPIC_EOI, 0
	ret
second_low:
	NOTE 4
	STORE LAPIC_EOI, 0
	ret

wait_by_calls: /* calls without a loop in any one function */
	sti
	mov rdx, rsp
1:	call 2f
2:	cmp [timers], ebx
	je 3f
	mov rsp, rdx
	call 1b
3:	mov rsp, rdx
	cli
	ret

	.section .user
user_loop:
	xor eax, eax
	xor ebx, ebx
	mov ecx, 1500000
1:	add eax, 2
	call 2f
	dec ecx
	jnz 1b
	int VEC_DONE
2:	inc ebx
	ret

	.bss
	.balign 16
lows:	.skip 4
highs:	.skip 4
timers:	.skip 4
order:	.skip 4
interrupted:
	.skip 8
