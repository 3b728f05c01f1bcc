/* Every exception that an instruction can raise, its error code and where it reports it; nesting; #DF; stacks. */
#include "guest.inc"

	.text
	.globl test_main
test_main:
	/* --- #DE, with register and memory operands */
	mov eax, 1
	xor edx, edx
	xor ecx, ecx
	FAULT
1:	div ecx
	EXPECT(VEC_DE, ANY)
	EXPECT_RIP(1b)
	CHECK_EQ(rax, 1)
	FAULT
	idiv qword ptr [zero]
	EXPECT(VEC_DE, ANY)
	movabs rax, 0x8000000000000000
	mov rdx, -1
	mov rcx, -1
	FAULT
	idiv rcx
	EXPECT(VEC_DE, ANY)
	mov r10, 0
	mov r11, rsp
	mov eax, 5
	xor edx, edx
	FAULT
	div r10
	EXPECT(VEC_DE, ANY)
	CHECK_EQ(SEEN(R11), rsp)

	/* --- traps: rip is behind the instruction */
	FAULT
	int3
1:	EXPECT(VEC_BP, ANY)
	EXPECT_RIP(1b)
	FAULT
	.byte 0xf1 /* int1 */
1:	EXPECT(VEC_DB, ANY)
	EXPECT_RIP(1b)

	/* --- int n for every vector; no error code */
	xor ebx, ebx
all_vectors:
	mov [int_insn + 1], bl
	HERE
	FAULT
	jmp int_insn
int_back:
	mov qword ptr [resume], 0
	FAIL
77:	CHECK_EQ(SEEN(VECTOR), rbx)
	EXPECT_RIP(int_back_jump)
next_vector: /* int n pushes no error code: not for the vectors whose stub expects one */
	inc ebx
	cmp ebx, 256
	je vectors_done
	movabs rax, (1 << 8) | (0x1f << 10) | (1 << 17) | (1 << 21) | (1 << 29) | (1 << 30)
	cmp ebx, 32
	jae all_vectors
	bt rax, rbx
	jc next_vector
	jmp all_vectors
vectors_done:

	/* --- #UD */
	FAULT
1:	ud2
	EXPECT(VEC_UD, ANY)
	EXPECT_RIP(1b)
	FAULT
	.byte 0x06
	EXPECT(VEC_UD, ANY)
	FAULT
	.byte 0xf0, 0x90 /* lock nop */
	EXPECT(VEC_UD, ANY)
	FAULT
	.byte 0xf0, 0x01, 0xc0 /* lock add eax, eax */
	EXPECT(VEC_UD, ANY)
	FAULT
	.byte 0x0f, 0x20, 0xc8 /* mov rax, cr1 */
	EXPECT(VEC_UD, ANY)
	FAULT
	.byte 0x0f, 0xff, 0xc0 /* ud0 */
	EXPECT(VEC_UD, ANY)

	/* --- #NM, and #UD for SSE where it is off */
	CR_SET cr0, CR0_TS
	FAULT
	fld1
	EXPECT(VEC_NM, ANY)
	FAULT
	movaps xmm0, xmm1
	EXPECT(VEC_NM, ANY)
	FAULT
	fwait
	EXPECT(VEC_NM, ANY)
	clts
	HERE
	movaps xmm0, xmm1
	fld1
	fstp st(0)
	CR_SET cr0, CR0_EM
	FAULT
	fld1
	EXPECT(VEC_NM, ANY)
	FAULT
	movaps xmm0, xmm1
	EXPECT(VEC_UD, ANY)
	CR_CLEAR cr0, CR0_EM
	CR_CLEAR cr4, CR4_OSFXSR
	FAULT
	movaps xmm0, xmm1
	EXPECT(VEC_UD, ANY)
	CR_SET cr4, CR4_OSFXSR
	HERE
	movaps xmm0, xmm1
	FAULT
	vpxor ymm0, ymm0, ymm0 /* CR4.OSXSAVE is off */
	EXPECT(VEC_UD, ANY)

	/* --- #GP */
	movabs rbx, 0x800000000000
	FAULT
