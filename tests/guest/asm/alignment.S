/* #AC: misaligned data at CPL 3 with CR0.AM and RFLAGS.AC, and nowhere else. */
#include "guest.inc"

#define CR0_AM 0x40000
#define VEC_AC 17

	.text
	/* User code at `target` ends by #AC there (error code 0, nothing changed), with AM and AC; without either, not. */
	.macro MISALIGNED target
	CR_SET cr0, CR0_AM
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER \target
	EXPECT(VEC_AC, 0)
	mov rcx, offset \target
	CHECK_EQ(SEEN(RIP), rcx)
	mov rcx, SEEN(FLAGS)
	and ecx, FLAG_RF + FLAG_AC
	CHECK_EQ(rcx, FLAG_RF + FLAG_AC)
	mov qword ptr [user_flags], 2
	USER \target
	EXPECT(VEC_DONE, ANY)
	CR_CLEAR cr0, CR0_AM
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER \target
	EXPECT(VEC_DONE, ANY)
	mov qword ptr [user_flags], 2
	.endm
	.macro ALIGNED target
	CR_SET cr0, CR0_AM
	mov qword ptr [user_flags], 2 + FLAG_AC
	USER \target
	EXPECT(VEC_DONE, ANY)
	CR_CLEAR cr0, CR0_AM
	mov qword ptr [user_flags], 2
	.endm

	/* One case: an instruction on [rbx + offset], rbx being aligned to 64. */
	.macro CASE kind, text:vararg
	.pushsection .user
69:	\text
	int VEC_DONE
	.popsection
	mov ebx, offset user_data
	\kind 69b
	.endm

	.globl test_main
test_main:
	CR_SET cr4, CR4_OSFXSR
	mov r12d, 3
	xor r14d, r14d
