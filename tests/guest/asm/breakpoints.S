/* The debug registers' breakpoints: on execution, on data, on ports; DR6, RF, and what they do to single-stepping. */
#include "guest.inc"

#define DR6_BS 0x4000
#define CR4_DE 8
#define L(n) (1 << (2 * (n)))
#define G(n) (2 << (2 * (n)))
#define RW(n, kind) ((kind) << (16 + 4 * (n)))
#define LEN(n, code) ((code) << (18 + 4 * (n)))
#define ON_WRITE 1
#define ON_PORT 2
#define ON_ACCESS 3
#define LEN_1 0
#define LEN_2 1
#define LEN_8 2
#define LEN_4 3

	.text
	.macro BREAK number, address
	push rax
	mov rax, offset \address
	mov dr\number, rax
	pop rax
	.endm
	/* Forgets what has been met, and switches breakpoints on; 0: off. */
	.macro ENABLE bits
	push rax
	mov qword ptr [hits], 0
	mov eax, \bits
	mov dr7, rax
	pop rax
	.endm
	.macro OFF
	push rax
	xor eax, eax
	mov dr7, rax
	pop rax
	.endm
	/* So many #DBs, the last one with this RIP and these causes. */
#define MET(count, where, causes) met count, where, causes, __LINE__
	.macro met count, where, causes, line
	OFF
	mov dword ptr [line], \line
	push rax
	push rbx
	mov rax, [hits]
	mov ebx, \count
	cmp rax, rbx
	jne 79f
	mov rax, [last_rip]
	mov rbx, offset \where
	cmp rax, rbx
	jne 79f
	mov rax, [last_dr6]
	and eax, 0xe00f
	mov ebx, \causes
	cmp rax, rbx
	je 80f
79:	call fail
80:	pop rbx
	pop rax
	.endm
#define NONE check_none __LINE__
	.macro check_none line
	OFF
	mov dword ptr [line], \line
	push rax
	mov rax, [hits]
	test rax, rax
	jz 80f
	call fail
80:	pop rax
	.endm

	.globl test_main
test_main:
	HANDLER VEC_DB, on_debug
	xor eax, eax

	/* --- execution: a fault before the instruction, with RF set, which lets it through once */
	mov ecx, 1000
1:	call subject /* translated by now */
	dec ecx
	jnz 1b
	xor eax, eax
	BREAK 0, subject_2
	ENABLE L(0)
	call subject
	CHECK_EQ(rax, 3) /* each instruction once */
	MET(1, subject_2, 1)
	CHECK_EQ(qword ptr [last_rax], 1)
	mov rcx, [last_flags]
	and ecx, FLAG_RF
	CHECK_EQ(rcx, FLAG_RF)
	/* every time, by the global bit as well; two of them at one place are reported together */
	BREAK 3, subject_2
	ENABLE G(0)+G(3)
	xor eax, eax
	mov ecx, 5
1:	call subject
	dec ecx
	jnz 1b
	CHECK_EQ(rax, 15)
	MET(5, subject_2, 9)
	/* in a row; with one that is off; and one that does not begin an instruction */
	BREAK 0, subject
	BREAK 1, subject_2
	BREAK 2, subject_3
	BREAK 3, subject+1
	ENABLE L(0)+L(1)+L(3)
	call subject
	MET(2, subject_2, 2)
	/* off again */
	mov qword ptr [hits], 0
	call subject
	NONE
	/* IRET with RF lets the instruction through that it returns to, and only that */
	BREAK 0, 1f
	BREAK 1, 2f
	mov rbp, rsp
	ENABLE L(0)+L(1)
	push KERNEL_SS
	push rbp
	push 2 + FLAG_RF
	push KERNEL_CS
	push offset 1f
	iretq
1:	nop
2:	nop
	MET(1, 2b, 2)
	/* before the page fault of its fetch; on what would fault itself */
	mov qword ptr [window_pt], 0
	mov rax, WINDOW
	mov dr0, rax
	ENABLE L(0)
	FAULT
	jmp rax
	EXPECT(VEC_PF, 0x10)
	MET(1, WINDOW, 1)
	BREAK 0, 1f
	ENABLE L(0)
	FAULT