1:	mov rax, [rbx]
	EXPECT(VEC_GP, 0)
	EXPECT_RIP(1b)
	FAULT
	mov [rbx], rax
	EXPECT(VEC_GP, 0)
	/* the second half only, behind a page that is mapped */
	mov qword ptr [pml4 + 255 * 8], offset high_pdpt + P_ + W_
	mov qword ptr [window_pd + 511 * 8], offset window_pt + P_ + W_
	mov PTE(511), offset page + P_ + W_
	HERE
	mov rax, [rbx - 8]
	FAULT
	mov rax, [rbx - 4]
	EXPECT(VEC_GP, 0)
	FAULT
	mov [rbx - 4], rax
	EXPECT(VEC_GP, 0)
	FAULT
	mov rsp, rbx
	push rax
	pop rax
	pop rax
	EXPECT(VEC_SS, 0)
	mov qword ptr [pml4 + 255 * 8], 0
	mov qword ptr [window_pd + 511 * 8], 0
	mov PTE(511), 0
	RELOAD_CR3
	FAULT
	inc dword ptr [rbx + 0x7fffffff]
	EXPECT(VEC_GP, 0)
	FAULT
	movaps xmm0, [zero + 8]
	EXPECT(VEC_GP, 0)
	FAULT
	movaps [zero + 8], xmm0
	EXPECT(VEC_GP, 0)
	mov ecx, 0x12345678
	FAULT
	rdmsr
	EXPECT(VEC_GP, 0)
	FAULT
	wrmsr
	EXPECT(VEC_GP, 0)
	mov rax, -1
	FAULT
	mov cr4, rax
	EXPECT(VEC_GP, 0)
	FAULT
	mov cr0, rax
	EXPECT(VEC_GP, 0)
	FAULT
	mov cr3, rax
	EXPECT(VEC_GP, 0)
	mov ecx, MSR_LSTAR
	mov edx, 0x8000
	xor eax, eax
	FAULT
	wrmsr
	EXPECT(VEC_GP, 0)
	mov eax, 0xf8
	FAULT
	mov ds, eax
	EXPECT(VEC_GP, 0xf8)
	mov eax, KERNEL_CS + 4 /* in the LDT, of which there is none */
	FAULT
	mov es, eax
	EXPECT(VEC_GP, KERNEL_CS + 4)
	xor eax, eax
	FAULT
	mov ss, eax
	sub eax, 0
	mov ecx, 3
	mov ss, ecx /* a null selector is allowed at CPL 0, not with another RPL */
	EXPECT(VEC_GP, 0)
	mov eax, KERNEL_SS
	mov ss, eax
	FAULT
	jmp fword ptr [far_null]
	EXPECT(VEC_GP, 0)

	/* --- #NP and #SS */
	mov eax, ABSENT_SEL
	FAULT
	mov fs, eax
	EXPECT(VEC_NP, ABSENT_SEL)
	FAULT
	mov ss, eax
	EXPECT(VEC_SS, ABSENT_SEL)
	mov byte ptr [idt + 0x90 * 16 + 5], 0x0e
	FAULT
1:	int 0x90
	EXPECT(VEC_NP, 0x90 * 8 + 2)
	EXPECT_RIP(1b)
	mov byte ptr [idt + 0x90 * 16 + 5], 0x8c /* a call gate is no interrupt gate */
	FAULT
	int 0x90
	EXPECT(VEC_GP, 0x90 * 8 + 2)
	mov byte ptr [idt + 0x90 * 16 + 5], 0x8e
	mov word ptr [idt + 0x90 * 16 + 2], 0x48
	FAULT
	int 0x90
	EXPECT(VEC_NP, 0x48)
	mov word ptr [idt + 0x90 * 16 + 2], KERNEL_SS
	FAULT
	int 0x90
	EXPECT(VEC_GP, KERNEL_SS)
	mov word ptr [idt + 0x90 * 16 + 2], KERNEL_CS
	sub rsp, 16
	mov word ptr [rsp], 0x8f * 16 + 15
	mov qword ptr [rsp + 2], offset idt
	lidt [rsp]
	FAULT
	int 0x90
	EXPECT(VEC_GP, 0x90 * 8 + 2)
	lidt [idt_pointer]
	add rsp, 16

	/* stack accesses report #SS, on the stack that the gate says */
	movabs rbx, 0x800000000000
	FAULT
	mov rsp, rbx
1:	push rax
	nop
	EXPECT(VEC_DF, 0) /* 7ffffffffff8 is canonical, but not mapped, nor is the place for the frame */
	FAULT
	lea rsp, [rbx + 16]
2:	push rax
	EXPECT(VEC_SS, 0)
	EXPECT_RIP(2b)
	CHECK_AE(rsp, 0x200000)
	mov rax, [seen_at]
	mov rcx, offset ist2_top - F_SIZE
	CHECK_EQ(rax, rcx)
	FAULT
	lea rsp, [rbx + 16]
	pop rax
	EXPECT(VEC_SS, 0)
	FAULT
	lea rsp, [rbx + 16]
	mov rax, [rsp + 8]
	EXPECT(VEC_SS, 0)
	mov rcx, rbp
	FAULT
	lea rbp, [rbx + 16]
	mov [rbp + 8], rax
	EXPECT(VEC_SS, 0)
	FAULT
	lea rbp, [rbx + 16]
	mov rsp, rbp
	call pass
	EXPECT(VEC_SS, 0)
	FAULT
	lea rbp, [rbx + 16]
	mov rsp, rbp
	ret
	EXPECT(VEC_SS, 0)
	FAULT
	lea rsp, [rbx + 16]
	pushfq
	EXPECT(VEC_SS, 0)
	FAULT
	lea rsp, [rbx + 16]
	iretq
	EXPECT(VEC_SS, 0)
	FAULT
	mov rbp, rbx
	leave
	EXPECT(VEC_SS, 0)

	/* --- #MF and #XM */
	sub rsp, 8
	fninit
	mov word ptr [rsp], 0x37b /* division by zero unmasked */
	fldcw [rsp]
	fld1
	fldz
	fdivp st(1), st
	FAULT