again:
	CASE MISALIGNED, mov ax, [rbx + 1]
	CASE MISALIGNED, mov [rbx + 2], eax
	CASE MISALIGNED, mov rax, [rbx + 4]
	CASE MISALIGNED, add [rbx + 6], rax
	CASE MISALIGNED, lock inc dword ptr [rbx + 1]
	CASE MISALIGNED, xchg [rbx + 3], ax
	CASE MISALIGNED, cmpxchg8b [rbx + 4]
	CASE MISALIGNED, movups xmm0, [rbx + 8]
	CASE MISALIGNED, movdqu [rbx + 1], xmm0
	CASE MISALIGNED, movlps xmm0, [rbx + 4]
	CASE MISALIGNED, movss [rbx + 2], xmm0
	CASE MISALIGNED, fild word ptr [rbx + 1]
	CASE MISALIGNED, fld qword ptr [rbx + 4]
	CASE MISALIGNED, fnstcw [rbx + 1]
	CASE MISALIGNED, fnstenv [rbx + 2]
	CASE MISALIGNED, stmxcsr [rbx + 2]
	CASE MISALIGNED, bts dword ptr [rbx + 2], r14d
	CASE MISALIGNED, push [rbx + 1]
	CASE MISALIGNED, cvtps2pd xmm0, [rbx + 4]
	CASE ALIGNED, mov al, [rbx + 1]
	CASE ALIGNED, mov ax, [rbx + 2]
	CASE ALIGNED, mov eax, [rbx + 4]
	CASE ALIGNED, mov [rbx + 8], rax
	CASE ALIGNED, movups [rbx + 16], xmm0
	CASE ALIGNED, fnstenv [rbx + 4]
	CASE ALIGNED, lea rax, [rbx + 1]
	CASE ALIGNED, prefetcht0 [rbx + 1]
	CASE ALIGNED, nop dword ptr [rbx + 1]
	CASE ALIGNED, fxsave [rbx]
	/* #GP for what must always be aligned */
	CR_SET cr0, CR0_AM
	mov qword ptr [user_flags], 2 + FLAG_AC
	mov ebx, offset user_data
	USER user_movaps
	EXPECT(VEC_GP, 0)
	/* an address that is not canonical comes before */
	mov rbx, 0x8000000000000001
	USER user_load
	EXPECT(VEC_GP, 0)

	/* --- strings and the stack; a fault of REP leaves what was done */
	mov edi, offset user_data + 1
	mov ecx, 3
	USER user_stosd
	EXPECT(VEC_AC, 0)
	mov rax, SEEN(RCX)
	CHECK_EQ(rax, 3)
	mov edi, offset user_data + 1
	mov ecx, 3
	USER user_stosb
	EXPECT(VEC_DONE, ANY)
	mov edi, offset user_data + 1
	xor ecx, ecx
	USER user_stosd
	EXPECT(VEC_DONE, ANY)
	mov edx, offset user_stack_top - 4
	USER user_push
	EXPECT(VEC_AC, 0)
	mov rax, SEEN(RSP)
	CHECK_EQ(rax, rdx)
	USER user_pop
	EXPECT(VEC_AC, 0)
	USER user_call
	EXPECT(VEC_AC, 0)

	/* --- AC set by ring 3 itself, in the midst of translated code; kernel code is not concerned, whatever AC is */
	mov qword ptr [user_flags], 2
	mov ebx, offset user_data
	USER user_popf
	EXPECT(VEC_AC, 0)
	mov rcx, offset user_popf_2
	CHECK_EQ(SEEN(RIP), rcx)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 100)
	/* and cleared again */
	USER user_popf_off
	EXPECT(VEC_DONE, ANY)
	pushfq
	or dword ptr [rsp], FLAG_AC
	popfq
	mov rax, [rbx + 1]
	mov [rbx + 3], rax
	pushfq
	and dword ptr [rsp], ~FLAG_AC
	popfq
	/* a system call from there and back */
	mov qword ptr [user_flags], 2 + FLAG_AC
	WRMSR_ MSR_STAR, 0x001b001000000000
	WRMSR_ MSR_LSTAR, syscall_entry
	WRMSR_ MSR_SFMASK, FLAG_TF
	USER user_syscall
	EXPECT(VEC_AC, 0)
	mov rcx, offset user_syscall_2
	CHECK_EQ(SEEN(RIP), rcx)
	mov rax, SEEN(RAX)
	CHECK_EQ(rax, 1)
	mov qword ptr [user_flags], 2
	CR_CLEAR cr0, CR0_AM
	dec r12d
	jnz again
	ret

syscall_entry:
	mov rax, [user_data + 3] /* AC is on still */
	mov eax, 1
	rex.w sysret

	.section .user
user_movaps:
	movaps xmm0, [rbx + 8]
	int VEC_DONE
user_load:
	mov rax, [rbx]
	int VEC_DONE
user_stosd:
	rep stosd
	int VEC_DONE
user_stosb:
	rep stosb
	int VEC_DONE
user_push:
	mov rsp, rdx
	push rax
	int VEC_DONE
user_pop:
	lea rsp, [rdx - 64]
	pop rax
	int VEC_DONE
user_call:
	mov rsp, rdx
	call 1f
1:	int VEC_DONE
user_popf:
	xor eax, eax
	mov ecx, 100
1:	mov rdx, [rbx + 1]
	inc eax
	dec ecx
	jnz 1b
	pushfq
	or dword ptr [rsp], FLAG_AC
	popfq
	mov rdx, [rbx + 8]
user_popf_2:
	mov rdx, [rbx + 1]
	int VEC_DONE
user_popf_off:
	pushfq
	or dword ptr [rsp], FLAG_AC
	popfq
	mov rdx, [rbx + 8]
	pushfq
	and dword ptr [rsp], ~FLAG_AC
	popfq
	mov rdx, [rbx + 1]
	int VEC_DONE
user_syscall:
	syscall
	mov rdx, [user_data + 8]
user_syscall_2:
	mov rdx, [user_data + 1]
	int VEC_DONE

	.balign 64
user_data:
	.skip 1024