1:	ud2
	EXPECT(VEC_UD, ANY)
	MET(1, 1b, 1)

	/* --- data written: a trap after the instruction, RF clear, memory changed */
	mov ebx, offset data
	BREAK 1, data+8
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_8)
	mov qword ptr [rbx + 8], 5
1:	nop
	MET(1, 1b, 2)
	CHECK_EQ(qword ptr [last_data], 5)
	mov rcx, [last_flags]
	and ecx, FLAG_RF
	CHECK_EQ(rcx, 0)
	/* each of its bytes, by any kind of access; not its neighbours; not reads */
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_8)
	mov byte ptr [rbx + 7], 1
	mov byte ptr [rbx + 16], 1
	mov qword ptr [rbx], 1
	mov qword ptr [rbx + 16], 1
	mov rax, [rbx + 8]
	cmp byte ptr [rbx + 9], 1
	bt dword ptr [rbx + 8], 1
	movups xmm0, [rbx + 4]
	lea rax, [rbx + 8]
	prefetcht0 [rbx + 8]
	NONE
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_8)
	mov byte ptr [rbx + 8], 1
	mov byte ptr [rbx + 15], 1
	mov word ptr [rbx + 7], 1
	mov qword ptr [rbx + 1], 1
	mov qword ptr [rbx + 15], 1
	add dword ptr [rbx + 8], 1
	lock inc word ptr [rbx + 10]
	xchg [rbx + 8], al
	bts dword ptr [rbx + 8], 1
	movups [rbx + 4], xmm0
	movlps [rbx + 8], xmm0
	fld1
	fstp qword ptr [rbx + 8]
	mov edi, offset data + 8
	stosd
	setc [rbx + 11]
	movnti [rbx + 8], eax
	sgdt [rbx + 6]
1:	nop
	MET(16, 1b, 2)
	/* shorter ones; the address's low bits do not count */
	BREAK 1, data+8
	BREAK 2, data+0x13
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_1)+L(2)+RW(2,ON_WRITE)+LEN(2,LEN_4)
	mov byte ptr [rbx + 9], 1
	mov byte ptr [rbx + 15], 1
	mov byte ptr [rbx + 0x14], 1
	mov byte ptr [rbx + 0x10], 1
1:	nop
	MET(1, 1b, 4)
	BREAK 1, data+8
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_2)
	mov byte ptr [rbx + 10], 1
	mov byte ptr [rbx + 9], 1
1:	nop
	MET(1, 1b, 2)

	/* --- data read or written */
	ENABLE L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_4)
	mov eax, [rbx + 8]
	mov [rbx + 8], eax
	cmp [rbx + 8], eax
	add eax, [rbx + 8]
	movups xmm0, [rbx]
	mov esi, offset data + 8
	lodsb
1:	nop
	MET(6, 1b, 2)
	/* the stack: push, pop, call, ret, enter */
	mov rbp, rsp
	mov rax, rsp
	sub rax, 8
	mov dr1, rax
	ENABLE L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_8)
	mov qword ptr [hits], 0 /* ENABLE's own pop */
	push 1
	pop rcx
	call 2f
1:	jmp 3f
2:	ret
3:	CHECK_EQ(qword ptr [hits], 4)
	mov rax, [last_rip]
	mov rcx, offset 1b
	CHECK_EQ(rax, rcx)
	xor eax, eax
	mov dr7, rax

	/* --- REP: after each element that meets it; other elements do not; a breakpoint on the instruction itself once */
	BREAK 1, data+8
	mov edi, ebx
	mov ecx, 32
	xor eax, eax
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_4)
	rep stosb
1:	nop
	CHECK_EQ(rcx, 0)
	CHECK_EQ(qword ptr [hits], 4)
	BREAK 0, 1f
	mov edi, ebx
	lea esi, [rbx + 64]
	mov ecx, 8
	ENABLE L(0)+L(1)+RW(1,ON_WRITE)+LEN(1,LEN_4)
1:	rep movsw
2:	nop
	CHECK_EQ(rcx, 0)
	MET(3, 1b, 2)
	mov edi, ebx
	mov ecx, 3
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_4)
	rep stosd /* the last element */
1:	nop
	MET(1, 1b, 2)

	/* --- an instruction that faults meets nothing */
	mov qword ptr [window_pt], 0
	lea esi, [rbx + 8]
	mov edi, WINDOW
	ENABLE L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_4)
	FAULT
	movsb
	EXPECT(VEC_PF, 2)
	NONE

	/* --- a load of SS is told of after the next instruction, even in the kernel that it enters, unless that faults */
	mov word ptr [data + 8], KERNEL_SS
	ENABLE L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_2)
	mov ss, [rbx + 8]
	nop
