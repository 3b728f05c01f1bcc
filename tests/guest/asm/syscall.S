/* Ways between the rings, register by register: syscall and sysret, sysenter and sysexit, iret, int, swapgs. */
#include "guest.inc"

#define ROUNDS 2000

	.text
	.globl test_main
test_main:
	/* CS 10 and SS 18 on entry; sysret goes to 2b and 23 */
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, syscall_entry
	WRMSR_ MSR_SFMASK, 0x40700 /* AC, TF, IF, DF */
	WRMSR_ MSR_GS_BASE, user_gs
	WRMSR_ MSR_KERNEL_GS_BASE, kernel_gs
	WRMSR_ 0x174, KERNEL_CS
	WRMSR_ 0x175, sysenter_stack_top
	WRMSR_ 0x176, sysenter_entry
	mov qword ptr [user_flags], 0x2 + 0x400 + FLAG_AC + FLAG_CF
	USER user_syscalls
	EXPECT(VEC_DONE, ANY)
	mov qword ptr [user_flags], 2
	CHECK_EQ(SEEN(R13), 0)
	cmp qword ptr [count], ROUNDS
	je 1f
	FAIL
1:	test SEEN(FLAGS), FLAG_AC
	jnz 1f
	FAIL
1:	CHECK_EQ(SEEN(CS), USER_CS)
	CHECK_EQ(SEEN(SS), USER_SS)

	/* --- sysret refuses a non-canonical address, in ring 0 */
	movabs rcx, 0x800000000000
	mov r11d, 2
	FAULT
1:	sysretq
	EXPECT(VEC_GP, 0)
	EXPECT_RIP(1b)
	CHECK_EQ(SEEN(CS), KERNEL_CS)
	/* not in ring 3 */
	USER user_sysret
	EXPECT(VEC_GP, 0)
	/* … nor sysexit, swapgs, wrmsr */
	USER user_sysexit
	EXPECT(VEC_GP, 0)
	USER user_swapgs
	EXPECT(VEC_GP, 0)
	/* without SCE there is no syscall */
	mov ecx, MSR_EFER
	rdmsr
	and eax, ~1
	wrmsr
	FAULT
	syscall
	EXPECT(VEC_UD, ANY)
	mov ecx, MSR_EFER
	rdmsr
	or eax, 1
	wrmsr

	/* --- sysenter and sysexit */
	mov rbx, rsp
	USER user_sysenter
	EXPECT(VEC_DONE, ANY)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 0x600d)
	CHECK_EQ(SEEN(CS), KERNEL_CS + 35)
	CHECK_EQ(SEEN(SS), KERNEL_CS + 43)
	CHECK_EQ(rsp, rbx)
	WRMSR_ 0x174, 0
	USER user_sysenter
	EXPECT(VEC_GP, 0)

	/* --- iret: to ring 0 with all kinds of flags and stacks; what it refuses */
	mov rbp, rsp
	mov r12d, 100
1:	push KERNEL_SS
	push 0x1234560
	push 0xcd7 /* all arithmetic flags, DF off, OF, DF bit 10 */
	push KERNEL_CS
	push offset 2f
	iretq
2:
	mov rax, rsp
	mov rsp, rbp
	CHECK_EQ(rax, 0x1234560)
	cld
	dec r12d
	jnz 1b
	/* flags one by one */
	mov ecx, 22
3:	mov eax, 1
	shl eax, cl
	and eax, 0x244cd5 /* CF PF AF ZF SF DF OF NT(excluded) AC ID */
	or eax, 2
	push KERNEL_SS
	push rbp
	push rax
	push KERNEL_CS
	push offset 4f
	iretq
4:	pushfq
	pop rbx
	push 2
	popfq
	CHECK_EQ(rbx, rax)
	dec ecx
	jns 3b
	push KERNEL_SS
	push rbp
	push 2
	push 0
	push offset 1f
	FAULT
5:	iretq
1:	EXPECT(VEC_GP, 0)
	EXPECT_RIP(5b)
	mov word ptr [rsp + 8], KERNEL_SS
	FAULT
	iretq
	EXPECT(VEC_GP, KERNEL_SS)
	mov word ptr [rsp + 8], 0x48
	FAULT
	iretq
	EXPECT(VEC_NP, 0x48)
	mov word ptr [rsp + 8], USER_CS
	FAULT
	iretq /* SS of ring 0 for ring 3 */
	EXPECT(VEC_GP, KERNEL_SS)
	mov word ptr [rsp + 8], KERNEL_CS
	movabs rax, 0x900000000000
	mov [rsp], rax
	FAULT
	iretq
	EXPECT(VEC_GP, 0)
	mov rsp, rbp
	pushfq
	or qword ptr [rsp], FLAG_NT
	popfq
	FAULT
	iretq
	EXPECT(VEC_GP, 0)
	/* the handler's flags have no NT, the interrupted ones had */
	test SEEN(FLAGS), FLAG_NT
	jnz 1f
	FAIL