1:	fwait
	EXPECT(VEC_MF, ANY)
	EXPECT_RIP(1b)
	FAULT
2:	fld1
	EXPECT(VEC_MF, ANY)
	EXPECT_RIP(2b)
	fninit
	mov dword ptr [rsp], 0x1d80
	ldmxcsr [rsp]
	pxor xmm0, xmm0
	mov eax, 1
	cvtsi2ss xmm1, eax
	FAULT
1:	divss xmm1, xmm0
	EXPECT(VEC_XM, ANY)
	EXPECT_RIP(1b)
	FAULT
	divps xmm1, xmmword ptr [zero]
	EXPECT(VEC_XM, ANY)
	mov dword ptr [rsp], 0x1f80
	ldmxcsr [rsp]
	add rsp, 8

	/* --- the frame: aligned, with the exact stack pointer, flags and RF */
	mov rbx, rsp
	FAULT
	sub rsp, 12
	stc
1:	ud2
	EXPECT(VEC_UD, ANY)
	lea rax, [rbx - 12]
	CHECK_EQ(SEEN(RSP), rax)
	mov rax, [seen_at]
	test al, 15
	jz 2f
	FAIL
2:	test SEEN(FLAGS), FLAG_RF
	jnz 3f
	FAIL
3:	test SEEN(FLAGS), FLAG_CF
	jnz 4f
	FAIL
4:
	/* --- nested: a fault in a fault's handler, and both come back */
	HANDLER VEC_UD, nested_ud
	HANDLER VEC_DE, nested_de
	xor r12d, r12d
	mov eax, 7
	HERE
	ud2
	CHECK_EQ(r12, 2)
	CHECK_EQ(rax, 7)
	NO_HANDLER VEC_UD
	NO_HANDLER VEC_DE

	/* --- #DF: #GP whose gate is not there; page fault on delivery of a page fault */
	mov byte ptr [idt + VEC_GP * 16 + 5], 0x0e
	movabs rbx, 0x800000000000
	mov ecx, 5
double_again:
	FAULT
1:	mov rax, [rbx]
	EXPECT(VEC_DF, 0)
	EXPECT_RIP(1b)
	mov rax, [seen_at]
	mov rdx, offset ist1_top - F_SIZE
	CHECK_EQ(rax, rdx)
	dec ecx
	jnz double_again
	mov byte ptr [idt + VEC_GP * 16 + 5], 0x8e
	FAULT
	mov rsp, WINDOW + 0x2000 /* nothing is mapped there: the frame cannot be pushed */
2:	mov rax, [WINDOW]
	EXPECT(VEC_DF, 0)
	EXPECT_RIP(2b)
	mov rax, [seen_cr2]
	shr rax, 12 /* which of the pushes is told is not said */
	CHECK_EQ(rax, (WINDOW + 0x1000) >> 12)
	/* a benign one first: #UD whose gate is absent is just #NP, with EXT */
	mov byte ptr [idt + VEC_UD * 16 + 5], 0x0e
	FAULT
	ud2
	EXPECT(VEC_NP, VEC_UD * 8 + 3)
	mov byte ptr [idt + VEC_UD * 16 + 5], 0x8e
	/* a page fault first, whose gate is absent: contributory after page fault */
	mov byte ptr [idt + VEC_PF * 16 + 5], 0x0e
	FAULT
	mov rax, [WINDOW]
	EXPECT(VEC_DF, 0)
	mov byte ptr [idt + VEC_PF * 16 + 5], 0x8e
	/* a page fault on delivery of a divide error is handled serially */
	FAULT
	mov rsp, WINDOW + 0x2000
	mov byte ptr [idt + VEC_PF * 16 + 4], 3
	xor ecx, ecx
	div ecx
	EXPECT(VEC_PF, 2)
	mov byte ptr [idt + VEC_PF * 16 + 4], 0
	ret

nested_ud: /* rdi = frame */
	push rdi
	xor ecx, ecx
	mov eax, 1
	xor edx, edx
	div ecx
	pop rdi
	inc qword ptr [rdi + F_R12]
	add qword ptr [rdi + F_RIP], 2
	ret
nested_de:
	add qword ptr [rdi + F_RIP], 2
	mov rax, [rbp + F_RBP] /* the outer handler's frame */
	inc qword ptr [rax + F_R12]
	ret

	.data
	.balign 16
zero:	.quad 0, 0, 0, 0
far_null:
	.long 0
	.word 0

	.text
	.balign 64
int_insn:
	int 0
int_back_jump:
	jmp int_back