1:	nop
	MET(1, 1b, 2)
	ENABLE L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_2)
	FAULT
	mov ss, [rbx + 8]
	int VEC_DONE
	EXPECT(VEC_DONE, ANY)
	MET(1, stubs+VEC_DONE*16, 2)
	ENABLE L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_2)
	FAULT
	mov ss, [rbx + 8]
	ud2
	EXPECT(VEC_UD, ANY)
	NONE
	BREAK 0, 1f
	ENABLE L(0)+L(1)+RW(1,ON_ACCESS)+LEN(1,LEN_2)
	mov ss, [rbx + 8]
1:	nop
	MET(1, 1b, 1)

	/* --- together with single-stepping: one exception, both causes */
	mov rax, offset data + 8
	ENABLE L(1)+RW(1,ON_WRITE)+LEN(1,LEN_4)
	pushfq
	or qword ptr [rsp], FLAG_TF
	popfq
	mov [rax], eax
1:	pushfq
	and qword ptr [rsp], ~FLAG_TF
	popfq
2:	nop
	MET(4, 2b, DR6_BS)
	mov rax, [log]
	mov rcx, offset 1b
	CHECK_EQ(rax, rcx)
	mov eax, [log_dr6]
	and eax, 0xe00f
	CHECK_EQ(rax, DR6_BS + 2)

	/* --- ports, with CR4.DE */
	mov eax, 0x80
	mov dr2, rax
	mov edx, 0x80
	ENABLE L(2)+RW(2,ON_PORT)+LEN(2,LEN_1)
	out dx, al
	NONE
	CR_SET cr4, CR4_DE
	ENABLE L(2)+RW(2,ON_PORT)+LEN(2,LEN_1)
	out dx, al
1:	out 0x80, al
2:	in al, 0x81
	mov edx, 0x7f
	in ax, dx
3:	nop
	MET(3, 3b, 4)
	CR_CLEAR cr4, CR4_DE

	/* --- ring 3 meets both kinds as well */
	BREAK 0, user_2
	BREAK 1, user_data
	ENABLE L(0)+L(1)+RW(1,ON_WRITE)+LEN(1,LEN_8)
	xor eax, eax
	USER user_code
	EXPECT(VEC_DONE, ANY)
	MET(2, user_3, 2)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 2)
	mov rax, [last_cs]
	CHECK_EQ(rax, USER_CS)

	/* --- GD: debug registers themselves */
	mov eax, 0x2000
	mov qword ptr [hits], 0
	mov dr7, rax
1:	mov rax, dr0
	MET(1, 1b, 0x2000)
	ret

subject:
	inc eax
subject_2:
	inc eax
subject_3:
	inc eax
	ret

on_debug:
	mov rax, dr6
	mov [last_dr6], rax
	mov rcx, [hits]
	and ecx, 15
	mov [log_dr6 + rcx * 8], rax
	mov rax, [rdi + F_RIP]
	mov [log + rcx * 8], rax
	mov [last_rip], rax
	mov rax, [rdi + F_FLAGS]
	mov [last_flags], rax
	mov rax, [rdi + F_RAX]
	mov [last_rax], rax
	mov rax, [rdi + F_CS]
	mov [last_cs], rax
	inc qword ptr [hits]
	/* what is looked at below is not to be met */
	mov rdx, dr7
	xor eax, eax
	mov dr7, rax
	mov rax, [data + 8]
	mov [last_data], rax
	mov eax, 0xffff0ff0
	mov dr6, rax
	mov dr7, rdx
	ret

	.section .user
user_code:
	inc eax
user_2:
	inc eax
	mov [user_data], rax
user_3:
	int VEC_DONE
	.balign 8
user_data:
	.quad 0

	.bss
	.balign 64
data:	.skip 256
hits:	.skip 8
last_rip:
	.skip 8
last_dr6:
	.skip 8
last_flags:
	.skip 8
last_rax:
	.skip 8
last_cs:
	.skip 8
last_data:
	.skip 8
log:	.skip 128
log_dr6:
	.skip 128