1:
	/* --- every general register survives a trip to ring 3 and back */
	mov rax, 0x1001
	mov rcx, 0x1002
	mov rdx, 0x1003
	mov rbx, 0x1004
	mov rbp, 0x1005
	mov rsi, 0x1006
	mov rdi, 0x1007
	mov r8, 0x1008
	mov r9, 0x1009
	mov r10, 0x100a
	mov r11, 0x100b
	mov r12, 0x100c
	mov r13, 0x100d
	mov r14, 0x100e
	mov r15, 0x100f
	USER user_add_one
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RAX), 0x1002)
	CHECK_EQ(SEEN(RCX), 0x1003)
	CHECK_EQ(SEEN(RDX), 0x1004)
	CHECK_EQ(SEEN(RBX), 0x1005)
	CHECK_EQ(SEEN(RBP), 0x1006)
	CHECK_EQ(SEEN(RSI), 0x1007)
	CHECK_EQ(SEEN(RDI), 0x1008)
	CHECK_EQ(SEEN(R8), 0x1009)
	CHECK_EQ(SEEN(R9), 0x100a)
	CHECK_EQ(SEEN(R10), 0x100b)
	CHECK_EQ(SEEN(R11), 0x100c)
	CHECK_EQ(SEEN(R12), 0x100d)
	CHECK_EQ(SEEN(R13), 0x100e)
	CHECK_EQ(SEEN(R14), 0x100f)
	CHECK_EQ(SEEN(R15), 0x1010)
	mov rax, offset user_stack_top
	CHECK_EQ(SEEN(RSP), rax)

	/* --- fs and gs bases: MSRs, wrfsbase and friends, swapgs, loads of selectors */
	FAULT
	rdfsbase rax
	EXPECT(VEC_UD, ANY)
	CR_SET cr4, "(1 << 16)"
	mov rax, offset user_gs
	wrgsbase rax
	mov rbx, gs:[0]
	CHECK_EQ(rbx, 0x1111)
	swapgs
	mov rbx, gs:[0]
	CHECK_EQ(rbx, 0x2222)
	rdgsbase rcx
	mov rax, offset kernel_gs
	CHECK_EQ(rcx, rax)
	wrfsbase rax
	mov rbx, fs:[8]
	CHECK_EQ(rbx, 0x2223)
	.byte 0x64 /* a segment prefix does nothing here */
	lea rbx, [8]
	CHECK_EQ(rbx, 8)
	movabs rax, 0x800000000000
	FAULT
	wrfsbase rax
	EXPECT(VEC_GP, 0)
	/* base + offset wraps to what it means */
	mov rax, offset kernel_gs + 0x1000
	wrfsbase rax
	mov rcx, -0x1000
	mov rbx, fs:[rcx]
	CHECK_EQ(rbx, 0x2222)
	mov eax, KERNEL_SS
	mov fs, eax
	rdfsbase rax
	CHECK_EQ(rax, 0)
	swapgs
	USER user_gs_test
	EXPECT(VEC_DONE, ANY)
	CHECK_EQ(SEEN(RAX), 0x1111)
	CHECK_EQ(SEEN(RBX), 0x1112)
	ret

syscall_entry:
	swapgs
	mov gs:[16], rsp
	mov rsp, offset kernel_syscall_stack_top
	push r11
	pushfq
	pop r11
	/* rcx and r11 are what they must be; the masked flags are off */
	cmp rcx, r15
	jne bad
	test r11d, 0x40700
	jnz bad
	pop r11
	cmp r11, r14
	jne bad
	mov eax, cs
	cmp eax, KERNEL_CS
	jne bad
	mov eax, ss
	cmp eax, KERNEL_SS
	jne bad
	cmp qword ptr gs:[0], 0x2222
	jne bad
	inc qword ptr [count]
	lea rax, [rdi + rsi]
	mov rsp, gs:[16]
	swapgs
	sysretq
bad:	FAIL

sysenter_entry:
	mov rax, offset sysenter_stack_top
	CHECK_EQ(rax, rsp)
	/* a frame that the handler's IRET can use: sysexit's selectors are not in this guest's tables, so add them */
	mov rdx, offset user_after_sysexit
	mov rcx, offset user_stack_top
	mov eax, 0x600d
	rex.w sysexit

	.section .user
user_syscalls:
	xor r13d, r13d
	mov ebx, ROUNDS
1:	mov r15, offset 2f
	pushfq
	pop r14
	mov rdi, rbx
	mov rsi, 77
	mov r12, rsp
	/* arithmetic flags of its own each time */
	cmp bl, 0x40
	pushfq
	pop r14
	syscall
2:	pushfq
	pop rdx
	cmp rdx, r14
	jne 3f
	cmp r12, rsp
	jne 3f
	cmp rcx, r15
	jne 3f
	cmp r11, r14
	jne 3f
	lea rdx, [rbx + 77]
	cmp rax, rdx
	jne 3f
	cmp qword ptr gs:[0], 0x1111
	jne 3f
	mov ecx, cs
	cmp ecx, USER_CS
	jne 3f
	mov ecx, ss
	cmp ecx, USER_SS
	jne 3f
	dec ebx
	jnz 1b
	int VEC_DONE
3:	inc r13
	int VEC_DONE
user_sysret:
	sysretq
user_sysexit:
	mov rdx, rcx
	rex.w sysexit
user_swapgs:
	swapgs
user_sysenter:
	sysenter
user_after_sysexit:
	int VEC_DONE
user_add_one:
	inc rax
	inc rcx
	inc rdx
	inc rbx
	inc rbp
	inc rsi
	inc rdi
	inc r8
	inc r9
	inc r10
	inc r11
	inc r12
	inc r13
	inc r14
	inc r15
	int VEC_DONE
user_gs_test:
	mov rax, gs:[0]
	rdgsbase rcx
	mov rbx, [rcx + 8]
	int VEC_DONE
	.balign 16
user_gs:
	.quad 0x1111, 0x1112, 0

	.data
	.balign 16
kernel_gs:
	.quad 0x2222, 0x2223, 0
count:	.quad 0
	.bss
	.balign 16
	.skip 4096
kernel_syscall_stack_top:
	.skip 4096
sysenter_stack_top:
